//! The local end of a stream: a TCP connection, or a Unix one.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, IoSlice},
    net::Shutdown,
    os::fd::AsFd,
};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
};

/// Most bytes of one read.
const READ: usize = 64 * 1024;

/// A read of fewer bytes is copied: a small slice must not keep a whole block in memory.
const COPIED: usize = READ / 8;

/// Most chunks of one write.
pub(crate) const CHUNKS: usize = 32;

thread_local! {
    /// The buffer of the next read on this thread. Idle streams hold no memory.
    static BLOCK: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// A forwarded connection.
    Tcp(TcpStream),
    /// A connection within this process or this host.
    Unix(UnixStream),
}

impl From<TcpStream> for Socket {
    /// Closing it resets the connection (TCP RST) until everything was delivered in both directions. That holds also when this
    /// process is killed.
    fn from(tcp: TcpStream) -> Self {
        reset_on_close(&tcp);
        // Small writes of an interactive program must not be delayed (Nagle). Fails only on a dead socket.
        let _ = tcp.set_nodelay(true);
        Self::Tcp(tcp)
    }
}

impl From<UnixStream> for Socket {
    fn from(unix: UnixStream) -> Self {
        Self::Unix(unix)
    }
}

/// Closing the socket resets the connection (TCP RST) from now on, also when this process is killed.
pub fn reset_on_close(tcp: &TcpStream) {
    // Fails only on a socket that is closed already.
    let _ = tcp.set_zero_linger();
}

impl Socket {
    /// Returns when there may be something to read.
    ///
    /// # Errors
    /// The socket's.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.readable().await,
            Self::Unix(unix) => unix.readable().await,
        }
    }

    /// Reads at most `most` bytes, which must not be 0. No bytes are the end of file.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing to read; the socket's.
    pub(crate) fn try_read(&self, most: usize) -> io::Result<Bytes> {
        BLOCK.with_borrow_mut(|block| {
            if block.capacity() < READ {
                block.reserve(2 * READ);
            }
            let mut space = (&mut *block).limit(most.min(READ));
            match self {
                Self::Tcp(tcp) => tcp.try_read_buf(&mut space)?,
                Self::Unix(unix) => unix.try_read_buf(&mut space)?,
            };
            if block.len() < COPIED {
                let small = Bytes::copy_from_slice(block);
                block.clear();
                return Ok(small);
            }
            Ok(block.split().freeze())
        })
    }

    /// Returns when something may be written.
    ///
    /// # Errors
    /// The socket's.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.writable().await,
            Self::Unix(unix) => unix.writable().await,
        }
    }

    /// Writes bytes of the first [`CHUNKS`] of `chunks`. Returns how many.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room; the socket's.
    pub(crate) fn try_write(&self, chunks: &VecDeque<Bytes>) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); CHUNKS];
        let count = chunks.len().min(CHUNKS);
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
        }
        match self {
            Self::Tcp(tcp) => tcp.try_write_vectored(&slices[..count]),
            Self::Unix(unix) => unix.try_write_vectored(&slices[..count]),
        }
    }

    /// Shuts down the sending direction. Its error is ignored: a peer that has gone by now has received everything.
    pub fn end(&self) {
        let _ = match self {
            Self::Tcp(tcp) => socket2::SockRef::from(tcp).shutdown(Shutdown::Write),
            Self::Unix(unix) => socket2::SockRef::from(unix).shutdown(Shutdown::Write),
        };
    }

    /// Everything was delivered: closing ends the connection cleanly from now on.
    pub(crate) fn end_on_close(&self) {
        if let Self::Tcp(tcp) = self {
            // Fails only on a socket that is closed already.
            let _ = socket2::SockRef::from(tcp).set_linger(None);
        }
    }

    /// Returns when the connection breaks. After the end of file no read reports a reset, and a write does only when there is
    /// something to write.
    pub(crate) async fn broken(&self) -> io::Error {
        loop {
            let ready = match self {
                Self::Tcp(tcp) => tcp.ready(Interest::ERROR).await,
                Self::Unix(unix) => unix.ready(Interest::ERROR).await,
            };
            if let Err(error) = ready {
                return error;
            }
            match socket2::SockRef::from(&self.as_fd()).take_error() {
                Ok(Some(error)) | Err(error) => return error,
                // A spurious event: clear the readiness and wait for the next.
                Ok(None) => self.clear_readiness(),
            }
        }
    }

    fn clear_readiness(&self) {
        let blocks = || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into());
        let _ = match self {
            Self::Tcp(tcp) => tcp.try_io(Interest::ERROR, blocks),
            Self::Unix(unix) => unix.try_io(Interest::ERROR, blocks),
        };
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Tcp(tcp) => tcp.as_fd(),
            Self::Unix(unix) => unix.as_fd(),
        }
    }
}
