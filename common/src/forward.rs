//! Copying a TCP connection to a QUIC stream and back.
//!
//! An end of data one way is passed on as an end that way only. Everything else that goes wrong (a reset, a lost
//! connection, a task that is dropped, a process that is killed) ends both ways as a reset on both sides: truncated data never looks complete.

use std::{io, net::Shutdown, pin::pin};

use bytes::BytesMut;
use quinn::{ReadError, RecvStream, SendStream, StoppedError, VarInt, WriteError};
use tokio::{io::Interest, net::TcpStream, sync::Notify};

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
    tcp: TcpStream,
    mut send: Sender,
    mut receive: RecvStream,
) -> Result<Copied, ForwardError> {
    reset_on_close(&tcp);
    // Small writes of an interactive program must not wait for each other. Fails only on a dead socket.
    let _ = tcp.set_nodelay(true);
    let ended = Notify::new();
    let outward = async {
        let sent = outward(&tcp, &mut send).await?;
        ended.notify_one();
        Ok(sent)
    };
    let inward = async {
        tokio::select! {
            received = inward(&mut receive, &tcp) => received,
            error = async { ended.notified().await; broken(&tcp).await } => Err(ForwardError::Socket(error)),
        }
    };
    match tokio::try_join!(outward, inward) {
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
async fn outward(tcp: &TcpStream, send: &mut Sender) -> Result<u64, ForwardError> {
    let mut stopped = pin!(send.stream().stopped());
    let mut total = 0;
    let mut buffer = BytesMut::new();
    loop {
        // What is left of a block serves the next small reads: each block lives until its last byte is acknowledged.
        if buffer.capacity() < READ / 4 {
            buffer.reserve(READ);
        }
        let read = tokio::select! {
            read = read(tcp, &mut buffer) => read.map_err(ForwardError::Socket)?,
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
async fn inward(receive: &mut RecvStream, tcp: &TcpStream) -> Result<u64, ForwardError> {
    let mut total = 0;
    while let Some(chunk) = receive.read_chunk(usize::MAX, true).await? {
        total += chunk.bytes.len() as u64;
        write_all(tcp, &chunk.bytes).await.map_err(ForwardError::Socket)?;
    }
    // A peer that has gone away by now has already got everything.
    let _ = socket2::SockRef::from(tcp).shutdown(Shutdown::Write);
    Ok(total)
}

/// Reads what is there. 0 is the end.
async fn read(tcp: &TcpStream, buffer: &mut BytesMut) -> io::Result<usize> {
    loop {
        tcp.readable().await?;
        match tcp.try_read_buf(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}

async fn write_all(tcp: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match tcp.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tcp.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Returns when the socket breaks. After the end of its data no read tells a reset, and a write only when there is
/// something to write.
async fn broken(tcp: &TcpStream) -> io::Error {
    loop {
        if let Err(error) = tcp.ready(Interest::ERROR).await {
            return error;
        }
        match tcp.take_error() {
            Ok(Some(error)) | Err(error) => return error,
            // Nothing after all: forget the readiness, and wait for the next.
            Ok(None) => drop(tcp.try_io(Interest::ERROR, || {
                io::Result::<()>::Err(io::ErrorKind::WouldBlock.into())
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, time::Duration};

    use quinn::Connection;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        task::JoinSet,
        time::timeout,
    };

    use super::*;
    use crate::{
        identity::{AllowedClients, Identity},
        quic,
    };

    /// A forward between two sockets of which a test holds the other ends.
    struct Bench {
        left: TcpStream,
        right: TcpStream,
        tasks: JoinSet<Result<Copied, ForwardError>>,
        _connections: (Connection, Connection),
    }

    async fn sockets() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (dialled, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (dialled.unwrap(), accepted.unwrap().0)
    }

    async fn bench() -> Bench {
        let udp = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (agent, client) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let allowed = AllowedClients::default();
        allowed.allow(client.fingerprint());
        let serving = quic::agent_endpoint(udp(), &agent, allowed).unwrap();
        let dialling = quic::client_endpoint(udp()).unwrap();
        let connecting = quic::connect(
            &dialling,
            serving.local_addr().unwrap(),
            &client,
            agent.fingerprint(),
        )
        .unwrap();
        let (here, there) = tokio::join!(async { connecting.await.unwrap() }, async {
            serving.accept().await.unwrap().await.unwrap()
        });

        let ((left, left_inner), (right_inner, right)) = tokio::join!(sockets(), sockets());
        let (mut send, receive) = here.open_bi().await.unwrap();
        // A stream is there for the peer once something was sent on it.
        send.write_all(b"!").await.unwrap();
        let (peer_send, mut peer_receive) = there.accept_bi().await.unwrap();
        peer_receive.read_exact(&mut [0]).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(forward(left_inner, Sender::new(send), receive));
        tasks.spawn(forward(right_inner, Sender::new(peer_send), peer_receive));
        Bench {
            left,
            right,
            tasks,
            _connections: (here, there),
        }
    }

    async fn end_of(stream: &mut TcpStream) -> io::Result<usize> {
        timeout(Duration::from_secs(10), stream.read(&mut [0; 8]))
            .await
            .expect("an end of some kind")
    }

    fn is_reset(end: io::Result<usize>) -> bool {
        end.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
    }

    #[tokio::test]
    async fn bytes_and_ends_pass_each_way_by_itself() {
        let mut bench = bench().await;
        bench.left.write_all(b"question").await.unwrap();
        bench.left.shutdown().await.unwrap();
        let mut heard = Vec::new();
        bench.right.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"question");
        bench.right.write_all(b"answer").await.unwrap();
        drop(bench.right);
        heard.clear();
        bench.left.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"answer");
        for copied in bench.tasks.join_all().await {
            let copied = copied.unwrap();
            assert_eq!(copied.sent + copied.received, 14);
        }
    }

    #[tokio::test]
    async fn a_dropped_forward_resets_both_sides() {
        let mut bench = bench().await;
        bench.left.write_all(b"x").await.unwrap();
        bench.right.read_exact(&mut [0]).await.unwrap();
        bench.tasks.abort_all();
        assert!(is_reset(end_of(&mut bench.left).await));
        assert!(is_reset(end_of(&mut bench.right).await));
    }

    #[tokio::test]
    async fn a_lost_connection_resets_both_sides() {
        let mut bench = bench().await;
        bench._connections.0.close(VarInt::from_u32(0), b"");
        assert!(is_reset(end_of(&mut bench.left).await));
        assert!(is_reset(end_of(&mut bench.right).await));
    }

    #[tokio::test]
    async fn a_reset_after_an_end_the_other_way_is_passed_on_at_once() {
        let mut bench = bench().await;
        bench.right.shutdown().await.unwrap();
        assert_eq!(end_of(&mut bench.left).await.unwrap(), 0, "the end passes");
        bench.left.write_all(b"more").await.unwrap();
        bench.right.read_exact(&mut [0; 4]).await.unwrap();
        bench.right.set_zero_linger().unwrap();
        drop(bench.right);
        // The left side has nothing to read any more, so only a write shows the reset; none has to be sent for it.
        let gone = async {
            while bench.left.writable().await.is_ok() && bench.left.take_error().unwrap().is_none() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), gone)
            .await
            .expect("the reset arrives without a write");
    }
}
