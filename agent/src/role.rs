//! The roles that keep running on a host after the SSH login that started them.

/// A long-lived role of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// The agent on the GPU host.
    Serve,
    /// The relay on a gateway.
    Relay,
}

impl Role {
    /// The name of its subcommand.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Relay => "relay",
        }
    }
}
