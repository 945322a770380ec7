//! What each end of a session can do beyond the first release's protocol.
//!
//! Both say it when they attach, and each uses what both have: nobody ever meets a message that it did not announce. A
//! feature that sends anything new is a bit here.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A set of capabilities. On the wire a number; bits that this build does not know are kept and mean nothing here.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities(u64);

/// Every bit that has a name.
const NAMES: [(Capabilities, &str); 6] = [
    (Capabilities::COMPRESSION, "compression"),
    (Capabilities::SUBSCRIBE, "subscribe"),
    (Capabilities::OPENED, "opened"),
    (Capabilities::REVERSE, "reverse"),
    (Capabilities::EXEC, "exec"),
    (Capabilities::DATAGRAMS, "datagrams"),
];

impl Capabilities {
    /// None.
    pub const NONE: Self = Self(0);
    /// Reads [blocks](crate::session::block) that are deflated.
    pub const COMPRESSION: Self = Self(1);
    /// Knows [`Control::Subscribe`](super::session::Control::Subscribe) and
    /// [`Control::Update`](super::session::Control::Update).
    pub const SUBSCRIBE: Self = Self(1 << 1);
    /// Knows [`Opened`](super::stream::Opened), asked for by a forward's `confirm`.
    pub const OPENED: Self = Self(1 << 2);
    /// Reserved: knows [`StreamHeader::Wait`](super::stream::StreamHeader::Wait).
    pub const REVERSE: Self = Self(1 << 3);
    /// Reserved: knows [`StreamHeader::Exec`](super::stream::StreamHeader::Exec).
    pub const EXEC: Self = Self(1 << 4);
    /// Reserved: knows [`StreamHeader::Datagrams`](super::stream::StreamHeader::Datagrams).
    pub const DATAGRAMS: Self = Self(1 << 5);

    /// What this build announces: what it does, and not what is only reserved.
    pub const OURS: Self = {
        let ours = Self::COMPRESSION.with(Self::OPENED);
        if cfg!(feature = "older-peer") {
            ours
        } else {
            ours.with(Self::SUBSCRIBE)
        }
    };

    /// These and those.
    #[must_use]
    pub const fn with(self, those: Self) -> Self {
        Self(self.0 | those.0)
    }

    /// These without those.
    #[must_use]
    pub const fn without(self, those: Self) -> Self {
        Self(self.0 & !those.0)
    }

    /// What both ends have.
    #[must_use]
    pub const fn shared(self, peer: Self) -> Self {
        Self(self.0 & peer.0)
    }

    /// Whether all of those are among these.
    #[must_use]
    pub const fn has(self, those: Self) -> bool {
        self.0 & those.0 == those.0
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = NAMES.iter().filter(|(bit, _)| self.has(*bit));
        let unnamed = NAMES.iter().fold(*self, |rest, (bit, _)| rest.without(*bit));
        let mut set = f.debug_set();
        set.entries(named.map(|(_, name)| name));
        if unnamed != Self::NONE {
            set.entry(&unnamed.0);
        }
        set.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_uses_what_both_have_and_unknown_bits_change_nothing() {
        let newer = Capabilities::OURS.with(Capabilities(1 << 63));
        assert_eq!(newer.shared(Capabilities::OURS), Capabilities::OURS);
        let older = Capabilities::OURS.without(Capabilities::SUBSCRIBE);
        let shared = Capabilities::OURS.shared(older);
        assert!(shared.has(Capabilities::OPENED) && !shared.has(Capabilities::SUBSCRIBE));
        assert!(!Capabilities::NONE.has(Capabilities::OPENED));
        assert_eq!(
            format!("{:?}", Capabilities::OPENED.with(Capabilities(1 << 63))),
            r#"{"opened", 9223372036854775808}"#
        );
    }

    #[test]
    fn every_capability_is_one_bit_of_its_own() {
        let all = NAMES
            .iter()
            .fold(Capabilities::NONE, |all, (bit, _)| all.with(*bit));
        assert_eq!(all.0.count_ones() as usize, NAMES.len());
        assert!(NAMES.iter().all(|(bit, _)| bit.0.count_ones() == 1));
    }

    #[test]
    fn what_is_only_reserved_is_not_announced() {
        for reserved in [Capabilities::REVERSE, Capabilities::EXEC, Capabilities::DATAGRAMS] {
            assert_eq!(Capabilities::OURS.shared(reserved), Capabilities::NONE);
        }
    }
}
