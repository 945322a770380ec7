//! `connect local`: the same agent and protocol on this machine, without Docker and ssh. Does not need root.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    process::Command,
    time::Duration,
};

use anyhow::{Result, ensure};
use jq_tests::{
    eventually, http, panics,
    product::{Client, client_binary},
};

/// `jq-client connect local` with its own home and a PATH without Docker and ssh.
fn connect(home: &Home, arguments: &[&str]) -> Result<Client> {
    let panics = home.panics();
    ensure!(panics.is_empty(), "{panics:?}");
    let mut command = Command::new(client_binary());
    command
        .env("HOME", home.0.path())
        .env("DOCKER_HOST", "unix:///no/such/socket")
        .env_remove("JQ_AGENT_DIR")
        .env_remove("XDG_STATE_HOME")
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("XDG_CONFIG_HOME")
        .args(["connect", "local", "--linger", "2s"])
        .args(arguments);
    Client::spawn(&mut command)
}

/// A temporary home. Jupyter outlives its agent by design, so dropping this kills it.
struct Home(tempfile::TempDir);

impl Home {
    /// Panics that the agents of this home have logged. A new agent empties the log.
    fn panics(&self) -> Vec<String> {
        let logs = panics::logs_below(&self.0.path().join(".cache/jq"));
        let texts = logs.iter().filter_map(|log| fs::read_to_string(log).ok());
        texts.flat_map(|text| panics::in_text(&text)).collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Matches only processes that were started from this temporary home.
        let _ = Command::new("pkill")
            .args(["-KILL", "-f", &self.0.path().to_string_lossy()])
            .status();
        let panics = self.panics();
        assert!(panics.is_empty() || std::thread::panicking(), "{panics:?}");
    }
}

#[test]
fn jupyter_runs_without_an_engine_and_the_second_connect_finds_its_kernels() -> Result<()> {
    let home = Home(tempfile::tempdir()?);
    let dial = |port| -> Result<TcpStream> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(stream)
    };
    let mut first = connect(&home, &["--engine", "process"])?;
    let made = first.ready()?;
    ensure!(
        made.container.is_none() && made.jupyter_was_running == Some(false),
        "{made:?}"
    );
    let port = made.jupyter_port()?;
    ensure!(
        http::request(dial(port)?, "GET", "/api/status", None)?.0 == 403,
        "Jupyter answers without a token"
    );
    let (status, kernel) = http::request(dial(port)?, "POST", "/api/kernels", Some(made.token()?))?;
    ensure!(status == 201, "{status} {kernel}");
    first.disconnect()?;
    eventually("the agent to end", Duration::from_secs(20), || {
        let pattern = format!("{}.*[-]-run-dir", home.0.path().display());
        Command::new("pgrep")
            .args(["-f", &pattern])
            .status()
            .is_ok_and(|found| !found.success())
    })?;

    let mut second = connect(&home, &["--engine", "process"])?;
    let found = second.ready()?;
    ensure!(
        found.url == made.url && found.jupyter_was_running == Some(true),
        "{found:?}"
    );
    let (_, kernels) = http::request(dial(port)?, "GET", "/api/kernels", Some(made.token()?))?;
    ensure!(kernels[0]["id"] == kernel["id"], "{kernels}");
    ensure!(
        !second.texts("step").iter().any(|step| step.contains("upload")),
        "the agent was uploaded twice"
    );
    second.disconnect()
}

#[test]
fn without_an_engine_jupyter_runs_as_a_process_and_the_reason_is_reported() -> Result<()> {
    let home = Home(tempfile::tempdir()?);
    let mut client = connect(&home, &["--jupyter", "none", "-L", "0:1"]);
    ensure!(
        client
            .as_mut()
            .is_ok_and(|client| client.failure().is_ok_and(|failure| failure.status == Some(2)))
    );
    let mut client = connect(&home, &["--jupyter", "none"])?;
    let ready = client.ready()?;
    ensure!(ready.container.is_none() && ready.url.is_none(), "{ready:?}");
    client.disconnect()
}

#[test]
fn a_second_client_with_the_same_session_name_also_forwards() -> Result<()> {
    let home = Home(tempfile::tempdir()?);
    let service = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let forward = format!("0:127.0.0.1:{}", service.local_addr()?.port()).replacen('0', "17654", 1);
    let arguments = ["--engine", "process", "--jupyter", "none", "-L", &forward];
    let mut first = connect(&home, &arguments)?;
    first.ready()?;
    let mut second = connect(&home, &arguments)?;
    let port = second.ready()?.forwards[0].port;
    second.wait_for(&["note"], Duration::from_secs(10))?;
    let dialled = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let (mut accepted, _) = service.accept()?;
    std::io::Write::write_all(&mut accepted, b"x")?;
    dialled.set_read_timeout(Some(Duration::from_secs(10)))?;
    std::io::Read::read_exact(&mut &dialled, &mut [0])?;
    second.disconnect()?;
    first.disconnect()
}
