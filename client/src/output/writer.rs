//! Writes to standard output and standard error from a thread of its own, in order: a stopped terminal (Ctrl-S) or a full
//! pipe blocks nothing else.

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

/// How long [`flush`] waits for a terminal that accepts nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// Queue length above which lines that will be redrawn anyway are skipped.
const CROWDED: usize = 100;

/// Bytes in the queue above which [`is_full`].
const FULL: usize = 1 << 20;

/// An entry of the queue.
enum Piece {
    Output(String),
    Error(String),
    Written(SyncSender<()>),
}

/// Length of the queue.
static QUEUED: AtomicUsize = AtomicUsize::new(0);

/// Bytes in the queue.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// The queue. Without [`flush`] its content is lost when the process exits.
static QUEUE: LazyLock<Sender<Piece>> = LazyLock::new(|| {
    let (queue, pieces) = mpsc::channel();
    // If the thread cannot be started, the queue has no reader and `put` writes directly.
    let _ = thread::Builder::new()
        .name("output".into())
        .spawn(move || write_all(&pieces));
    queue
});

fn write_all(pieces: &Receiver<Piece>) {
    while let Ok(piece) = pieces.recv() {
        let length = piece.length();
        piece.write();
        QUEUED.fetch_sub(1, Ordering::Relaxed);
        WAITING.fetch_sub(length, Ordering::Relaxed);
    }
}

impl Piece {
    fn length(&self) -> usize {
        match self {
            Self::Output(text) | Self::Error(text) => text.len(),
            Self::Written(_) => 0,
        }
    }

    /// Writes it in one piece. Errors are ignored: nobody could be told.
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
    let length = piece.length();
    QUEUED.fetch_add(1, Ordering::Relaxed);
    WAITING.fetch_add(length, Ordering::Relaxed);
    if let Err(mpsc::SendError(piece)) = QUEUE.send(piece) {
        piece.write();
        QUEUED.fetch_sub(1, Ordering::Relaxed);
        WAITING.fetch_sub(length, Ordering::Relaxed);
    }
}

/// Whether so much waits for a terminal that accepts nothing that what another machine can have printed at will is to be
/// left out.
pub(super) fn is_full() -> bool {
    WAITING.load(Ordering::Relaxed) > FULL
}

/// Writes `text` to standard output.
pub(super) fn output(text: String) {
    put(Piece::Output(text));
}

/// Writes `text` to standard error.
pub(super) fn error(text: String) {
    put(Piece::Error(text));
}

/// Writes `text`, which will be redrawn anyway, to standard error; skips it if the terminal accepts nothing.
pub(super) fn redraw(text: String) {
    if QUEUED.load(Ordering::Relaxed) < CROWDED {
        error(text);
    }
}

/// Standard error as the destination of a log.
struct Log;

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if is_full() {
            return Ok(text.len());
        }
        error(String::from_utf8_lossy(text).into_owned());
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Destination of the log: standard error, without blocking.
#[must_use]
pub fn log() -> impl Write {
    Log
}

/// Returns when all queued text is written, or when the terminal accepts nothing for 2 s.
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

/// Prints one line on standard error.
pub(super) fn say(line: &str) {
    error(format!("{line}\n"));
}

/// Prints one line on standard output.
pub(super) fn print(line: &str) {
    output(format!("{line}\n"));
}

/// Has the queue look full until the result is dropped.
#[cfg(test)]
pub(super) fn pretend_full() -> impl Drop {
    struct Full;
    impl Drop for Full {
        fn drop(&mut self) {
            WAITING.fetch_sub(FULL + 1, Ordering::Relaxed);
        }
    }
    WAITING.fetch_add(FULL + 1, Ordering::Relaxed);
    Full
}

/// Entries of the queue.
#[cfg(test)]
pub(super) fn queued() -> usize {
    QUEUED.load(Ordering::Relaxed)
}
