//! Accepting on a role's control socket.

use std::time::Duration;

use tokio::{
    net::{UnixListener, UnixStream},
    time::sleep,
};

/// The next connection of this very user. Others are dropped, and a process out of descriptors waits for some.
pub async fn accept_own(listener: &UnixListener) -> UnixStream {
    let own = rustix::process::geteuid().as_raw();
    loop {
        match listener.accept().await {
            Ok((stream, _)) if stream.peer_cred().is_ok_and(|peer| peer.uid() == own) => return stream,
            Ok(_) => tracing::warn!("another user tried the control socket"),
            Err(error) => {
                tracing::warn!(%error, "control socket");
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
}
