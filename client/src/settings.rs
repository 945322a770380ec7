//! Typed settings from flags and the environment. No other module reads the environment, except clap for the fallback of
//! `--agent-dir`.

mod parse;
mod volume;

use std::{
    env,
    io::IsTerminal,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use jq_common::protocol::workload::{GpuAsk, PullPolicy, Volume, WorkloadSpec};

use self::{
    parse::{
        checked_count, checked_length, checked_name, checked_workdir, parse_env, parse_gpus, parse_size,
        parse_time, parse_user, usage,
    },
    volume::parse_volume,
};
use crate::{
    cli::{self, ConnectArgs},
    connection::route::{PathChoice, Route, Target},
    error::{Failure, Kind},
    forward::spec::Forward,
    output::Terminal,
    session::{name::default_name, ports::PortPlan, run::SessionPlan},
    state::Folders,
};

/// The environment of the process: what every command needs.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The user's home, if set.
    pub(crate) home: Option<PathBuf>,
    /// Folders for files and sockets (XDG base directories).
    pub(crate) folders: Folders,
    /// Capabilities of standard error.
    pub terminal: Terminal,
    /// Whether standard output is a terminal.
    pub(crate) attended: bool,
}

impl Environment {
    /// Reads the environment.
    ///
    /// # Errors
    /// When neither `XDG_STATE_HOME` nor `HOME` is set.
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
                Failure::new(Kind::Local, "no folder for state files")
                    .because("HOME is not set")
                    .hint("set HOME to your home folder")
            })?;
        // `su` may leave another user's folder in the variable.
        let is_own = |base: &PathBuf| {
            std::fs::metadata(base).is_ok_and(|found| found.uid() == rustix::process::geteuid().as_raw())
        };
        let runtime_dir = path("XDG_RUNTIME_DIR")
            .filter(is_own)
            .map_or_else(|| state_dir.clone(), |base| base.join("jq"));
        let draws = std::io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb");
        let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Ok(Self {
            home,
            folders: Folders {
                state: state_dir,
                runtime: runtime_dir,
            },
            terminal: Terminal {
                draws,
                colours: draws && !plain,
            },
            attended: std::io::stdout().is_terminal(),
        })
    }
}

/// Filter for log lines on standard error: `JQ_LOG` in the syntax of `tracing_subscriber::EnvFilter`.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the client's only reader of the environment"
)]
pub fn log_filter() -> String {
    env::var("JQ_LOG").unwrap_or_else(|_| "error".to_owned())
}

/// Settings of `connect`.
#[derive(Clone, Debug)]
pub struct ConnectSettings {
    /// The session.
    pub(crate) session: SessionPlan,
    /// Notes for the user about the interpretation of flags.
    pub(crate) notes: Vec<String>,
    /// Whether to open the browser.
    pub(crate) browser: bool,
}

impl ConnectSettings {
    /// The host, as the user writes it.
    #[must_use]
    pub fn host(&self) -> String {
        self.session.route.target.to_string()
    }

    /// Interprets the flags.
    ///
    /// # Errors
    /// [`Kind::Usage`], naming the invalid flag.
    pub fn new(args: ConnectArgs, environment: &Environment) -> Result<Self, Failure> {
        let name = match &args.name {
            Some(name) => checked_name(name.clone())?,
            None => default_name(&args.target),
        };
        let target = match args.target.as_str() {
            "local" => Target::Local,
            other => Target::Ssh(other.to_owned()),
        };
        let laptop_home = match target {
            Target::Local => None,
            Target::Ssh(_) => environment.home.as_deref(),
        };
        let (volumes, notes) = volumes(&args.volume, laptop_home)?;
        let workload = workload(&args, name.clone(), volumes)?;
        let ports = PortPlan {
            forwards: forwards(&args.forward)?,
            jupyter: args.port,
        };
        let browser = !args.no_browser && !args.json && environment.attended;
        let session = SessionPlan {
            name,
            linger: parse_time(&args.linger)?,
            compression: !args.no_compression,
            workload,
            ports,
            route: route(args, target),
            folders: environment.folders.clone(),
            terminal: environment.terminal.draws,
        };
        Ok(Self {
            session,
            notes,
            browser,
        })
    }
}

/// The volumes of `-v`, and notes about their interpretation.
fn volumes(texts: &[String], laptop_home: Option<&Path>) -> Result<(Vec<Volume>, Vec<String>), Failure> {
    checked_count("`-v`", texts.len())?;
    let mut volumes = Vec::new();
    let mut notes = Vec::new();
    for text in texts {
        let (volume, note) = parse_volume(text, laptop_home)?;
        volumes.push(volume);
        notes.extend(note);
    }
    Ok((volumes, notes))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the client's only reader of the environment"
)]
fn workload(args: &ConnectArgs, name: String, volumes: Vec<Volume>) -> Result<WorkloadSpec, Failure> {
    checked_count("`-e`", args.env.len())?;
    let env = args.env.iter();
    let workload = WorkloadSpec {
        session: name,
        engine: args.engine.into(),
        existing_container: args.container.clone(),
        image: args.image.clone(),
        pull: args.pull.map_or(PullPolicy::Missing, Into::into),
        gpus: args.gpus.as_deref().map_or(Ok(GpuAsk::Default), parse_gpus)?,
        volumes,
        env: env
            .map(|text| parse_env(text, |name| env::var(name).ok()))
            .collect::<Result<_, _>>()?,
        workdir: args.workdir.clone().map(checked_workdir).transpose()?,
        shm_size: args.shm_size.as_deref().map(parse_size).transpose()?,
        user: args.user.as_deref().map(parse_user).transpose()?,
        entrypoint: args.entrypoint.clone(),
        jupyter: args.jupyter.into(),
    };
    checked_length(&workload)?;
    Ok(workload)
}

fn forwards(specs: &[String]) -> Result<Vec<Forward>, Failure> {
    specs
        .iter()
        .map(|spec| Forward::parse(spec).map_err(|error| usage(format!("-L {spec}"), error)))
        .collect()
}

fn route(args: ConnectArgs, target: Target) -> Route {
    Route {
        target,
        ssh_config: args.ssh_config,
        jump: args.jump,
        ssh_options: args.ssh_option,
        path: match args.path {
            cli::Path::Auto => PathChoice::Auto,
            cli::Path::Direct => PathChoice::Direct,
            cli::Path::Relay => PathChoice::Relay,
            cli::Path::Ssh => PathChoice::Ssh,
        },
        agent_dir: args.agent_dir,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;
    use jq_common::protocol::workload::MOST_LISTED;

    use super::*;
    use crate::cli::{Cli, Command};

    fn environment() -> Environment {
        Environment {
            home: Some("/home/ann".into()),
            folders: Folders {
                state: "/home/ann/.local/state/jq".into(),
                runtime: "/run/user/1000/jq".into(),
            },
            terminal: Terminal::default(),
            attended: false,
        }
    }

    fn settings(line: &str) -> Result<ConnectSettings, Failure> {
        let words = ["jq-client", "connect"].into_iter().chain(line.split(' '));
        let Command::Connect(args) = Cli::try_parse_from(words).unwrap().command else {
            unreachable!("`connect` is parsed as another command");
        };
        ConnectSettings::new(*args, &environment())
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_first_command_of_the_manual_is_understood() {
        let settings = settings("gpu --image ns/img:1 -v ~/work:/work -L 6006").unwrap();
        let session = &settings.session;
        assert_eq!(session.route.target, Target::Ssh("gpu".to_owned()));
        assert_eq!(session.name, "gpu");
        assert_eq!(session.workload.image.as_deref(), Some("ns/img:1"));
        assert_eq!(session.workload.gpus, GpuAsk::Default);
        assert_eq!(session.workload.volumes[0].source, "~/work");
        assert_eq!(session.ports.forwards.len(), 1);
        assert_eq!(session.linger, Duration::from_secs(86_400));
        assert!(settings.notes.is_empty());
    }

    #[test]
    fn a_home_that_the_local_shell_expanded_means_the_home_on_the_host_and_the_user_is_told() {
        let remote = settings("gpu -v /home/ann/work:/work -v /data:/data:ro").unwrap();
        let sources: Vec<_> = remote
            .session
            .workload
            .volumes
            .iter()
            .map(|v| (v.source.as_str(), v.read_only))
            .collect();
        assert_eq!(sources, [("~/work", false), ("/data", true)]);
        assert_eq!(remote.notes.len(), 1);
        let local = settings("local -v /home/ann/work:/work").unwrap();
        assert_eq!(local.session.workload.volumes[0].source, "/home/ann/work");
    }

    #[test]
    fn lists_that_are_too_long_are_refused_and_the_flag_is_named() {
        for (flag, one, separator) in [
            ("-v", "-v /a:/a", " "),
            ("-e", "-e A=1", " "),
            ("--gpus", "0", ","),
        ] {
            let line = |count| {
                let list = vec![one; count].join(separator);
                let flag = if flag == "--gpus" { "--gpus " } else { "" };
                format!("gpu {flag}{list}")
            };
            assert!(settings(&line(MOST_LISTED)).is_ok(), "{flag}");
            let failure = settings(&line(MOST_LISTED + 1)).unwrap_err();
            assert_eq!(failure.kind, Kind::Usage, "{flag}");
            assert!(failure.what.contains(flag), "{failure}");
            assert!(failure.why.contains("512"), "{failure}");
        }
    }

    #[test]
    fn options_that_are_too_long_for_a_request_are_refused() {
        let line = |length: usize| format!("gpu -e A={}", "x".repeat(length));
        assert!(settings(&line(255 * 1024)).is_ok());
        let failure = settings(&line(256 * 1024)).unwrap_err();
        assert_eq!(failure.kind, Kind::Usage);
        assert!(failure.what.contains("too long"), "{failure}");
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
}
