//! CPU and memory use of a tunnel's processes (proc(5)).

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    dumbpipe,
    peers::Who,
    place::{Place, hosts},
};
use crate::{
    eventually,
    lab::{Host, HostName, netns},
};

/// The processes of a tunnel at one end, or at both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Processes(Vec<Pid>);

impl Processes {
    /// The processes of a peer on the laptop.
    pub(super) fn near(place: &Place, who: Who) -> Self {
        Self::on(place.lab.laptop(), who)
    }

    /// The processes of a peer on the GPU host.
    pub(super) fn far(place: &Place, who: Who) -> Self {
        Self::on(place.lab.gpu(), who)
    }

    /// The processes of a peer at both ends.
    pub(super) fn all(place: &Place, who: Who) -> Self {
        let all = hosts(&place.lab)
            .into_iter()
            .flat_map(|host| Self::on(host, who).0);
        Self(all.collect())
    }

    fn on(host: &Host, who: Who) -> Self {
        let belongs = |pid: &Pid| match who {
            Who::Raw | Who::RawBbr => false,
            Who::Ssh | Who::SshAes | Who::SshAesBbr | Who::SshCompressed => {
                // The listening sshd belongs to the lab and carries no data.
                let title = command_line(*pid);
                let is_listener = title.contains("[listener]");
                (name(*pid) == "ssh" || name(*pid).starts_with("sshd")) && !is_listener
            }
            Who::Dumbpipe => name(*pid) == dumbpipe::NAME,
            Who::Product | Who::ProductPlain => {
                name(*pid) == "jq-client" || command_line(*pid).contains("--run-dir")
            }
        };
        let found = netns::processes(&host.netns).into_iter().filter(belongs);
        Self(found.collect())
    }

    /// Processor time so far, in seconds.
    pub(super) fn seconds(&self) -> Result<f64> {
        self.0.iter().map(|pid| seconds(*pid)).sum()
    }

    /// Resident memory in MB.
    pub(super) fn resident(&self) -> Result<f64> {
        self.0.iter().map(|pid| resident(*pid)).sum()
    }

    /// Number of voluntary context switches so far, which is the number of wake-ups.
    pub(super) fn sleeps(&self) -> f64 {
        let of = |pid: &Pid| -> f64 {
            let tasks = fs::read_dir(file(*pid, "task")).into_iter().flatten().flatten();
            let counts =
                tasks.filter_map(|task| field(&task.path().join("status"), "voluntary_ctxt_switches:"));
            counts.sum()
        };
        self.0.iter().map(of).sum()
    }

    /// Terminates them and waits until they have ended.
    pub(super) fn end(&self) -> Result<()> {
        const PATIENCE: Duration = Duration::from_secs(20);
        for pid in &self.0 {
            // Fails if the process has ended in the meantime, which is fine.
            let _ = kill_process(*pid, Signal::TERM);
        }
        let is_gone = |pid: &Pid| {
            let state = fs::read_to_string(file(*pid, "stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        };
        eventually("processes to end", PATIENCE, || self.0.iter().all(is_gone))
    }
}

/// Terminates the agent and deletes the laptop's resume ticket, so that the next connect is a first connect without upload.
pub(super) fn forget(place: &Place) -> Result<()> {
    for host in hosts(&place.lab) {
        if host.name != HostName::Laptop {
            Processes::on(host, Who::Product).end()?;
        }
    }
    place.lab.laptop().run("rm -rf ~/.local/state/jq").map(drop)
}

fn file(pid: Pid, name: &str) -> String {
    format!("/proc/{}/{name}", pid.as_raw_nonzero())
}

fn name(pid: Pid) -> String {
    let name = fs::read_to_string(file(pid, "comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

fn command_line(pid: Pid) -> String {
    let bytes = fs::read(file(pid, "cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn field(status: &std::path::Path, name: &str) -> Option<f64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn resident(pid: Pid) -> Result<f64> {
    let kib = field(file(pid, "status").as_ref(), "VmRSS:");
    Ok(kib.context("a process has ended")? * 1024.0 / 1e6)
}

fn seconds(pid: Pid) -> Result<f64> {
    let stat = fs::read_to_string(file(pid, "stat")).context("a process has ended")?;
    // The name before may contain anything, including spaces and brackets.
    let rest = stat.rsplit_once(')').context("no stat")?.1;
    let fields = rest.split_whitespace().skip(11).take(2);
    let ticks: Vec<f64> = fields.flat_map(str::parse).collect();
    // The kernel counts in USER_HZ, which is 100 on all usual systems.
    Ok(ticks.iter().sum::<f64>() / 100.0)
}
