//! The GPU host's dockerd.
//!
//! Its images are in the cache and outlive labs, so one engine runs at a time on a machine. Everything else
//! that it holds belongs to the lab.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::daemon::Daemon;
use super::gpu::Gpus;
use super::host::Host;
use super::place::{self, LabId, Lock};
use super::{DAEMON_START, images, sweep, tools};
use crate::eventually::eventually_some;

/// Longer than any test keeps a lab, and than building all images takes.
const TURN: Duration = Duration::from_secs(15 * 60);
const STOP: Duration = Duration::from_secs(20);

/// The engine of a lab's GPU host.
#[derive(Debug)]
pub struct Engine {
    host: Host,
    id: LabId,
    hook: Option<PathBuf>,
    options: Vec<String>,
    launcher: Vec<String>,
    daemon: Option<Daemon>,
    _turn: Lock,
}

impl Engine {
    /// Waits for this lab's turn, starts dockerd on the GPU host, and builds the images that the cache lacks.
    pub(crate) fn start(id: &LabId, host: &Host, gpus: Gpus) -> Result<Self> {
        let turn = turn()?;
        clear_mounts()?;
        let hook = gpus.equip_engine(host)?;
        let (host, id) = (host.clone(), id.clone());
        let mut engine = Self {
            host,
            id,
            hook,
            options: Vec::new(),
            launcher: Vec::new(),
            daemon: None,
            _turn: turn,
        };
        engine.launch()?;
        // Left by an engine that was killed before its lab could tidy up.
        engine.tidy()?;
        images::build_missing(&engine)?;
        Ok(engine)
    }

    /// Stops dockerd, and with it all containers unless [`Self::set_options`] asked for `--live-restore`.
    pub fn stop(&mut self) -> Result<()> {
        self.daemon.take().map_or(Ok(()), |mut daemon| daemon.stop(STOP))
    }

    /// Kills dockerd, as a crash does. Containers run on, but nobody answers for them.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon.take().map_or(Ok(()), Daemon::kill)
    }

    /// Starts dockerd again and waits until it answers. Nothing happens if it runs.
    pub fn launch(&mut self) -> Result<()> {
        if self.daemon.is_some() {
            return Ok(());
        }
        let dockerd = tools::must_find("dockerd")?;
        let mut command = match self.launcher.split_first() {
            Some((program, words)) => {
                let mut command = self.host.root_command(program);
                command.args(words).arg(dockerd);
                command
            }
            None => self.host.root_command(dockerd),
        };
        let dir = &self.host.dir;
        let config = dir.join("daemon.json");
        fs::write(&config, "{}").with_context(|| format!("cannot write {}", config.display()))?;
        command
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()));
        command
            .arg("--data-root")
            .arg(data_root())
            .arg("--exec-root")
            .arg(dir.join("engine"));
        command
            .arg("--pidfile")
            .arg(dir.join("docker.pid"))
            .arg("--config-file")
            .arg(&config);
        command.arg("--group").arg(self.id.docker_group());
        command
            .arg("--cgroup-parent")
            .arg(format!("/{}", self.id.netns("engine")));
        command.args(&self.options);
        if let Some(hook) = &self.hook {
            command.env("PATH", format!("{}:{}", hook.display(), tools::path()));
        }
        let mut daemon = Daemon::start("dockerd", &mut command, &dir.join("dockerd.log"))?;
        let socket = self.socket();
        eventually_some("dockerd to answer", DAEMON_START, || {
            daemon.check()?;
            Ok(ping(&socket).ok())
        })?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Further options of dockerd, from its next start on.
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

    /// The API socket, open to the GPU host's user.
    pub fn socket(&self) -> PathBuf {
        self.host.dir.join("docker.sock")
    }

    /// Runs the docker command line against this engine, as root. Gives its stdout.
    pub fn docker<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<String> {
        let address = format!("unix://{}", self.socket().display());
        // The legacy builder needs no further daemon and is in every version that the lab meets.
        tools::output(
            tools::command("docker", args)
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
            let words = ["rm", "--force", "--volumes"].into_iter();
            self.docker(words.chain(containers.iter().map(String::as_str)))?;
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
            if !name.starts_with(images::REPOSITORY) {
                // An image without a name has nothing but its id to be removed by.
                self.docker(["rmi", "--force", if name.contains("<none>") { id } else { name }])?;
            }
        }
        Ok(())
    }
}

/// The right to run the one engine of this machine.
#[expect(
    clippy::print_stderr,
    reason = "waiting for another lab must not look like a hang"
)]
fn turn() -> Result<Lock> {
    let cache = place::cache();
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let file = cache.join("engine.lock");
    if let Some(lock) = Lock::try_take(&file)? {
        return Ok(lock);
    }
    eprintln!("another lab of this machine has its engine running (`jq-lab status`); waiting");
    eventually_some("another lab's engine to stop", TURN, || Lock::try_take(&file))
}

/// Where dockerd keeps images and containers.
pub(super) fn data_root() -> PathBuf {
    place::cache().join("docker")
}

/// Takes away what an engine that was killed left mounted. Nobody else's, since the caller holds the turn.
fn clear_mounts() -> Result<()> {
    for mount in sweep::mounts_under(&data_root()).into_iter().rev() {
        sweep::unmount(&mount)?;
    }
    Ok(())
}

fn ping(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket).context("no socket yet")?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(
        answer.starts_with("HTTP/1.0 200"),
        "dockerd is not ready: {answer}"
    );
    Ok(())
}
