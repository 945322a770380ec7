//! Requests from other processes to the owner of a lab: one JSON value in each direction on a Unix socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::{Context as _, Result, anyhow};
use serde::{Deserialize, Serialize};

use super::Lab;
use super::conditions::Conditions;
use super::link::Counters;
use super::place::LabId;
use super::plan::HostName;

/// A request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Return the conditions and the counters of all links.
    Links,
    /// Set the conditions of the link from `from` to `to`, in this direction.
    Link {
        /// The host that sends.
        from: HostName,
        /// The host that receives.
        to: HostName,
        /// The new conditions.
        conditions: Conditions,
    },
    /// Start or stop a host's sshd.
    Sshd {
        /// The host of the sshd.
        host: HostName,
        /// Whether it should run.
        run: bool,
    },
    /// Start or stop the GPU host's dockerd.
    Engine {
        /// Whether it should run.
        run: bool,
    },
    /// Remove the lab and end.
    Down,
}

/// The status of one direction of a link.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The host that sends.
    pub from: HostName,
    /// The host that receives.
    pub to: HostName,
    /// Its conditions.
    pub conditions: Conditions,
    /// Its counters.
    pub counters: Counters,
}

type Answer = std::result::Result<Vec<LinkStatus>, String>;

/// Sends a request to the owner of a lab and waits until it is carried out. Returns the status of the links for
/// [`Request::Links`], otherwise nothing.
pub fn ask(id: &LabId, request: &Request) -> Result<Vec<LinkStatus>> {
    let stream = UnixStream::connect(id.control_socket())
        .with_context(|| format!("lab {} does not belong to `jq-lab up`", id.as_str()))?;
    send(&stream, request)?;
    let answer: Answer = receive(&stream)?;
    answer.map_err(|error| anyhow!(error))
}

/// Serves requests until one asks to remove the lab. Replies to that one after the removal.
pub fn serve(mut lab: Lab, ready: impl FnOnce()) -> Result<()> {
    let listener =
        UnixListener::bind(lab.id().control_socket()).context("cannot open the lab's control socket")?;
    ready();
    loop {
        let (stream, _) = listener.accept().context("the lab's control socket failed")?;
        // An invalid request, or a client that does not wait for the reply, affects only that client.
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
