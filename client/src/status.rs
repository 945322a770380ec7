//! Status types that the connection, the local API and the printer share.

use std::{io, time::Duration};

use jq_common::protocol::{topics::WorkloadStatus, workload::Ready};
use serde::{Deserialize, Serialize};

/// State of a session's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Data flows.
    Connected,
    /// The peer has been silent for longer than it should be.
    Suspect,
    /// The client is looking for another connection.
    Reconnecting,
    /// Only ssh can reconnect, and it would have to ask the user something.
    LoginNeeded,
    /// The session cannot be resumed.
    Lost,
}

/// Why open forwarded connections were reset although the client is connected again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Loss {
    /// The agent on the host was restarted.
    AgentRestarted,
    /// The agent discarded the session, because no client was connected for the time set by `--linger`.
    SessionGivenUp,
}

/// State and figures of a session's connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The host's name, as the user writes it.
    pub(crate) host: String,
    /// Its state.
    pub(crate) state: State,
    /// The user is logging in: what they type is for ssh.
    #[serde(default)]
    pub(crate) logging_in: bool,
    /// The path in use, or the one used last: `direct`, `ssh`, `through gateway`.
    pub(crate) path: Option<String>,
    /// Round-trip time of the path.
    pub(crate) round_trip: Option<Duration>,
    /// Bytes per second from the host.
    pub(crate) down_per_s: u64,
    /// Bytes per second to the host.
    pub(crate) up_per_s: u64,
    /// Number of open forwarded connections.
    pub(crate) connections: usize,
    /// Length of the outage so far. In the first status that is connected again: the length of the outage that ended; if
    /// none, that of the status before.
    pub(crate) outage: Option<Duration>,
    /// Why open connections were reset, if they were. Set in the first status that is connected again; may stay set until
    /// the next outage.
    pub(crate) lost: Option<Loss>,
}

/// Result of opening a session.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    /// URL of Jupyter with its token; none without Jupyter.
    pub(crate) url: Option<String>,
    /// The same page for the browser, under a host name of this session's own.
    pub(crate) browser_url: Option<String>,
    /// The workload, as the agent reports it.
    pub(crate) ready: Ready,
    /// The path in use.
    pub(crate) path: String,
    /// Its round-trip time.
    pub(crate) round_trip: Duration,
    /// Local port of Jupyter; none without Jupyter.
    pub(crate) jupyter_port: Option<u16>,
    /// The forwarded ports besides Jupyter's.
    pub(crate) ports: Vec<Port>,
}

/// A session as the local API describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// Its name.
    pub(crate) session: String,
    /// Its host, as the user wrote it.
    pub(crate) target: String,
    /// Process that runs it.
    pub(crate) pid: u32,
    /// Its connection.
    pub(crate) status: Status,
    /// Forwarded ports besides Jupyter's.
    pub(crate) ports: Vec<Port>,
    /// Display name of the engine.
    pub(crate) engine: String,
    /// Name of the container; none where Jupyter runs as a process.
    pub(crate) container: Option<String>,
    /// GPUs that are visible in the container.
    pub(crate) gpus: Vec<String>,
    /// Current state of the workload; none if the agent does not report it.
    pub(crate) workload: Option<WorkloadStatus>,
    /// Why the workload could not be started again on another agent so far; jq keeps trying.
    #[serde(default)]
    pub(crate) workload_failure: Option<String>,
    /// URL of Jupyter. The query with the token is removed before it is sent.
    pub(crate) url: Option<String>,
}

/// A forwarded port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Port {
    /// Port on this machine's loopback.
    pub(crate) local: u16,
    /// Display name of the target.
    pub(crate) target: String,
}

/// Why a session did not report its status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// No process runs it.
    #[error("it does not run")]
    NotRunning,
    /// Its process does not answer in time.
    #[error("{} does not answer; if it was stopped by Ctrl-Z, `fg` resumes it", process(*.pid))]
    Silent {
        /// The process, if the system reports it.
        pid: Option<i32>,
    },
    /// Its process is another version of this program.
    #[error("{} is another version of jq-client", process(*.pid))]
    Unreadable {
        /// The process, if the system reports it.
        pid: Option<i32>,
    },
    /// The socket belongs to another user, or failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl AskError {
    /// The process that runs the session, if known.
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

/// A session of this machine, and its answer.
pub(crate) struct Found {
    /// Its name.
    pub(crate) session: String,
    /// Its status, or why it did not answer.
    pub(crate) answer: Result<Snapshot, AskError>,
}
