//! `jq-lab up` starts a process that creates and owns a lab, and waits until the lab is up.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use jq_tests::eventually_some;
use jq_tests::lab::{Lab, LabId, State, control};
use jq_tests::product;

use crate::cli::UpArgs;
use crate::print::{print_error, say};

/// Longer than waiting for another lab's engine and building all images take together.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Starts a lab in a separate process, which keeps running.
pub(crate) fn up(_args: &UpArgs) -> Result<()> {
    // A file and not a pipe, so that the holder can still write after this process has ended.
    let errors = tempfile::NamedTempFile::new().context("no temporary file")?;
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    // The holder gets the arguments of `up`.
    command.args(
        std::env::args_os()
            .skip(1)
            .map(|arg| if arg == "up" { "hold".into() } else { arg }),
    );
    let stderr = errors.reopen().context("no temporary file")?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .process_group(0);
    let mut holder = command
        .spawn()
        .context("cannot start the process that owns the lab")?;
    let stdout = holder.stdout.take().context("the holder has no stdout")?;
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        // A line without an id means that the lab did not start. The reason is on stderr.
        let _ = BufReader::new(stdout).read_line(&mut line);
        let _ = tell.send(line);
    });
    let mut news = errors.reopen().context("no temporary file")?;
    let line = eventually_some("the lab to start", PATIENCE, || {
        pass_on(&mut news);
        match told.try_recv() {
            Ok(line) => Ok(Some(line)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => bail!("the holder closed its output"),
        }
    })?;
    let Some(id) = LabId::parse(line.trim()) else {
        holder.wait().context("cannot wait for the holder")?;
        pass_on(&mut news);
        bail!("the lab did not start");
    };
    say(&crate::manual(&State::load(&id)?));
    Ok(())
}

/// Prints what the holder has written since the last call.
fn pass_on(news: &mut File) {
    let mut text = String::new();
    // An incomplete character at the end of the file is only a display error.
    if news.read_to_string(&mut text).is_ok() && !text.is_empty() {
        print_error(text.trim_end());
    }
}

/// Creates the lab, prints its id on stdout, and serves requests until one asks to remove the lab.
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
    let client = product::client_binary();
    let lab = builder.far(|far| conditions.apply(far)).up()?;
    lab.laptop().install(&client, "jq-client")?;
    let id = lab.id().as_str().to_owned();
    control::serve(lab, || {
        let mut stdout = std::io::stdout();
        // The process that started this one may have ended. The lab stays up.
        let _ = writeln!(stdout, "{id}").and_then(|()| stdout.flush());
    })
}
