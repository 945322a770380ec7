//! A link between two hosts: a TUN device in each, and two threads that carry packets from one to the other.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context as _, Result};
use rustix::event::EventfdFlags;
use serde::{Deserialize, Serialize};

use super::conditions::Conditions;
use super::impair::Impair;
use super::plan::HostName;
use super::pump::{self, Pump};
use super::{netns, tools, tun};

/// A running link. Dropping it removes the devices.
pub struct Link {
    ends: [HostName; 2],
    /// The direction that leaves `ends[0]`, and the one that leaves `ends[1]`.
    ways: [Arc<Way>; 2],
    stop: Arc<std::os::fd::OwnedFd>,
    pumps: Vec<JoinHandle<()>>,
}

/// One direction, shared by the pump and the lab.
pub(crate) struct Way {
    pub(crate) impair: Mutex<Impair>,
    pub(crate) counters: Mutex<Counters>,
}

/// The counters of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Packets sent.
    pub packets: u64,
    /// Bytes sent, including IP headers.
    pub bytes: u64,
    /// Packets lost at random.
    pub lost: u64,
    /// Packets dropped because the queue was full.
    pub queue_full: u64,
    /// Packets dropped because the link was down, UDP was blocked, or the packet was too large.
    pub refused: u64,
}

/// One end of a link: its namespace, and the device's name there.
pub(crate) struct End<'a> {
    pub(crate) host: HostName,
    pub(crate) netns: &'a str,
    pub(crate) device: &'a str,
}

impl Link {
    /// Creates the devices and starts carrying packets. The devices have no addresses yet.
    pub(crate) fn open(ends: &[End<'_>; 2], seed: u64, start: &Conditions) -> Result<Self> {
        let [a, b] = ends;
        let devices = (open_end(a)?, open_end(b)?);
        let stop = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).context("cannot make an eventfd")?;
        let (stop, clock) = (Arc::new(stop), Instant::now());
        let way = |salt| Arc::new(Way::new(seed.wrapping_add(salt), start.clone()));
        let ways = [way(0), way(1)];
        let mut link = Self {
            ends: [a.host, b.host],
            ways,
            stop,
            pumps: Vec::new(),
        };
        let (first, second) = (Arc::new(devices.0), Arc::new(devices.1));
        for (index, (from, to)) in [(&first, &second), (&second, &first)].into_iter().enumerate() {
            let pump = Pump {
                way: Arc::clone(&link.ways[index]),
                from: Arc::clone(from),
                to: Arc::clone(to),
                stop: Arc::clone(&link.stop),
                clock,
            };
            link.pumps.push(pump::start(
                format!("{}->{}", ends[index].host, ends[1 - index].host),
                pump,
            )?);
        }
        Ok(link)
    }

    /// The two hosts that it connects.
    pub fn ends(&self) -> [HostName; 2] {
        self.ends
    }

    /// Changes both directions.
    pub fn set(&self, change: impl Fn(&mut Conditions)) {
        for way in &self.ways {
            way.change(&change);
        }
    }

    /// Changes the direction that leaves `host`. Does nothing if `host` is not at either end.
    pub fn set_from(&self, host: HostName, change: impl FnOnce(&mut Conditions)) {
        if let Some(way) = self.way(host) {
            way.change(change);
        }
    }

    /// Takes the link down (packets in flight are lost) or up, in both directions.
    pub fn set_up(&self, up: bool) {
        self.set(|it| it.up = up);
    }

    /// The conditions of the direction that leaves `host`; none if `host` is not at either end.
    pub fn conditions_from(&self, host: HostName) -> Option<Conditions> {
        self.way(host).map(|way| lock(&way.impair).conditions().clone())
    }

    /// The counters of the direction that leaves `host`; none if `host` is not at either end.
    pub fn counters_from(&self, host: HostName) -> Option<Counters> {
        self.way(host).map(|way| *lock(&way.counters))
    }

    /// Restarts the random sequences from `seed`, so that what happens to the next packets is reproducible.
    pub fn reseed(&self, seed: u64) {
        for (way, salt) in self.ways.iter().zip(0..) {
            let mut impair = lock(&way.impair);
            *impair = Impair::new(seed.wrapping_add(salt), impair.conditions().clone());
        }
    }

    fn way(&self, host: HostName) -> Option<&Way> {
        let index = self.ends.iter().position(|end| *end == host)?;
        Some(&self.ways[index])
    }
}

impl Way {
    fn new(seed: u64, conditions: Conditions) -> Self {
        Self {
            impair: Mutex::new(Impair::new(seed, conditions)),
            counters: Mutex::default(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Conditions)) {
        let mut impair = lock(&self.impair);
        let mut conditions = impair.conditions().clone();
        change(&mut conditions);
        impair.set(conditions);
    }
}

/// Locks even if the lock is poisoned: the lab of a test that panicked must still be removed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open_end(end: &End<'_>) -> Result<std::os::fd::OwnedFd> {
    let device = netns::enter(end.netns, || tun::open(end.device))??;
    // Without multicast, only the hosts' programs send packets, so a seed always applies to the same packets. The device's
    // queue is longer than the link's own queue, so that only the latter overflows.
    tools::run(
        "ip",
        [
            "-n",
            end.netns,
            "link",
            "set",
            end.device,
            "up",
            "mtu",
            "1500",
            "txqueuelen",
            "10000",
            "multicast",
            "off",
        ],
    )?;
    Ok(device)
}

impl Drop for Link {
    fn drop(&mut self) {
        // Cannot fail: the eventfd is open and its counter is far from its maximum.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        for pump in self.pumps.drain(..) {
            let _ = pump.join();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({}-{})", self.ends[0], self.ends[1])
    }
}
