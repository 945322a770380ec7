//! A host's sshd.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::daemon::Daemon;
use super::host::Host;
use super::{ssh, tools};
use crate::eventually::eventually_some;

const START: Duration = Duration::from_secs(10);

/// The sshd of one host, on port 22 of all its addresses. It accepts only the host's user, and only by key.
#[derive(Debug)]
pub struct Sshd {
    host: Host,
    daemon: Option<Daemon>,
    extra: String,
}

impl Sshd {
    /// Starts it and waits until it accepts connections. The host key must exist.
    pub(crate) fn start(host: &Host) -> Result<Self> {
        let mut sshd = Self {
            host: host.clone(),
            daemon: None,
            extra: String::new(),
        };
        sshd.launch()?;
        Ok(sshd)
    }

    /// Stops listening. Open sessions stay open; see [`Self::stop_all`].
    pub fn stop(&mut self) -> Result<()> {
        match self.daemon.take() {
            Some(mut daemon) => daemon.stop(Duration::from_secs(2)),
            None => Ok(()),
        }
    }

    /// Stops listening and ends all SSH sessions of this host.
    pub fn stop_all(&mut self) -> Result<()> {
        self.stop()?;
        for pid in super::netns::processes(&self.host.netns) {
            let name = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default();
            if name.trim() == "sshd" {
                // Fails if the process has ended in the meantime, which is fine.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        Ok(())
    }

    /// Starts listening. Does nothing if it is listening already.
    pub fn launch(&mut self) -> Result<()> {
        if self.daemon.is_some() {
            return Ok(());
        }
        // sshd needs this directory for privilege separation.
        fs::create_dir_all("/run/sshd").context("cannot create /run/sshd")?;
        let config = self.host.dir.join("sshd_config");
        fs::write(&config, self.config()).with_context(|| format!("cannot write {}", config.display()))?;
        // sshd executes itself again for each connection, so it must be started by its full path.
        let mut command = self.host.root_command(tools::must_find("sshd")?);
        command.arg("-D").arg("-e").arg("-f").arg(&config);
        let mut daemon = Daemon::start(&format!("sshd of {}", self.host.name), &mut command, &self.log())?;
        let address = SocketAddr::from((self.host.address, 22));
        self.host.enter(|| {
            eventually_some(&format!("sshd on {address}"), START, || {
                daemon.check()?;
                Ok(TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok())
            })
        })??;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Restarts it with additional lines of `sshd_config`, which replace those of an earlier call. Open sessions stay open.
    pub fn configure(&mut self, lines: &str) -> Result<()> {
        self.extra = lines.into();
        self.stop()?;
        self.launch()
    }

    /// Replaces the host key, as if the host had been reinstalled or were another machine.
    pub fn change_host_key(&mut self) -> Result<()> {
        ssh::make_key(&ssh::host_key(&self.host), "changed")?;
        self.stop()?;
        self.launch()
    }

    /// The log file.
    pub fn log(&self) -> PathBuf {
        self.host.dir.join("sshd.log")
    }

    fn config(&self) -> String {
        let Host { user, dir, .. } = &self.host;
        let mut text = String::new();
        // sshd uses the first value that it reads, so the lines of a test come first.
        let _ = writeln!(text, "{}", self.extra);
        let _ = writeln!(
            text,
            "Port 22\nPidFile none\nHostKey {}",
            ssh::host_key(&self.host).display()
        );
        let _ = writeln!(text, "AllowUsers {}\nUsePAM no\nStrictModes yes", user.name);
        let _ = writeln!(text, "PasswordAuthentication no\nKbdInteractiveAuthentication no");
        let _ = writeln!(text, "LogLevel VERBOSE\nPrintMotd no\nPrintLastLog no");
        // Tests open many connections at once. With the defaults, sshd would refuse some of them at random.
        let _ = writeln!(text, "MaxStartups 200:30:400\nMaxSessions 100");
        let _ = writeln!(text, "Subsystem sftp /usr/lib/openssh/sftp-server");
        let _ = write!(
            text,
            "SetEnv PATH={} XDG_RUNTIME_DIR={}/run",
            self.host.search_path(),
            dir.display()
        );
        for (name, value) in &self.host.env {
            let _ = write!(text, " \"{name}={value}\"");
        }
        let _ = writeln!(text);
        text
    }
}
