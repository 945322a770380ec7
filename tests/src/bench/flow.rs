//! The callers on the laptop: bulk streams and echo streams.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::net::sockopt::set_socket_linger;

use super::{
    clock::last,
    peers::Peer,
    place::Place,
    target::{ECHO_BYTES, Wish, random_bytes, receive_all, send_repeatedly},
};

/// The direction of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// To the laptop.
    Down,
    /// From the laptop.
    Up,
}

impl Direction {
    pub(super) const BOTH: [Self; 2] = [Self::Down, Self::Up];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Up => "up",
        }
    }
}

/// A bulk stream. It carries as much as it can until it is dropped.
pub(super) struct Flow {
    socket: TcpStream,
    arrived: Arc<AtomicU64>,
    worker: Option<JoinHandle<()>>,
}

impl Flow {
    pub(super) fn start(place: &Place, peer: &Peer, direction: Direction) -> Result<Self> {
        match direction {
            Direction::Down => Self::down(place, peer, Wish::Down),
            Direction::Up => Self::up(place, peer),
        }
    }

    /// Receives what the service sends for this wish.
    pub(super) fn down(place: &Place, peer: &Peer, wish: Wish) -> Result<Self> {
        let (socket, arrived) = (peer.call(place, wish)?, Arc::default());
        let (mine, count) = (socket.try_clone()?, Arc::clone(&arrived));
        let worker = thread::spawn(move || receive_all(&mine, &count));
        Ok(Self {
            socket,
            arrived,
            worker: Some(worker),
        })
    }

    fn up(place: &Place, peer: &Peer) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let arrived = place.target.tally(number);
        let socket = peer.call(place, Wish::Up(number))?;
        let mine = socket.try_clone()?;
        let worker = thread::spawn(move || send_repeatedly(&mine, &random_bytes()));
        Ok(Self {
            socket,
            arrived,
            worker: Some(worker),
        })
    }

    pub(super) fn start_many(
        place: &Place,
        peer: &Peer,
        direction: Direction,
        count: usize,
    ) -> Result<Vec<Self>> {
        (0..count).map(|_| Self::start(place, peer, direction)).collect()
    }

    fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.worker.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        // A reset, so that queued data does not keep filling the link.
        let _ = set_socket_linger(&self.socket, Some(Duration::ZERO));
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

/// Waits for `length`. Returns the throughput of each group of flows in that time, in Mbit/s.
pub(super) fn rates<const N: usize>(groups: [&[Flow]; N], length: Duration) -> Result<[f64; N]> {
    let count = || groups.map(|flows| flows.iter().map(Flow::arrived).sum::<u64>());
    let (start, before) = (Instant::now(), count());
    last(length);
    let (passed, after) = (start.elapsed().as_secs_f64(), count());
    let broken = groups.iter().flat_map(|flows| flows.iter()).any(Flow::is_over);
    ensure!(!broken, "a stream ended during the measurement");
    let mut rates = [0.0; N];
    for ((rate, before), after) in rates.iter_mut().zip(before).zip(after) {
        *rate = (after - before) as f64 * 8.0 / 1e6 / passed;
    }
    Ok(rates)
}

/// Echo streams. Each sends one request at a time.
pub(super) struct EchoStreams {
    sockets: Vec<TcpStream>,
}

impl EchoStreams {
    /// Opens the streams without sending requests.
    pub(super) fn open(place: &Place, peer: &Peer, count: usize) -> Result<Self> {
        let sockets = (0..count).map(|_| peer.call(place, Wish::Echo));
        let mut sockets = sockets.collect::<Result<Vec<_>>>()?;
        for socket in &mut sockets {
            // Waits for the stream, so that opening it does not count as part of the first request.
            ask(socket)?;
        }
        Ok(Self { sockets })
    }

    /// Sends requests on all streams for `length`, with `pause` after each response. Returns the response times in
    /// milliseconds, sorted.
    pub(super) fn ask(&self, length: Duration, pause: Duration) -> Result<Vec<f64>> {
        let over = AtomicBool::new(false);
        let mut all = thread::scope(|scope| {
            let threads = self.sockets.iter().zip(0_u32..).map(|(socket, place)| {
                let (over, count) = (&over, self.sockets.len() as u32);
                scope.spawn(move || {
                    last(pause * place / count);
                    let mut took = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        took.push(ask(socket)?.as_secs_f64() * 1e3);
                        last(pause);
                    }
                    Ok::<_, anyhow::Error>(took)
                })
            });
            let threads: Vec<_> = threads.collect();
            last(length);
            over.store(true, Ordering::Relaxed);
            let mut all = Vec::new();
            for handle in threads {
                all.extend(handle.join().map_err(|_| anyhow!("an echo thread panicked"))??);
            }
            Ok::<_, anyhow::Error>(all)
        })?;
        all.sort_by(f64::total_cmp);
        Ok(all)
    }
}

fn ask(mut socket: &TcpStream) -> Result<Duration> {
    let (request, mut answer) = ([7; ECHO_BYTES], [0; ECHO_BYTES]);
    let start = Instant::now();
    socket.write_all(&request).context("cannot send a request")?;
    socket.read_exact(&mut answer).context("there is no response")?;
    ensure!(answer == request, "the response is wrong");
    Ok(start.elapsed())
}
