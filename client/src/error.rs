//! What a user is told when something fails: what, where, why, and what to do.

use std::fmt;

use jq_common::protocol::workload;

/// A failure, in words for the user. Every text in it may come from a remote machine; the printer sanitises them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind it is: decides the exit status, and names the failure in `--json`.
    pub kind: Kind,
    /// What failed, as a sentence without a full stop: `cannot log in`.
    pub what: String,
    /// On which host, as the user calls it. None: on this machine.
    pub host: Option<String>,
    /// Why, as far as it is known. Empty when `what` says it all.
    pub why: String,
    /// What to do about it, one line; may hold a command to copy. Empty when nothing can be said.
    pub hint: String,
}

/// Kinds of failure that a program can tell apart by `--json`'s `kind`, and their exit statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command line or the configuration makes no sense: 2.
    Usage,
    /// The host's name is unknown: 255.
    UnknownHost,
    /// Nothing answers at the host: 255.
    Unreachable,
    /// The host refused the login: 255.
    LoginRefused,
    /// The host's key is not the one known: 255.
    HostKeyChanged,
    /// The host's key is not known, and nobody can be asked: 255.
    HostKeyUnknown,
    /// The host lets this user log in and run nothing (nologin, ForceCommand), or its shell says too much: 255.
    NoShell,
    /// No agent is bundled for the host's system or processor: 1.
    UnsupportedHost,
    /// The agent could not be put on the host (home full, read-only, noexec): 1.
    InstallFailed,
    /// The agent does not start or does not speak: 1.
    AgentFailed,
    /// SSH works and no UDP path to the agent does: 255.
    UdpBlocked,
    /// The connection to the agent was lost: 255.
    ConnectionLost,
    /// The agent says why: 1.
    Agent(workload::FailureKind),
    /// Something on this machine: a port, a file, the ssh program: 1.
    Local,
    /// Interrupted by the user: 130.
    Interrupted,
}

impl Kind {
    /// The exit status.
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
    /// The name in `--json`.
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
    /// A failure with nothing but its kind and what failed.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            host: None,
            why: String::new(),
            hint: String::new(),
        }
    }

    /// The user ended it.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
    }

    /// What the agent on `host` reports as its own failure.
    #[must_use]
    pub fn of_agent(host: &str, failure: workload::Failure) -> Self {
        Self::new(Kind::Agent(failure.kind), failure.what)
            .on(host)
            .because(failure.why)
            .hint(failure.hint)
    }

    /// The agent on `host` does not understand what it was asked for.
    #[must_use]
    pub fn older_agent(host: &str) -> Self {
        Self::new(
            Kind::AgentFailed,
            format!("the agent on {host} is older than this command"),
        )
        .hint("end the other sessions there and connect again")
    }

    /// On which host.
    #[must_use]
    pub fn on(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Why.
    #[must_use]
    pub fn because(mut self, why: impl fmt::Display) -> Self {
        self.why = why.to_string();
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl Failure {
    /// Whether trying again helps only once the user has done something at a terminal: logged in with a password or a
    /// code, or said whether a host's key is right.
    #[must_use]
    pub fn needs_user(&self) -> bool {
        matches!(
            self.kind,
            Kind::LoginRefused | Kind::HostKeyUnknown | Kind::HostKeyChanged
        )
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
