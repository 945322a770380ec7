//! The service on the GPU host. It sends, receives and echoes data with as little processor time as possible.

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

/// Its port, on all addresses of the host.
pub(super) const PORT: u16 = 9200;

/// Bytes of an echo request and of its response.
pub(super) const ECHO_BYTES: usize = 64;

/// Bytes of one system call.
const CHUNK: usize = 256 * 1024;

/// Number of connections that can be accepted at the same time.
const ACCEPTORS: usize = 16;

/// Time limit for a caller to send its wish.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a caller wants from the service, sent as the first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Receive incompressible bytes without end.
    Down,
    /// Receive a table of measurements as text, without end.
    Table,
    /// Send bytes without end. The service counts them under this number.
    Up(u64),
    /// Receive each [`ECHO_BYTES`] bytes back.
    Echo,
    /// Receive one byte, then the end.
    Once,
    /// Receive one byte, then nothing.
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

/// The service. Dropping it closes all connections.
pub(super) struct Target {
    listener: Arc<TcpListener>,
    state: Arc<State>,
    acceptors: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// Received bytes of each [`Wish::Up`], by its number.
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
                    // A caller that disconnected, or sent no valid wish.
                    let _ = serve(socket, &state);
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

    /// The counter for the bytes of the next [`Wish::Up`] with this number.
    pub(super) fn tally(&self, number: u64) -> Arc<AtomicU64> {
        let tally = Arc::default();
        locked(&self.state.tallies).insert(number, Arc::clone(&tally));
        tally
    }

    /// Closes the connections of [`Wish::Hold`].
    pub(super) fn close_held(&self) {
        locked(&self.state.held).clear();
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Wakes the threads in accept(2).
        let _ = shutdown(&self.listener, rustix::net::Shutdown::Both);
        for acceptor in self.acceptors.drain(..) {
            let _ = acceptor.join();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut socket: TcpStream, state: &Arc<State>) -> std::io::Result<()> {
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
                // These threads end when their sockets close.
                thread::spawn(move || receive_all(&socket, &tally));
            }
        }
        Some(Wish::Down) => {
            thread::spawn(move || send_repeatedly(&socket, &random_bytes()));
        }
        Some(Wish::Table) => {
            thread::spawn(move || send_repeatedly(&socket, &table()));
        }
        Some(Wish::Echo) => {
            thread::spawn(move || echo(&socket));
        }
        None => {}
    }
    Ok(())
}

/// Receives bytes until the end, and counts them.
pub(super) fn receive_all(socket: &TcpStream, tally: &AtomicU64) {
    let mut room = vec![0; CHUNK];
    // TRUNC: the kernel discards the bytes instead of copying them (tcp(7)).
    while let Ok((_, count @ 1..)) = recv(socket, &mut room[..], RecvFlags::TRUNC) {
        tally.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Sends `bytes` repeatedly until the connection fails.
pub(super) fn send_repeatedly(mut socket: &TcpStream, bytes: &[u8]) {
    while !bytes.is_empty() && socket.write_all(bytes).is_ok() {}
    let _ = socket.shutdown(Shutdown::Both);
}

/// Incompressible bytes.
pub(super) fn random_bytes() -> Vec<u8> {
    let mut bytes = vec![0; CHUNK];
    // Without random bytes no caller receives anything, and the benchmark fails.
    getrandom::fill(&mut bytes).map_or_else(|_| Vec::new(), |()| bytes)
}

/// A table as programs write it, in text.
fn table() -> Vec<u8> {
    let random_bytes = random_bytes();
    let (values, _) = random_bytes.as_chunks::<8>();
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
    let mut request = [0; ECHO_BYTES];
    while socket.read_exact(&mut request).is_ok() && socket.write_all(&request).is_ok() {}
}

#[cfg(test)]
mod tests {
    use super::Wish;

    #[test]
    fn a_wish_survives_encoding_and_decoding() {
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
