//! What one direction of a link is like. Values only; [`super::impair`] acts on them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The state of one direction of a link. The default is a perfect one: no delay, no loss, as fast as the
/// machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// How long a packet travels.
    pub delay: Duration,
    /// Added to or taken from `delay`, evenly distributed. Does not change the order of packets.
    pub jitter: Duration,
    /// Which packets are lost on the way.
    pub loss: Loss,
    /// Bits a second, counting whole IP packets. None: no limit.
    pub rate: Option<u64>,
    /// Bytes that may wait for their turn where `rate` is set; a packet that finds no room is dropped.
    pub queue: u64,
    /// The share of packets (0 to 1) that are held back by up to `reorder_by`, so that others overtake them.
    pub reorder: f64,
    /// The longest that a reordered packet is held back.
    pub reorder_by: Duration,
    /// The share of packets (0 to 1) that arrive twice.
    pub duplicate: f64,
    /// The share of packets (0 to 1) of which one bit is flipped behind the IP header.
    pub corrupt: f64,
    /// IP packets longer than this vanish without a word (an MTU black hole). None: all sizes pass.
    pub mtu: Option<usize>,
    /// Whether anything passes. A link that goes down loses what is on its way too.
    pub up: bool,
    /// Whether UDP vanishes, as on networks that let TCP through only.
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
    /// None are.
    #[default]
    None,
    /// Each on its own, with this probability (0 to 1).
    Random(f64),
    /// In bursts, after Gilbert and Elliott: a good state that loses nothing and a bad one that loses
    /// everything.
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
