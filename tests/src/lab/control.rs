//! Requests from other processes to the process that owns a lab: one JSON value each way on a Unix socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::{Context as _, Result, anyhow};
use serde::{Deserialize, Serialize};

use super::Lab;
use super::conditions::Conditions;
use super::link::Counters;
use super::place::LabId;
use super::plan::HostName;

/// What can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How all links are, and what they have carried.
    Links,
    /// The direction of a link that leaves `from` towards `to` shall be like this.
    Link {
        /// The host that sends.
        from: HostName,
        /// The host that receives.
        to: HostName,
        /// What it shall be like.
        conditions: Conditions,
    },
    /// Start or stop a host's sshd.
    Sshd {
        /// Whose.
        host: HostName,
        /// Whether it shall run.
        run: bool,
    },
    /// Start or stop the GPU host's dockerd.
    Engine {
        /// Whether it shall run.
        run: bool,
    },
    /// Bring the lab down and end.
    Down,
}

/// How one direction of a link is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The host that sends.
    pub from: HostName,
    /// The host that receives.
    pub to: HostName,
    /// What it is like.
    pub conditions: Conditions,
    /// What it has carried.
    pub counters: Counters,
}

type Answer = std::result::Result<Vec<LinkStatus>, String>;

/// Asks the process that holds a lab. Gives the links' state for [`Request::Links`] and nothing for the
/// others, after the thing is done.
pub fn ask(id: &LabId, request: &Request) -> Result<Vec<LinkStatus>> {
    let stream = UnixStream::connect(id.control_socket())
        .with_context(|| format!("lab {} is not held by `jq-lab up`", id.as_str()))?;
    send(&stream, request)?;
    let answer: Answer = receive(&stream)?;
    answer.map_err(|error| anyhow!(error))
}

/// Serves requests until one asks to bring the lab down; then does, and answers.
pub fn serve(mut lab: Lab, ready: impl FnOnce()) -> Result<()> {
    let listener =
        UnixListener::bind(lab.id().control_socket()).context("cannot open the lab's control socket")?;
    ready();
    loop {
        let (stream, _) = listener.accept().context("the lab's control socket failed")?;
        // Whoever asks wrongly, or does not wait for the answer, harms nobody but himself.
        let Ok(request) = receive(&stream) else { continue };
        if matches!(request, Request::Down) {
            let done = lab.down();
            let _ = send(&stream, &as_answer(done.map(|()| Vec::new())));
            return Ok(());
        }
        let _ = send(&stream, &as_answer(carry_out(&mut lab, request)));
    }
}

fn carry_out(lab: &mut Lab, request: Request) -> Result<Vec<LinkStatus>> {
    match request {
        Request::Links => return Ok(links(lab)),
        Request::Link { from, to, conditions } => {
            let joined = |ends: [HostName; 2]| ends == [from, to] || ends == [to, from];
            let found = lab.links().iter().find(|link| joined(link.ends()));
            found
                .with_context(|| format!("no link from {from} to {to}"))?
                .set_from(from, |it| *it = conditions);
        }
        Request::Sshd { host, run } => {
            let found = lab.sshds.iter_mut().find(|(name, _)| *name == host);
            let (_, sshd) = found.with_context(|| format!("{host} has no sshd"))?;
            if run { sshd.launch()? } else { sshd.stop_all()? }
        }
        Request::Engine { run } => {
            let engine = lab.engine.as_mut().context("this lab has no engine")?;
            if run { engine.launch()? } else { engine.stop()? }
        }
        Request::Down => {}
    }
    Ok(Vec::new())
}

fn links(lab: &Lab) -> Vec<LinkStatus> {
    let ways = lab.links().iter().flat_map(|link| {
        let [first, second] = link.ends();
        [(link, first, second), (link, second, first)]
    });
    let status = |(link, from, to): (&super::Link, HostName, HostName)| {
        let (conditions, counters) = (link.conditions_from(from)?, link.counters_from(from)?);
        Some(LinkStatus {
            from,
            to,
            conditions,
            counters,
        })
    };
    ways.filter_map(status).collect()
}

fn as_answer(result: Result<Vec<LinkStatus>>) -> Answer {
    result.map_err(|error| format!("{error:#}"))
}

fn send<T: Serialize>(mut stream: &UnixStream, value: &T) -> Result<()> {
    let mut line = serde_json::to_vec(value).context("cannot write a message")?;
    line.push(b'\n');
    stream.write_all(&line).context("the control socket closed")
}

fn receive<T: for<'de> Deserialize<'de>>(stream: &UnixStream) -> Result<T> {
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .context("the control socket closed")?;
    serde_json::from_str(&line).with_context(|| format!("not a message: {line:?}"))
}
