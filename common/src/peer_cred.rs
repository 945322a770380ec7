//! Accepting on a control socket only connections of the same user (`SO_PEERCRED`, unix(7)).

use std::time::Duration;

use tokio::{
    net::{UnixListener, UnixStream},
    time::sleep,
};

/// Pause after an accept failed: a process without free descriptors waits for one.
const PAUSE: Duration = Duration::from_millis(200);

/// The next connection of the same user. Those of other users are dropped.
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
