//! Changes of the ways to the peers.
//!
//! What counts is the source address that this machine uses towards each peer: links and addresses come and go (containers,
//! virtual machines, scans for networks) without a difference to a connection. The kernel says when to look; where it does
//! not, [`portable`] looks every two seconds.

#[cfg(target_os = "linux")]
mod netlink;
mod portable;
#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{pin, select, sync::watch, time::sleep};

/// How long after the first event of a burst it is told.
const SETTLE: Duration = Duration::from_millis(200);

/// Watches the ways to peers.
pub struct Network {
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
    pub fn watch(peers: watch::Receiver<Vec<SocketAddr>>) -> Self {
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
    pub async fn changed(&mut self) {
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

/// Why to look at the routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// Something changed, perhaps somewhere else.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "no other kernel is listened to")
    )]
    Heard,
    /// So much changed that not all could be heard.
    Missed,
    /// The last look was a while ago, or at other peers.
    Time,
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

/// The source address towards each peer; none where there is no route.
type Sources = HashMap<SocketAddr, Option<IpAddr>>;

/// What was told of the routes, and what was seen since.
#[derive(Debug, Default)]
struct Routes {
    told: Sources,
    now: Sources,
    /// A route was away, though it may be back.
    lost: bool,
}

impl Routes {
    /// Takes a look. The way to a peer that was not there before is no news.
    fn see(&mut self, now: Sources) {
        for (peer, source) in &now {
            self.told.entry(*peer).or_insert(*source);
            let had_one = matches!(self.now.get(peer), Some(Some(_)));
            self.lost |= had_one && source.is_none();
        }
        self.now = now;
    }

    /// A route may have been away without being seen.
    fn suspect(&mut self) {
        self.lost = true;
    }

    fn differ(&self) -> bool {
        let differs = |(peer, source)| self.told.get(peer) != Some(source);
        self.lost || self.now.iter().any(differs)
    }

    /// Whether there is something to tell, once.
    fn take_change(&mut self) -> bool {
        let differ = self.differ();
        self.told.clone_from(&self.now);
        self.lost = false;
        differ
    }
}

#[cfg(test)]
mod routes {
    use super::*;

    /// The sources towards the first peers.
    fn sources<const N: usize>(texts: [&str; N]) -> Sources {
        let peers = (1..).map(|port| SocketAddr::from(([10, 8, 0, 1], port)));
        peers.zip(texts.map(|text| text.parse().ok())).collect()
    }

    fn known(texts: [&str; 2]) -> Routes {
        let mut routes = Routes::default();
        routes.see(sources(texts));
        routes
    }

    #[test]
    fn other_addresses_and_routes_that_were_away_are_told_once() {
        let home = ["192.168.1.7", "fd00::7"];
        let cases: [(&str, &[[&str; 2]], bool); 6] = [
            ("the same as ever", &[home, home], false),
            ("another network", &[["10.0.0.3", "fd00::7"]], true),
            ("IPv6 is gone", &[["192.168.1.7", ""]], true),
            ("away for a moment", &[["", "fd00::7"], home], true),
            ("other for a moment", &[["10.0.0.3", "fd00::7"], home], false),
            ("all is gone", &[["", ""]], true),
        ];
        for (what, looks, expected) in cases {
            let mut routes = known(home);
            for look in looks {
                routes.see(sources(*look));
            }
            assert_eq!(routes.take_change(), expected, "{what}");
            assert!(!routes.take_change(), "{what}");
        }
    }

    #[test]
    fn both_the_loss_of_a_route_and_its_return_are_told() {
        let mut routes = known(["10.0.0.3", ""]);
        routes.see(sources(["", ""]));
        assert!(routes.take_change());
        routes.see(sources(["10.0.0.3", ""]));
        assert!(routes.take_change());
    }

    #[test]
    fn another_list_of_peers_is_no_news_and_hides_none() {
        let mut routes = known(["10.0.0.3", ""]);
        routes.see(sources(["10.0.0.3", "", "fd00::7"]));
        routes.see(sources(["10.0.0.3"]));
        assert!(!routes.take_change());
        routes.see(sources(["10.0.0.4", ""]));
        assert!(routes.take_change());
    }
}
