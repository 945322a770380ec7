//! Flags and environment as typed settings. Nothing else in the client reads either.

use std::{
    env, fmt,
    io::IsTerminal,
    path::{Path, PathBuf},
    time::Duration,
};

use jq_common::protocol::control::{
    EngineChoice, GpuAsk, JupyterKind, PullPolicy, UserSpec, Volume, WorkloadSpec,
};

use crate::{
    cli::{self, ConnectArgs},
    error::{Failure, Kind},
    tunnel::forwards::Forward,
};

/// Longest session name in bytes; it becomes part of a container's name.
const LONGEST_NAME: usize = 48;

/// What the surroundings say, whatever the command.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The user's home, where there is one.
    pub home: Option<PathBuf>,
    /// What is remembered from run to run (XDG base directories).
    pub state_dir: PathBuf,
    /// Sockets; private. `XDG_RUNTIME_DIR` where there is one.
    pub runtime_dir: PathBuf,
    /// Standard error is a terminal that can redraw a line.
    pub draws: bool,
    /// Standard error shows colours.
    pub colours: bool,
    /// A person is in front of standard output.
    pub attended: bool,
}

impl Environment {
    /// Reads it.
    ///
    /// # Errors
    /// When there is no home to keep state in.
    #[expect(
        clippy::disallowed_methods,
        reason = "the client's only reader of the environment"
    )]
    pub fn read() -> Result<Self, Failure> {
        let path = |name| {
            env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let home = path("HOME");
        let state_dir = path("XDG_STATE_HOME")
            .or_else(|| home.as_ref().map(|home| home.join(".local/state")))
            .map(|base| base.join("jq"))
            .ok_or_else(|| {
                Failure::new(Kind::Local, "no folder to keep state in")
                    .because("HOME is not set")
                    .hint("set HOME to your home folder")
            })?;
        let runtime_dir = path("XDG_RUNTIME_DIR").map_or_else(|| state_dir.clone(), |base| base.join("jq"));
        let draws = std::io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb");
        let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Ok(Self {
            home,
            state_dir,
            runtime_dir,
            draws,
            colours: draws && !plain,
            attended: std::io::stdout().is_terminal(),
        })
    }
}

/// Which log lines are written to standard error: `JQ_LOG`, in the words of `tracing_subscriber::EnvFilter`.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the client's only reader of the environment"
)]
pub fn log_filter() -> String {
    env::var("JQ_LOG").unwrap_or_else(|_| "error".to_owned())
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// This machine, without ssh.
    Local,
    /// An ssh destination, as the user wrote it.
    Ssh(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("this machine"),
            Self::Ssh(destination) => f.write_str(destination),
        }
    }
}

/// What `connect` was asked to do.
#[derive(Clone, Debug)]
pub struct ConnectSettings {
    /// Where.
    pub target: Target,
    /// The session's name.
    pub session: String,
    /// The container and Jupyter.
    pub workload: WorkloadSpec,
    /// What the user should know about how flags were read.
    pub notes: Vec<String>,
    /// Ports besides Jupyter's.
    pub forwards: Vec<Forward>,
    /// Jupyter's local port, where the user named one.
    pub port: Option<u16>,
    /// The browser is opened.
    pub browser: bool,
    /// `-F`.
    pub ssh_config: Option<PathBuf>,
    /// `-J`.
    pub jump: Option<String>,
    /// `-o`.
    pub ssh_options: Vec<String>,
    /// `--path`.
    pub path: cli::Path,
    /// How long the agent stays alone.
    pub linger: Duration,
    /// Where agents are looked for besides the bundled ones.
    pub agent_dir: Option<PathBuf>,
    /// `--json`.
    pub json: bool,
}

impl ConnectSettings {
    /// Understands the flags.
    ///
    /// # Errors
    /// [`Kind::Usage`] naming the flag that is not understood.
    pub fn new(args: ConnectArgs, environment: &Environment) -> Result<Self, Failure> {
        let target = match args.target.as_str() {
            "local" => Target::Local,
            other => Target::Ssh(other.to_owned()),
        };
        let session = match args.name {
            Some(name) => checked_name(name)?,
            None => default_name(&args.target),
        };
        let mut notes = Vec::new();
        let laptop_home = if target == Target::Local {
            None
        } else {
            environment.home.as_deref()
        };
        let mut volumes = Vec::new();
        for text in &args.volume {
            let (volume, note) = parse_volume(text, laptop_home)?;
            volumes.push(volume);
            notes.extend(note);
        }
        let workload = WorkloadSpec {
            session: session.clone(),
            engine: match args.engine {
                cli::Engine::Auto => EngineChoice::Auto,
                cli::Engine::Docker => EngineChoice::Docker,
                cli::Engine::Podman => EngineChoice::Podman,
                cli::Engine::Process => EngineChoice::Process,
            },
            existing_container: args.container,
            image: args.image,
            pull: match args.pull {
                None | Some(cli::Pull::Missing) => PullPolicy::Missing,
                Some(cli::Pull::Always) => PullPolicy::Always,
                Some(cli::Pull::Never) => PullPolicy::Never,
            },
            gpus: args.gpus.as_deref().map_or(Ok(GpuAsk::Default), parse_gpus)?,
            volumes,
            env: args
                .env
                .iter()
                .map(|text| parse_env(text))
                .collect::<Result<_, _>>()?,
            workdir: args.workdir.map(checked_workdir).transpose()?,
            shm_size: args.shm_size.as_deref().map(parse_size).transpose()?,
            user: args.user.as_deref().map(parse_user).transpose()?,
            jupyter: match args.jupyter {
                cli::Jupyter::Lab => JupyterKind::Lab,
                cli::Jupyter::Notebook => JupyterKind::Notebook,
                cli::Jupyter::None => JupyterKind::None,
            },
        };
        let forwards = args
            .forward
            .iter()
            .map(|spec| Forward::parse(spec).map_err(|error| usage(format!("-L {spec}"), error)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            target,
            session,
            workload,
            notes,
            forwards,
            port: args.port,
            browser: !args.no_browser && !args.json && environment.attended,
            ssh_config: args.ssh_config,
            jump: args.jump,
            ssh_options: args.ssh_option,
            path: args.path,
            linger: parse_time(&args.linger)?,
            agent_dir: args.agent_dir,
            json: args.json,
        })
    }
}

fn usage(flag: impl fmt::Display, why: impl fmt::Display) -> Failure {
    Failure::new(Kind::Usage, format!("cannot understand `{flag}`")).because(why)
}

fn is_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

fn checked_name(name: String) -> Result<String, Failure> {
    if is_name(&name) {
        return Ok(name);
    }
    let why = format!(
        "a name begins with a letter or digit and has letters, digits, `_`, `.` and `-`, {LONGEST_NAME} at most"
    );
    Err(usage(format!("--name {name}"), why))
}

/// A session's name made from its target: the host's part, without what a name may not have.
fn default_name(target: &str) -> String {
    let rest = target.strip_prefix("ssh://").unwrap_or(target);
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = if rest.len() < target.len() {
        host.rsplit_once(':').map_or(host, |(host, _)| host)
    } else {
        host
    };
    let name: String = host
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') {
                c
            } else {
                '-'
            }
        })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(LONGEST_NAME)
        .collect();
    if name.is_empty() { "jq".to_owned() } else { name }
}

/// Reads `SRC:DST[:ro]`. A shell replaces a leading `~` by the home on this machine, where the host's home was meant:
/// a source below this machine's home is read as below the host's, and the note says so.
fn parse_volume(text: &str, laptop_home: Option<&Path>) -> Result<(Volume, Option<String>), Failure> {
    let wrong = |why: &str| usage(format!("-v {text}"), why);
    let mut parts = text.split(':');
    let (Some(source), Some(destination)) = (parts.next(), parts.next()) else {
        return Err(wrong("it is written SRC:DST or SRC:DST:ro"));
    };
    let read_only = match (parts.next(), parts.next()) {
        (None | Some("rw"), None) => false,
        (Some("ro"), None) => true,
        _ => return Err(wrong("it is written SRC:DST or SRC:DST:ro")),
    };
    if !destination.starts_with('/') {
        return Err(wrong("the folder in the container must begin with `/`"));
    }
    let source = if source == "~" { "~/" } else { source };
    let known =
        source.starts_with('/') || source.starts_with("~/") || (is_name(source) && !source.contains('/'));
    if !known {
        return Err(wrong(
            "the folder on the host must begin with `/` or `~/`, or be the name of a volume",
        ));
    }
    let below_home = laptop_home
        .filter(|home| home.parent().is_some())
        .and_then(|home| Path::new(source).strip_prefix(home).ok());
    let (source, note) = match below_home {
        Some(below) => {
            let meant = format!("~/{}", below.display());
            let note = format!("-v {source}: read as {meant} in your home on the host");
            (meant, Some(note))
        }
        None => (source.to_owned(), None),
    };
    Ok((
        Volume {
            source,
            destination: destination.to_owned(),
            read_only,
        },
        note,
    ))
}

fn parse_gpus(text: &str) -> Result<GpuAsk, Failure> {
    match text {
        "all" => return Ok(GpuAsk::All),
        "none" => return Ok(GpuAsk::None),
        _ => {}
    }
    if let Ok(count) = text.parse() {
        return match count {
            0 => Err(usage(
                "--gpus 0",
                "for no GPU say `none`, for the one with index 0 say `0,`",
            )),
            count => Ok(GpuAsk::Count(count)),
        };
    }
    let ids: Vec<String> = text
        .split(',')
        .filter(|id| !id.is_empty())
        .map(str::to_owned)
        .collect();
    let valid = |id: &String| {
        id.bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'/' | b':'))
    };
    if ids.is_empty() || !ids.iter().all(valid) {
        return Err(usage(
            format!("--gpus {text}"),
            "it is all, none, a number, or indices or UUIDs with commas",
        ));
    }
    Ok(GpuAsk::Ids(ids))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the client's only reader of the environment"
)]
fn parse_env(text: &str) -> Result<(String, String), Failure> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => {
            let value = env::var(text).map_err(|_| {
                usage(
                    format!("-e {text}"),
                    "it has no value, here or in this machine's environment",
                )
            })?;
            (text, value)
        }
    };
    if name.is_empty() || name.contains('\0') || value.contains('\0') {
        return Err(usage(format!("-e {text}"), "it is written NAME=VALUE"));
    }
    Ok((name.to_owned(), value))
}

fn checked_workdir(dir: String) -> Result<String, Failure> {
    if dir.starts_with('/') || dir.starts_with("~/") {
        return Ok(dir);
    }
    Err(usage(
        format!("-w {dir}"),
        "the working directory must begin with `/`",
    ))
}

/// Bytes, with `k`, `m`, `g` or `t` (powers of 1024) and an optional `b` or `ib` behind them.
fn parse_size(text: &str) -> Result<u64, Failure> {
    let wrong = || {
        usage(
            format!("--shm-size {text}"),
            "it is a number with k, m or g, such as 8g",
        )
    };
    let lower = text.to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let number: u64 = lower[..digits].parse().map_err(|_| wrong())?;
    let shift = match lower[digits..].trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(1 << shift)
        .filter(|size| *size > 0)
        .ok_or_else(wrong)
}

fn parse_user(text: &str) -> Result<UserSpec, Failure> {
    let wrong = || {
        usage(
            format!("--user {text}"),
            "it is written UID or UID:GID, in numbers",
        )
    };
    let (uid, gid) = text
        .split_once(':')
        .map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    Ok(UserSpec {
        uid: uid.parse().map_err(|_| wrong())?,
        gid: gid.map(str::parse).transpose().map_err(|_| wrong())?,
    })
}

fn parse_time(text: &str) -> Result<Duration, Failure> {
    let wrong = || {
        usage(
            format!("--linger {text}"),
            "it is a number with s, m, h or d, such as 30m",
        )
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = match &text[digits..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    // A year: longer than any host stays up, and far from what a timer cannot hold.
    number
        .checked_mul(unit)
        .filter(|s| (1..=31_536_000).contains(s))
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn environment() -> Environment {
        Environment {
            home: Some("/home/ann".into()),
            state_dir: "/home/ann/.local/state/jq".into(),
            runtime_dir: "/run/user/1000/jq".into(),
            draws: false,
            colours: false,
            attended: false,
        }
    }

    fn settings(line: &str) -> Result<ConnectSettings, Failure> {
        let words = ["jq-client", "connect"].into_iter().chain(line.split(' '));
        let Command::Connect(args) = Cli::try_parse_from(words).unwrap().command;
        ConnectSettings::new(*args, &environment())
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_first_command_of_the_manual_means_what_it_says() {
        let settings = settings("gpu --image ns/img:1 -v ~/work:/work -L 6006").unwrap();
        assert_eq!(settings.target, Target::Ssh("gpu".to_owned()));
        assert_eq!(settings.session, "gpu");
        assert_eq!(settings.workload.image.as_deref(), Some("ns/img:1"));
        assert_eq!(settings.workload.gpus, GpuAsk::Default);
        assert_eq!(settings.workload.volumes[0].source, "~/work");
        assert_eq!(settings.forwards.len(), 1);
        assert_eq!(settings.linger, Duration::from_secs(86_400));
        assert!(settings.notes.is_empty());
    }

    #[test]
    fn a_home_that_this_machines_shell_put_in_is_the_hosts_home_and_it_is_said() {
        let remote = settings("gpu -v /home/ann/work:/work -v /data:/data:ro").unwrap();
        let sources: Vec<_> = remote
            .workload
            .volumes
            .iter()
            .map(|v| (v.source.as_str(), v.read_only))
            .collect();
        assert_eq!(sources, [("~/work", false), ("/data", true)]);
        assert_eq!(remote.notes.len(), 1);
        let local = settings("local -v /home/ann/work:/work").unwrap();
        assert_eq!(local.workload.volumes[0].source, "/home/ann/work");
    }

    #[test]
    fn sessions_are_named_after_their_host() {
        for (target, name) in [
            ("gpu", "gpu"),
            ("ann@gpu.lan", "gpu.lan"),
            ("ssh://ann@gpu:2222", "gpu"),
            ("fe80::1%eth0", "fe80--1-eth0"),
            ("@", "jq"),
        ] {
            assert_eq!(default_name(target), name, "{target}");
        }
    }

    #[test]
    fn gpus_are_all_none_a_number_or_a_list() {
        assert_eq!(parse_gpus("all"), Ok(GpuAsk::All));
        assert_eq!(parse_gpus("none"), Ok(GpuAsk::None));
        assert_eq!(parse_gpus("2"), Ok(GpuAsk::Count(2)));
        assert_eq!(parse_gpus("0,"), Ok(GpuAsk::Ids(vec!["0".to_owned()])));
        assert_eq!(
            parse_gpus("0,GPU-ab-1"),
            Ok(GpuAsk::Ids(vec!["0".to_owned(), "GPU-ab-1".to_owned()]))
        );
        assert!(parse_gpus("0").is_err());
        assert!(parse_gpus("").is_err());
        assert!(parse_gpus("a b").is_err());
        assert!(parse_gpus("some").is_err() && parse_gpus("GPU-").is_err());
    }

    #[test]
    fn sizes_and_times_have_units() {
        assert_eq!(parse_size("8g"), Ok(8 << 30));
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("64"), Ok(64));
        assert!(parse_size("8x").is_err() && parse_size("").is_err() && parse_size("99999999999t").is_err());
        assert_eq!(parse_time("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_time("24h"), Ok(Duration::from_secs(86_400)));
        assert!(parse_time("0s").is_err() && parse_time("1w").is_err() && parse_time("-1").is_err());
    }

    #[test]
    fn every_wrong_flag_is_a_usage_error_that_names_it() {
        for (line, flag) in [
            ("gpu --name -x.", "--name"),
            ("gpu -v work", "-v work"),
            ("gpu -v /a:b", "-v /a:b"),
            ("gpu -v ./a:/b", "-v ./a:/b"),
            ("gpu -v /a:/b:zz", "-v /a:/b:zz"),
            ("gpu -L 0", "-L 0"),
            ("gpu -e =x", "-e =x"),
            ("gpu -w tmp", "-w tmp"),
            ("gpu --user ann", "--user ann"),
            ("gpu --gpus 0", "--gpus 0"),
            ("gpu --linger soon", "--linger soon"),
        ] {
            let line = if line.contains("--name -x.") {
                line.replace("--name -x.", "--name=-x.")
            } else {
                line.to_owned()
            };
            let failure = settings(&line).unwrap_err();
            assert_eq!(failure.kind, Kind::Usage, "{line}");
            assert!(
                failure.what.contains(flag.trim_start_matches("--name")),
                "{line}: {}",
                failure.what
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = parse_volume(&text, Some(Path::new("/home/ann")));
            let _ = (parse_gpus(&text), parse_size(&text), parse_user(&text), parse_time(&text));
            proptest::prop_assert!(is_name(&default_name(&text)));
        }
    }
}
