//! Changes of the ways to the peers.
//!
//! What counts is the source address that this machine uses towards each peer: links and addresses come and go (containers,
//! virtual machines, scans for networks) without a difference to a connection. The kernel says when to look; where it does
//! not, [`portable`] looks every two seconds.

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

/// How long after the first event of a burst it is told.
const SETTLE: Duration = Duration::from_millis(200);

/// Watches the ways to peers.
pub(crate) struct Network {
    peers: watch::Receiver<Vec<SocketAddr>>,
    events: Events,
    routes: Routes,
}

impl Network {
    /// Watches the ways to `peers`; when these are replaced, the ways to the new ones from then on.
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

    /// Waits until another source address is used towards a peer, or the route to it is gone, or was seen to be gone in
    /// between. It has to be waited for all the time: dropped in the middle of a burst, it forgets that there was one.
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
