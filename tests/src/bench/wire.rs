//! Typical links between laptop and GPU host. Values only.

use std::time::Duration;

use crate::lab::{Conditions, Loss};

/// The link of the laptop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Wire {
    pub(super) kind: Kind,
    /// Round-trip time.
    pub(super) rtt: Duration,
    /// Mbit/s, counting whole IP packets. None: no limit.
    pub(super) rate: Option<u64>,
    /// Size of the queue in bytes.
    pub(super) queue: u64,
    /// The share of packets lost in each direction.
    pub(super) loss: Losses,
}

/// How laptop and GPU host are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// With a veth pair, without delay: the machine is the limit.
    Veth,
    /// With the lab's link.
    Direct,
    /// With the lab's link to a gateway, which is near the GPU host.
    Gateway,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Losses {
    None,
    Random(f64),
    /// In bursts of this average length in packets.
    Bursts(f64, f64),
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// No delay.
pub(super) const VETH: Wire = Wire {
    kind: Kind::Veth,
    rtt: Duration::ZERO,
    rate: None,
    queue: 0,
    loss: Losses::None,
};

/// 100 Mbit/s, 40 ms, clean.
pub(super) const CLEAN: Wire = Wire {
    kind: Kind::Direct,
    rtt: ms(40),
    rate: Some(100),
    queue: 500_000,
    loss: Losses::None,
};

/// 100 Mbit/s, 40 ms, 1 % loss.
pub(super) const LOSS: Wire = Wire {
    loss: Losses::Random(0.01),
    ..CLEAN
};

/// 100 Mbit/s, 40 ms, 1 % loss in bursts of 5.
pub(super) const BURSTS: Wire = Wire {
    loss: Losses::Bursts(0.01, 5.0),
    ..CLEAN
};

/// 300 Mbit/s, 80 ms, 0.1 % loss.
pub(super) const LONG: Wire = Wire {
    rtt: ms(80),
    rate: Some(300),
    queue: 3_000_000,
    loss: Losses::Random(0.001),
    ..CLEAN
};

/// 20 Mbit/s, 150 ms, one-second queue.
pub(super) const SLOW: Wire = Wire {
    rtt: ms(150),
    rate: Some(20),
    queue: 2_500_000,
    ..CLEAN
};

/// 100 Mbit/s, 40 ms, with a queue that holds everything that is sent: nothing is lost, so nothing is sent twice.
pub(super) const LARGE_QUEUE: Wire = Wire {
    queue: 100_000_000,
    ..CLEAN
};

/// 100 Mbit/s, 40 ms, through the gateway.
pub(super) const GATEWAY: Wire = Wire {
    kind: Kind::Gateway,
    ..CLEAN
};

/// 20 Mbit/s, 40 ms, 1 % loss.
pub(super) const HOME: Wire = Wire {
    rate: Some(20),
    queue: 100_000,
    ..LOSS
};

impl Wire {
    pub(super) fn conditions(&self) -> Conditions {
        Conditions {
            delay: self.rtt / 2,
            rate: self.rate.map(|rate| rate * 1_000_000),
            queue: self.queue,
            loss: match self.loss {
                Losses::None => Loss::None,
                Losses::Random(share) => Loss::random(share),
                Losses::Bursts(share, length) => Loss::bursts(share, length),
            },
            ..Conditions::default()
        }
    }
}
