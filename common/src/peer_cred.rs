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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        io::Read,
        os::{
            linux::net::SocketAddrExt,
            unix::net::{self, SocketAddr},
        },
        thread,
    };

    use rustix::{process::Uid, thread::set_thread_res_uid};

    use super::*;

    #[tokio::test]
    async fn another_user_is_not_heard_even_where_the_socket_can_be_reached() {
        if !rustix::process::geteuid().is_root() {
            return crate::not_run::not_run("only root can be another user");
        }
        // An abstract address has no file that would keep others out.
        let name = format!("jq-peer-cred-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let listener = net::UnixListener::bind_addr(&address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = UnixListener::from_std(listener).unwrap();
        let connect = {
            let address = address.clone();
            move || net::UnixStream::connect_addr(&address).unwrap()
        };
        let stranger = thread::spawn(move || {
            // Of this thread alone.
            let nobody = Uid::from_raw(65_534);
            set_thread_res_uid(nobody, nobody, nobody).unwrap();
            connect()
        });
        let mut stranger = stranger.join().unwrap();
        let _own = net::UnixStream::connect_addr(&address).unwrap();
        let accepted = accept_own(&listener).await;
        assert_eq!(
            accepted.peer_cred().unwrap().uid(),
            rustix::process::geteuid().as_raw()
        );
        assert_eq!(stranger.read(&mut [0]).unwrap(), 0, "it was closed");
    }
}
