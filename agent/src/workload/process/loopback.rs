//! The network of processes of the host: the host's own loopback.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    net::Ipv4Addr,
};

use futures_util::future::BoxFuture;
use jq_common::protocol::limits;
use tokio::{net::TcpStream, time::timeout};

use crate::{netns_helper::dial_loopback, run_blocking::run_blocking, workload::RunningWorkload};

/// Processes of the host, with the port of their Jupyter if there is one.
pub(crate) struct HostProcesses(Option<OwnPort>);

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
    pub(crate) fn with_jupyter(port: u16, uid: u32) -> Self {
        Self(Some(OwnPort { port, uid }))
    }
}

impl RunningWorkload for HostProcesses {
    fn dial(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>> {
        match self.0 {
            Some(own) if own.port == port => Box::pin(own.dial()),
            _ => Box::pin(dial_loopback(port)),
        }
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
        HostProcesses::with_jupyter(port, uid()).dial(port).await.unwrap();
        let other = HostProcesses::with_jupyter(port, uid() + 1).dial(port).await;
        assert_eq!(other.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        drop(service);
        let gone = HostProcesses::with_jupyter(port, uid()).dial(port).await;
        assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn only_other_ports_fall_back_to_ipv6() {
        let Ok(service) = TcpListener::bind("[::1]:0").await else {
            return crate::not_run::not_run("this machine has no ::1");
        };
        let port = service.local_addr().unwrap().port();
        HostProcesses::without_jupyter().dial(port).await.unwrap();
        let own = HostProcesses::with_jupyter(port, uid()).dial(port).await;
        assert_eq!(own.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
