//! Real hosts on one machine: network namespaces, users, links, daemons.
//!
//! # Layout
//! - `plan`: which hosts and links there are. `conditions`, `impair`, `random`: what a link does to a packet.
//!   None of them does I/O.
//! - `link`, `pump`, `tun`, `netns`: the network itself. `nat`, `roam`: address translation, and hosts that change addresses.
//! - `host`, `user`, `ssh`, `sshd`: the hosts. `trouble`: faults that a test sets up on them.
//! - `engine`, `images`, `gpu`: dockerd of the GPU host. `registry`: the image registry that it pulls from. `browser`: Chromium
//!   on the laptop.
//! - `builder`, `state`, `control`, `sweep`, `place`: a lab's start, its use by other processes, and its removal. `watch`: panics in logs.
//!
//! Everything that a lab makes carries its id and is gone after its drop, or after the next lab came up on
//! this machine if its process was killed. Nothing here reaches beyond the lab's own addresses, except the
//! building of images.

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

use std::ffi::OsStr;
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
pub use self::registry::{Manner, Registry, Traffic};
pub use self::sshd::Sshd;
pub use self::state::State;
pub use self::sweep::remains;
pub use self::user::User;

/// A lab that is up. Dropping it removes everything that it made, after a panic too, and keeps its daemons'
/// logs.
pub struct Lab {
    state: State,
    links: Vec<Link>,
    sshds: Vec<(HostName, Sshd)>,
    engine: Option<Engine>,
    watch: Option<watch::LogWatch>,
    _owner: place::Lock,
}

impl Lab {
    /// A lab to be made: through the gateway, on perfect links, without an engine, unless told otherwise.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Its id, which all names that it gives contain.
    pub fn id(&self) -> &LabId {
        &self.state.id
    }

    /// What another process would know of it.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Where the user sits.
    pub fn laptop(&self) -> &Host {
        self.host(HostName::Laptop)
    }

    /// Between laptop and GPU host.
    ///
    /// # Panics
    /// In topologies that have none, or two.
    pub fn gateway(&self) -> &Host {
        self.host(HostName::Gateway)
    }

    /// Where the engine is.
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

    /// The laptop's link: to the gateway, or straight to the GPU host.
    pub fn link(&self) -> &Link {
        &self.links[0]
    }

    /// The sshd of gateway or GPU host.
    ///
    /// # Panics
    /// If `name` is the laptop, or a host that this topology has not.
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
    /// If the lab was made without.
    pub fn engine(&mut self) -> &mut Engine {
        let Some(engine) = &mut self.engine else {
            panic!("this lab has no engine")
        };
        engine
    }

    /// Runs the docker command line against the GPU host's engine, as root. Gives its stdout.
    ///
    /// # Panics
    /// If the lab was made without an engine.
    pub fn docker<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<String> {
        let Some(engine) = &self.engine else {
            panic!("this lab has no engine")
        };
        engine.docker(args)
    }

    /// Calls `act` on a thread that stands in the network of a running container, as [`Host::enter`] does in a host's.
    ///
    /// # Panics
    /// If the lab was made without an engine.
    pub fn enter_container<T: Send>(&self, id: &str, act: impl FnOnce() -> T + Send) -> Result<T> {
        let pid = self.docker(["inspect", "--format", "{{.State.Pid}}", id])?;
        netns::enter_file(Path::new(&format!("/proc/{}/ns/net", pid.trim())), act)
    }

    /// Brings the lab down. Fails when that does, or when an agent, relay or helper panicked in the lab's life. A test
    /// that passes keeps no logs.
    pub fn down(mut self) -> Result<()> {
        let panics = self.panics();
        self.take_down(!panics.is_empty())?;
        ensure!(panics.is_empty(), "the product panicked:\n{}", panics.join("\n"));
        Ok(())
    }

    /// Ends the watch over the logs.
    fn panics(&mut self) -> Vec<String> {
        let found = self.watch.take().map(watch::LogWatch::finish);
        found.into_iter().flatten().collect()
    }

    fn take_down(&mut self, keep_logs: bool) -> Result<()> {
        // Containers first, while the engine can still end them in order; then who uses the network; then the
        // network.
        let engine = self.engine.take().map_or(Ok(()), Engine::shutdown);
        for (_, mut sshd) in self.sshds.drain(..) {
            // Whatever does not end in order is killed by the sweep.
            let _ = sshd.stop();
        }
        self.links.clear();
        if keep_logs {
            // Without logs a failure is only half as useful, but still one.
            let _ = self.keep_logs();
        }
        if !self.id().dir().exists() {
            return engine;
        }
        sweep::remove(self.id()).and(engine)
    }

    #[expect(
        clippy::print_stderr,
        reason = "whoever reads of a failed test must learn where its logs are"
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
        reason = "a drop has no other way to say that something was left behind"
    )]
    fn drop(&mut self) {
        for panic in self.panics() {
            eprintln!("{panic}");
        }
        // A second time after `down`, then with nothing left to do.
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

/// Removes labs whose owner died, and whatever else of any dead lab is left on this machine. Gives their ids.
pub fn sweep_all() -> Result<Vec<LabId>> {
    let mut removed = sweep::abandoned()?;
    removed.extend(sweep::strays()?);
    Ok(removed)
}

/// How long daemons may take to come up on a busy machine.
const DAEMON_START: Duration = Duration::from_secs(60);
