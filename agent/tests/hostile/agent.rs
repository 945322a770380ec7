//! An agent in a separate process, so that its memory can be measured.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use jq_agent::rundir::RunDir;
use jq_common::{
    bootstrap::{AdmitReply, AdmitRequest, BootstrapReply, BootstrapRequest, Started},
    codec,
    identity::Identity,
    protocol::limits,
};

/// Most memory that an agent may ever use, in bytes.
pub(crate) const MEMORY: u64 = 150_000_000;

/// Time limit for anything that is not refused.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A running agent. Dropping it ends the process, and fails the test if the agent panicked.
pub(crate) struct Agent {
    process: Child,
    folder: RunDir,
    log: PathBuf,
    _base: tempfile::TempDir,
}

impl Agent {
    /// Starts an agent that finds no container engine.
    pub(crate) fn start() -> Self {
        let base = tempfile::tempdir().unwrap();
        let (run, log) = (base.path().join("run"), base.path().join("agent.log"));
        let mut process = Command::new(env!("CARGO_BIN_EXE_jq-agent"))
            .arg("serve")
            .arg("--run-dir")
            .arg(&run)
            .env_clear()
            .env("HOME", base.path())
            .env("PATH", "/usr/bin:/bin")
            .env("DOCKER_HOST", "unix:///nonexistent")
            .env("JQ_LOG", "warn")
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        // The agent reports the result of its start, and closes its output.
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let _ = said.fill_buf().unwrap();
        Self {
            process,
            folder: RunDir::at(run).unwrap(),
            log,
            _base: base,
        }
    }

    /// Admits `client`, as its bootstrap over ssh would.
    pub(crate) async fn admit(&self, client: &Identity) -> Address {
        let mut stream = self.folder.connect().await.unwrap();
        let request = BootstrapRequest::Admit(AdmitRequest {
            client: client.fingerprint(),
            linger_s: 60,
        });
        codec::write(&mut stream, &request, limits::BOOTSTRAP_FRAME)
            .await
            .unwrap();
        let reply = codec::read_within::<BootstrapReply>(&mut stream, limits::BOOTSTRAP_FRAME, PATIENCE);
        match reply.await.unwrap().unwrap() {
            Started::Serve(reply) => Address(reply),
            Started::Relay(_) => panic!("this is no relay"),
        }
    }

    fn status(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Peak memory, in bytes.
    pub(crate) fn most_memory(&self) -> u64 {
        self.status("VmHWM:") * 1024
    }

    /// Current memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS:") * 1024
    }

    /// Number of open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id()))
            .unwrap()
            .count()
    }

    /// Checks that it is running, has not panicked and never used more memory than allowed.
    #[track_caller]
    pub(crate) fn assert_healthy(&mut self) {
        let ended = self.process.try_wait().unwrap();
        let log = self.log();
        assert!(ended.is_none(), "the agent ended: {ended:?}\n{log}");
        assert!(!log.contains("panicked"), "{log}");
        let memory = self.most_memory();
        assert!(memory < MEMORY, "the agent used {} MB", memory / 1_000_000);
    }

    fn log(&self) -> String {
        let mut log = String::new();
        // The beginning of a long log is enough.
        let _ = File::open(&self.log)
            .unwrap()
            .take(1 << 20)
            .read_to_string(&mut log);
        log
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let log = self.log();
        assert!(std::thread::panicking() || !log.contains("panicked at "), "{log}");
    }
}

/// The address and certificate of an agent.
#[derive(Clone)]
pub(crate) struct Address(pub(crate) AdmitReply);

impl Address {
    pub(crate) fn udp(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.0.port).into()
    }
}
