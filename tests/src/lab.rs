//! Simulated hosts on one machine: network namespaces, users, links, and real daemons.
//!
//! # Layout
//! - `plan`: the hosts and links of each topology. `conditions`, `impair`, `random`: what a link does to a packet.
//!   None of these does I/O.
//! - `link`, `pump`, `tun`, `netns`: the network itself. `nat`, `roam`: address translation, and hosts that change addresses.
//! - `host`, `user`, `ssh`, `sshd`: the hosts. `trouble`: faults that a test sets up on them.
//! - `engine`, `images`, `gpu`: dockerd of the GPU host. `registry`: the image registry that it pulls from. `browser`: Chromium
//!   on the laptop.
//! - `builder`, `state`, `control`, `sweep`, `place`: a lab's start, its use by other processes, and its removal. `watch`:
//!   finds panics in logs.
//!
//! The name of everything that a lab creates contains the lab's id. Dropping the lab removes all of it. If the process was
//! killed, the next lab on this machine removes it. Nothing here connects to other addresses than the lab's own, except
//! the building of images.

mod browser;
mod builder;
mod conditions;
pub mod control;
mod daemon;
mod engine;
mod gpu;
mod host;
pub mod images;
mod impair;
mod link;
mod nat;
pub(crate) mod netns;
mod place;
mod plan;
mod pump;
pub(crate) mod random;
mod registry;
mod roam;
mod ssh;
mod sshd;
mod state;
mod sweep;
pub mod tools;
mod trouble;
mod tun;
mod user;
mod watch;

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

pub use self::browser::{Browser, Visit};
pub use self::builder::Builder;
pub use self::conditions::{Conditions, Loss};
pub use self::engine::Engine;
pub use self::gpu::Gpus;
pub use self::host::Host;
pub use self::impair::{Cause, Delivery, Fate, Impair, Packet};
pub use self::link::{Counters, Link};
pub use self::nat::Nat;
pub use self::place::{LabId, forget_logs};
pub use self::plan::{HostName, Topology};
pub use self::registry::{Behaviour, Registry, Traffic};
pub use self::sshd::Sshd;
pub use self::state::State;
pub use self::sweep::remains;
pub use self::user::User;

/// A running lab. Dropping it removes everything that it created, also after a panic, but keeps its daemons' logs.
pub struct Lab {
    state: State,
    links: Vec<Link>,
    sshds: Vec<(HostName, Sshd)>,
    engine: Option<Engine>,
    watch: Option<watch::LogWatch>,
    _owner: place::Lock,
}

impl Lab {
    /// Describes a new lab. Default: laptop, gateway and GPU host, perfect links, no engine.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The lab's id, which is part of every name that it assigns.
    pub fn id(&self) -> &LabId {
        &self.state.id
    }

    /// The lab as other processes see it.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The laptop, on which the client runs.
    pub fn laptop(&self) -> &Host {
        self.host(HostName::Laptop)
    }

    /// The gateway between laptop and GPU host.
    ///
    /// # Panics
    /// If the topology has no gateway, or two.
    pub fn gateway(&self) -> &Host {
        self.host(HostName::Gateway)
    }

    /// The GPU host, on which the agent and the engine run.
    pub fn gpu(&self) -> &Host {
        self.host(HostName::Gpu)
    }

    /// A host by name.
    ///
    /// # Panics
    /// If this topology has no such host.
    pub fn host(&self, name: HostName) -> &Host {
        let Some(host) = self.state.host(name) else {
            panic!("this topology has no {name}")
        };
        host
    }

    /// The links, the laptop's first.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// The laptop's link: to the gateway, or directly to the GPU host.
    pub fn link(&self) -> &Link {
        &self.links[0]
    }

    /// The sshd of gateway or GPU host.
    ///
    /// # Panics
    /// If `name` is the laptop, or a host that this topology does not have.
    pub fn sshd(&mut self, name: HostName) -> &mut Sshd {
        let found = self.sshds.iter_mut().find(|(host, _)| *host == name);
        let Some((_, sshd)) = found else {
            panic!("{name} has no sshd in this lab")
        };
        sshd
    }

    /// The GPU host's dockerd.
    ///
    /// # Panics
    /// If the lab has no engine.
    pub fn engine(&mut self) -> &mut Engine {
        let Some(engine) = &mut self.engine else {
            panic!("this lab has no engine")
        };
        engine
    }

    /// Runs the `docker` command with the GPU host's engine, as root. Returns its stdout.
    ///
    /// # Panics
    /// If the lab has no engine.
    pub fn docker<const N: usize>(&self, args: [&str; N]) -> Result<String> {
        let Some(engine) = &self.engine else {
            panic!("this lab has no engine")
        };
        engine.docker(args)
    }

    /// Calls `act` on a thread in the network namespace of a running container, as [`Host::enter`] does for a host.
    ///
    /// # Panics
    /// If the lab has no engine.
    pub fn enter_container<T: Send>(&self, id: &str, act: impl FnOnce() -> T + Send) -> Result<T> {
        let pid = self.docker(["inspect", "--format", "{{.State.Pid}}", id])?;
        netns::enter_file(Path::new(&format!("/proc/{}/ns/net", pid.trim())), act)
    }

    /// Removes the lab, without keeping its logs. Fails if the removal fails, or if an agent, relay or helper has panicked
    /// since the lab was started.
    pub fn down(mut self) -> Result<()> {
        let panics = self.panics();
        self.take_down(!panics.is_empty())?;
        ensure!(panics.is_empty(), "the product panicked:\n{}", panics.join("\n"));
        Ok(())
    }

    /// Stops watching the logs. Returns the panics found.
    fn panics(&mut self) -> Vec<String> {
        let found = self.watch.take().map(watch::LogWatch::finish);
        found.into_iter().flatten().collect()
    }

    fn take_down(&mut self, keep_logs: bool) -> Result<()> {
        // First containers, while the engine can still stop them; then everything that uses the network; then the network.
        let engine = self.engine.take().map_or(Ok(()), Engine::shutdown);
        for (_, mut sshd) in self.sshds.drain(..) {
            // The sweep kills everything that does not end by itself.
            let _ = sshd.stop();
        }
        self.links.clear();
        if keep_logs {
            // Failing to keep the logs must not hide the actual failure.
            let _ = self.keep_logs();
        }
        if !self.id().dir().exists() {
            return engine;
        }
        sweep::remove(self.id()).and(engine)
    }

    #[expect(
        clippy::print_stderr,
        reason = "the output of a failed test must say where its logs are"
    )]
    fn keep_logs(&self) -> Result<()> {
        let kept = place::kept_logs(self.id());
        for host in &self.state.hosts {
            let logs = fs::read_dir(&host.dir)?.flatten().map(|entry| entry.path());
            for log in logs.filter(|file| file.extension().is_some_and(|extension| extension == "log")) {
                let dir = kept.join(host.name.as_str());
                fs::create_dir_all(&dir)?;
                fs::copy(&log, dir.join(log.file_name().unwrap_or_default())).context("cannot keep a log")?;
            }
        }
        eprintln!("logs of the lab's daemons: {}", kept.display());
        Ok(())
    }
}

impl Drop for Lab {
    #[expect(
        clippy::print_stderr,
        reason = "a drop has no other way to report that something was left behind"
    )]
    fn drop(&mut self) {
        for panic in self.panics() {
            eprintln!("{panic}");
        }
        // After `down` there is nothing left to do.
        if let Err(error) = self.take_down(true) {
            eprintln!("{error:#}");
        }
    }
}

impl fmt::Debug for Lab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lab")
            .field("state", &self.state)
            .field("links", &self.links)
            .finish_non_exhaustive()
    }
}

/// Removes labs whose owner has died, and all other remains of dead labs on this machine. Returns their ids.
pub fn sweep_all() -> Result<Vec<LabId>> {
    let mut removed = sweep::abandoned()?;
    removed.extend(sweep::strays()?);
    Ok(removed)
}

/// Time limit for a daemon to start on a busy machine.
const DAEMON_START: Duration = Duration::from_secs(60);
