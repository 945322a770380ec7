//! Shells and commands on the hosts of a lab that another process owns.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use jq_tests::lab::control::{self, Request};
use jq_tests::lab::{Host, HostName, State};

use crate::links::describe;
use crate::print::say;

/// The lab with this id, or the only one that `jq-lab up` owns. Labs of running tests are found only by id.
pub(crate) fn chosen(id: Option<&str>) -> Result<State> {
    let mut labs = State::all();
    labs.retain(|lab| match id {
        Some(id) => lab.is_owned() && lab.id.as_str() == id,
        None => lab.is_held(),
    });
    match labs.len() {
        0 => bail!("no lab is running; `jq-lab up` starts one"),
        1 => Ok(labs.remove(0)),
        _ => {
            let ids: Vec<_> = labs.iter().map(|lab| lab.id.as_str()).collect();
            bail!(
                "several labs are running; choose one with --lab: {}",
                ids.join(", ")
            )
        }
    }
}

/// Runs a command on a host in place of this process.
pub(crate) fn run(lab: &State, host: HostName, root: bool, command: &[OsString]) -> Result<ExitCode> {
    let host = host_of(lab, host)?;
    let Some((program, args)) = command.split_first() else {
        bail!("no command")
    };
    let mut command = if root {
        host.root_command(program)
    } else {
        host.command(program)
    };
    replace(command.args(args))
}

/// Opens a shell on a host in place of this process.
pub(crate) fn shell(lab: &State, host: HostName, root: bool) -> Result<ExitCode> {
    let host = host_of(lab, host)?;
    let mut command = if root {
        host.root_command("bash")
    } else {
        host.command("bash")
    };
    // A prompt with the host's name, which overrides the start-up files.
    command.env("PROMPT_COMMAND", format!("PS1='{}:\\w\\$ '", host.name));
    replace(command.arg("-l"))
}

/// Runs the `docker` command with the GPU host's engine in place of this process.
pub(crate) fn docker(lab: &State, args: &[OsString]) -> Result<ExitCode> {
    let socket = lab.engine.as_ref().context("this lab has no engine")?;
    replace(
        Command::new("docker")
            .env("DOCKER_HOST", format!("unix://{}", socket.display()))
            .args(args),
    )
}

/// Prints the running labs.
pub(crate) fn status() -> Result<()> {
    let labs = State::all();
    if labs.is_empty() {
        say("no lab is running");
    }
    for lab in labs {
        let owned = if lab.is_owned() {
            "up"
        } else {
            "abandoned; `jq-lab down --all` removes it"
        };
        say(&format!(
            "lab {} ({owned}), engine: {}",
            lab.id.as_str(),
            lab.engine.is_some()
        ));
        for host in &lab.hosts {
            say(&format!(
                "  {:<8} {:<12} {} {}",
                host.name.as_str(),
                host.address,
                host.netns,
                host.user.name
            ));
        }
        for way in control::ask(&lab.id, &Request::Links).unwrap_or_default() {
            say(&describe(&way));
        }
    }
    Ok(())
}

fn host_of(lab: &State, name: HostName) -> Result<&Host> {
    lab.host(name).with_context(|| format!("this lab has no {name}"))
}

fn replace(command: &mut Command) -> Result<ExitCode> {
    let error = command.exec();
    Err(error).context("cannot start the command")
}
