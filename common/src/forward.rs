//! Copying a TCP connection to a QUIC stream and back.
//!
//! An end of data one way is passed on as an end that way only. Everything else that goes wrong (a reset, a lost
//! connection, a task that is dropped, a process that is killed) ends both ways as a reset on both sides: truncated data never looks complete.

use std::{io, pin::pin};

use bytes::BytesMut;
use quinn::{ReadError, RecvStream, SendStream, StoppedError, VarInt, WriteError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

use crate::protocol::stream::ResetCode;

/// Most bytes read from a socket at once.
const READ: usize = 64 * 1024;

/// How many bytes a forward moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// From the socket to the stream.
    pub sent: u64,
    /// From the stream to the socket.
    pub received: u64,
}

/// Why a forward ended before both ways were complete.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The socket at this end failed or was reset.
    #[error("local socket: {0}")]
    Socket(#[source] io::Error),
    /// The other end gave the stream up.
    #[error("reset by the other end: {0:?}")]
    Peer(ResetCode),
    /// The QUIC connection is gone.
    #[error("connection lost: {0}")]
    Connection(#[from] quinn::ConnectionError),
    /// The stream was used wrongly; a fault of this program.
    #[error("stream: {0}")]
    Stream(String),
}

impl From<ReadError> for ForwardError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Peer(ResetCode::from_wire(code.into_inner())),
            ReadError::ConnectionLost(error) => Self::Connection(error),
            other => Self::Stream(other.to_string()),
        }
    }
}

impl From<WriteError> for ForwardError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Peer(ResetCode::from_wire(code.into_inner())),
            WriteError::ConnectionLost(error) => Self::Connection(error),
            other => Self::Stream(other.to_string()),
        }
    }
}

/// The sending half of a stream. Dropped before [`finish`](Self::finish), it resets the stream: quinn by itself would
/// end it cleanly, and the peer would take what came so far for everything.
pub struct Sender {
    stream: SendStream,
    finished: bool,
}

impl Sender {
    /// Takes over `stream`.
    #[must_use]
    pub fn new(stream: SendStream) -> Self {
        Self {
            stream,
            finished: false,
        }
    }

    /// The stream, to write to.
    pub fn stream(&mut self) -> &mut SendStream {
        &mut self.stream
    }

    /// Ends the data.
    pub fn finish(&mut self) {
        // Fails only when the peer stopped the stream, and then the receiving half reports it.
        let _ = self.stream.finish();
        self.finished = true;
    }

    /// Gives the stream up with `code`.
    pub fn reset(&mut self, code: ResetCode) {
        // Fails only when the stream is closed already.
        let _ = self.stream.reset(code.to_wire());
        self.finished = true;
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.finished {
            self.reset(ResetCode::ShuttingDown);
        }
    }
}

/// Has a socket be reset (TCP RST) when it is closed, in whatever way: also when this process dies.
pub fn reset_on_close(tcp: &TcpStream) {
    // Fails only on a socket that is closed already.
    let _ = tcp.set_zero_linger();
}

/// Takes back [`reset_on_close`]: all was sent, so closing may end the connection as usual.
fn end_on_close(tcp: &TcpStream) {
    // As above.
    let _ = socket2::SockRef::from(tcp).set_linger(None);
}

/// Copies both ways until both have ended.
///
/// # Errors
/// A [`ForwardError`] when one way did not end cleanly; both sides have then been reset.
///
/// Dropping the future resets both sides too.
pub async fn forward(
    mut tcp: TcpStream,
    mut send: Sender,
    mut receive: RecvStream,
) -> Result<Copied, ForwardError> {
    reset_on_close(&tcp);
    // Small writes of an interactive program must not wait for each other. Fails only on a dead socket.
    let _ = tcp.set_nodelay(true);
    let (reader, writer) = tcp.split();
    match tokio::try_join!(outward(reader, &mut send), inward(&mut receive, writer)) {
        Ok((sent, received)) => {
            end_on_close(&tcp);
            Ok(Copied { sent, received })
        }
        Err(error) => {
            let code = ResetCode::ConnectionReset;
            send.reset(code);
            // Fails only when the stream has ended already.
            let _ = receive.stop(code.to_wire());
            Err(error)
        }
    }
}

/// From the socket to the stream. Between reads it hears when the peer wants no more, which no write would tell.
async fn outward(mut reader: ReadHalf<'_>, send: &mut Sender) -> Result<u64, ForwardError> {
    let mut stopped = pin!(send.stream().stopped());
    let mut total = 0;
    let mut buffer = BytesMut::new();
    loop {
        // What is left of a block serves the next small reads: each block lives until its last byte is acknowledged.
        if buffer.capacity() < READ / 4 {
            buffer.reserve(READ);
        }
        let read = tokio::select! {
            read = reader.read_buf(&mut buffer) => read.map_err(ForwardError::Socket)?,
            stopped = &mut stopped => return Err(given_up(stopped)),
        };
        if read == 0 {
            break;
        }
        total += read as u64;
        send.stream().write_chunk(buffer.split().freeze()).await?;
    }
    send.finish();
    Ok(total)
}

fn given_up(stopped: Result<Option<VarInt>, StoppedError>) -> ForwardError {
    match stopped {
        Ok(Some(code)) => ForwardError::Peer(ResetCode::from_wire(code.into_inner())),
        Ok(None) => ForwardError::Stream("it had ended already".to_owned()),
        Err(StoppedError::ConnectionLost(error)) => ForwardError::Connection(error),
        Err(error) => ForwardError::Stream(error.to_string()),
    }
}

/// From the stream to the socket.
async fn inward(receive: &mut RecvStream, mut writer: WriteHalf<'_>) -> Result<u64, ForwardError> {
    let mut total = 0;
    while let Some(chunk) = receive.read_chunk(usize::MAX, true).await? {
        total += chunk.bytes.len() as u64;
        writer
            .write_all(&chunk.bytes)
            .await
            .map_err(ForwardError::Socket)?;
    }
    // A peer that has gone away by now has already got everything.
    let _ = writer.shutdown().await;
    Ok(total)
}
