//! The control stream of an attachment, after its first frames: progress and resets both ways.

use std::{collections::HashMap, convert::Infallible, sync::atomic::Ordering, time::Duration};

use quinn::SendStream;
use tokio::{io::AsyncRead, time::sleep};

use super::streams::{Hint, News, Streams};
use crate::{
    codec::{self, FrameError},
    protocol::{
        limits,
        session::{Control, Entry, MOST_ENTRIES},
    },
};

/// How long progress that is not urgent waits for more of it.
const GATHER: Duration = Duration::from_millis(50);

/// Tells the peer what there is to tell, for as long as the attachment lives.
///
/// # Errors
/// When the stream is lost.
pub async fn tell(streams: &Streams, send: &mut SendStream) -> Result<Infallible, FrameError> {
    let mut news = streams.news.lock().await;
    let News { hints, held } = &mut *news;
    loop {
        // What an earlier attachment held and could not tell for certain comes first.
        if held.is_empty() && hints.recv_many(held, MOST_ENTRIES).await == 0 {
            // The session is being dropped, and with it this future.
            std::future::pending::<()>().await;
        }
        if held.iter().all(|hint| matches!(hint, Hint::Look(_))) {
            tokio::select! {
                () = sleep(GATHER) => {}
                () = streams.urgent.notified() => {}
            }
        }
        while let Ok(hint) = hints.try_recv() {
            held.push(hint);
        }
        let mut wire = Vec::new();
        for frame in frames(held) {
            wire.extend_from_slice(&codec::encode(&frame, limits::SESSION_FRAME)?);
        }
        send.write_all(&wire).await.map_err(std::io::Error::from)?;
        streams.waiting.fetch_sub(held.len(), Ordering::Relaxed);
        held.clear();
    }
}

fn frames(hints: &[Hint]) -> Vec<Control> {
    let mut frames = Vec::new();
    let mut progress = Vec::new();
    for hint in hints {
        match hint {
            Hint::Look(stream) => match stream.news() {
                Ok(news) => progress.push(news),
                Err(reset) => frames.push(reset),
            },
            Hint::Tell(Control::Progress(more)) if !more.is_empty() => progress.extend_from_slice(more),
            Hint::Tell(control) => frames.push(control.clone()),
        }
    }
    frames.extend(
        progress
            .chunks(MOST_ENTRIES)
            .map(|part| Control::Progress(part.to_vec())),
    );
    frames
}

/// Reads the next frame of the peer's.
///
/// # Errors
/// When the stream is lost or ends, or the frame is none.
pub async fn hear(receive: &mut (impl AsyncRead + Unpin)) -> Result<Control, FrameError> {
    codec::read(receive, limits::SESSION_FRAME).await
}

/// Sends the agent's table.
///
/// # Errors
/// When the stream is lost.
pub async fn send_table(send: &mut SendStream, table: &[Entry]) -> Result<(), FrameError> {
    let mut parts: Vec<_> = table.chunks(MOST_ENTRIES).map(<[Entry]>::to_vec).collect();
    if parts.is_empty() {
        parts.push(Vec::new());
    }
    let count = parts.len();
    for (index, entries) in parts.into_iter().enumerate() {
        let last = index + 1 == count;
        codec::write(send, &Control::Table { entries, last }, limits::SESSION_FRAME).await?;
    }
    Ok(())
}

/// Reads the agent's table, of at most [`limits::STREAMS`] streams.
///
/// # Errors
/// When the stream is lost, or what comes is no table.
pub async fn read_table(receive: &mut (impl AsyncRead + Unpin)) -> Result<HashMap<u64, Entry>, FrameError> {
    let mut table = HashMap::new();
    loop {
        match hear(receive).await? {
            Control::Table { entries, last } if entries.len() <= MOST_ENTRIES => {
                table.extend(entries.into_iter().map(|entry| (entry.stream, entry)));
                if last {
                    return Ok(table);
                }
                if table.len() > limits::STREAMS as usize {
                    break;
                }
            }
            _ => break,
        }
    }
    Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "that is no table").into())
}
