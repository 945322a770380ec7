//! Writes to the terminal from a thread of its own, in order: a terminal that is stopped (Ctrl-S), or a pipe that nobody
//! reads, holds up nothing else.

use std::{
    io::{self, Write},
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender, SyncSender},
    },
    thread,
    time::Duration,
};

/// How long it is waited for a terminal that takes nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// Pieces behind which a line that will be drawn again is left out.
const CROWDED: usize = 100;

/// What is to be written, or waited for.
enum Piece {
    Output(String),
    Error(String),
    Written(SyncSender<()>),
}

/// How many pieces are queued.
static QUEUED: AtomicUsize = AtomicUsize::new(0);

/// Nobody waits for what is queued: at the end of the process it is lost without [`flush`].
static QUEUE: LazyLock<Sender<Piece>> = LazyLock::new(|| {
    let (queue, pieces) = mpsc::channel();
    // Without a thread the queue has no reader, and each writes by itself.
    let _ = thread::Builder::new()
        .name("output".into())
        .spawn(move || write_all(&pieces));
    queue
});

fn write_all(pieces: &Receiver<Piece>) {
    while let Ok(piece) = pieces.recv() {
        piece.write();
        QUEUED.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Piece {
    /// One write and no other in between. Where nobody reads there is nobody to tell.
    fn write(self) {
        match self {
            Self::Output(text) => {
                let mut output = io::stdout().lock();
                let _ = output.write_all(text.as_bytes());
                let _ = output.flush();
            }
            Self::Error(text) => {
                let mut error = io::stderr().lock();
                let _ = error.write_all(text.as_bytes());
                let _ = error.flush();
            }
            Self::Written(told) => {
                let _ = told.send(());
            }
        }
    }
}

fn put(piece: Piece) {
    QUEUED.fetch_add(1, Ordering::Relaxed);
    if let Err(mpsc::SendError(piece)) = QUEUE.send(piece) {
        piece.write();
        QUEUED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `text` on standard output.
pub(super) fn output(text: String) {
    put(Piece::Output(text));
}

/// `text` on standard error.
pub(super) fn error(text: String) {
    put(Piece::Error(text));
}

/// `text` on standard error, unless the terminal takes nothing: what it shows will be drawn again.
pub(super) fn redraw(text: String) {
    if QUEUED.load(Ordering::Relaxed) < CROWDED {
        error(text);
    }
}

/// Standard error for a log.
struct Log;

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        error(String::from_utf8_lossy(text).into_owned());
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where a log goes: to standard error, without waiting for it.
#[must_use]
pub fn log() -> impl Write {
    Log
}

/// Returns when all that was put before has been written, or the terminal has taken nothing for so long that it is stopped.
pub fn flush() {
    let (told, written) = mpsc::sync_channel(1);
    put(Piece::Written(told));
    let mut left = QUEUED.load(Ordering::Relaxed);
    while written.recv_timeout(PATIENCE).is_err() {
        let now = QUEUED.load(Ordering::Relaxed);
        if now >= left {
            return;
        }
        left = now;
    }
}

/// One line on standard error.
pub(super) fn say(line: &str) {
    error(format!("{line}\n"));
}

/// One line on standard output.
pub(super) fn print(line: &str) {
    output(format!("{line}\n"));
}
