//! The control stream of an attachment: the agent's table, then acknowledgements and resets in both directions.

use std::{collections::HashMap, convert::Infallible, time::Duration};

use quinn::SendStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::sleep,
};

use super::streams::Streams;
use crate::{
    codec::{self, FrameError},
    protocol::{
        limits,
        session::{Control, Entry, MOST_ENTRIES},
    },
};

/// How long an acknowledgement that is not urgent waits for others.
const ACK_DELAY: Duration = Duration::from_millis(50);

/// The priority of a control stream: above every other stream's. Its acknowledgements make room for what those send.
pub const CONTROL_PRIORITY: i32 = 1;

/// Frames of one attachment, besides the session's: this attachment's peer is sent them, or nobody.
pub trait FrameSource {
    /// The next frame. Dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Control> + Send;
}

/// No such frames.
pub struct NoFrames;

impl FrameSource for NoFrames {
    async fn next(&mut self) -> Control {
        std::future::pending().await
    }
}

/// Sends what is in the control queue, and what `source` gives, for as long as the attachment lives. Sends nothing more once
/// the session is over.
///
/// # Errors
/// When the stream is lost.
pub async fn run_sender(
    streams: &Streams,
    source: &mut impl FrameSource,
    send: &mut (impl AsyncWrite + Unpin),
) -> Result<Infallible, FrameError> {
    tokio::select! {
        biased;
        () = streams.ended() => std::future::pending().await,
        result = send_all(streams, source, send) => result,
    }
}

async fn send_all(
    streams: &Streams,
    source: &mut impl FrameSource,
    send: &mut (impl AsyncWrite + Unpin),
) -> Result<Infallible, FrameError> {
    let mut queue = streams.lock_control_queue().await;
    loop {
        tokio::select! {
            () = queue.wait() => {}
            frame = source.next() => {
                send.write_all(&codec::encode(&frame, limits::SESSION_FRAME)?).await?;
                continue;
            }
        }
        if queue.may_wait() {
            tokio::select! {
                () = sleep(ACK_DELAY) => {}
                () = queue.urgent() => {}
            }
        }
        let mut wire = Vec::new();
        for frame in queue.frames(|id| streams.state(id)) {
            wire.extend_from_slice(&codec::encode(&frame, limits::SESSION_FRAME)?);
        }
        send.write_all(&wire).await?;
        queue.sent();
    }
}

/// Receives the next frame of the peer's.
///
/// # Errors
/// When the stream is lost or ends, or the frame is unreadable.
pub async fn receive_frame(receive: &mut (impl AsyncRead + Unpin)) -> Result<Control, FrameError> {
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
    let mut count = 0;
    loop {
        match receive_frame(receive).await? {
            // Only a table of nothing has a part without an entry, and none has a stream twice: it has an end.
            Control::Table { entries, last } if last || !entries.is_empty() => {
                count += entries.len();
                if count > limits::STREAMS as usize {
                    break;
                }
                table.extend(entries.into_iter().map(|entry| (entry.stream, entry)));
                if last {
                    return Ok(table);
                }
            }
            _ => break,
        }
    }
    Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "that is no table").into())
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, sync::Arc};

    use super::*;
    use crate::session::buffer_budget::{self, BufferBudget};

    fn parts(parts: impl IntoIterator<Item = (Vec<Entry>, bool)>) -> Vec<u8> {
        let mut wire = Vec::new();
        for (entries, last) in parts {
            let part = Control::Table { entries, last };
            wire.extend(codec::encode(&part, limits::SESSION_FRAME).unwrap());
        }
        wire
    }

    fn entry(stream: u64) -> Entry {
        Entry {
            stream,
            delivered: 0,
            received: 0,
            ended: false,
            reset: None,
        }
    }

    #[tokio::test]
    async fn a_table_may_be_of_nothing_and_of_as_many_streams_as_there_may_be() {
        let nothing = parts([(Vec::new(), true)]);
        assert!(read_table(&mut nothing.as_slice()).await.unwrap().is_empty());

        let all: Vec<_> = (0..limits::STREAMS.into()).map(entry).collect();
        let chunks: Vec<_> = all.chunks(MOST_ENTRIES).map(<[Entry]>::to_vec).collect();
        let count = chunks.len();
        let numbered = chunks.into_iter().enumerate();
        let most = parts(numbered.map(|(at, part)| (part, at + 1 == count)));
        let read = read_table(&mut most.as_slice()).await.unwrap();
        assert_eq!(read.len(), limits::STREAMS as usize);
    }

    #[tokio::test]
    async fn a_table_without_an_end_is_refused() {
        let nothing = (0..100).map(|_| (Vec::new(), false));
        let again = (0..100).map(|_| (vec![entry(7); MOST_ENTRIES], false));
        for wire in [parts(nothing), parts(again)] {
            let mut rest = wire.as_slice();
            assert!(read_table(&mut rest).await.is_err());
            assert!(!rest.is_empty(), "before all of it was read");
        }
    }

    #[tokio::test]
    async fn dropping_the_registry_frees_it_while_frames_wait_for_a_peer_that_does_not_read() {
        let streams = Streams::new(BufferBudget::new(buffer_budget::SESSION));
        let stream = streams.open();
        stream.reset(crate::protocol::stream::ResetCode::Refused);
        let (mut send, _peer) = tokio::io::duplex(1);
        {
            let mut none = NoFrames;
            let mut sending = pin!(run_sender(&streams, &mut none, &mut send));
            tokio::select! {
                biased;
                _ = &mut sending => panic!("it goes on"),
                () = std::future::ready(()) => {}
            }
        }
        let (weak, context) = (Arc::downgrade(&stream), Arc::downgrade(&streams.context));
        drop(stream);
        assert_eq!(weak.strong_count(), 1, "the registry has it");
        drop(streams);
        assert_eq!(weak.strong_count(), 0, "nothing keeps the stream");
        assert_eq!(context.strong_count(), 0, "nothing keeps what the streams shared");
    }
}
