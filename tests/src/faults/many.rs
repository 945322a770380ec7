//! Ten thousand idle streams.

use std::{
    net::Ipv4Addr,
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
};

use super::{Bench, Limit, Outcome, Scenario, clock::last, process::Process, site::Plan};
use crate::{eventually, lab::Host, oracle::NetThread};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    id: "F29",
    name: "10,000 idle streams",
    bar: "client and agent 150 MB each, all streams answer within 5 s after an outage, CPU < 1 %",
    quick: true,
    engine: false,
    run: idle,
}];

const STREAMS: usize = 10_000;

/// Number of streams opened at once: what a listener's backlog holds.
const BATCH: usize = 250;

const PATIENCE: Duration = Duration::from_secs(60);

/// The port of the echo service on the GPU host. It is a separate process, so that no process has the descriptors of both
/// ends.
const PORT: u16 = 9002;

const ECHO: &str = "
import asyncio, sys
async def serve(reader, writer):
    try:
        while data := await reader.read(4096):
            writer.write(data)
    except OSError:
        pass
    writer.close()
async def main():
    server = await asyncio.start_server(serve, '127.0.0.1', int(sys.argv[1]), backlog=4000)
    async with server:
        await server.serve_forever()
asyncio.run(main())
";

struct Echo(Child);

impl Echo {
    fn start(host: &Host) -> Result<Self> {
        let mut command = host.root_command("/usr/bin/python3");
        command.args(["-c", ECHO, &PORT.to_string()]).stdin(Stdio::null());
        let echo = Self(command.spawn().context("cannot start the echo")?);
        let listens = || host.enter(|| std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).is_ok());
        eventually("the echo to listen", PATIENCE, || {
            listens().is_ok_and(|listens| listens)
        })?;
        Ok(echo)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // Fails only if the process has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Counters over all streams.
#[derive(Default)]
struct Tally {
    /// Answered requests.
    answered: AtomicUsize,
    /// Streams that ended cleanly after they were told to.
    ended: AtomicUsize,
    /// Streams that ended in another way, or received a wrong answer.
    broken: AtomicUsize,
}

/// Sends one byte and waits for the answer in each turn, until the turn `LAST`.
async fn stream(number: usize, mut turns: watch::Receiver<u8>, tally: Arc<Tally>) {
    let count = |counter: &AtomicUsize| counter.fetch_add(1, Ordering::Relaxed);
    let talk = async {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).await?;
        let mut heard = [0];
        let mut before = 0;
        loop {
            tokio::select! {
                turn = turns.wait_for(|turn| *turn != before) => before = turn.map_or(LAST, |turn| *turn),
                // Between requests neither data nor an end may arrive.
                _ = socket.read(&mut heard) => return Ok(false),
            }
            if before == LAST {
                socket.shutdown().await?;
                return Ok(socket.read(&mut heard).await? == 0);
            }
            let word = [before.wrapping_mul(31) ^ number as u8];
            socket.write_all(&word).await?;
            socket.read_exact(&mut heard).await?;
            if heard != word {
                return Ok(false);
            }
            count(&tally.answered);
        }
    };
    match talk.await {
        Ok::<_, std::io::Error>(true) => count(&tally.ended),
        Ok(false) | Err(_) => count(&tally.broken),
    };
}

const LAST: u8 = u8::MAX;

fn idle(_: &Bench) -> Result<Outcome> {
    let site = Plan::default()
        .with("-L")
        .with(&format!("{PORT}:127.0.0.1:{PORT}"))
        .up()?;
    let echo = Echo::start(site.lab.gpu())?;
    let (client, agent) = (site.client_process(), site.agent()?);
    let net_thread = NetThread::on(site.lab.laptop())?;
    let (turns, tally) = (watch::Sender::new(0), Arc::new(Tally::default()));
    let reached = |what: &str, counter: &AtomicUsize, wanted: usize| -> Result<()> {
        let is_broken = || tally.broken.load(Ordering::Relaxed) > 0;
        let waited = eventually(what, PATIENCE, || {
            counter.load(Ordering::Relaxed) >= wanted || is_broken()
        });
        ensure!(
            !is_broken(),
            "{} streams broke",
            tally.broken.load(Ordering::Relaxed)
        );
        if waited.is_err() {
            bail!(
                "{what}: {} of {wanted} within {PATIENCE:?}",
                counter.load(Ordering::Relaxed)
            );
        }
        Ok(())
    };

    let start = Instant::now();
    turns.send_replace(1);
    for first in (0..STREAMS).step_by(BATCH) {
        for number in first..first + BATCH {
            net_thread.start(stream(number, turns.subscribe(), Arc::clone(&tally)));
        }
        reached("answers on new streams", &tally.answered, first + BATCH)?;
    }
    let opened = start.elapsed();
    last(Duration::from_secs(2));
    let loads = Process::loads([client, agent], Duration::from_secs(4))?;
    let resident = [client.resident()?, agent.resident()?];

    site.lab.link().set_up(false);
    last(Duration::from_secs(5));
    site.lab.link().set_up(true);
    let start = Instant::now();
    turns.send_replace(2);
    reached("answers after the outage", &tally.answered, 2 * STREAMS)?;
    let back = start.elapsed();
    let after = [client.resident()?, agent.resident()?];

    turns.send_replace(LAST);
    reached("clean ends", &tally.ended, STREAMS)?;
    drop(echo);
    site.finish()?;
    Ok(Outcome::default()
        .with("opened in", opened.as_secs_f64(), "s", Limit::Told)
        .with("client", resident[0].max(after[0]), "MB", Limit::AtMost(150.0))
        .with("agent", resident[1].max(after[1]), "MB", Limit::AtMost(150.0))
        .with("CPU of the client", loads[0], "%", Limit::AtMost(1.0))
        .with("CPU of the agent", loads[1], "%", Limit::AtMost(1.0))
        .seconds("all answer again", back, 5.0))
}
