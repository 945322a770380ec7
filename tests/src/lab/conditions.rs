//! The conditions of one direction of a link. Values only; [`super::impair`] applies them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The conditions of one direction of a link. The default is a perfect link: no delay, no loss, no rate limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// One-way delay.
    pub delay: Duration,
    /// Added to or taken from `delay`, evenly distributed. Does not change the order of packets.
    pub jitter: Duration,
    /// Which packets are lost.
    pub loss: Loss,
    /// Bits per second, counting whole IP packets. None: no limit.
    pub rate: Option<u64>,
    /// Size of the queue in bytes if `rate` is set. A packet that does not fit is dropped.
    pub queue: u64,
    /// The share of packets (0 to 1) that are held back by up to `reorder_by`, so that others overtake them.
    pub reorder: f64,
    /// Longest time that a reordered packet is held back.
    pub reorder_by: Duration,
    /// The share of packets (0 to 1) that arrive twice.
    pub duplicate: f64,
    /// The share of packets (0 to 1) in which one bit after the IP header is flipped.
    pub corrupt: f64,
    /// IP packets longer than this are dropped silently (an MTU black hole). None: all sizes pass.
    pub mtu: Option<usize>,
    /// Whether the link is up. A link that goes down also loses the packets in flight.
    pub up: bool,
    /// Whether UDP is dropped silently, as on networks that allow only TCP.
    pub block_udp: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: Loss::None,
            rate: None,
            queue: 1_000_000,
            reorder: 0.0,
            reorder_by: Duration::from_millis(10),
            duplicate: 0.0,
            corrupt: 0.0,
            mtu: None,
            up: true,
            block_udp: false,
        }
    }
}

/// How packets are lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// No packet is lost.
    #[default]
    None,
    /// Each packet independently, with this probability (0 to 1).
    Random(f64),
    /// In bursts, by the Gilbert-Elliott model: a good state that loses nothing and a bad state that loses everything.
    Bursts {
        /// The probability to go from good to bad, at each packet.
        enter: f64,
        /// The probability to go from bad to good, at each packet.
        leave: f64,
    },
}

impl Loss {
    /// Bursts that lose `share` (0 to 1, below 1) of all packets, `length` packets (1 or more) at a time on
    /// average.
    pub fn bursts(share: f64, length: f64) -> Self {
        let leave = 1.0 / length;
        Self::Bursts {
            enter: leave * share / (1.0 - share),
            leave,
        }
    }

    /// Random loss of `share` (0 to 1) of all packets; none for 0.
    pub fn random(share: f64) -> Self {
        if share > 0.0 {
            Self::Random(share)
        } else {
            Self::None
        }
    }
}
