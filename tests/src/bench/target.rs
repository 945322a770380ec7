//! The service on the GPU host: sends, swallows and answers as cheaply as the kernel can.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::net::{RecvFlags, recv, shutdown};

use crate::lab::Host;

/// Where it listens, on all of the host's addresses.
pub(super) const PORT: u16 = 9200;

/// Bytes of a question, and of its answer.
pub(super) const QUESTION: usize = 64;

/// Bytes handed to the kernel, or taken from it, at a time.
const CHUNK: usize = 256 * 1024;

/// Connections that may be on their way to being answered at the same time.
const ACCEPTORS: usize = 16;

/// How long a caller may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a caller wants, in its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Bytes without end that nobody can compress.
    Down,
    /// A table of measurements without end, as text.
    Table,
    /// To send bytes without end, counted under this number.
    Up(u64),
    /// Each [`QUESTION`] bytes back.
    Echo,
    /// One byte, and the end.
    Once,
    /// One byte, and nothing more.
    Hold,
}

impl Wish {
    pub(super) const LEN: usize = 9;

    pub(super) fn encode(self) -> [u8; Self::LEN] {
        let (kind, number) = match self {
            Self::Down => (b'd', 0),
            Self::Table => (b't', 0),
            Self::Up(number) => (b'u', number),
            Self::Echo => (b'e', 0),
            Self::Once => (b'o', 0),
            Self::Hold => (b'h', 0),
        };
        let mut bytes = [kind; Self::LEN];
        bytes[1..].copy_from_slice(&u64::to_be_bytes(number));
        bytes
    }

    fn decode(bytes: [u8; Self::LEN]) -> Option<Self> {
        let [kind, number @ ..] = bytes;
        Some(match kind {
            b'd' => Self::Down,
            b't' => Self::Table,
            b'u' => Self::Up(u64::from_be_bytes(number)),
            b'e' => Self::Echo,
            b'o' => Self::Once,
            b'h' => Self::Hold,
            _ => return None,
        })
    }
}

/// The service. Dropped, it lets go of everything.
pub(super) struct Target {
    listener: Arc<TcpListener>,
    state: Arc<State>,
    acceptors: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// What arrived from callers that send, by their numbers.
    tallies: Mutex<HashMap<u64, Arc<AtomicU64>>>,
    held: Mutex<Vec<TcpStream>>,
}

impl Target {
    pub(super) fn start(host: &Host) -> Result<Self> {
        let listener = host.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)))?;
        let listener = Arc::new(listener.context("cannot listen on the GPU host")?);
        let state = Arc::new(State::default());
        let acceptors = (0..ACCEPTORS).map(|_| {
            let (listener, state) = (Arc::clone(&listener), Arc::clone(&state));
            thread::spawn(move || {
                while let Ok((socket, _)) = listener.accept() {
                    // A caller that went away, or said nothing that is understood.
                    let _ = greet(socket, &state);
                }
            })
        });
        let acceptors = acceptors.collect();
        Ok(Self {
            listener,
            state,
            acceptors,
        })
    }

    /// Where the bytes of the next caller that says [`Wish::Up`] with this number are counted.
    pub(super) fn tally(&self, number: u64) -> Arc<AtomicU64> {
        let tally = Arc::default();
        locked(&self.state.tallies).insert(number, Arc::clone(&tally));
        tally
    }

    /// Closes what was only to be held.
    pub(super) fn let_go(&self) {
        locked(&self.state.held).clear();
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Wakes those who wait in accept(2).
        let _ = shutdown(&self.listener, rustix::net::Shutdown::Both);
        for acceptor in self.acceptors.drain(..) {
            let _ = acceptor.join();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn greet(mut socket: TcpStream, state: &Arc<State>) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut wish = [0; Wish::LEN];
    socket.read_exact(&mut wish)?;
    socket.set_read_timeout(None)?;
    match Wish::decode(wish) {
        Some(Wish::Once) => socket.write_all(&[1])?,
        Some(Wish::Hold) => {
            socket.write_all(&[1])?;
            locked(&state.held).push(socket);
        }
        Some(Wish::Up(number)) => {
            let tally = locked(&state.tallies).remove(&number);
            if let Some(tally) = tally {
                // These threads end with their sockets.
                thread::spawn(move || swallow(&socket, &tally));
            }
        }
        Some(Wish::Down) => {
            thread::spawn(move || pour(&socket, &noise()));
        }
        Some(Wish::Table) => {
            thread::spawn(move || pour(&socket, &table()));
        }
        Some(Wish::Echo) => {
            thread::spawn(move || echo(&socket));
        }
        None => {}
    }
    Ok(())
}

/// Takes bytes until the end, and counts them.
pub(super) fn swallow(socket: &TcpStream, tally: &AtomicU64) {
    let mut room = vec![0; CHUNK];
    // TRUNC: the kernel throws the bytes away instead of copying them (tcp(7)).
    while let Ok((_, count @ 1..)) = recv(socket, &mut room[..], RecvFlags::TRUNC) {
        tally.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Sends `bytes` again and again, until it cannot.
pub(super) fn pour(mut socket: &TcpStream, bytes: &[u8]) {
    while !bytes.is_empty() && socket.write_all(bytes).is_ok() {}
    let _ = socket.shutdown(Shutdown::Both);
}

/// Bytes that nobody can compress.
pub(super) fn noise() -> Vec<u8> {
    let mut bytes = vec![0; CHUNK];
    // Without any nobody gets anything, which is seen.
    getrandom::fill(&mut bytes).map_or_else(|_| Vec::new(), |()| bytes)
}

/// A table as programs write it.
fn table() -> Vec<u8> {
    let noise = noise();
    let (values, _) = noise.as_chunks::<8>();
    let rows = values.iter().enumerate().flat_map(|(row, value)| {
        let [a, b, c, d, ..] = *value;
        let (x, y) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let (minute, second) = (row / 60 % 60, row % 60);
        format!(
            "2026-03-14T12:{minute:02}:{second:02},sensor-{:02},{:.4},{:.2}\n",
            a % 40,
            f64::from(x) / 65536.0,
            f64::from(y) / 100.0
        )
        .into_bytes()
    });
    rows.take(CHUNK).collect()
}

fn echo(mut socket: &TcpStream) {
    let mut question = [0; QUESTION];
    while socket.read_exact(&mut question).is_ok() && socket.write_all(&question).is_ok() {}
}

#[cfg(test)]
mod tests {
    use super::Wish;

    #[test]
    fn a_wish_is_understood_as_it_was_meant() {
        for wish in [
            Wish::Down,
            Wish::Table,
            Wish::Up(7),
            Wish::Echo,
            Wish::Once,
            Wish::Hold,
        ] {
            assert_eq!(Wish::decode(wish.encode()), Some(wish));
        }
        assert_eq!(Wish::decode([0; Wish::LEN]), None);
    }
}
