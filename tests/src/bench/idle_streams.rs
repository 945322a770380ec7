//! Idle streams.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Stdio},
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{
    peers::{Peer, call},
    place::Place,
    target::Wish,
};

/// Number of idle streams.
const STREAMS: usize = 10_000;

/// Number of threads that open them in parallel.
const CALLERS: usize = 10;

/// The line that the process prints when all streams are open.
const OPEN: &str = "open";

/// A separate process with the near ends of the streams, because this process has the far ends. Dropping it closes all
/// streams.
pub(super) struct IdleProcess(Child);

impl IdleProcess {
    /// Starts the process and waits until it has opened all streams.
    pub(super) fn start(place: &Place, peer: &Peer) -> Result<Self> {
        let own = std::env::current_exe().context("cannot find this program")?;
        let mut command = place.lab.laptop().root_command(own);
        command.arg("idle").arg(peer.entrance(place).to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn();
        let mut process = Self(child.context("cannot start the process for idle streams")?);
        let said = process.0.stdout.take().context("no stdout")?;
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        ensure!(line.trim_end() == OPEN, "the streams could not be opened");
        Ok(process)
    }
}

impl Drop for IdleProcess {
    fn drop(&mut self) {
        // Fails only if the process has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The main function of that process: opens streams to `entrance` and keeps them open until its standard input ends.
///
/// # Errors
/// When a stream gets no response.
pub fn hold_idle_streams(entrance: SocketAddr) -> Result<()> {
    raise_descriptors()?;
    let streams = open(entrance)?;
    let mut out = io::stdout();
    writeln!(out, "{OPEN}")?;
    out.flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    drop(streams);
    Ok(())
}

fn open(entrance: SocketAddr) -> Result<Vec<TcpStream>> {
    thread::scope(|scope| {
        let callers = (0..CALLERS).map(|_| {
            scope.spawn(move || -> Result<Vec<_>> {
                let one = |_| call(entrance, Wish::Hold);
                (0..STREAMS / CALLERS).map(one).collect()
            })
        });
        let callers: Vec<_> = callers.collect();
        let mut streams = Vec::new();
        for caller in callers {
            streams.extend(caller.join().map_err(|_| anyhow!("a caller panicked"))??);
        }
        Ok(streams)
    })
}

/// For this process and its children: agents inherit the limit from sshd.
pub(super) fn raise_descriptors() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).context("cannot raise the limit of descriptors")
}
