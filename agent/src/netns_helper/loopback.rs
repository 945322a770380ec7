//! Connects to a port on loopback.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use jq_common::protocol::limits;
use tokio::{net::TcpStream, time::timeout};

/// Connects to `port` on this network namespace's 127.0.0.1, then on its ::1.
///
/// # Errors
/// The error of the first address, when both fail.
pub(crate) async fn dial_loopback(port: u16) -> io::Result<TcpStream> {
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
