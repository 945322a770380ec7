//! Connections between processes of one user on one machine, over a control socket.

use std::time::Duration;

use tokio::{
    net::{UnixListener, UnixStream},
    time::sleep,
};

/// After accepting failed: a process that is out of descriptors waits for some.
const PAUSE: Duration = Duration::from_millis(200);

/// The next connection of this very user; those of others are dropped.
pub async fn accept_own(listener: &UnixListener) -> UnixStream {
    let own = rustix::process::geteuid().as_raw();
    loop {
        match listener.accept().await {
            Ok((stream, _)) if stream.peer_cred().is_ok_and(|peer| peer.uid() == own) => return stream,
            Ok(_) => tracing::warn!("another user tried the control socket"),
            Err(error) => {
                tracing::warn!(%error, "control socket");
                sleep(PAUSE).await;
            }
        }
    }
}
