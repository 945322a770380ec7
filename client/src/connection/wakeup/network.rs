//! Detects changes of the routes to peers.
//!
//! Only the source address that this machine uses for each peer counts: links and addresses of containers, virtual machines
//! and Wi-Fi scans come and go without an effect on connections. The kernel reports when to check (netlink); elsewhere
//! [`portable`] checks every two seconds.

mod event;
#[cfg(target_os = "linux")]
mod netlink;
mod portable;
mod routes;
#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, time::Duration};

use tokio::{pin, select, sync::watch, time::sleep};

use self::{event::Event, routes::Routes};

/// Delay from the first event of a burst until the change is reported.
const SETTLE: Duration = Duration::from_millis(200);

/// Watches the routes to peers.
pub(crate) struct Network {
    peers: watch::Receiver<Vec<SocketAddr>>,
    events: Events,
    routes: Routes,
}

impl Network {
    /// Watches the routes to the current `peers`.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time and I/O.
    #[must_use]
    pub(crate) fn watch(peers: watch::Receiver<Vec<SocketAddr>>) -> Self {
        Self::by(Events::start(), peers)
    }

    fn by(events: Events, mut peers: watch::Receiver<Vec<SocketAddr>>) -> Self {
        let mut routes = Routes::default();
        routes.see(portable::sources(&peers.borrow_and_update()));
        Self {
            peers,
            events,
            routes,
        }
    }

    /// Waits until the source address for a peer has changed, or the route to it was lost at least for a moment. Not cancel
    /// safe: must be polled all the time.
    pub(crate) async fn changed(&mut self) {
        loop {
            let event = select! {
                Ok(()) = self.peers.changed() => Event::Time,
                event = self.events.next() => event,
            };
            self.look(event);
            if event == Event::Time && !self.routes.differ() {
                continue;
            }
            let settled = sleep(SETTLE);
            pin!(settled);
            loop {
                select! {
                    event = self.events.next() => self.look(event),
                    () = &mut settled => break,
                }
            }
            if self.routes.take_change() {
                return;
            }
        }
    }

    fn look(&mut self, event: Event) {
        self.routes
            .see(portable::sources(&self.peers.borrow_and_update()));
        if event == Event::Missed {
            self.routes.suspect();
        }
    }
}

enum Events {
    #[cfg(target_os = "linux")]
    Heard(netlink::Netlink),
    Polled,
}

impl Events {
    #[cfg(target_os = "linux")]
    fn start() -> Self {
        match netlink::Netlink::open() {
            Ok(netlink) => Self::Heard(netlink),
            Err(error) => {
                tracing::debug!(%error, "no netlink");
                Self::Polled
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn start() -> Self {
        Self::Polled
    }

    async fn next(&mut self) -> Event {
        match self {
            #[cfg(target_os = "linux")]
            Self::Heard(netlink) => match netlink.next().await {
                Ok(event) => event,
                Err(error) => {
                    tracing::debug!(%error, "netlink");
                    *self = Self::Polled;
                    Event::Missed
                }
            },
            Self::Polled => {
                sleep(portable::LOOK).await;
                Event::Time
            }
        }
    }
}
