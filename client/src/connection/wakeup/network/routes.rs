//! Routes to the peers: what was reported, and what has changed since.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

/// Source address for each peer; none if there is no route.
pub(super) type Sources = HashMap<SocketAddr, Option<IpAddr>>;

/// The reported and the current routes.
#[derive(Debug, Default)]
pub(super) struct Routes {
    told: Sources,
    now: Sources,
    /// A route was lost, though it may be back.
    lost: bool,
}

impl Routes {
    /// Takes the current sources. A peer that is new is no change.
    pub(super) fn see(&mut self, now: Sources) {
        for (peer, source) in &now {
            self.told.entry(*peer).or_insert(*source);
            let had_one = matches!(self.now.get(peer), Some(Some(_)));
            self.lost |= had_one && source.is_none();
        }
        self.now = now;
    }

    /// A route may have been lost unnoticed.
    pub(super) fn suspect(&mut self) {
        self.lost = true;
    }

    pub(super) fn differ(&self) -> bool {
        let differs = |(peer, source)| self.told.get(peer) != Some(source);
        self.lost || self.now.iter().any(differs)
    }

    /// Whether there is a change to report. Reports it only once.
    pub(super) fn take_change(&mut self) -> bool {
        let differ = self.differ();
        self.told.clone_from(&self.now);
        self.lost = false;
        differ
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sources for the first peers.
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
    fn changed_addresses_and_lost_routes_are_reported_once() {
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
    fn the_loss_of_a_route_and_its_return_are_both_reported() {
        let mut routes = known(["10.0.0.3", ""]);
        routes.see(sources(["", ""]));
        assert!(routes.take_change());
        routes.see(sources(["10.0.0.3", ""]));
        assert!(routes.take_change());
    }

    #[test]
    fn new_peers_are_no_change_and_hide_none() {
        let mut routes = known(["10.0.0.3", ""]);
        routes.see(sources(["10.0.0.3", "", "fd00::7"]));
        routes.see(sources(["10.0.0.3"]));
        assert!(!routes.take_change());
        routes.see(sources(["10.0.0.4", ""]));
        assert!(routes.take_change());
    }
}
