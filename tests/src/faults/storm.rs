//! A large transfer under a sequence of faults that a seed determines.

mod download;

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use self::download::Download;
use super::{
    Bench, Limit, Outcome, Scenario,
    clock::last_unless,
    process::Process,
    site::{Plan, Site},
};
use crate::{
    lab::{Conditions, Loss, random::Random},
    oracle::{End, Job},
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "F30",
        name: "a large transfer in each direction during a storm of faults",
        bar: "complete, hashes are equal",
        quick: true,
        engine: false,
        run: both_ways,
    },
    Scenario {
        id: "F30-curl",
        name: "a download with curl during a storm of faults",
        bar: "no retry, no new connection, hashes are equal",
        quick: true,
        engine: false,
        run: curl,
    },
];

/// Time limits of a transfer: after the last fault, and in total.
const PATIENCE: Duration = Duration::from_secs(120);
const LONGEST: Duration = Duration::from_secs(20 * 60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Down,
    Loss,
    Disorder,
    NoUdp,
    SmallPackets,
    Delay,
    Move,
    Rebind,
    Forget,
    Silence,
    StopClient,
    StopAgent,
    StopRelay,
    KillRelay,
}

const FAULTS: [Fault; 14] = [
    Fault::Down,
    Fault::Loss,
    Fault::Disorder,
    Fault::NoUdp,
    Fault::SmallPackets,
    Fault::Delay,
    Fault::Move,
    Fault::Rebind,
    Fault::Forget,
    Fault::Silence,
    Fault::StopClient,
    Fault::StopAgent,
    Fault::StopRelay,
    Fault::KillRelay,
];

/// The sequence of faults of one seed.
struct Storm {
    random: Random,
    normal: Conditions,
    address: IpAddr,
    moves: u8,
    /// The shortest and the longest time between the starts of two faults, in seconds.
    gaps: (f64, f64),
    /// The faults so far, for error messages.
    log: Vec<String>,
}

impl Storm {
    fn new(seed: u64, bench: &Bench, site: &Site) -> Result<Self> {
        let normal = site.lab.link().conditions_from(crate::lab::HostName::Laptop);
        Ok(Self {
            random: Random::new(seed, 30),
            normal: normal.context("the laptop has no link")?,
            address: site.lab.laptop().address.into(),
            moves: 0,
            gaps: if bench.long { (2.0, 10.0) } else { (1.0, 4.0) },
            log: Vec::new(),
        })
    }

    /// Injects faults until `over` holds.
    fn run(&mut self, site: &mut Site, over: &mut dyn FnMut() -> bool) -> Result<()> {
        let end = Instant::now() + LONGEST;
        while Instant::now() < end {
            let gap = self.between(self.gaps.0, self.gaps.1);
            let fault = FAULTS[(self.random.next() % FAULTS.len() as u64) as usize];
            // Shorter than the gap, so that there is time without a fault.
            let length = gap.mul_f64(0.1 + 0.5 * self.random.unit());
            self.log.push(format!("{fault:?} {:.1} s", length.as_secs_f64()));
            let done = self.inject(site, fault, length, over)?;
            if done || last_unless(gap - length, &mut *over) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn inject(
        &mut self,
        site: &mut Site,
        fault: Fault,
        length: Duration,
        over: &mut dyn FnMut() -> bool,
    ) -> Result<bool> {
        let change: Option<fn(&mut Conditions)> = match fault {
            Fault::Down => Some(|link| link.up = false),
            Fault::Loss => Some(|link| link.loss = Loss::bursts(0.1, 5.0)),
            Fault::Disorder => Some(|link| (link.reorder, link.duplicate, link.corrupt) = (0.25, 0.05, 0.01)),
            Fault::NoUdp => Some(|link| link.block_udp = true),
            Fault::SmallPackets => Some(|link| link.mtu = Some(1280)),
            Fault::Delay => Some(|link| link.delay += Duration::from_millis(150)),
            _ => None,
        };
        if let Some(change) = change {
            site.lab.link().set(change);
            let done = last_unless(length, over);
            let normal = self.normal.clone();
            site.lab.link().set(|link| *link = normal.clone());
            return Ok(done);
        }
        let laptop = site.lab.laptop();
        match fault {
            Fault::Move => {
                self.moves += 1;
                let next = IpAddr::from([10, 77, 1, 100 + self.moves % 100]);
                laptop.change_address(self.address, next)?;
                self.address = next;
            }
            Fault::Rebind => site.nat.as_mut().context("this lab has no NAT")?.rebind()?,
            Fault::Forget => site.nat.as_ref().context("this lab has no NAT")?.forget()?,
            Fault::Silence => {
                laptop.silence_udp_of(site.client.pid())?;
                let done = last_unless(length, over);
                laptop.restore_udp()?;
                return Ok(done);
            }
            Fault::KillRelay => {
                for relay in Process::agents(site.lab.gateway(), "relay") {
                    relay.signal(Signal::KILL)?;
                }
            }
            stop => {
                let whom = match stop {
                    Fault::StopClient => Some(site.client_process()),
                    Fault::StopAgent => Some(site.agent()?),
                    // There is a relay only if the direct path was not used.
                    _ => Process::agents(site.lab.gateway(), "relay").first().copied(),
                };
                let Some(whom) = whom else { return Ok(false) };
                whom.signal(Signal::STOP)?;
                let done = last_unless(length, over);
                whom.signal(Signal::CONT)?;
                return Ok(done);
            }
        }
        Ok(false)
    }

    fn description(&self, seed: u64) -> String {
        format!("seed {seed}: {}", self.log.join(", "))
    }

    fn between(&mut self, least: f64, most: f64) -> Duration {
        Duration::from_secs_f64(least + (most - least) * self.random.unit())
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a storm that fails or hangs must be repeatable, so its seed is printed first"
)]
/// Runs `once` with every seed, also after one has failed: one failure says little about the other seeds.
fn each_seed(bench: &Bench, once: impl Fn(&Bench, u64) -> Result<Outcome>) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut failed = Vec::new();
    for seed in (bench.first_seed..).take(bench.seeds as usize) {
        let start = Instant::now();
        eprintln!("storm with seed {seed}; repeat it with `jq-faults run F30 --first-seed {seed}`");
        match once(bench, seed) {
            Ok(result) => {
                outcome = outcome
                    .and(result)
                    .with("took", start.elapsed().as_secs_f64(), "s", Limit::Told);
            }
            Err(error) => failed.push(format!("seed {seed}: {error:#}")),
        }
    }
    ensure!(
        failed.is_empty(),
        "{} of {} seeds: {}",
        failed.len(),
        bench.seeds,
        failed.join("; ")
    );
    Ok(outcome)
}

fn plan(seed: u64) -> Plan {
    Plan { seed, ..Plan::nat() }
}

fn both_ways(bench: &Bench) -> Result<Outcome> {
    each_seed(bench, |bench, seed| {
        let amount = if bench.long { 1_000_000_000 } else { 150_000_000 };
        let mut site = plan(seed).up()?;
        let mut storm = Storm::new(seed, bench, &site)?;
        let stream = site.caller.open(Job::Bulk {
            up: amount,
            down: amount,
        });
        let mut over = || stream.near().end() != End::Open && stream.far().end() != End::Open;
        storm.run(&mut site, &mut over)?;
        let faults = storm.description(seed);
        stream.complete(PATIENCE).with_context(|| faults.clone())?;
        site.finish().with_context(|| faults.clone())?;
        Ok(Outcome::default().noting(faults))
    })
}

fn curl(bench: &Bench) -> Result<Outcome> {
    each_seed(bench, |bench, seed| {
        let amount = if bench.long { 1_000_000_000 } else { 150_000_000 };
        let forward = format!("{0}:127.0.0.1:{0}", download::PORT);
        let mut site = plan(seed).with("-L").with(&forward).up()?;
        let mut storm = Storm::new(1000 + seed, bench, &site)?;
        let mut download = Download::start(&site.lab, seed, amount)?;
        storm.run(&mut site, &mut || download.is_over())?;
        let faults = storm.description(seed);
        download.complete(PATIENCE).with_context(|| faults.clone())?;
        site.finish().with_context(|| faults.clone())?;
        Ok(Outcome::default().noting(faults))
    })
}
