//! The helper process.

use std::{
    fs::Permissions,
    io,
    os::{fd::AsFd, unix::fs::PermissionsExt},
    path::Path,
    time::Duration,
};

use jq_common::peer_cred;
use tokio::{
    io::{AsyncReadExt, Interest},
    net::{TcpStream, UnixListener, UnixStream},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use super::{loopback::dial_loopback, message::MESSAGE};
use crate::fd_passing;

/// How long an agent may take to connect.
const AGENT: Duration = Duration::from_secs(60);

/// Runs the role: listens at `path` for one agent of the same user, and ends with its connection.
///
/// # Errors
/// `TimedOut` when no agent connects; an error of the socket.
pub async fn run(path: &Path) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    let agent = timeout(AGENT, peer_cred::accept_own(&listener))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no agent has connected"));
    // Nobody else is to connect. Best effort: the file goes with the container.
    let _ = std::fs::remove_file(path);
    drop(listener);
    serve(agent?).await
}

async fn serve(agent: UnixStream) -> io::Result<()> {
    let (mut requests, replies) = agent.into_split();
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
        let socket = result.as_ref().ok().filter(|_| sent == 0).map(AsFd::as_fd);
        sent += stream
            .async_io(Interest::WRITABLE, || {
                fd_passing::send(stream, &message[sent..], socket.as_slice())
            })
            .await?;
    }
    Ok(())
}
