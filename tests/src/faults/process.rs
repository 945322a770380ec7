//! A process as the kernel sees it (proc(5)).

use std::{fs, time::Duration, time::Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::clock::last;
use crate::lab::{Host, netns};

/// A process that is running or has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process(pub(super) Pid);

impl Process {
    /// All agents (`serve`) or relays (`relay`) of a host's user.
    pub(super) fn agents(host: &Host, role: &str) -> Vec<Self> {
        let is_one = |pid: &Pid| {
            let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
            let words: Vec<_> = line.split(|byte| *byte == 0).collect();
            words.contains(&role.as_bytes()) && words.contains(&&b"--run-dir"[..])
        };
        netns::processes_of(host.user.uid)
            .into_iter()
            .filter(is_one)
            .map(Self)
            .collect()
    }

    /// The first process that [`Self::agents`] finds.
    pub(super) fn agent(host: &Host, role: &str) -> Result<Self> {
        Self::agents(host, role)
            .first()
            .copied()
            .with_context(|| format!("no {role} runs on {}", host.name))
    }

    pub(super) fn signal(self, signal: Signal) -> Result<()> {
        kill_process(self.0, signal).context("the process has ended")
    }

    /// Number of open descriptors; none once it has ended.
    pub(super) fn descriptors(self) -> Option<usize> {
        Some(fs::read_dir(self.file("fd")).ok()?.count())
    }

    /// Memory that is not swapped out, in MB.
    pub(super) fn resident(self) -> Result<f64> {
        let status = fs::read_to_string(self.file("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        Ok(kib.context("no VmRSS")? * 1024.0 / 1e6)
    }

    /// The CPU time that each of `processes` uses during `length`, in percent of one processor.
    pub(super) fn loads<const N: usize>(processes: [Self; N], length: Duration) -> Result<[f64; N]> {
        let start = Instant::now();
        let before = processes.map(Self::ticks);
        last(length);
        let passed = start.elapsed().as_secs_f64();
        let mut loads = [0.0; N];
        for ((load, process), before) in loads.iter_mut().zip(processes).zip(before) {
            // The kernel counts in USER_HZ, which is 100 on all usual systems.
            *load = (process.ticks()? - before?) / passed;
        }
        Ok(loads)
    }

    /// The file that it executes.
    pub(super) fn program(self) -> Result<String> {
        Ok(fs::read_link(self.file("exe"))?.to_string_lossy().into_owned())
    }

    fn ticks(self) -> Result<f64> {
        let stat = fs::read_to_string(self.file("stat"))?;
        // The name before may contain anything, including spaces and brackets.
        let rest = stat.rsplit_once(')').context("no stat")?.1;
        let field = |index: usize| {
            rest.split_whitespace()
                .nth(index)
                .and_then(|text| text.parse::<f64>().ok())
        };
        Ok(field(11).context("no utime")? + field(12).context("no stime")?)
    }

    fn file(self, name: &str) -> String {
        format!("/proc/{}/{name}", self.0.as_raw_nonzero())
    }
}
