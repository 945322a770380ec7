//! Bringing a lab up and holding it: `up` starts a process of its own that does both, and waits until it says
//! that the lab is up.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use jq_tests::lab::{Lab, LabId, State, control};

use crate::cli::UpArgs;
use crate::print::say;

/// Brings a lab up in a process of its own that stays.
pub(crate) fn up(_args: &UpArgs) -> Result<()> {
    let mut errors = tempfile::tempfile().context("no temporary file")?;
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    // The same arguments: whatever `up` was told goes for the holder.
    command.args(
        std::env::args_os()
            .skip(1)
            .map(|arg| if arg == "up" { "hold".into() } else { arg }),
    );
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(copy(&errors)?)
        .process_group(0);
    let mut holder = command
        .spawn()
        .context("cannot start the process that holds the lab")?;
    let mut line = String::new();
    if let Some(stdout) = holder.stdout.take() {
        BufReader::new(stdout)
            .read_line(&mut line)
            .context("cannot read what the holder says")?;
    }
    let Some(id) = LabId::parse(line.trim()) else {
        holder.wait().context("cannot wait for the holder")?;
        let mut text = String::new();
        errors
            .seek(SeekFrom::Start(0))
            .and_then(|_| errors.read_to_string(&mut text))
            .context("no error to show")?;
        bail!("{}", text.trim());
    };
    say(&crate::manual(&State::load(&id)?));
    Ok(())
}

/// Makes the lab, says its id on stdout, and serves until told to bring it down.
pub(crate) fn hold(args: UpArgs) -> Result<()> {
    let UpArgs {
        topology,
        no_docker,
        gpus,
        seed,
        conditions,
    } = args;
    let builder = Lab::builder()
        .topology(topology)
        .seed(seed)
        .docker(!no_docker)
        .gpus(gpus);
    let lab = builder.far(|far| conditions.apply(far)).up()?;
    let id = lab.id().as_str().to_owned();
    control::serve(lab, || {
        let mut stdout = std::io::stdout();
        // Whoever started us may have gone; the lab is up all the same.
        let _ = writeln!(stdout, "{id}").and_then(|()| stdout.flush());
    })
}

fn copy(file: &File) -> Result<File> {
    file.try_clone().context("cannot share a file")
}
