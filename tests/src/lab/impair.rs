//! What happens to a packet in one direction of a link: a pure state machine without I/O and without a clock.
//!
//! Each kind of impairment has its own random sequence, and every packet draws from all of them. The fate of the n-th
//! packet therefore depends only on the seed and on n, not on timing or on the other impairments.

use std::time::Duration;

use super::conditions::{Conditions, Loss};
use super::random::Random;

/// The properties of a packet that the state machine needs.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Length in bytes, IP header included.
    pub len: usize,
    /// Whether it carries UDP.
    pub udp: bool,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    /// It is dropped.
    Dropped(Cause),
    /// It arrives, once or twice.
    Delivered(Delivery, Option<Delivery>),
}

/// One arrival.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delivery {
    /// Time of arrival, on the caller's clock.
    pub at: Duration,
    /// The bit to flip: byte offset in the packet, and the mask.
    pub flip: Option<(usize, u8)>,
}

/// Why a packet is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The link is down.
    Down,
    /// UDP is blocked.
    Udp,
    /// The packet is larger than the path's MTU.
    TooBig,
    /// Random loss.
    Loss,
    /// The queue is full.
    Queue,
}

/// One direction of a link. Packets must be passed in order, with a clock that never goes backwards.
#[derive(Debug)]
pub struct Impair {
    conditions: Conditions,
    sequences: Sequences,
    /// Gilbert-Elliott: whether the link is in its bad state.
    bad: bool,
    /// When the last bit in the queue will have been sent.
    busy_until: Duration,
    /// The latest arrival so far of a packet that is not reordered.
    last: Duration,
}

#[derive(Debug)]
struct Sequences {
    loss: Random,
    jitter: Random,
    reorder: Random,
    duplicate: Random,
    corrupt: Random,
}

/// The random numbers of one packet.
struct Draw {
    loss: f64,
    jitter: f64,
    reorder: f64,
    hold: f64,
    duplicate: f64,
    corrupt: f64,
    bit: u64,
}

impl Sequences {
    fn draw(&mut self) -> Draw {
        Draw {
            loss: self.loss.unit(),
            jitter: self.jitter.unit(),
            reorder: self.reorder.unit(),
            hold: self.reorder.unit(),
            duplicate: self.duplicate.unit(),
            corrupt: self.corrupt.unit(),
            bit: self.corrupt.next(),
        }
    }
}

impl Impair {
    /// A direction with these conditions. `seed` determines all random events.
    pub fn new(seed: u64, conditions: Conditions) -> Self {
        let sequences = Sequences {
            loss: Random::new(seed, 1),
            jitter: Random::new(seed, 2),
            reorder: Random::new(seed, 3),
            duplicate: Random::new(seed, 4),
            corrupt: Random::new(seed, 5),
        };
        Self {
            conditions,
            sequences,
            bad: false,
            busy_until: Duration::ZERO,
            last: Duration::ZERO,
        }
    }

    /// The current conditions.
    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// Changes the conditions for the packets from now on.
    pub fn set(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// Decides what happens to a packet that is sent at `now`.
    pub fn fate(&mut self, now: Duration, packet: Packet) -> Fate {
        let draw = self.sequences.draw();
        let lost = self.lost(draw.loss);
        let it = &self.conditions;
        if !it.up {
            return Fate::Dropped(Cause::Down);
        }
        if it.block_udp && packet.udp {
            return Fate::Dropped(Cause::Udp);
        }
        if it.mtu.is_some_and(|mtu| packet.len > mtu) {
            return Fate::Dropped(Cause::TooBig);
        }
        if lost {
            return Fate::Dropped(Cause::Loss);
        }
        let Some(sent) = self.enqueue(now, packet.len) else {
            return Fate::Dropped(Cause::Queue);
        };
        let at = self.arrival(sent, &draw);
        let flip = (draw.corrupt < self.conditions.corrupt).then(|| flip(draw.bit, packet.len));
        let again = (draw.duplicate < self.conditions.duplicate).then_some(Delivery { at, flip: None });
        Fate::Delivered(Delivery { at, flip }, again)
    }

    fn lost(&mut self, draw: f64) -> bool {
        match self.conditions.loss {
            Loss::None => false,
            Loss::Random(share) => draw < share,
            Loss::Bursts { enter, leave } => {
                self.bad = if self.bad { draw >= leave } else { draw < enter };
                self.bad
            }
        }
    }

    /// Appends a packet to the queue. Returns the time when its last bit has been sent, or none if the queue is full.
    fn enqueue(&mut self, now: Duration, len: usize) -> Option<Duration> {
        let Some(rate) = self.conditions.rate else {
            return Some(now);
        };
        let rate = rate.max(1) as f64;
        let start = self.busy_until.max(now);
        let backlog = (start - now).as_secs_f64() * rate / 8.0;
        // An idle link accepts any packet, however small its queue: the packet is sent at once and is not queued.
        if backlog > 0.0 && backlog + len as f64 > self.conditions.queue as f64 {
            return None;
        }
        self.busy_until = start + Duration::from_secs_f64(len as f64 * 8.0 / rate);
        Some(self.busy_until)
    }

    fn arrival(&mut self, sent: Duration, draw: &Draw) -> Duration {
        let it = &self.conditions;
        let swing = it.jitter.mul_f64(draw.jitter * 2.0);
        let at = (sent + it.delay + swing).saturating_sub(it.jitter).max(sent);
        if draw.reorder < it.reorder {
            return at.max(self.last) + it.reorder_by.mul_f64(draw.hold);
        }
        self.last = self.last.max(at);
        self.last
    }
}

/// Chooses a bit after the IP header, so that the packet is still delivered and a checksum of the transport can detect it.
fn flip(random: u64, len: usize) -> (usize, u8) {
    const HEADER: usize = 20;
    let room = len.saturating_sub(HEADER).max(1) as u64;
    let byte = HEADER.min(len.saturating_sub(1)) + (random >> 3) as usize % room as usize;
    (byte, 1 << (random & 7))
}

#[cfg(test)]
mod tests;
