//! The thread that carries packets in one direction: the I/O around [`super::impair`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::impair::{Cause, Fate, Packet};
use super::link::{Way, lock};

/// Larger than any packet of the lab's devices.
const LARGEST: usize = 65_536;
/// Number of packets that are read at once, before due packets are delivered.
const BATCH: usize = 64;

pub(crate) struct Pump {
    pub(crate) way: Arc<Way>,
    pub(crate) from: Arc<OwnedFd>,
    pub(crate) to: Arc<OwnedFd>,
    pub(crate) stop: Arc<OwnedFd>,
    pub(crate) clock: Instant,
}

/// A packet in flight: its time of arrival, its order among packets with the same time, and its bytes.
type Travelling = Reverse<(Duration, u64, Box<[u8]>)>;

/// Carries packets on a separate thread until `stop` becomes readable or a device fails.
pub(crate) fn start(name: String, pump: Pump) -> Result<JoinHandle<()>> {
    let body = move || {
        // The pump ends early only if a device was removed. Then there are no more packets to carry.
        let _ = pump.run();
    };
    thread::Builder::new()
        .name(name)
        .spawn(body)
        .context("cannot start a link's thread")
}

impl Pump {
    fn run(&self) -> Result<(), Errno> {
        let mut travelling: BinaryHeap<Travelling> = BinaryHeap::new();
        let mut buffer = vec![0; LARGEST];
        let mut count = 0;
        loop {
            self.deliver(&mut travelling)?;
            let wait = travelling
                .peek()
                .map(|next| next.0.0.saturating_sub(self.clock.elapsed()));
            if self.wait(wait)? {
                return Ok(());
            }
            for _ in 0..BATCH {
                match rustix::io::read(&*self.from, &mut buffer[..]) {
                    Ok(len) => self.take(&buffer[..len], &mut count, &mut travelling),
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    Err(other) => return Err(other),
                }
            }
        }
    }

    /// Waits for a packet, or until `limit`. Returns whether to stop.
    fn wait(&self, limit: Option<Duration>) -> Result<bool, Errno> {
        let limit = limit.map(|limit| Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let mut ready = [
            PollFd::new(&self.from, PollFlags::IN),
            PollFd::new(&self.stop, PollFlags::IN),
        ];
        match poll(&mut ready, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(!ready[1].revents().is_empty()),
            Err(other) => Err(other),
        }
    }

    fn take(&self, bytes: &[u8], count: &mut u64, travelling: &mut BinaryHeap<Travelling>) {
        let packet = Packet {
            len: bytes.len(),
            udp: is_udp(bytes),
        };
        let fate = lock(&self.way.impair).fate(self.clock.elapsed(), packet);
        let mut counters = lock(&self.way.counters);
        counters.packets += 1;
        counters.bytes += bytes.len() as u64;
        match fate {
            Fate::Dropped(Cause::Loss) => counters.lost += 1,
            Fate::Dropped(Cause::Queue) => counters.queue_full += 1,
            Fate::Dropped(Cause::Down | Cause::Udp | Cause::TooBig) => counters.refused += 1,
            Fate::Delivered(first, second) => {
                for delivery in std::iter::once(first).chain(second) {
                    let mut bytes: Box<[u8]> = bytes.into();
                    if let Some((byte, mask)) = delivery.flip {
                        bytes[byte] ^= mask;
                    }
                    *count += 1;
                    travelling.push(Reverse((delivery.at, *count, bytes)));
                }
            }
        }
    }

    fn deliver(&self, travelling: &mut BinaryHeap<Travelling>) -> Result<(), Errno> {
        if travelling.is_empty() {
            return Ok(());
        }
        if !lock(&self.way.impair).conditions().up {
            travelling.clear();
            return Ok(());
        }
        let now = self.clock.elapsed();
        while let Some(Reverse((_, _, bytes))) = pop_due(travelling, now) {
            match rustix::io::write(&*self.to, &bytes) {
                // A packet that the other host's kernel rejects (device down, broken header) is lost, as on any network.
                Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::IO | Errno::INVAL | Errno::NOBUFS) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }
}

fn pop_due(travelling: &mut BinaryHeap<Travelling>, now: Duration) -> Option<Travelling> {
    if travelling.peek()?.0.0 <= now {
        travelling.pop()
    } else {
        None
    }
}

/// Whether an IP packet carries UDP, by the protocol field of its IPv4 or IPv6 header.
fn is_udp(packet: &[u8]) -> bool {
    const UDP: u8 = 17;
    let field = match packet.first().map(|byte| byte >> 4) {
        Some(4) => packet.get(9),
        Some(6) => packet.get(6),
        _ => None,
    };
    field == Some(&UDP)
}
