//! The role in a container's network namespace: dials the container's own loopback and hands the connected socket to
//! the agent (SCM_RIGHTS, unix(7)). After that no byte passes through it.
//!
//! Requests and replies have a fixed length, so a byte stream carries them: a request is an id and a port, a reply an
//! id and an errno, with the socket attached when that is 0.

use std::{
    collections::HashMap,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jq_common::protocol::limits;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{TcpStream, UnixListener, UnixStream, unix::OwnedReadHalf},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};

/// The socket's name in the folder that agent and helper share.
pub const SOCKET: &str = "inside.sock";

/// Bytes of a request (id, port, two unused) and of a reply (id, errno).
const MESSAGE: usize = 8;

/// Waits for the helper.
pub struct InsideListener {
    listener: UnixListener,
    path: PathBuf,
}

impl InsideListener {
    /// Makes [`SOCKET`] in `dir`, which only this user may enter.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn bind(dir: &Path) -> io::Result<Self> {
        let path = dir.join(SOCKET);
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// The helper, once it has connected. Its socket is then removed: nobody else can connect.
    ///
    /// # Errors
    /// `TimedOut` when it does not come.
    pub async fn accept(self, deadline: Duration) -> io::Result<Inside> {
        let (stream, _) = timeout(deadline, self.listener.accept())
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the helper did not connect"))??;
        // Nothing depends on its removal; the folder goes when the helper does.
        let _ = std::fs::remove_file(&self.path);
        Ok(Inside::new(stream))
    }
}

type Waiting = HashMap<u32, oneshot::Sender<io::Result<TcpStream>>>;

/// The agent's side of a helper. Dropping it ends the helper.
pub struct Inside {
    requests: mpsc::Sender<(u16, oneshot::Sender<io::Result<TcpStream>>)>,
    _tasks: JoinSet<()>,
}

impl Inside {
    fn new(stream: UnixStream) -> Self {
        let (requests, asked) = mpsc::channel(256);
        let mut tasks = JoinSet::new();
        tasks.spawn(converse(stream, asked));
        Self {
            requests,
            _tasks: tasks,
        }
    }

    /// Connects to `port` on the container's 127.0.0.1, then on its ::1.
    ///
    /// # Errors
    /// The connect's own; `BrokenPipe` when the helper is gone.
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

/// Sends requests and matches replies until either side ends. Those still waiting then see the helper gone.
async fn converse(
    stream: UnixStream,
    mut asked: mpsc::Receiver<(u16, oneshot::Sender<io::Result<TcpStream>>)>,
) {
    let (mut reader, mut writer) = stream.into_split();
    let waiting = Arc::new(Mutex::new(Waiting::new()));
    let send = async {
        let mut id = 0u32;
        while let Some((port, reply)) = asked.recv().await {
            id = id.wrapping_add(1);
            waiting
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
            let waiter = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            if let Some(waiter) = waiter {
                // A stream that was given up meanwhile waits no longer; its socket closes here.
                let _ = waiter.send(result);
            }
        }
    };
    let ended: io::Result<()> = tokio::select! {
        ended = send => ended,
        ended = receive => ended,
    };
    if let Err(error) = ended {
        tracing::info!(%error, "helper ended");
    }
}

async fn receive_reply(reader: &mut OwnedReadHalf) -> io::Result<(u32, io::Result<TcpStream>)> {
    let mut message = [0; MESSAGE];
    let mut filled = 0;
    let mut socket = None;
    while filled < MESSAGE {
        let (read, attached) = reader
            .as_ref()
            .async_io(Interest::READABLE, || {
                receive_with_socket(reader.as_ref(), &mut message[filled..])
            })
            .await?;
        if read == 0 {
            return Err(gone());
        }
        filled += read;
        socket = socket.or(attached);
    }
    let id = u32::from_be_bytes([message[0], message[1], message[2], message[3]]);
    let errno = i32::from_be_bytes([message[4], message[5], message[6], message[7]]);
    let result = match (errno, socket) {
        (0, Some(fd)) => adopt(fd),
        // The kernel drops a socket for which this process has no descriptor left (MSG_CTRUNC, recvmsg(2)).
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

fn receive_with_socket(stream: impl AsFd, into: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(into)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )?;
    let mut socket = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(sockets) = message {
            socket = sockets.last();
        }
    }
    Ok((received.bytes, socket))
}

/// Runs the role until the agent lets go of the socket at `path`.
///
/// # Errors
/// When the agent cannot be reached, or its socket fails.
pub async fn run(path: &Path) -> io::Result<()> {
    let (mut requests, replies) = UnixStream::connect(path).await?.into_split();
    let (done, mut dialled) = mpsc::channel::<(u32, io::Result<TcpStream>)>(256);
    let mut dials = JoinSet::new();

    let answer = async {
        while let Some((id, result)) = dialled.recv().await {
            reply(replies.as_ref(), id, result).await?;
        }
        io::Result::Ok(())
    };
    let ask = async {
        let mut message = [0; MESSAGE];
        loop {
            match requests.read_exact(&mut message).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return io::Result::Ok(()),
                other => other?,
            };
            let id = u32::from_be_bytes([message[0], message[1], message[2], message[3]]);
            let port = u16::from_be_bytes([message[4], message[5]]);
            let done = done.clone();
            dials.spawn(async move {
                let result = dial_loopback(port).await;
                // Fails only when the role is ending.
                let _ = done.send((id, result)).await;
            });
            while dials.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        ended = answer => ended,
        ended = ask => ended,
    }
}

/// Connects to `port` on this network namespace's 127.0.0.1, then on its ::1.
///
/// # Errors
/// The first address's, when neither answers.
pub async fn dial_loopback(port: u16) -> io::Result<TcpStream> {
    let connect = |ip: IpAddr| async move {
        timeout(limits::DIAL, TcpStream::connect((ip, port)))
            .await
            .map_err(|_| io::Error::from_raw_os_error(rustix::io::Errno::TIMEDOUT.raw_os_error()))?
    };
    match connect(Ipv4Addr::LOCALHOST.into()).await {
        Ok(stream) => Ok(stream),
        Err(error) => connect(Ipv6Addr::LOCALHOST.into()).await.map_err(|_| error),
    }
}

async fn reply(stream: &UnixStream, id: u32, result: io::Result<TcpStream>) -> io::Result<()> {
    let errno = match &result {
        Ok(_) => 0,
        Err(error) => error
            .raw_os_error()
            .unwrap_or(rustix::io::Errno::IO.raw_os_error()),
    };
    let mut message = [0; MESSAGE];
    message[..4].copy_from_slice(&id.to_be_bytes());
    message[4..].copy_from_slice(&errno.to_be_bytes());
    let mut sent = 0;
    while sent < MESSAGE {
        let socket = if sent == 0 { result.as_ref().ok() } else { None };
        sent += stream
            .async_io(Interest::WRITABLE, || {
                send_with_socket(stream, &message[sent..], socket)
            })
            .await?;
    }
    Ok(())
}

fn send_with_socket(stream: impl AsFd, bytes: &[u8], socket: Option<&TcpStream>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let sockets = socket.map(AsFd::as_fd);
    if let Some(socket) = &sockets {
        ancillary.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(socket)));
    }
    Ok(sendmsg(
        stream,
        &[IoSlice::new(bytes)],
        &mut ancillary,
        SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A helper on this machine's own network, and the agent's side of it.
    async fn helper() -> (Inside, JoinSet<io::Result<()>>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let listener = InsideListener::bind(dir.path()).unwrap();
        let path = dir.path().join(SOCKET);
        let mut role = JoinSet::new();
        role.spawn(async move { run(&path).await });
        (listener.accept(Duration::from_secs(10)).await.unwrap(), role, dir)
    }

    #[tokio::test]
    async fn a_socket_connected_by_the_helper_is_usable_by_the_agent() {
        let (inside, _role, _dir) = helper().await;
        let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = service.local_addr().unwrap().port();
        let mut dialled = inside.dial(port).await.unwrap();
        let (mut accepted, _) = service.accept().await.unwrap();
        accepted.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        dialled.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
    }

    #[tokio::test]
    async fn two_hundred_dials_at_once_each_get_their_own_socket() {
        let (inside, _role, _dir) = helper().await;
        let inside = Arc::new(inside);
        let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = service.local_addr().unwrap().port();
        let mut dials = JoinSet::new();
        for _ in 0..200 {
            let inside = inside.clone();
            dials.spawn(async move { inside.dial(port).await.unwrap().local_addr().unwrap() });
        }
        let mut accepted = std::collections::HashSet::new();
        for _ in 0..200 {
            accepted.insert(service.accept().await.unwrap().1);
        }
        let dialled: std::collections::HashSet<_> = dials.join_all().await.into_iter().collect();
        assert_eq!(dialled, accepted);
    }

    #[tokio::test]
    async fn a_port_nobody_listens_on_is_refused_by_name() {
        let (inside, _role, _dir) = helper().await;
        let port = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        assert_eq!(
            inside.dial(port).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
    }

    #[tokio::test]
    async fn the_helper_ends_when_the_agent_does_and_the_agent_sees_a_dead_helper() {
        let (inside, mut role, _dir) = helper().await;
        drop(inside);
        role.join_next().await.unwrap().unwrap().unwrap();

        let (inside, mut role, _dir) = helper().await;
        role.shutdown().await;
        assert_eq!(
            inside.dial(1).await.unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }
}
