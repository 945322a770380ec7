//! The way into a workload's network.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    net::Ipv4Addr,
    sync::Arc,
};

use jq_common::protocol::limits;
use tokio::{net::TcpStream, time::timeout};

use super::container::helper::Helper;
use crate::netns_helper;

/// A workload's network: connects to ports on its loopback.
pub(crate) struct Network(Way);

enum Way {
    /// The host's own, with the Jupyter that listens there.
    Host(Option<Own>),
    /// A container, through the helper in it.
    Container(Arc<Helper>),
    /// Every port is this one of the host.
    #[cfg(test)]
    Stand(u16),
}

/// A port that must be a user's own: what is sent there is for nobody else on the host.
#[derive(Clone, Copy)]
struct Own {
    port: u16,
    uid: u32,
}

impl Network {
    /// The host's own, without a Jupyter.
    pub(crate) fn host() -> Self {
        Self(Way::Host(None))
    }

    /// The host's own. `port` leads to a listener of `uid` on 127.0.0.1 and to nothing else.
    pub(crate) fn host_with(port: u16, uid: u32) -> Self {
        Self(Way::Host(Some(Own { port, uid })))
    }

    /// A container's.
    pub(crate) fn container(helper: Arc<Helper>) -> Self {
        Self(Way::Container(helper))
    }

    /// A network where every port is `port` of this machine.
    #[cfg(test)]
    pub(crate) fn stand(port: u16) -> Self {
        Self(Way::Stand(port))
    }

    /// Connects to `port` on the workload's 127.0.0.1, then on its ::1. The helper in a container is started anew when
    /// it is gone, or when the container has been restarted since. Dropping the future leaves nothing half done.
    ///
    /// Jupyter's own port on the host is on 127.0.0.1 only.
    ///
    /// # Errors
    /// The connect's own; `NotConnected` when there is no way into the container; `PermissionDenied` when another user
    /// listens on Jupyter's port.
    pub(crate) async fn dial(&self, port: u16) -> io::Result<TcpStream> {
        match &self.0 {
            Way::Host(Some(own)) if own.port == port => own.dial().await,
            Way::Host(_) => netns_helper::dial_loopback(port).await,
            Way::Container(helper) => helper.dial(port).await,
            #[cfg(test)]
            Way::Stand(stand) => netns_helper::dial_loopback(*stand).await,
        }
    }
}

impl Own {
    /// Looks before and after: whoever takes the port in between is seen.
    async fn dial(self) -> io::Result<TcpStream> {
        self.check().await?;
        let connect = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        let stream = timeout(limits::DIAL, connect).await??;
        self.check().await?;
        Ok(stream)
    }

    async fn check(self) -> io::Result<()> {
        let find = move || listener(BufReader::new(File::open("/proc/net/tcp")?), self.port);
        let found = tokio::task::spawn_blocking(find)
            .await
            .map_err(io::Error::other)??;
        match found {
            Some(uid) if uid == self.uid => Ok(()),
            Some(uid) => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("another user (uid {uid}) listens on port {}", self.port),
            )),
            None => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

/// Whose socket listens on `port` of 127.0.0.1, by the table in `/proc/net/tcp` (proc_net_tcp(5)).
fn listener(table: impl BufRead, port: u16) -> io::Result<Option<u32>> {
    const LISTENS: &str = "0A";
    // In memory order, as the table has it.
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
        let find = |port| listener(table.as_bytes(), port);
        assert_eq!(find(8888).unwrap(), Some(1000));
        assert_eq!(find(8889).unwrap(), None);
        assert!(find(8890).is_err() && find(8891).is_err());
    }

    #[tokio::test]
    async fn jupyters_port_leads_to_its_owner_alone() {
        let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = service.local_addr().unwrap().port();
        Network::host_with(port, uid()).dial(port).await.unwrap();
        let other = Network::host_with(port, uid() + 1).dial(port).await;
        assert_eq!(other.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        drop(service);
        let gone = Network::host_with(port, uid()).dial(port).await;
        assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn only_other_ports_fall_back_to_ipv6() {
        let Ok(service) = TcpListener::bind("[::1]:0").await else {
            return; // No IPv6 here.
        };
        let port = service.local_addr().unwrap().port();
        Network::host().dial(port).await.unwrap();
        let own = Network::host_with(port, uid()).dial(port).await;
        assert_eq!(own.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
