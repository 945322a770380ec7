//! The network of processes of the host: the host's own loopback, and the socket of their Jupyter.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    net::Ipv4Addr,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::PathBuf,
};

use futures_util::future::BoxFuture;
use jq_common::protocol::limits;
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_util::either::Either;

use crate::{
    netns_helper::dial_loopback,
    run_blocking::run_blocking,
    workload::{Connected, RunningWorkload, jupyter},
};

/// Processes of the host, with the way to their Jupyter if there is one.
pub(crate) struct HostProcesses(Option<Jupyter>);

enum Jupyter {
    /// Of a build before sockets.
    Port(OwnPort),
    Socket(OwnSocket),
}

/// A port that must belong to a user: what is sent there is not meant for others on the host.
#[derive(Clone, Copy)]
struct OwnPort {
    port: u16,
    uid: u32,
}

impl HostProcesses {
    /// Processes without a Jupyter.
    pub(crate) fn without_jupyter() -> Self {
        Self(None)
    }

    /// Processes with a Jupyter of `uid` on `port` of 127.0.0.1. Connections to that port reach no other listener.
    pub(crate) fn with_port(port: u16, uid: u32) -> Self {
        Self(Some(Jupyter::Port(OwnPort { port, uid })))
    }

    /// Processes with a Jupyter of `uid` on the Unix socket `path`.
    pub(crate) fn with_socket(path: PathBuf, uid: u32) -> Self {
        Self(Some(Jupyter::Socket(OwnSocket { path, uid })))
    }
}

impl RunningWorkload for HostProcesses {
    fn dial(&self, port: u16) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(async move {
            match &self.0 {
                Some(Jupyter::Port(own)) if own.port == port => own.dial().await.map(Either::Left),
                Some(Jupyter::Socket(own)) if port == jupyter::SOCKET_PORT => {
                    own.dial().await.map(Either::Right)
                }
                _ => dial_loopback(port).await.map(Either::Left),
            }
        })
    }
}

/// A socket in a folder that only its user can enter.
struct OwnSocket {
    path: PathBuf,
    uid: u32,
}

impl OwnSocket {
    async fn dial(&self) -> io::Result<UnixStream> {
        let found = std::fs::symlink_metadata(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::ErrorKind::ConnectionRefused.into(),
            _ => error,
        })?;
        if found.uid() != self.uid || !found.file_type().is_socket() {
            let message = format!("{} is not a socket of this user", self.path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        if found.mode() & 0o077 != 0 {
            // It gets its mode before anybody listens on it.
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        timeout(limits::DIAL, UnixStream::connect(&self.path)).await?
    }
}

impl OwnPort {
    /// Checks the owner before and after connecting, so that a listener that took the port in between is noticed.
    async fn dial(self) -> io::Result<TcpStream> {
        self.check().await?;
        let connect = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        let stream = timeout(limits::DIAL, connect).await??;
        self.check().await?;
        Ok(stream)
    }

    async fn check(self) -> io::Result<()> {
        let find = move || listener_uid(BufReader::new(File::open("/proc/net/tcp")?), self.port);
        match run_blocking(find).await? {
            Some(uid) if uid == self.uid => Ok(()),
            Some(uid) => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("another user (uid {uid}) listens on port {}", self.port),
            )),
            None => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

/// The uid of the socket that listens on `port` of 127.0.0.1, from `/proc/net/tcp` (proc_net_tcp(5)).
fn listener_uid(table: impl BufRead, port: u16) -> io::Result<Option<u32>> {
    const LISTENS: &str = "0A";
    // The table has addresses in memory order.
    let loopback = u32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets());
    let address = format!("{loopback:08X}:{port:04X}");
    for line in table.lines() {
        let line = line?;
        let mut fields = line.split_ascii_whitespace().skip(1);
        if fields.next() == Some(&address) && fields.nth(1) == Some(LISTENS) {
            let uid = fields.nth(3).and_then(|uid| uid.parse().ok());
            return uid.map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn the_listener_on_loopback_is_found_with_its_owner() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:22B8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     7        0 1 1 0 100 0 0 10 0
   1: 0100007F:22B9 0100007F:0050 01 00000000:00000000 00:00000000 00000000     8        0 2 1 0 100 0 0 10 0
   2: 0100007F:22B8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 3 1 0 100 0 0 10 0
   3: 0100007F:22BA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     x        0 4 1 0 100 0 0 10 0
   4: 0100007F:22BB 00000000:0000 0A
";
        let find = |port| listener_uid(table.as_bytes(), port);
        assert_eq!(find(8888).unwrap(), Some(1000));
        assert_eq!(find(8889).unwrap(), None);
        assert!(find(8890).is_err() && find(8891).is_err());
    }

    #[tokio::test]
    async fn jupyters_port_is_connected_only_if_its_owner_listens() {
        let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = service.local_addr().unwrap().port();
        HostProcesses::with_port(port, uid()).dial(port).await.unwrap();
        let other = HostProcesses::with_port(port, uid() + 1).dial(port).await;
        assert_eq!(other.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        drop(service);
        let gone = HostProcesses::with_port(port, uid()).dial(port).await;
        assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn jupyters_socket_is_connected_only_if_it_is_private_and_its_users() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let dial = |uid| {
            let running = HostProcesses::with_socket(path.clone(), uid);
            async move {
                running
                    .dial(jupyter::SOCKET_PORT)
                    .await
                    .map_err(|error| error.kind())
            }
        };
        assert_eq!(dial(uid()).await.unwrap_err(), io::ErrorKind::ConnectionRefused);
        let _service = tokio::net::UnixListener::bind(&path).unwrap();
        let set_mode = |mode| {
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        set_mode(0o666);
        assert_eq!(dial(uid()).await.unwrap_err(), io::ErrorKind::ConnectionRefused);
        set_mode(0o600);
        dial(uid()).await.unwrap();
        assert_eq!(
            dial(uid() + 1).await.unwrap_err(),
            io::ErrorKind::PermissionDenied
        );
    }

    #[tokio::test]
    async fn only_other_ports_fall_back_to_ipv6() {
        let Ok(service) = TcpListener::bind("[::1]:0").await else {
            return crate::not_run::not_run("this machine has no ::1");
        };
        let port = service.local_addr().unwrap().port();
        HostProcesses::without_jupyter().dial(port).await.unwrap();
        let own = HostProcesses::with_port(port, uid()).dial(port).await;
        assert_eq!(own.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
