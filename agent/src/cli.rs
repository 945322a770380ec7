//! The agent's command line, and the only reader of its environment. Users do not run the agent; the client does.

use std::{
    ffi::{OsStr, OsString},
    io,
    net::IpAddr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use clap::{Parser, Subcommand};
use jq_common::{bootstrap::Nonce, protocol::version::BUILD};
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::{
    bootstrap::Bootstrap, private_files::create_folder, role::Role, rundir::host_name, workload::HostContext,
};

/// The part of jq that runs on a GPU host, on a gateway and beside a container. jq-client starts it.
#[derive(Debug, Parser)]
#[command(version = BUILD)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// One command per role, and one that reaches a role.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer a client on standard input and output, and start the role if it is not running.
    Bootstrap {
        /// The role to reach.
        role: Role,
        /// Printed first, so that the client can find the agent's output.
        #[arg(long, value_parser = parse_nonce)]
        nonce: String,
    },
    /// Serve clients on this host.
    Serve {
        /// Private folder of this process.
        #[arg(long)]
        run_dir: PathBuf,
        /// Take over from another build: read the handover snapshot from standard input.
        #[arg(long)]
        inherit: bool,
    },
    /// Forward packets between clients and agents.
    Relay {
        /// Private folder of this process.
        #[arg(long)]
        run_dir: PathBuf,
    },
    /// Dial in this network namespace on behalf of the agent that connects to the socket.
    Inside {
        /// Where to listen.
        #[arg(long)]
        socket: PathBuf,
    },
}

fn parse_nonce(text: &str) -> Result<String, String> {
    Nonce::parse(text)
        .map(|nonce| nonce.to_string())
        .ok_or_else(|| "not a nonce".to_owned())
}

/// Builds a bootstrap's input from its arguments and from the variables that sshd(8) sets.
///
/// # Errors
/// When this program's path cannot be read.
pub fn bootstrap(role: Role, nonce: &str) -> io::Result<Bootstrap> {
    let nonce = Nonce::parse(nonce).ok_or_else(|| io::Error::other("not a nonce"))?;
    Ok(Bootstrap {
        role,
        nonce,
        binary: own_file()?,
        address: ssh_address(&text("SSH_CONNECTION")),
    })
}

/// Path of this program.
fn own_file() -> io::Result<PathBuf> {
    Ok(as_it_was_named(std::env::current_exe()?))
}

/// Removes the kernel's mark for a deleted file (proc_pid_exe(5)): when another client has replaced the binary with the
/// same one, the path still leads to the same program.
fn as_it_was_named(file: PathBuf) -> PathBuf {
    match file.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(name) => OsStr::from_bytes(name).into(),
        None => file,
    }
}

/// Parses the third field of `SSH_CONNECTION`: this host's own address on that connection.
fn ssh_address(connection: &str) -> Option<IpAddr> {
    connection.split(' ').nth(2)?.parse().ok()
}

/// Collects what the agent needs to know about its host and user.
///
/// # Errors
/// When no folder can be created for state that outlives this process.
pub fn host_context(run_dir: &Path) -> io::Result<HostContext> {
    let binary = own_file()?;
    let home = path("HOME").unwrap_or_else(|| PathBuf::from("/"));
    let uid = rustix::process::geteuid().as_raw();
    let user = [text("USER"), text("LOGNAME")]
        .into_iter()
        .find(|name| !name.is_empty());
    Ok(HostContext {
        state_dir: state_dir(&home, &binary)?,
        home,
        uid,
        gid: rustix::process::getegid().as_raw(),
        user: user.unwrap_or_else(|| uid.to_string()),
        path: value("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()),
        docker_host: value("DOCKER_HOST").and_then(|host| host.into_string().ok()),
        docker_context: value("DOCKER_CONTEXT").and_then(|name| name.into_string().ok()),
        docker_config: path("DOCKER_CONFIG"),
        registry_auth_file: path("REGISTRY_AUTH_FILE"),
        xdg_runtime_dir: path("XDG_RUNTIME_DIR"),
        run_dir: run_dir.to_owned(),
        // Not its path: a clean-up may delete the file while the agent runs.
        agent_binary: PathBuf::from("/proc/self/exe"),
    })
}

/// Where tokens and records are kept: in the home directory, or beside the binary where the home is not writable. Homes
/// may be shared between hosts, so the folder is named after the host.
fn state_dir(home: &Path, binary: &Path) -> io::Result<PathBuf> {
    let in_home = home.join(".local/state/jq/hosts").join(host_name());
    if create_folder(&in_home).is_ok() {
        return Ok(in_home);
    }
    let beside = binary.with_file_name("state").join(host_name());
    create_folder(&beside)?;
    Ok(beside)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the agent's only reader of the environment"
)]
fn value(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn path(name: &str) -> Option<PathBuf> {
    value(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn text(name: &str) -> String {
    value(name)
        .and_then(|value| value.into_string().ok())
        .unwrap_or_default()
}

/// Builds the log filter from `JQ_LOG`: a level (`debug`), or levels by module (`info,jq_agent::serve=debug`).
#[must_use]
pub fn log_filter() -> Targets {
    filter(&text("JQ_LOG"))
}

fn filter(words: &str) -> Targets {
    let default = || Targets::new().with_default(LevelFilter::INFO);
    if words.is_empty() {
        return default();
    }
    words.parse().unwrap_or_else(|_| default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_binary_that_was_replaced_by_the_same_binary_keeps_its_path() {
        for (told, name) in [
            ("/a/agent-01", "/a/agent-01"),
            ("/a/agent-01 (deleted)", "/a/agent-01"),
        ] {
            assert_eq!(as_it_was_named(told.into()), PathBuf::from(name));
        }
    }

    #[test]
    fn the_log_filter_is_as_requested_or_the_default() {
        let default = Targets::new().with_default(LevelFilter::INFO);
        assert_eq!(filter(""), default);
        assert_eq!(filter("no=such=thing"), default);
        assert_eq!(filter("debug"), Targets::new().with_default(LevelFilter::DEBUG));
        assert_eq!(
            filter("info,jq_agent::serve=debug"),
            default.with_target("jq_agent::serve", LevelFilter::DEBUG)
        );
    }

    #[test]
    fn the_hosts_own_address_is_read_from_what_sshd_sets() {
        assert_eq!(
            ssh_address("10.0.1.1 52034 10.0.1.2 22"),
            Some("10.0.1.2".parse().unwrap())
        );
        assert_eq!(
            ssh_address("fe80::1 5 2001:db8::2 22"),
            Some("2001:db8::2".parse().unwrap())
        );
        assert_eq!(ssh_address("UNKNOWN 65535 UNKNOWN 65535"), None);
        assert_eq!(ssh_address(""), None);
    }
}
