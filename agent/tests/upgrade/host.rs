//! A host with several builds of the agent, and the steps that a client runs there over SSH.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Stdio,
};

use jq_common::{
    bootstrap::{
        AdmitReply, AdmitRequest, BootstrapReply, BootstrapRequest, FormatRange, Nonce, Started,
        UpgradeRequest,
    },
    codec,
    identity::Fingerprint,
    protocol::{
        limits,
        version::{ALPN, BUILD},
    },
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    process::Command,
    time::{sleep, timeout},
};

use crate::{PATIENCE, POLL};

pub(crate) struct Host {
    base: tempfile::TempDir,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self {
            base: tempfile::tempdir().unwrap(),
        }
    }

    /// Path of its Docker socket.
    pub(crate) fn docker(&self) -> PathBuf {
        self.base.path().join("docker.sock")
    }

    /// A build of the agent from this version's program, with a different byte at its end.
    pub(crate) fn build(&self, name: &str) -> PathBuf {
        self.build_of(Path::new(env!("CARGO_BIN_EXE_jq-agent")), name)
    }

    /// A build of the agent from the given program.
    pub(crate) fn build_of(&self, program: &Path, name: &str) -> PathBuf {
        let path = self.base.path().join(format!("agent-{name}"));
        let mut program = fs::read(program).unwrap();
        program.extend_from_slice(name.as_bytes());
        self.file(&path, &program, 0o700);
        path
    }

    /// A program that prints the version of a build of the agent once, and cannot be executed afterwards.
    pub(crate) fn broken_build(&self) -> PathBuf {
        let path = self.base.path().join("agent-broken");
        let script = "#!/bin/sh\nchmod 600 \"$0\"\necho jq-agent\n";
        self.file(&path, script.as_bytes(), 0o700);
        path
    }

    fn file(&self, path: &Path, content: &[u8], mode: u32) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Bootstraps as a client does over SSH.
    pub(crate) async fn bootstrap(&self, build: &Path, client: Fingerprint) -> AdmitReply {
        let nonce = Nonce::generate().unwrap().to_string();
        let mut bootstrap = Command::new(build)
            .args(["bootstrap", "serve", "--nonce", &nonce])
            .env_clear()
            .env("HOME", self.base.path())
            .env("PATH", "/usr/bin:/bin")
            .env("DOCKER_HOST", format!("unix://{}", self.docker().display()))
            .env("JQ_LOG", "jq_agent=debug,jq_common=debug")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut input = bootstrap.stdin.take().unwrap();
        let mut output = BufReader::new(bootstrap.stdout.take().unwrap());
        let request = BootstrapRequest::Admit(AdmitRequest { client, linger_s: 60 });
        let request = codec::encode(&request, limits::BOOTSTRAP_FRAME).unwrap();
        input.write_all(&request).await.unwrap();
        let mut line = String::new();
        output.read_line(&mut line).await.unwrap();
        assert_eq!(line.trim(), nonce);
        let reply: BootstrapReply = codec::read_within(&mut output, limits::BOOTSTRAP_FRAME, PATIENCE)
            .await
            .unwrap();
        match reply.unwrap() {
            Started::Serve(reply) => reply,
            Started::Relay(_) => panic!("this is no relay"),
        }
    }

    /// The private folder of a build.
    pub(crate) fn run_dir(&self, build: &Path) -> PathBuf {
        let mut name = build.file_name().unwrap().to_owned();
        name.push(".serve");
        self.base
            .path()
            .join("run")
            .join(jq_agent::rundir::host_name())
            .join(name)
    }

    /// Asks the agent that answers in the folder of `build` to upgrade to `successor`.
    pub(crate) async fn upgrade(&self, build: &Path, successor: &Path) -> BootstrapReply {
        self.upgrade_from(build, successor, BUILD).await
    }

    /// Asks the agent that answers in the folder of `build` to make way for `successor`, which has the version `version`.
    pub(crate) async fn upgrade_from(&self, build: &Path, successor: &Path, version: &str) -> BootstrapReply {
        let control = self.run_dir(build).join("control");
        let mut process = UnixStream::connect(control).await.unwrap();
        let request = BootstrapRequest::Upgrade(UpgradeRequest {
            successor: successor.to_owned(),
            run_dir: self.run_dir(successor),
            version: version.to_owned(),
            handshake: String::from_utf8_lossy(ALPN).into_owned(),
            formats: FormatRange { oldest: 2, newest: 2 },
        });
        codec::write(&mut process, &request, limits::BOOTSTRAP_FRAME)
            .await
            .unwrap();
        codec::read_within(&mut process, limits::BOOTSTRAP_FRAME, PATIENCE)
            .await
            .unwrap()
    }

    /// The agent processes of this host.
    pub(crate) fn agents(&self) -> Vec<Agent> {
        let base = self.base.path().to_string_lossy().into_owned();
        let serves = |pid: &u32| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
                let line = String::from_utf8_lossy(&line).into_owned();
                line.contains("\0serve\0") && line.contains("\0--run-dir\0") && line.contains(&base)
            })
        };
        let entries = fs::read_dir("/proc").unwrap();
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(serves).map(Agent).collect()
    }

    /// The only agent process of this host.
    pub(crate) fn agent(&self) -> Agent {
        let agents = self.agents();
        assert_eq!(agents.len(), 1, "there must be exactly one agent");
        agents[0]
    }

    /// The agents' logs, for a test that fails.
    pub(crate) fn logs(&self) -> String {
        let run = self.base.path().join("run").join(jq_agent::rundir::host_name());
        let entries = fs::read_dir(run).into_iter().flatten().flatten();
        let logs = entries.map(|entry| {
            let log = fs::read_to_string(entry.path().join("log")).unwrap_or_default();
            format!("--- {}\n{log}", entry.path().display())
        });
        logs.collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for agent in self.agents() {
            let pid = Pid::from_raw(agent.0.cast_signed()).unwrap();
            let _ = kill_process(pid, Signal::KILL);
        }
        let logs = self.logs();
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "the output of a failed test")]
            {
                eprintln!("{logs}");
            }
        } else {
            assert!(!logs.contains("panicked at "), "{logs}");
        }
    }
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agent(u32);

impl Agent {
    /// Whether it runs this program.
    pub(crate) fn runs(self, build: &Path) -> bool {
        let same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        let running = fs::metadata(format!("/proc/{}/exe", self.0)).unwrap();
        same(running, fs::metadata(build).unwrap())
    }

    /// Number of open descriptors.
    pub(crate) fn descriptors(self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.0)).unwrap().count()
    }

    /// Waits until it has no more than `count` descriptors open.
    pub(crate) async fn has_at_most(self, count: usize) {
        let few = async {
            while self.descriptors() > count {
                sleep(POLL).await;
            }
        };
        let waited = timeout(PATIENCE, few).await;
        assert!(
            waited.is_ok(),
            "{} descriptors are open, not {count}",
            self.descriptors()
        );
    }
}
