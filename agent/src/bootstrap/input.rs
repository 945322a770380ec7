//! What a bootstrap is given.

use std::{net::IpAddr, path::PathBuf};

use jq_common::{
    bootstrap::{MachineId, Nonce},
    login::Login,
};

use crate::role::Role;

/// Input of a bootstrap, from the command line and from sshd.
pub struct Bootstrap {
    /// The role to reach.
    pub(crate) role: Role,
    /// Printed before anything else, so that the client can tell our output from that of start-up files.
    pub(crate) nonce: Nonce,
    /// Path of the agent's binary.
    pub(crate) binary: PathBuf,
    /// This host's address on the SSH connection, if known.
    pub(crate) address: Option<IpAddr>,
    /// The login that this process runs in.
    pub(crate) login: Login,
    /// The machine that the client's session is on; none if any will do.
    pub(crate) machine: Option<MachineId>,
    /// A running agent keeps the login that it has.
    pub(crate) keeps_login: bool,
}
