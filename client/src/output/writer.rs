//! Writes to the terminal from a thread of its own, in order: a terminal that is stopped (Ctrl-S), or a pipe that nobody
//! reads, holds up nothing else.

use std::{
    io::{self, Write},
    sync::{
        LazyLock,
        mpsc::{self, Receiver, Sender, SyncSender},
    },
    thread,
};

/// What is to be written, or waited for.
enum Piece {
    Output(String),
    Error(String),
    Written(SyncSender<()>),
}

/// Whoever writes last waits for nobody: what is queued at the end is lost without [`flush`].
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
    if let Err(mpsc::SendError(piece)) = QUEUE.send(piece) {
        piece.write();
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

/// Returns when all that was put before has been written.
pub(super) fn flush() {
    let (told, written) = mpsc::sync_channel(1);
    put(Piece::Written(told));
    // Fails only when the thread is gone, and with it what was queued.
    let _ = written.recv();
}
