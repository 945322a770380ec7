//! Failures as the user sees them: what failed, on which host, why, and what to do.

use std::fmt;

use jq_common::protocol::workload;

/// A failure. Its texts may come from a remote machine and hold control characters: the printer sanitises them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Determines the exit status and the name in `--json`.
    pub kind: Kind,
    /// What failed, without a full stop: `cannot log in`.
    pub what: String,
    /// The host where it failed, as the user writes it. None: this machine.
    pub host: Option<String>,
    /// The cause, if known; may be empty.
    pub why: String,
    /// What to do about it, one line; may contain a command to copy, may be empty.
    pub hint: String,
}

/// Kinds of failure, each with its exit status. Programs read the kind in `--json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Invalid command line or configuration: 2.
    Usage,
    /// The host name cannot be resolved: 255.
    UnknownHost,
    /// The host does not answer: 255.
    Unreachable,
    /// The host refused the login: 255.
    LoginRefused,
    /// The host's key differs from the known one: 255.
    HostKeyChanged,
    /// The host's key is unknown and was not accepted: 255.
    HostKeyUnknown,
    /// The login works but gives no usable shell (nologin, ForceCommand, endless output of start-up files): 255.
    NoShell,
    /// No agent is bundled for the host's operating system or CPU: 1.
    UnsupportedHost,
    /// The agent cannot be installed on the host (disk full, read-only, noexec): 1.
    InstallFailed,
    /// The agent does not start, or its answer is invalid: 1.
    AgentFailed,
    /// SSH works, but UDP does not reach the agent: 255.
    UdpBlocked,
    /// The connection to the agent was lost: 255.
    ConnectionLost,
    /// A failure that the agent reports: 1.
    Agent(workload::FailureKind),
    /// A problem on this machine, such as a port, a file or the ssh program: 1.
    Local,
    /// The user interrupted the command: 130.
    Interrupted,
}

impl Kind {
    /// Exit status of the process.
    #[must_use]
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::UnknownHost
            | Self::Unreachable
            | Self::LoginRefused
            | Self::HostKeyChanged
            | Self::HostKeyUnknown
            | Self::NoShell
            | Self::UdpBlocked
            | Self::ConnectionLost => 255,
            Self::UnsupportedHost
            | Self::InstallFailed
            | Self::AgentFailed
            | Self::Agent(_)
            | Self::Local => 1,
            Self::Interrupted => 130,
        }
    }
}

impl Kind {
    /// Name in `--json`.
    #[must_use]
    pub fn name(self) -> String {
        let name = match self {
            Self::Usage => "usage",
            Self::UnknownHost => "unknown_host",
            Self::Unreachable => "unreachable",
            Self::LoginRefused => "login_refused",
            Self::HostKeyChanged => "host_key_changed",
            Self::HostKeyUnknown => "host_key_unknown",
            Self::NoShell => "no_shell",
            Self::UnsupportedHost => "unsupported_host",
            Self::InstallFailed => "install_failed",
            Self::AgentFailed => "agent_failed",
            Self::UdpBlocked => "udp_blocked",
            Self::ConnectionLost => "connection_lost",
            Self::Local => "local",
            Self::Interrupted => "interrupted",
            Self::Agent(kind) => {
                return serde_json::to_value(kind)
                    .ok()
                    .and_then(|name| name.as_str().map(str::to_owned))
                    .unwrap_or_default();
            }
        };
        name.to_owned()
    }
}

impl Failure {
    /// A failure on this machine, without cause and hint.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            host: None,
            why: String::new(),
            hint: String::new(),
        }
    }

    /// The user interrupted the command.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
    }

    /// A failure that the agent on `host` reports.
    #[must_use]
    pub fn of_agent(host: &str, failure: workload::Failure) -> Self {
        Self::new(Kind::Agent(failure.kind), failure.what)
            .on(host)
            .because(failure.why)
            .hint(failure.hint)
    }

    /// The agent on `host` does not support a request.
    #[must_use]
    pub fn older_agent(host: &str) -> Self {
        Self::new(
            Kind::AgentFailed,
            format!("the agent on {host} is older than this command"),
        )
        .hint("end the other sessions there and connect again")
    }

    /// Sets the host.
    #[must_use]
    pub fn on(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Sets the cause.
    #[must_use]
    pub fn because(mut self, why: impl fmt::Display) -> Self {
        self.why = why.to_string();
        self
    }

    /// Sets the hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl Failure {
    /// Whether only the user can resolve it: by a password or code, or by accepting a host key.
    #[must_use]
    pub fn needs_user(&self) -> bool {
        matches!(self.kind, Kind::LoginRefused | Kind::HostKeyUnknown)
    }

    /// Whether another machine answers in the host's place: it has another key.
    #[must_use]
    pub fn is_another_machine(&self) -> bool {
        self.kind == Kind::HostKeyChanged
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.host {
            write!(f, "{host}: ")?;
        }
        f.write_str(&self.what)?;
        if !self.why.is_empty() {
            write!(f, ": {}", self.why)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
