//! Frames: a length (big-endian u32) and as many bytes, in the format of the [type](Frame).

use std::{io, time::Duration};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes allocated for a frame at first. Once they have been received, the whole frame is allocated at once: a buffer that
/// doubles would take up to three times as much for a moment.
const FIRST_ALLOCATION: usize = 4096;

/// What is allocated for a frame that is written, in bytes: most are shorter.
const USUAL: usize = 128;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer closed the stream where a frame could have begun.
    #[error("the stream ended")]
    Ended,
    /// The stream failed, or ended inside a frame.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The frame is longer than is allowed here. Nothing was allocated for it.
    #[error("frame of {length} bytes where {limit} are allowed")]
    TooLong {
        /// Length that the peer announced.
        length: usize,
        /// Most bytes allowed here.
        limit: usize,
    },
    /// The bytes are not the frame expected here.
    #[error("unreadable frame: {0}")]
    Malformed(#[from] postcard::Error),
    /// The bytes are not JSON.
    #[error("unreadable message: {0}")]
    MalformedJson(#[source] serde_json::Error),
    /// JSON that this build does not understand: the peer is newer.
    #[error("a message that this version does not understand")]
    Unsupported(#[source] serde_json::Error),
    /// No complete frame arrived in time.
    #[error("no message within {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// What a frame can carry.
pub trait Frame: Sized {
    /// Appends the body to `frame`.
    ///
    /// # Errors
    /// When the value has no form on the wire.
    fn append_to(&self, frame: Vec<u8>) -> Result<Vec<u8>, FrameError>;

    /// The value in a body.
    ///
    /// # Errors
    /// [`FrameError::Malformed`], [`FrameError::MalformedJson`] or [`FrameError::Unsupported`].
    fn decode(body: &[u8]) -> Result<Self, FrameError>;
}

/// Encodes one frame.
///
/// # Errors
/// [`FrameError::TooLong`] when the message is longer than `limit`: it would be refused at the other end.
pub fn encode(message: &impl Frame, limit: usize) -> Result<Vec<u8>, FrameError> {
    let mut frame = Vec::with_capacity(USUAL);
    frame.extend_from_slice(&[0; 4]);
    let mut frame = message.append_to(frame)?;
    let length = frame.len() - 4;
    match u32::try_from(length) {
        Ok(prefix) if length <= limit => frame[..4].copy_from_slice(&prefix.to_be_bytes()),
        _ => return Err(FrameError::TooLong { length, limit }),
    }
    Ok(frame)
}

/// Writes one frame and flushes.
///
/// # Errors
/// As [`encode`], or the stream's.
pub async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &impl Frame,
    limit: usize,
) -> Result<(), FrameError> {
    stream.write_all(&encode(message, limit)?).await?;
    Ok(stream.flush().await?)
}

/// Reads one frame of at most `limit` bytes, and not a byte past it.
///
/// # Errors
/// Any [`FrameError`] but `TimedOut`.
pub async fn read<T: Frame>(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> Result<T, FrameError> {
    // Reading from QUIC does not yield by itself: a peer that sends without a pause would outlast the deadline.
    tokio::task::coop::consume_budget().await;
    let mut prefix = [0; 4];
    if stream.read(&mut prefix[..1]).await? == 0 {
        return Err(FrameError::Ended);
    }
    stream.read_exact(&mut prefix[1..]).await?;
    let length = u32::from_be_bytes(prefix) as usize;
    if length > limit {
        return Err(FrameError::TooLong { length, limit });
    }
    // No memory for a length that is only announced.
    let mut body = Vec::with_capacity(length.min(FIRST_ALLOCATION));
    let mut stream = stream.take(length as u64);
    while body.len() < length {
        if body.len() == body.capacity() {
            body.reserve_exact(length - body.len());
        }
        if stream.read_buf(&mut body).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    T::decode(&body)
}

/// As [`read`], within `deadline`.
///
/// # Errors
/// Any [`FrameError`].
pub async fn read_within<T: Frame>(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
    deadline: Duration,
) -> Result<T, FrameError> {
    tokio::time::timeout(deadline, read(stream, limit))
        .await
        .map_err(|_| FrameError::TimedOut(deadline))?
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use super::*;

    /// Bytes as they are.
    #[derive(Debug, PartialEq)]
    struct Raw(Vec<u8>);

    impl Frame for Raw {
        fn append_to(&self, mut frame: Vec<u8>) -> Result<Vec<u8>, FrameError> {
            frame.extend_from_slice(&self.0);
            Ok(frame)
        }

        fn decode(body: &[u8]) -> Result<Self, FrameError> {
            Ok(Self(body.to_vec()))
        }
    }

    #[tokio::test]
    async fn reading_a_frame_leaves_what_follows() {
        let message = Raw(b"message".to_vec());
        let mut wire = encode(&message, 1024).unwrap();
        wire.extend_from_slice(b"GET /");
        let mut stream = wire.as_slice();
        assert_eq!(read::<Raw>(&mut stream, 1024).await.unwrap(), message);
        assert_eq!(stream, b"GET /");
    }

    #[tokio::test]
    async fn reading_a_long_frame_in_pieces_leaves_what_follows() {
        for length in [
            FIRST_ALLOCATION - 1,
            FIRST_ALLOCATION,
            FIRST_ALLOCATION + 1,
            5 * FIRST_ALLOCATION,
        ] {
            let message = Raw(vec![b'x'; length]);
            let mut wire = encode(&message, 8 * FIRST_ALLOCATION).unwrap();
            wire.extend_from_slice(b"more");
            let (mut sender, mut stream) = tokio::io::duplex(100);
            let sending = async move { sender.write_all(&wire).await.unwrap() };
            let receiving = async move {
                assert_eq!(
                    read::<Raw>(&mut stream, 8 * FIRST_ALLOCATION).await.unwrap(),
                    message
                );
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.unwrap();
                assert_eq!(rest, b"more");
            };
            tokio::join!(sending, receiving);
        }
    }

    #[tokio::test]
    async fn a_length_over_the_limit_is_refused_before_any_allocation() {
        let mut stream: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0];
        assert!(matches!(
            read::<Raw>(&mut stream, 1024).await,
            Err(FrameError::TooLong { .. })
        ));
    }

    #[tokio::test]
    async fn an_end_inside_a_frame_is_an_error() {
        let mut stream: &[u8] = &[0, 0, 0, 9, 1];
        assert!(matches!(
            read::<Raw>(&mut stream, 1024).await,
            Err(FrameError::Io(_))
        ));
        let mut stream: &[u8] = &[];
        assert!(matches!(
            read::<Raw>(&mut stream, 1024).await,
            Err(FrameError::Ended)
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_times_out() {
        let (mut stream, _peer) = tokio::io::duplex(64);
        let got = read_within::<Raw>(&mut stream, 1024, Duration::from_secs(10)).await;
        assert!(matches!(got, Err(FrameError::TimedOut(_))));
    }

    /// Empty frames, endless and without a pause.
    struct Endless;

    impl AsyncRead for Endless {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let room = buffer.remaining();
            buffer.put_slice(&vec![0; room]);
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_peer_that_never_pauses_blocks_no_other_task() {
        let reading = async {
            for _ in 0..100_000 {
                read::<Raw>(&mut Endless, 1024).await.unwrap();
            }
        };
        let read = tokio::time::timeout(Duration::ZERO, reading).await;
        assert!(read.is_err(), "the deadline passed");
    }
}
