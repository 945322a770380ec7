//! The sshds of a test, and a reporter that records.

use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command as Program,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{Connection, Destination, Failure, Reporter, SshOptions};
use crate::reporter::Event;

const SSHD: &str = "/usr/sbin/sshd";

/// Hosts of one test, each with an sshd, and a configuration of ssh for them.
pub(super) struct Hosts {
    pub(super) folder: TempDir,
    sshds: Vec<std::process::Child>,
    config: String,
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for sshd in &mut self.sshds {
            let _ = sshd.kill();
            let _ = sshd.wait();
        }
    }
}

impl Hosts {
    /// None if sshd is not installed; the test is then reported as skipped.
    pub(super) fn new() -> Option<Self> {
        if !Path::new(SSHD).exists() {
            crate::not_run::not_run("sshd is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let hosts = Self {
            folder,
            sshds: Vec::new(),
            config: String::new(),
        };
        for name in ["user", "other"] {
            hosts.key(name);
        }
        fs::create_dir(hosts.path("sockets")).unwrap();
        fs::copy(hosts.path("user.pub"), hosts.path("authorized")).unwrap();
        Some(hosts)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn key(&self, name: &str) -> String {
        let made = Program::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(self.path(name))
            .status();
        assert!(made.unwrap().success());
        fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap()
    }

    /// Starts an sshd for the host `name`; `client` and `server` are additional lines of the configurations.
    pub(super) fn add(&mut self, name: &str, client: &str, server: &str) {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let public = self.key(&format!("key-{name}"));
        let known = format!("[127.0.0.1]:{port} {public}");
        let all = fs::read_to_string(self.path("known")).unwrap_or_default() + &known;
        fs::write(self.path("known"), all).unwrap();
        fs::create_dir(self.path(&format!("home-{name}"))).unwrap();
        let at = self.folder.path().display();
        let settings = format!(
            "{server}\nPort {port}\nListenAddress 127.0.0.1\nHostKey {at}/key-{name}\nPidFile none\nStrictModes no\n\
             AuthorizedKeysFile {at}/authorized\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nSetEnv HOME={at}/home-{name}\n",
        );
        fs::write(self.path(&format!("sshd-{name}")), settings).unwrap();
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let log = File::create(self.path(&format!("log-{name}"))).unwrap();
        let sshd = Program::new(SSHD)
            .args(["-D", "-e", "-f"])
            .arg(self.path(&format!("sshd-{name}")))
            .stderr(log)
            .spawn();
        self.sshds.push(sshd.unwrap());
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "sshd does not start: {}",
                self.log(name)
            );
            std::thread::yield_now();
        }
        self.config += &format!("Host {name}\n  Port {port}\n  {client}\n");
    }

    pub(super) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("log-{name}"))).unwrap()
    }

    pub(super) fn logins(&self, name: &str) -> usize {
        self.log(name).matches("Accepted publickey").count()
    }

    pub(super) fn options(&self) -> SshOptions {
        let at = self.folder.path().display();
        let all = format!(
            "{}Host *\n  HostName 127.0.0.1\n  IdentityFile {at}/user\n  IdentitiesOnly yes\n  BatchMode yes\n  \
             UserKnownHostsFile {at}/known\n  GlobalKnownHostsFile none\n",
            self.config,
        );
        fs::write(self.path("config"), all).unwrap();
        SshOptions {
            config: Some(self.path("config")),
            ..SshOptions::new(self.path("sockets"))
        }
    }

    pub(super) async fn open(&self, options: &SshOptions) -> Result<Connection, Failure> {
        let reporter: Arc<dyn Reporter> = Arc::new(Heard::default());
        Connection::open(&Destination::target("gpu").unwrap(), options, &reporter).await
    }

    pub(super) async fn fails(&self, options: &SshOptions) -> Failure {
        let failure = self.open(options).await.err().unwrap();
        assert!(
            fs::read_dir(self.path("sockets")).unwrap().next().is_none(),
            "a socket is left"
        );
        failure
    }
}

/// Records events.
#[derive(Default)]
pub(super) struct Heard(pub(super) Mutex<Vec<String>>);

impl Reporter for Heard {
    fn report(&self, event: Event<'_>) {
        let line = match event {
            Event::Step { host, text } => format!("{host}: {text}"),
            Event::Note(text) => format!("notice: {text}"),
            Event::Prompting(may_ask) => format!("prompting: {may_ask}"),
            _ => return,
        };
        self.0.lock().unwrap().push(line);
    }
}
