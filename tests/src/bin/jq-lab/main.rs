//! `jq-lab`: the lab for manual use.

mod cli;
mod hold;
mod links;
mod print;
mod visit;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;
use jq_tests::lab::control::{self, Request};
use jq_tests::lab::{self, HostName, Lab, State, Topology};

use cli::{Cli, Command, Run};
use print::{print_error, say};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            print_error(&format!("jq-lab: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let lab = || visit::chosen(cli.lab.as_deref());
    match cli.command {
        Command::Up(args) => hold::up(&args)?,
        Command::Hold(args) => hold::hold(args)?,
        Command::Down { all } => down(cli.lab.as_deref(), all)?,
        Command::Status => visit::status()?,
        Command::Run { host, root, command } => return visit::run(&lab()?, host, root, &command),
        Command::Shell { host, root } => return visit::shell(&lab()?, host, root),
        Command::Docker { args } => return visit::docker(&lab()?, &args),
        Command::Link(args) => links::change(&lab()?, &args)?,
        Command::Sshd { host, run } => {
            control::ask(
                &lab()?.id,
                &Request::Sshd {
                    host,
                    run: run == Run::Start,
                },
            )?;
        }
        Command::Engine { run } => {
            control::ask(
                &lab()?.id,
                &Request::Engine {
                    run: run == Run::Start,
                },
            )?;
        }
        Command::Images => images()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the missing images, by starting a lab with an engine.
fn images() -> Result<()> {
    let lab = Lab::builder().topology(Topology::Direct).docker(true).up()?;
    say(lab.docker(["images"])?.trim());
    lab.down()
}

fn down(chosen: Option<&str>, all: bool) -> Result<()> {
    if !all {
        let lab = visit::chosen(chosen)?;
        control::ask(&lab.id, &Request::Down)?;
        say(&format!("lab {} is down", lab.id.as_str()));
        return Ok(());
    }
    for lab in State::all().into_iter().filter(State::is_owned) {
        match control::ask(&lab.id, &Request::Down) {
            Ok(_) => say(&format!("lab {} is down", lab.id.as_str())),
            Err(error) => print_error(&format!(
                "lab {} was not removed, because a process owns it: {error:#}",
                lab.id.as_str()
            )),
        }
    }
    lab::forget_logs()?;
    for id in lab::sweep_all()? {
        say(&format!("removed the remains of lab {}", id.as_str()));
    }
    Ok(())
}

/// The commands to use next.
fn manual(state: &State) -> String {
    let lines = [
        format!("lab {} is up", state.id.as_str()),
        "    jq-lab shell laptop              a shell as the laptop's user".into(),
        "    jq-lab run laptop -- ssh gpu id  a single command (--root: as root)".into(),
        "    jq-lab link --rtt-ms 40 --loss 1 --rate-mbit 100    the laptop's link; --up false cuts it"
            .into(),
        "    jq-lab status                    hosts, links, counters".into(),
        "    jq-lab docker -- ps              the GPU host's engine, as root".into(),
        "    jq-lab down                      removes everything".into(),
    ];
    let hosts = HostName::ALL.into_iter().filter_map(|name| state.host(name));
    let hosts = hosts.map(|host| {
        format!(
            "  {:<8} {:<12} {} {}",
            host.name.as_str(),
            host.address,
            host.netns,
            host.user.name
        )
    });
    let [first, rest @ ..] = lines;
    std::iter::once(first)
        .chain(hosts)
        .chain(rest)
        .collect::<Vec<_>>()
        .join("\n")
}
