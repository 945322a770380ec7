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
use crate::print::{complain, say};

/// Longer than another lab keeps its engine and all images take together.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Brings a lab up in a process of its own that stays.
pub(crate) fn up(_args: &UpArgs) -> Result<()> {
    // A file and not a pipe, so that the holder can write when nobody reads any more.
    let errors = tempfile::NamedTempFile::new().context("no temporary file")?;
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    // The same arguments: whatever `up` was told goes for the holder.
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
        .context("cannot start the process that holds the lab")?;
    let stdout = holder.stdout.take().context("the holder has no stdout")?;
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        // Without an id in the line it did not come up; what went wrong is on stderr.
        let _ = BufReader::new(stdout).read_line(&mut line);
        let _ = tell.send(line);
    });
    let mut news = errors.reopen().context("no temporary file")?;
    let line = eventually_some("the lab to come up", PATIENCE, || {
        pass_on(&mut news);
        match told.try_recv() {
            Ok(line) => Ok(Some(line)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => bail!("the holder fell silent"),
        }
    })?;
    let Some(id) = LabId::parse(line.trim()) else {
        holder.wait().context("cannot wait for the holder")?;
        pass_on(&mut news);
        bail!("the lab did not come up");
    };
    say(&crate::manual(&State::load(&id)?));
    Ok(())
}

/// Shows what the holder has written since the last time.
fn pass_on(news: &mut File) {
    let mut text = String::new();
    // It is for a person to read; half a character at the end of the file comes with the next look.
    if news.read_to_string(&mut text).is_ok() && !text.is_empty() {
        complain(text.trim_end());
    }
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
    let client = product::client_binary();
    let lab = builder.far(|far| conditions.apply(far)).up()?;
    lab.laptop().install(&client, "jq-client")?;
    let id = lab.id().as_str().to_owned();
    control::serve(lab, || {
        let mut stdout = std::io::stdout();
        // Whoever started us may have gone; the lab is up all the same.
        let _ = writeln!(stdout, "{id}").and_then(|()| stdout.flush());
    })
}
