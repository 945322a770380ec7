//! The agent's command line, and the only reading of its environment. Users do not run it; the client does.

use std::{
    ffi::{OsStr, OsString},
    io,
    net::IpAddr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use clap::{Parser, Subcommand};
use jq_common::bootstrap::Nonce;
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::{
    bootstrap::Bootstrap, private_files::create_folder, role::Role, rundir::host_name, workload::HostContext,
};

/// The part of jq that runs on a GPU host, on a gateway and beside a container. jq-client starts it.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// What to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The roles, and the way to them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer a client on standard input and output, and start a role unless it runs.
    Bootstrap {
        /// The role.
        role: Role,
        /// Printed first, so that the client finds what is meant for it.
        #[arg(long, value_parser = parse_nonce)]
        nonce: String,
    },
    /// Serve clients on this host.
    Serve {
        /// Private folder of this process.
        #[arg(long)]
        run_dir: PathBuf,
        /// Go on where another build left this process, by what lies in standard input.
        #[arg(long)]
        inherit: bool,
    },
    /// Pass packets between clients and agents.
    Relay {
        /// Private folder of this process.
        #[arg(long)]
        run_dir: PathBuf,
    },
    /// Dial in the network namespace this runs in, for the agent at the other end of a socket.
    Inside {
        /// The agent's socket.
        #[arg(long)]
        socket: PathBuf,
    },
}

fn parse_nonce(text: &str) -> Result<String, String> {
    Nonce::parse(text)
        .map(|nonce| nonce.to_string())
        .ok_or_else(|| "not a nonce".to_owned())
}

/// What a bootstrap needs, from its arguments and from what sshd(8) set.
///
/// # Errors
/// When this program's own file cannot be found.
pub fn bootstrap(role: Role, nonce: &str) -> io::Result<Bootstrap> {
    let nonce = Nonce::parse(nonce).ok_or_else(|| io::Error::other("not a nonce"))?;
    Ok(Bootstrap {
        role,
        nonce,
        binary: own_file()?,
        address: ssh_address(&text("SSH_CONNECTION")),
    })
}

/// This program's file.
fn own_file() -> io::Result<PathBuf> {
    Ok(as_it_was_named(std::env::current_exe()?))
}

/// Where another client has put the same agent in its place meanwhile, the kernel says of the one that runs that it was
/// deleted (proc_pid_exe(5)). Its name still leads to the same program.
fn as_it_was_named(file: PathBuf) -> PathBuf {
    match file.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(name) => OsStr::from_bytes(name).into(),
        None => file,
    }
}

/// The third field of `SSH_CONNECTION`: this host's own address on that connection.
fn ssh_address(connection: &str) -> Option<IpAddr> {
    connection.split(' ').nth(2)?.parse().ok()
}

/// What the agent needs to know of its host and user.
///
/// # Errors
/// When no folder can be had that outlives this process.
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
        docker_config: path("DOCKER_CONFIG"),
        xdg_runtime_dir: path("XDG_RUNTIME_DIR"),
        run_dir: run_dir.to_owned(),
        // Not by its name: a clean-up may take the file from under the running agent.
        agent_binary: PathBuf::from("/proc/self/exe"),
    })
}

/// Where tokens are kept: in the home, or beside the agent where the home cannot be written to. Homes are shared
/// between hosts, so the folder is the host's own.
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

/// Which log lines are written, by `JQ_LOG`: a level (`debug`), or levels of modules (`info,jq_agent::serve=debug`).
#[must_use]
pub fn log_filter() -> Targets {
    filter(&text("JQ_LOG"))
}

fn filter(words: &str) -> Targets {
    let usual = || Targets::new().with_default(LevelFilter::INFO);
    if words.is_empty() {
        return usual();
    }
    words.parse().unwrap_or_else(|_| usual())
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
    fn an_agent_that_was_replaced_by_the_same_agent_keeps_its_name() {
        for (told, name) in [
            ("/a/agent-01", "/a/agent-01"),
            ("/a/agent-01 (deleted)", "/a/agent-01"),
        ] {
            assert_eq!(as_it_was_named(told.into()), PathBuf::from(name));
        }
    }

    #[test]
    fn the_log_says_what_was_asked_for_and_the_usual_otherwise() {
        let usual = Targets::new().with_default(LevelFilter::INFO);
        assert_eq!(filter(""), usual);
        assert_eq!(filter("no=such=thing"), usual);
        assert_eq!(filter("debug"), Targets::new().with_default(LevelFilter::DEBUG));
        assert_eq!(
            filter("info,jq_agent::serve=debug"),
            usual.with_target("jq_agent::serve", LevelFilter::DEBUG)
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
