//! Jupyter in a container that shares the host's network: other users of the host can reach every port there, so it
//! listens on a Unix socket in the container. A small program beside it connects there and passes the connection out
//! through an abstract socket of the network that both share.

use std::{
    io,
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener as StdListener},
    },
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{UnixListener, UnixStream},
    sync::Mutex,
    task::JoinSet,
    time::timeout,
};
use tokio_util::either::Either;

use crate::{
    engine::{ContainerEngine, Exec},
    fd_passing,
    log_tail::Tail,
    random_hex::random_hex,
    workload::{
        Connected, RunningWorkload,
        jupyter::{SOCKET_PORT, output::Report},
    },
};

/// The program in the container.
const PROGRAM: &str = include_str!("host_network.py");
/// Time limit for the program to connect, and for each of its answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time limit for whoever connects to say the secret.
const GREETING: Duration = Duration::from_secs(2);
/// Time limit for a command that looks at the container's network.
const LOOK: Duration = Duration::from_secs(10);

/// Whether processes of the container have the same network as this one.
pub(crate) async fn is_shared(engine: &dyn ContainerEngine, id: &str) -> bool {
    let Ok(own) = std::fs::read_link("/proc/self/ns/net") else {
        return false;
    };
    let look = Exec {
        command: [
            "/bin/sh",
            "-c",
            "readlink /proc/self/ns/net || ls -l /proc/self/ns/net",
        ]
        .map(str::to_owned)
        .into(),
        ..Exec::default()
    };
    let output = Tail::default();
    // Without an answer Jupyter will not start either.
    let _ = timeout(LOOK, engine.exec(id, &look, &output)).await;
    let own = own.to_string_lossy();
    output.last(usize::MAX).iter().any(|line| line.ends_with(&*own))
}

/// A container on the host's network, with the socket of its Jupyter.
pub(crate) struct HostNetwork {
    engine: Arc<dyn ContainerEngine>,
    container: String,
    inner: Arc<dyn RunningWorkload>,
    /// Where the socket is and which Python runs Jupyter, as its start reports it; or as it did.
    started: Started,
    bridge: Mutex<Option<Bridge>>,
}

/// What is known of the start.
pub(crate) enum Started {
    /// It may still report.
    Reports(Tail),
    /// It did.
    Before(Place),
}

/// Where the socket of a Jupyter is, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its private folder.
    pub(crate) folder: String,
    /// The Python that runs it.
    pub(crate) python: String,
}

/// A running program in the container. Dropping it ends the program.
struct Bridge {
    stream: UnixStream,
    _program: JoinSet<()>,
}

impl HostNetwork {
    pub(crate) fn new(
        engine: Arc<dyn ContainerEngine>,
        container: &str,
        inner: Arc<dyn RunningWorkload>,
        started: Started,
    ) -> Self {
        Self {
            engine,
            container: container.to_owned(),
            inner,
            started,
            bridge: Mutex::default(),
        }
    }

    /// Where the socket is, once that is known.
    pub(crate) fn place(&self) -> Option<Place> {
        match &self.started {
            Started::Before(place) => Some(place.clone()),
            Started::Reports(output) => {
                let report = Report::of(output.last(usize::MAX).iter().map(String::as_str));
                let (folder, python) = report.folder.zip(report.python)?;
                Some(Place { folder, python })
            }
        }
    }

    async fn dial_socket(&self) -> io::Result<UnixStream> {
        let place = self.place().ok_or(io::ErrorKind::ConnectionRefused)?;
        let mut bridge = self.bridge.lock().await;
        if let Some(open) = bridge.as_mut() {
            match timeout(PATIENCE, open.connect()).await {
                Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Ok(answer) => return answer,
                Err(_) => {}
            }
        }
        // There is none, or it has ended.
        *bridge = None;
        let mut opened = self.open(&place).await?;
        let answer = timeout(PATIENCE, opened.connect()).await?;
        *bridge = Some(opened);
        answer
    }

    async fn open(&self, place: &Place) -> io::Result<Bridge> {
        let socket = format!("{}/jupyter.sock", place.folder);
        let (name, secret) = (format!("jq-{}", random_hex::<16>()?), random_hex::<24>()?);
        let listener = StdListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let input = serde_json::json!({ "agent": name, "secret": secret, "socket": socket });
        let command = Exec {
            command: vec![place.python.clone(), "-c".to_owned(), PROGRAM.to_owned()],
            input: Some(format!("{input}\n").into()),
            ..Exec::default()
        };
        let (engine, container) = (self.engine.clone(), self.container.clone());
        let output = Tail::default();
        let (mut program, said) = (JoinSet::new(), output.clone());
        program.spawn(async move {
            if let Err(error) = engine.exec(&container, &command, &said).await {
                said.write(error.to_string().as_bytes());
            }
        });
        let stream = tokio::select! {
            stream = timeout(PATIENCE, accept(&listener, &secret)) => stream??,
            _ = program.join_next() => {
                let said = output.last(1).pop().unwrap_or_default();
                return Err(io::Error::other(format!("the program in the container ended: {said}")));
            }
        };
        Ok(Bridge {
            stream,
            _program: program,
        })
    }
}

/// Waits for the one that knows the secret: every user of the host can connect.
async fn accept(listener: &UnixListener, secret: &str) -> io::Result<UnixStream> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        let mut said = vec![0; secret.len()];
        if let Ok(Ok(_)) = timeout(GREETING, stream.read_exact(&mut said)).await
            && said == secret.as_bytes()
        {
            return Ok(stream);
        }
    }
}

impl Bridge {
    /// Asks for a connection. `BrokenPipe` when the program is gone.
    async fn connect(&mut self) -> io::Result<UnixStream> {
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the program in the container is gone");
        self.stream.write_all(b"c").await.map_err(|_| gone())?;
        let mut errno = [0];
        let received = self
            .stream
            .async_io(Interest::READABLE, || {
                fd_passing::receive(&self.stream, &mut errno)
            })
            .await
            .map_err(|_| gone())?;
        match (received.bytes, errno[0], received.descriptors.into_iter().next()) {
            (0, ..) => Err(gone()),
            (_, 0, Some(socket)) => adopt(socket),
            (_, 0, None) => Err(io::Error::from_raw_os_error(
                rustix::io::Errno::MFILE.raw_os_error(),
            )),
            (_, errno, _) => Err(match io::Error::from_raw_os_error(errno.into()) {
                // Jupyter has not made it yet.
                error if error.kind() == io::ErrorKind::NotFound => io::ErrorKind::ConnectionRefused.into(),
                error => error,
            }),
        }
    }
}

fn adopt(socket: OwnedFd) -> io::Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(socket);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

impl RunningWorkload for HostNetwork {
    fn dial(&self, port: u16) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(async move {
            if port == SOCKET_PORT {
                return Ok(Either::Right(self.dial_socket().await?));
            }
            self.inner.dial(port).await
        })
    }

    fn restarted(&self) -> BoxFuture<'_, ()> {
        self.inner.restarted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_one_with_the_secret_is_accepted() {
        let name = format!("jq-test-{}", random_hex::<8>().unwrap());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = StdListener::bind_addr(&address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = UnixListener::from_std(listener).unwrap();
        let connect = |said: &str| {
            let stream = std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
            io::Write::write_all(&mut &stream, said.as_bytes()).unwrap();
            stream
        };
        let _stranger = connect("guess!");
        let right = connect("secret");
        let mut accepted = accept(&listener, "secret").await.unwrap();
        io::Write::write_all(&mut &right, b"x").unwrap();
        assert_eq!(accepted.read_u8().await.unwrap(), b'x');
    }

    /// The program as it runs in a container, beside a socket that echoes.
    #[tokio::test]
    async fn the_program_hands_out_connections_to_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("jupyter.sock");
        let engine = crate::workload::container::fake_engine::Fake::new(crate::workload::fixtures::engine());
        engine.state().runs_here = true;
        engine.add("id", "box", crate::engine::Phase::Running);
        let way = HostNetwork::new(
            engine,
            "id",
            Arc::new(crate::workload::running::StandIn(1)),
            Started::Before(Place {
                folder: dir.path().to_string_lossy().into_owned(),
                python: "python3".to_owned(),
            }),
        );
        let refused = way.dial(SOCKET_PORT).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let listener = UnixListener::bind(&socket).unwrap();
        for _ in 0..2 {
            let mut dialled = way.dial(SOCKET_PORT).await.unwrap();
            let (mut accepted, _) = listener.accept().await.unwrap();
            accepted.write_all(b"y").await.unwrap();
            assert_eq!(dialled.read_u8().await.unwrap(), b'y');
        }
    }
}
