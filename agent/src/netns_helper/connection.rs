//! The agent's side of a helper.

use std::{
    collections::HashMap,
    io,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncWriteExt, Interest},
    net::{TcpStream, UnixListener, UnixStream, unix::OwnedReadHalf},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};

use super::message::{MESSAGE, SOCKET};
use crate::fd_passing;

/// Waits for a helper to connect.
pub struct HelperListener {
    listener: UnixListener,
    path: PathBuf,
}

impl HelperListener {
    /// Creates the socket `inside.sock` in `dir`, which only this user may enter.
    ///
    /// # Errors
    /// When the socket cannot be created.
    pub fn bind(dir: &Path) -> io::Result<Self> {
        let path = dir.join(SOCKET);
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Waits for the helper. Removes the socket afterwards, so that nobody else can connect.
    ///
    /// # Errors
    /// `TimedOut` when the helper does not connect.
    pub async fn accept(self, deadline: Duration) -> io::Result<HelperConnection> {
        let (stream, _) = timeout(deadline, self.listener.accept())
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the helper did not connect"))??;
        // Best effort: the folder is removed with the helper.
        let _ = std::fs::remove_file(&self.path);
        Ok(HelperConnection::new(stream))
    }
}

type Pending = HashMap<u32, oneshot::Sender<io::Result<TcpStream>>>;

/// A connection to a helper. Dropping it ends the helper.
pub struct HelperConnection {
    requests: mpsc::Sender<(u16, oneshot::Sender<io::Result<TcpStream>>)>,
    _tasks: JoinSet<()>,
}

impl HelperConnection {
    fn new(stream: UnixStream) -> Self {
        let (requests, requested) = mpsc::channel(256);
        let mut tasks = JoinSet::new();
        tasks.spawn(exchange(stream, requested));
        Self {
            requests,
            _tasks: tasks,
        }
    }

    /// Connects to `port` on the container's 127.0.0.1, then on its ::1.
    ///
    /// # Errors
    /// The error of the connect; `BrokenPipe` when the helper is gone.
    pub async fn dial(&self, port: u16) -> io::Result<TcpStream> {
        let (reply, answered) = oneshot::channel();
        self.requests.send((port, reply)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "the helper in the container's network is gone",
    )
}

/// Sends requests and matches replies until either side ends. Requests that are still pending then fail.
async fn exchange(
    stream: UnixStream,
    mut requested: mpsc::Receiver<(u16, oneshot::Sender<io::Result<TcpStream>>)>,
) {
    let (mut reader, mut writer) = stream.into_split();
    let pending = Arc::new(Mutex::new(Pending::new()));
    let send = async {
        let mut id = 0u32;
        while let Some((port, reply)) = requested.recv().await {
            id = id.wrapping_add(1);
            pending
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(id, reply);
            let mut message = [0; MESSAGE];
            message[..4].copy_from_slice(&id.to_be_bytes());
            message[4..6].copy_from_slice(&port.to_be_bytes());
            writer.write_all(&message).await?;
        }
        io::Result::Ok(())
    };
    let receive = async {
        loop {
            let (id, result) = receive_reply(&mut reader).await?;
            let waiter = pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            if let Some(waiter) = waiter {
                // Fails when the caller no longer waits; the socket is then closed here.
                let _ = waiter.send(result);
            }
        }
    };
    let ended: io::Result<()> = tokio::select! {
        ended = send => ended,
        ended = receive => ended,
    };
    if let Err(error) = ended {
        tracing::info!(%error, "a network helper ended");
    }
}

async fn receive_reply(reader: &mut OwnedReadHalf) -> io::Result<(u32, io::Result<TcpStream>)> {
    let mut message = [0; MESSAGE];
    let mut filled = 0;
    let mut socket = None;
    while filled < MESSAGE {
        let received = reader
            .as_ref()
            .async_io(Interest::READABLE, || {
                fd_passing::receive(reader.as_ref(), &mut message[filled..])
            })
            .await?;
        if received.bytes == 0 {
            return Err(gone());
        }
        filled += received.bytes;
        socket = socket.or(received.descriptors.into_iter().next_back());
    }
    let id = u32::from_be_bytes([message[0], message[1], message[2], message[3]]);
    let errno = i32::from_be_bytes([message[4], message[5], message[6], message[7]]);
    let result = match (errno, socket) {
        (0, Some(fd)) => adopt(fd),
        // The kernel drops a descriptor that exceeds this process's limit (MSG_CTRUNC, recvmsg(2)).
        (0, None) => Err(io::Error::from_raw_os_error(
            rustix::io::Errno::MFILE.raw_os_error(),
        )),
        (errno, _) => Err(io::Error::from_raw_os_error(errno)),
    };
    Ok((id, result))
}

fn adopt(fd: OwnedFd) -> io::Result<TcpStream> {
    let stream = std::net::TcpStream::from(fd);
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}
