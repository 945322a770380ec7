//! The GPU host's engine: this machine's dockerd, or an engine of another [`Generation`].
//!
//! Its images are in the cache and outlive labs, so only one engine runs at a time on a machine. Everything else in it
//! belongs to the lab.

mod generations;
mod podman;
mod root;

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::daemon::Daemon;
use super::generation::{Family, Generation};
use super::gpu::Gpus;
use super::host::Host;
use super::place::{self, LabId, Lock};
use super::{DAEMON_START, images, sweep, tools, user};
use crate::eventually::eventually_some;

/// Longer than any test uses a lab, and longer than building all images takes.
const LOCK_WAIT: Duration = Duration::from_secs(15 * 60);
const STOP: Duration = Duration::from_secs(20);

/// The engine of a lab's GPU host.
#[derive(Debug)]
pub struct Engine {
    host: Host,
    id: LabId,
    generation: Generation,
    hook: Option<PathBuf>,
    cdi: Option<PathBuf>,
    options: Vec<String>,
    launcher: Vec<String>,
    daemon: Option<Daemon>,
    _lock: Lock,
}

impl Engine {
    /// Waits until no other lab uses an engine, starts the GPU host's, and builds or loads the missing images.
    pub(crate) fn start(id: &LabId, host: &Host, generation: Generation, gpus: Gpus) -> Result<Self> {
        let lock = engine_lock()?;
        clear_remains()?;
        let mut engine = Self {
            host: host.clone(),
            id: id.clone(),
            generation: Generation::default(),
            hook: None,
            cdi: None,
            options: Vec::new(),
            launcher: Vec::new(),
            daemon: None,
            _lock: lock,
        };
        if generation != Generation::default() && !images::are_saved() {
            engine.launch()?;
            images::build_missing(&engine)?;
            images::save(&engine)?;
            engine.stop()?;
        }
        engine.generation = generation;
        if generation.has_cdi() {
            engine.cdi = gpus.write_cdi(host)?;
        } else if generation.family() == Family::Docker {
            engine.hook = gpus.equip_engine(host)?;
        }
        engine.launch()?;
        // Removes what an earlier engine left if it was killed.
        engine.tidy()?;
        if generation == Generation::default() {
            images::build_missing(&engine)?;
        } else {
            images::load_missing(&engine)?;
        }
        Ok(engine)
    }

    /// Stops the engine. dockerd also stops all containers, unless [`Self::set_options`] has set `--live-restore`.
    pub fn stop(&mut self) -> Result<()> {
        self.daemon.take().map_or(Ok(()), |mut daemon| daemon.stop(STOP))
    }

    /// Kills dockerd, which simulates a crash. Containers keep running, but the API does not answer.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon.take().map_or(Ok(()), Daemon::kill)
    }

    /// Starts the engine and waits until it answers. Does nothing if it is running.
    pub fn launch(&mut self) -> Result<()> {
        if self.daemon.is_some() {
            return Ok(());
        }
        let mut command = self.service()?;
        // A socket that a stopped service has left would look like a running one's.
        let socket = self.socket();
        let _ = fs::remove_file(&socket);
        let name = self.generation.name();
        let mut daemon = Daemon::start(name, &mut command, &self.host.dir.join("engine.log"))?;
        eventually_some(&format!("{name} to answer"), DAEMON_START, || {
            daemon.check()?;
            Ok(ping(&socket).ok())
        })?;
        if self.generation.family() == Family::Podman {
            self.open_socket()?;
        }
        self.daemon = Some(daemon);
        Ok(())
    }

    fn configure_dockerd(&self, command: &mut Command) -> Result<()> {
        let dir = &self.host.dir;
        let config = dir.join("daemon.json");
        fs::write(&config, "{}").with_context(|| format!("cannot write {}", config.display()))?;
        command
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()));
        command.arg("--data-root").arg(self.data_root());
        command.arg("--exec-root").arg(dir.join("engine"));
        command
            .arg("--pidfile")
            .arg(dir.join("docker.pid"))
            .arg("--config-file")
            .arg(&config);
        // By number, because another suite does not know the lab's groups.
        let group = user::group_id(&self.id.docker_group())?;
        command.arg("--group").arg(group.to_string());
        command
            .arg("--cgroup-parent")
            .arg(format!("/{}", self.id.netns("engine")));
        command.args(&self.options);
        if let Some(hook) = &self.hook {
            command.env("PATH", format!("{}:{}", hook.display(), tools::path()));
        }
        Ok(())
    }

    /// Sets additional options of dockerd, from its next start on.
    pub fn set_options<S: Into<String>>(&mut self, options: impl IntoIterator<Item = S>) {
        self.options = options.into_iter().map(Into::into).collect();
    }

    /// From its next start on, dockerd has a /tmp of its own, as with `PrivateTmp` and as from snap.
    pub fn hide_tmp(&mut self) {
        let line = "mount -t tmpfs -o mode=1777 jq-lab /tmp && exec \"$@\"";
        let words = [
            "unshare",
            "--mount",
            "--propagation",
            "slave",
            "sh",
            "-c",
            line,
            "sh",
        ];
        self.launcher = words.map(str::to_owned).into();
    }

    /// The process id of dockerd; none while it is stopped.
    pub fn pid(&self) -> Option<rustix::process::Pid> {
        self.daemon.as_ref().and_then(Daemon::pid)
    }

    /// The API socket, which the GPU host's user can open.
    pub fn socket(&self) -> PathBuf {
        self.generation.socket(&self.host.dir)
    }

    /// Its generation.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Runs the engine's own command line, `docker` or `podman`, as root. Returns its stdout.
    pub fn docker<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<String> {
        let address = format!("unix://{}", self.socket().display());
        // The legacy builder needs no additional daemon, and every supported version has it.
        tools::output(
            self.command_line()?
                .args(args)
                .env("DOCKER_HOST", address)
                .env("DOCKER_BUILDKIT", "0"),
        )
    }

    /// Removes the lab's containers, networks, volumes and images, and stops dockerd.
    pub(crate) fn shutdown(mut self) -> Result<()> {
        let tidied = self.launch().and_then(|()| self.tidy());
        self.stop().and(tidied)
    }

    /// Removes everything but the cached images.
    fn tidy(&self) -> Result<()> {
        let listed = |args: &[&str]| -> Result<Vec<String>> {
            Ok(self.docker(args)?.lines().map(str::to_owned).collect())
        };
        // One that is just removing itself cannot be removed.
        eventually_some("the lab's containers to be gone", STOP, || {
            let containers = listed(&["ps", "--all", "--quiet", "--no-trunc"])?;
            if containers.is_empty() {
                return Ok(Some(()));
            }
            let words: &[&str] = match self.generation.family() {
                Family::Docker => &["rm", "--force", "--volumes"],
                // A helper is removed with the container whose network it shares, and none is waited for.
                Family::Podman => &["rm", "--force", "--volumes", "--depend", "--ignore", "--time=0"],
            };
            self.docker(words.iter().copied().chain(containers.iter().map(String::as_str)))?;
            Ok(None)
        })?;
        for kind in ["network", "volume"] {
            self.docker([kind, "prune", "--force"])?;
        }
        for volume in listed(&["volume", "ls", "--quiet"])? {
            self.docker(["volume", "rm", "--force", &volume])?;
        }
        for line in listed(&[
            "images",
            "--no-trunc",
            "--format",
            "{{.Repository}}:{{.Tag}} {{.ID}}",
        ])? {
            let (name, id) = line.split_once(' ').context("an image without id")?;
            if !images::is_ours(name) {
                // An image without a name can be removed only by its id.
                self.docker(["rmi", "--force", if name.contains("<none>") { id } else { name }])?;
            }
        }
        Ok(())
    }
}

/// Waits for the lock that allows this lab to run the only engine of this machine.
#[expect(
    clippy::print_stderr,
    reason = "waiting for another lab must not look like a hang"
)]
fn engine_lock() -> Result<Lock> {
    let cache = place::cache();
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let file = cache.join("engine.lock");
    if let Some(lock) = Lock::try_take(&file)? {
        return Ok(lock);
    }
    eprintln!("waiting: another lab on this machine runs an engine (see `jq-lab status`)");
    eventually_some("another lab's engine to stop", LOCK_WAIT, || {
        Lock::try_take(&file)
    })
}

/// The directory in which dockerd keeps images and containers.
pub(super) fn data_root() -> PathBuf {
    place::cache().join("docker")
}

/// Removes the processes of containers and the mounts that a killed engine left. The caller holds the engine lock, so they belong
/// to no running engine.
fn clear_remains() -> Result<()> {
    sweep::kill_groups(&podman::control_groups(&generations::data_roots()))?;
    for root in [data_root(), generations::data_roots()] {
        for mount in sweep::mounts_under(&root).into_iter().rev() {
            sweep::unmount(&mount)?;
        }
    }
    Ok(())
}

fn ping(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket).context("there is no socket yet")?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(
        answer.starts_with("HTTP/1.0 200"),
        "the engine is not ready: {answer}"
    );
    Ok(())
}
