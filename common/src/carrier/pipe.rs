//! QUIC packets over a pipe of bytes, such as the channel of an SSH session.
//!
//! The pipe has ordering, retransmission and congestion control of its own, which QUIC cannot see. So that packets do not
//! queue for long, the send queue is short and drops the oldest packet when it is full.

mod frame;

use std::{
    collections::VecDeque,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Notify,
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::frame::{BadFrame, Deframer, HEADER, LONGEST};

/// The address of the far end of every pipe, as QUIC sees it. It is from the documentation prefix (RFC 3849), so that no packet
/// is sent there by mistake.
pub const PEER: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)), 2);

/// The address of the near end of every pipe, as QUIC sees it.
pub(crate) const LOCAL: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 1);

/// Bytes of packets queued in each direction.
const QUEUE: usize = 256 * 1024;

/// Bytes of one read or write: the payload of an SSH packet (RFC 4253, section 6.1).
const BATCH: usize = 32 * 1024;

/// Why a pipe ended, when neither side closed it.
#[derive(Debug, thiserror::Error)]
pub enum PipeError {
    /// The pipe itself failed.
    #[error("the pipe broke: {0}")]
    Io(#[from] io::Error),
    /// It ended inside a packet.
    #[error("the pipe ended inside a packet")]
    Truncated,
    /// It carried bytes that are not our frames.
    #[error(transparent)]
    Frame(#[from] BadFrame),
}

/// The socket that QUIC uses. When it is dropped, the pipe is closed after the last packet.
#[derive(Debug)]
pub struct PipeCarrier {
    shared: Arc<Shared>,
    _unused: DropGuard,
}

/// Moves packets between a pipe and its [`PipeCarrier`].
#[derive(Debug)]
pub struct PipeDriver<R, W> {
    shared: Arc<Shared>,
    reader: R,
    writer: W,
    unused: CancellationToken,
    _ended: DropGuard,
}

#[derive(Debug, Default)]
struct Shared {
    queues: Mutex<Queues>,
    /// Wakes the driver: there is something to write.
    outgoing: Notify,
    /// Wakes the driver: there is room for what is read.
    room: Notify,
    /// Cancelled when the driver is gone.
    ended: CancellationToken,
}

#[derive(Debug, Default)]
struct Queues {
    outgoing: VecDeque<Bytes>,
    outgoing_bytes: usize,
    dropped: u64,
    incoming: VecDeque<Bytes>,
    incoming_bytes: usize,
    /// QUIC's endpoint, which waits for a packet.
    reader: Option<Waker>,
}

/// A carrier over the pipe that `reader` and `writer` are the near end of. Nothing moves until the driver is run.
pub fn over<R, W>(reader: R, writer: W) -> (Arc<PipeCarrier>, PipeDriver<R, W>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let shared = Arc::<Shared>::default();
    let unused = CancellationToken::new();
    let carrier = PipeCarrier {
        shared: shared.clone(),
        _unused: unused.clone().drop_guard(),
    };
    let driver = PipeDriver {
        _ended: shared.ended.clone().drop_guard(),
        shared,
        reader,
        writer,
        unused,
    };
    (Arc::new(carrier), driver)
}

impl<R, W> PipeDriver<R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Moves packets until the other side closes the pipe, or the carrier is dropped and all its packets are written. Dropping
    /// the driver closes the pipe at once.
    ///
    /// # Errors
    /// When the pipe ends in any other way.
    pub async fn run(mut self) -> Result<(), PipeError> {
        let result = tokio::select! {
            received = self.shared.receive(&mut self.reader) => received,
            sent = self.shared.send(&mut self.writer, &self.unused) => sent.map_err(PipeError::from),
        };
        let dropped = self.shared.queues().dropped;
        if dropped > 0 {
            tracing::debug!(dropped, "packets dropped: the pipe was slower than their sender");
        }
        result
    }
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn receive(&self, reader: &mut (impl AsyncRead + Unpin)) -> Result<(), PipeError> {
        let mut deframer = Deframer::default();
        loop {
            // The endpoint is slow: the pipe's own flow control stops the other side.
            while self.queues().incoming_bytes >= QUEUE {
                self.room.notified().await;
            }
            if reader.read_buf(deframer.space(BATCH)).await? == 0 {
                return match deframer.is_between_packets() {
                    true => Ok(()),
                    false => Err(PipeError::Truncated),
                };
            }
            self.take_in(&mut deframer)?;
        }
    }

    fn take_in(&self, deframer: &mut Deframer) -> Result<(), BadFrame> {
        let (result, waiting) = {
            let mut queues = self.queues();
            let result = loop {
                match deframer.next_packet() {
                    Ok(Some(packet)) => {
                        queues.incoming_bytes += packet.len();
                        queues.incoming.push_back(packet);
                    }
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            let waiting = match queues.incoming.is_empty() {
                true => None,
                false => queues.reader.take(),
            };
            (result, waiting)
        };
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        result
    }

    async fn send(
        &self,
        writer: &mut (impl AsyncWrite + Unpin),
        unused: &CancellationToken,
    ) -> io::Result<()> {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            // Read before the queue: nothing is queued afterwards.
            let last = unused.is_cancelled();
            self.take_out(&mut batch);
            if !batch.is_empty() {
                writer.write_all(&batch).await?;
                writer.flush().await?;
                batch.clear();
            } else if last {
                return writer.shutdown().await;
            } else {
                tokio::select! {
                    () = self.outgoing.notified() => {}
                    () = unused.cancelled() => {}
                }
            }
        }
    }

    /// Fills `batch` with frames from the send queue.
    fn take_out(&self, batch: &mut Vec<u8>) {
        let mut queues = self.queues();
        while let Some(packet) = queues.outgoing.front() {
            let Ok(length) = u16::try_from(packet.len()) else {
                break;
            };
            if batch.len() + HEADER + packet.len() > BATCH {
                break;
            }
            batch.extend_from_slice(&frame::header(length));
            batch.extend_from_slice(packet);
            queues.pop_outgoing();
        }
    }
}

impl Queues {
    fn pop_outgoing(&mut self) {
        if let Some(packet) = self.outgoing.pop_front() {
            self.outgoing_bytes -= packet.len();
        }
    }

    fn push_outgoing(&mut self, packet: &[u8]) {
        if packet.is_empty() || packet.len() > usize::from(LONGEST) {
            self.dropped += 1;
            return;
        }
        while self.outgoing_bytes + packet.len() > QUEUE {
            self.pop_outgoing();
            self.dropped += 1;
        }
        self.outgoing_bytes += packet.len();
        self.outgoing.push_back(Bytes::copy_from_slice(packet));
    }
}

impl AsyncUdpSocket for PipeCarrier {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.shared.ended.is_cancelled() {
            return Ok(());
        }
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        {
            let mut queues = self.shared.queues();
            for packet in transmit.contents.chunks(size) {
                queues.push_outgoing(packet);
            }
        }
        self.shared.outgoing.notify_one();
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut queues = self.shared.queues();
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Some(packet) = queues.incoming.pop_front() else {
                break;
            };
            queues.incoming_bytes -= packet.len();
            // The endpoint's buffers hold the longest packet that it announced.
            let length = packet.len().min(buf.len());
            buf[..length].copy_from_slice(&packet[..length]);
            *meta = RecvMeta {
                addr: PEER,
                len: length,
                stride: length,
                ecn: None,
                dst_ip: None,
            };
            count += 1;
        }
        if count == 0 {
            queues.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(queues);
        self.shared.room.notify_one();
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(LOCAL)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// The send queue takes every packet.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
