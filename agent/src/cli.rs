//! The agent's command line, and the only reader of its environment. Users do not run the agent; the client does.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    net::IpAddr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use clap::{Parser, Subcommand};
use jq_common::{
    bootstrap::{MachineId, Nonce},
    login::{Login, counts, digest},
    protocol::{hex, version::BUILD},
};
use rustix::{fs::Mode, process::Resource};
use sha2::{Digest, Sha256};
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::{bootstrap::Bootstrap, machine::Machine, role::Role, state_folder, workload::HostContext};

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
        /// What must be so.
        #[command(flatten)]
        conditions: Conditions,
    },
    /// Serve clients on this host.
    Serve {
        /// Private folder of this process.
        #[arg(long)]
        run_dir: PathBuf,
        /// Take over from another build: read the handover snapshot from standard input.
        #[arg(long)]
        inherit: bool,
        /// Take over from the process that serves in this folder.
        #[arg(long, conflicts_with = "inherit")]
        take_over: bool,
        /// The umask of the login, octal.
        #[arg(long, value_parser = parse_umask)]
        umask: Option<u32>,
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

/// What a client wants to be so before anything is done.
#[derive(Debug, clap::Args)]
pub struct Conditions {
    /// SHA-256 of this program's file, where the host could not check it.
    #[arg(long)]
    sha256: Option<String>,
    /// The machine that the client's session is on.
    #[arg(long, value_parser = parse_machine)]
    machine: Option<MachineId>,
    /// Leave a running agent with the login that it has: the client only comes back.
    #[arg(long)]
    keep_login: bool,
}

fn parse_machine(text: &str) -> Result<MachineId, String> {
    MachineId::parse(text).ok_or_else(|| "not a machine".to_owned())
}

fn parse_umask(text: &str) -> Result<u32, String> {
    let umask = u32::from_str_radix(text, 8).ok();
    umask
        .filter(|umask| *umask <= 0o777)
        .ok_or_else(|| "not a umask".to_owned())
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
pub fn bootstrap(role: Role, nonce: &str, conditions: Conditions, umask: Mode) -> io::Result<Bootstrap> {
    let nonce = Nonce::parse(nonce).ok_or_else(|| io::Error::other("not a nonce"))?;
    Ok(Bootstrap {
        role,
        nonce,
        binary: own_file()?,
        address: ssh_address(&text("SSH_CONNECTION")),
        login: login(Some(umask.bits())),
        machine: conditions.machine,
        keeps_login: conditions.keep_login,
    })
}

/// Bytes of a file that are hashed at a time.
const PIECE: usize = 64 * 1024;

impl Conditions {
    /// Whether this program is what the client means, as far as the client could not find out. Comes before anything else.
    ///
    /// # Errors
    /// When the file of this program cannot be read.
    pub fn is_right_program(&self) -> io::Result<bool> {
        self.sha256.as_deref().map_or(Ok(true), has_content)
    }
}

/// Checks the file of this program: an upload may have been cut, and a disk may lose what was not written yet.
fn has_content(sha256: &str) -> io::Result<bool> {
    let mut file = File::open("/proc/self/exe")?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            length => hash.update(&piece[..length]),
        }
    }
    Ok(hex::encode(&hash.finalize()) == sha256)
}

/// The login that this process runs in.
fn login(umask: Option<u32>) -> Login {
    let groups = rustix::process::getgroups().unwrap_or_default();
    let mut groups: Vec<_> = groups.into_iter().map(|group| group.as_raw()).collect();
    groups.sort_unstable();
    groups.dedup();
    Login {
        group: rustix::process::getegid().as_raw(),
        groups,
        umask,
        limits: LIMITS
            .into_iter()
            .map(|(name, limit)| (name.to_owned(), rustix::process::getrlimit(limit).maximum))
            .collect(),
        environment: environment(),
    }
}

/// Limits that what is started inherits.
const LIMITS: [(&str, Resource); 8] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("memlock", Resource::Memlock),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("stack", Resource::Stack),
];

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
pub fn host_context(run_dir: &Path, umask: Option<u32>) -> io::Result<HostContext> {
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
        shell: path("SHELL"),
        docker_host: value("DOCKER_HOST").and_then(|host| host.into_string().ok()),
        docker_context: value("DOCKER_CONTEXT").and_then(|name| name.into_string().ok()),
        docker_config: path("DOCKER_CONFIG"),
        registry_auth_file: path("REGISTRY_AUTH_FILE"),
        xdg_runtime_dir: path("XDG_RUNTIME_DIR"),
        run_dir: run_dir.to_owned(),
        login: login(umask),
        // Not its path: a clean-up may delete the file while the agent runs.
        agent_binary: PathBuf::from("/proc/self/exe"),
    })
}

/// Where tokens and records are kept: in the home directory, or beside the binary where the home is not writable.
fn state_dir(home: &Path, binary: &Path) -> io::Result<PathBuf> {
    let machine = Machine::this();
    state_folder::of(&machine, &home.join(".local/state/jq/hosts"))
        .or_else(|_| state_folder::of(&machine, &binary.with_file_name("state")))
}

/// The variables that count, with digests of their values.
#[expect(
    clippy::disallowed_methods,
    reason = "the agent's only reader of the environment"
)]
fn environment() -> BTreeMap<String, String> {
    let named = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    named
        .filter(|(name, _)| counts(name))
        .map(|(name, value)| (name, digest(value.as_bytes())))
        .collect()
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
    fn a_program_that_is_not_what_was_uploaded_does_not_start() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert!(has_content(&hex::encode(&Sha256::digest(&own))).unwrap());
        for other in [hex::encode(&Sha256::digest(b"another")), String::new()] {
            assert!(!has_content(&other).unwrap(), "{other}");
        }
    }

    #[test]
    fn a_umask_is_octal_and_the_login_is_that_of_this_process() {
        assert_eq!(parse_umask("0027"), Ok(0o027));
        for text in ["", "8", "1000", "-1", "022 "] {
            assert!(parse_umask(text).is_err(), "{text}");
        }
        let login = login(Some(0o027));
        assert_eq!(login.umask, Some(0o027));
        assert_eq!(login.group, rustix::process::getegid().as_raw());
        assert!(login.environment.contains_key("PATH"));
        assert!(login.limits.contains_key("nofile"));
        assert!(login.groups.is_sorted());
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
