//! How client, agent and helper end, and what remains afterwards.

use std::{
    io::Write,
    net::{Shutdown, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Result, ensure};
use jq_tests::{
    eventually, http,
    lab::{Lab, Topology},
    product::Client,
    require,
};
use rustix::process::Signal;

const IMAGE: &str = "jq-lab/jupyter";

/// Arguments of a connect that needs neither an engine nor Jupyter.
const PROCESS: [&str; 5] = ["gpu", "--engine", "process", "--jupyter", "none"];

/// Time limit for a process to end.
const SOON: Duration = Duration::from_secs(20);

fn helpers(lab: &Lab) -> usize {
    let listed = lab.docker(["ps", "-a", "-q", "--filter", "label=dev.jq.role=inside"]);
    listed.map_or(usize::MAX, |listed| listed.lines().count())
}

fn agents(lab: &Lab) -> usize {
    let listed = lab.gpu().run(r#"pgrep -u "$(id -u)" -f '[-]-run-dir' || true"#);
    listed.map_or(usize::MAX, |listed| listed.lines().count())
}

fn is_running(lab: &Lab, container: &str) -> Result<bool> {
    Ok(lab
        .docker(["inspect", "-f", "{{.State.Running}}", container])?
        .trim()
        == "true")
}

#[test]
fn sigint_and_sigterm_close_the_listeners_and_leave_the_container_running() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Gateway).docker(true).up()?;
    for signal in [Signal::INT, Signal::TERM] {
        let mut client = Client::connect(lab.laptop(), &["gpu", "--image", IMAGE])?;
        let ready = client.ready()?;
        let port = ready.jupyter_port()?;
        drop(http::dial(lab.laptop(), port)?);
        client.signal(signal)?;
        ensure!(client.wait()?.code() == Some(0), "{signal:?}");
        let dialled = lab.laptop().enter(|| TcpStream::connect(("127.0.0.1", port)))?;
        ensure!(dialled.is_err(), "the listener is still open after {signal:?}");
        ensure!(is_running(&lab, &ready.container.expect("a container").id)?);
    }
    lab.down()
}

#[test]
fn an_interrupt_during_the_connect_ends_the_client_with_130() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder()
        .topology(Topology::Gateway)
        .rtt(Duration::from_millis(200))
        .up()?;
    let mut client = Client::connect(lab.laptop(), &PROCESS)?;
    client.wait_for(&["step"], SOON)?;
    client.signal(Signal::INT)?;
    ensure!(client.wait()?.code() == Some(130));
    eventually("all ssh processes to end", SOON, || {
        lab.laptop()
            .run(r#"pgrep -u "$(id -u)" ssh || true"#)
            .is_ok_and(|left| left.is_empty())
    })?;
    lab.down()
}

#[test]
fn an_agent_without_clients_ends_with_its_helper_after_the_linger_time_and_the_container_stays() -> Result<()>
{
    if !require::docker() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).docker(true).up()?;
    let other = lab.docker(["run", "-d", "--name", "strangers", "jq-lab/static"])?;
    let mut client = Client::connect(lab.laptop(), &["gpu", "--image", IMAGE, "--linger", "2s"])?;
    let container = client.ready()?.container.expect("a container");
    ensure!(
        helpers(&lab) == 1 && agents(&lab) == 1,
        "{} helpers, {} agents",
        helpers(&lab),
        agents(&lab)
    );
    client.disconnect()?;
    eventually("the agent to end", SOON, || agents(&lab) == 0)?;
    eventually("its helper to end", SOON, || helpers(&lab) == 0)?;
    ensure!(is_running(&lab, &container.id)?, "the container was stopped");
    ensure!(
        is_running(&lab, other.trim())?,
        "a container of another user was stopped"
    );

    let mut client = Client::connect(lab.laptop(), &["gpu", "--image", IMAGE])?;
    let again = client.ready()?;
    ensure!(again.container.expect("a container").id == container.id);
    ensure!(
        again.jupyter_was_running == Some(true),
        "the new agent did not find the running Jupyter"
    );
    client.disconnect()?;
    lab.down()
}

#[test]
fn the_helper_of_a_killed_agent_ends_and_the_client_starts_another_agent() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).docker(true).up()?;
    let arguments = ["gpu", "--image", IMAGE];
    let mut client = Client::connect(lab.laptop(), &arguments)?;
    let container = client.ready()?.container.expect("a container");
    lab.gpu().run(r#"pkill -KILL -u "$(id -u)" -f '[-]-run-dir'"#)?;
    eventually("the helper to end", SOON, || helpers(&lab) == 0)?;
    eventually(
        "the next agent to start its helper",
        Duration::from_secs(60),
        || helpers(&lab) == 1,
    )?;
    ensure!(is_running(&lab, &container.id)?, "the container was stopped");
    client.disconnect()?;
    let mut client = Client::connect(lab.laptop(), &arguments)?;
    ensure!(client.ready()?.jupyter_was_running == Some(true));
    client.disconnect()?;
    lab.down()
}

#[test]
fn a_killed_client_leaves_no_ssh_process_behind() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder()
        .topology(Topology::Gateway)
        .rtt(Duration::from_millis(200))
        .up()?;
    let mut client = Client::connect(lab.laptop(), &PROCESS)?;
    client.wait_for(&["step_done"], SOON)?;
    client.signal(Signal::KILL)?;
    client.wait()?;
    eventually("all ssh processes to end", SOON, || {
        lab.laptop()
            .run(r#"pgrep -u "$(id -u)" ssh || true"#)
            .is_ok_and(|left| left.is_empty())
    })?;
    lab.down()
}

#[test]
fn a_connect_while_the_agent_is_ending_starts_another() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).docker(true).up()?;
    let arguments = ["gpu", "--image", IMAGE];
    let mut client = Client::connect(lab.laptop(), &arguments)?;
    client.ready()?;
    client.disconnect()?;
    lab.gpu().run(r#"pkill -TERM -u "$(id -u)" -f '[-]-run-dir'"#)?;
    let mut client = Client::connect(lab.laptop(), &arguments)?;
    ensure!(client.ready()?.jupyter_was_running == Some(true));
    client.disconnect()?;
    lab.down()
}

#[test]
fn half_closed_and_stalled_streams_of_a_dead_client_do_not_keep_the_agent_running() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).up()?;
    let service = lab.gpu().enter(|| TcpListener::bind("127.0.0.1:9000"))??;
    let mut client = Client::connect(
        lab.laptop(),
        &[
            "gpu",
            "--engine",
            "process",
            "--jupyter",
            "none",
            "--linger",
            "2s",
            "-L",
            "9000:127.0.0.1:9000",
        ],
    )?;
    client.ready()?;
    let half_closed = http::dial(lab.laptop(), 9000)?;
    half_closed.shutdown(Shutdown::Write)?;
    let mut stalled = http::dial(lab.laptop(), 9000)?;
    stalled.set_write_timeout(Some(Duration::from_secs(2)))?;
    // The service reads neither stream, so this writes until all buffers on the path are full.
    while stalled.write_all(&[0; 65_536]).is_ok() {}
    let _accepted = [service.accept()?, service.accept()?];
    client.signal(Signal::KILL)?;
    client.wait()?;
    eventually("the agent to end", Duration::from_secs(90), || agents(&lab) == 0)?;
    lab.down()
}
