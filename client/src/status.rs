//! How a session is: the types that the printer, the connection and the local API share.

use std::{io, time::Duration};

use jq_common::protocol::{topics::WorkloadStatus, workload::Ready};
use serde::{Deserialize, Serialize};

/// How a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Bytes travel.
    Connected,
    /// Nothing was heard for longer than there should be.
    Suspect,
    /// New attachments are being tried.
    Reconnecting,
    /// Only ssh is left, and it would ask the user something.
    LoginNeeded,
    /// It will not come back.
    Lost,
}

/// Why the connections that were open are reset, although there is a connection again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Loss {
    /// The agent on the host is another run than before.
    AgentRestarted,
    /// It is the same, and has given the session up: nothing had carried it for as long as it was to be kept.
    SessionGivenUp,
}

/// How a connection is, with what a user wants to know of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The host, as the user calls it.
    pub(crate) host: String,
    /// How the connection is.
    pub(crate) state: State,
    /// The way that packets take, or took last: `direct`, `ssh`, `through gateway`.
    pub(crate) path: Option<String>,
    /// Its round-trip time.
    pub(crate) round_trip: Option<Duration>,
    /// Bytes a second that come from the host.
    pub(crate) down_per_s: u64,
    /// Bytes a second that go to it.
    pub(crate) up_per_s: u64,
    /// Forwarded connections that are open.
    pub(crate) connections: usize,
    /// How long nothing has come through. In the first status that is connected again: how long that was, by default
    /// what the status before said.
    pub(crate) outage: Option<Duration>,
    /// The connections that were open are reset, and why. Set in the first status that is connected again; it may stay
    /// until the next outage begins.
    pub(crate) lost: Option<Loss>,
}

/// What stands once a session is open.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    /// Jupyter's page with its token; none without Jupyter.
    pub(crate) url: Option<String>,
    /// What the agent says of the workload.
    pub(crate) ready: Ready,
    /// The path that packets take.
    pub(crate) path: String,
    /// Its round-trip time.
    pub(crate) round_trip: Duration,
    /// Local port of Jupyter; none without Jupyter.
    pub(crate) jupyter_port: Option<u16>,
    /// The forwarded ports besides Jupyter's.
    pub(crate) ports: Vec<Port>,
}

/// How a session is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// Its name.
    pub(crate) session: String,
    /// Where it goes, as the user wrote it.
    pub(crate) target: String,
    /// The process that holds it.
    pub(crate) pid: u32,
    /// How its connection is.
    pub(crate) status: Status,
    /// The ports that it brings here.
    pub(crate) ports: Vec<Port>,
    /// The engine, for the user.
    pub(crate) engine: String,
    /// The container's name; none for a process.
    pub(crate) container: Option<String>,
    /// GPUs seen inside.
    pub(crate) gpus: Vec<String>,
    /// How the workload is now. None while the agent does not tell.
    pub(crate) workload: Option<WorkloadStatus>,
    /// Jupyter's page. Its query, which has the token, is never sent.
    pub(crate) url: Option<String>,
}

/// A forwarded port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Port {
    /// The port on this machine's loopback.
    pub(crate) local: u16,
    /// Where it leads, for the user.
    pub(crate) target: String,
}

/// Why a session did not say how it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// No process holds it.
    #[error("it does not run")]
    NotRunning,
    /// A process holds it and says nothing.
    #[error("{} does not answer; if it was stopped by Ctrl-Z, `fg` lets it go on", process(*.pid))]
    Silent {
        /// The process, where the system tells.
        pid: Option<i32>,
    },
    /// It speaks another language: another version of this program.
    #[error("{} answers in another version's words", process(*.pid))]
    Unreadable {
        /// The process, where the system tells.
        pid: Option<i32>,
    },
    /// The socket is somebody else's, or failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl AskError {
    /// The process that holds the session, where it is known.
    #[must_use]
    pub(crate) fn pid(&self) -> Option<i32> {
        match self {
            Self::Silent { pid } | Self::Unreadable { pid } => *pid,
            Self::NotRunning | Self::Io(_) => None,
        }
    }
}

fn process(pid: Option<i32>) -> String {
    pid.map_or_else(|| "its process".to_owned(), |pid| format!("process {pid}"))
}

/// A session of this machine: what it answered, or why it did not.
pub(crate) struct Found {
    /// Its name.
    pub(crate) session: String,
    /// Its answer.
    pub(crate) answer: Result<Snapshot, AskError>,
}
