//! The control stream of the connection that carries the session.

use jq_common::{
    codec::FrameError,
    protocol::{
        capabilities::Capabilities,
        session::{Close, Control},
    },
    session::control,
};
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};

use super::Session;

/// The control stream of the connection that carries the session.
pub struct ControlStream {
    /// What both ends of it can do.
    pub(super) capabilities: Capabilities,
    pub(super) send: SendStream,
    pub(super) receive: RecvStream,
}

/// Why a connection does not carry the session any more.
#[derive(Clone, Debug)]
pub enum Detached {
    /// The agent closed it with this code.
    Closed(Close),
    /// The agent is being replaced by a newer version.
    Restarting,
    /// It was lost.
    Lost(ConnectionError),
}

impl Session {
    /// Runs the control stream until the connection does not carry the session any more.
    pub async fn talk(&self, connection: &Connection, stream: &mut ControlStream) -> Detached {
        let ControlStream {
            capabilities,
            send,
            receive,
        } = stream;
        let mut subscribing = self
            .subscriptions
            .subscribe(capabilities.has(Capabilities::SUBSCRIBE));
        let heard = async {
            loop {
                let control = control::receive_frame(receive).await?;
                let path = connection.stats().path;
                self.streams.update_path(path.cwnd, path.rtt);
                match control {
                    Control::Restarting => return Ok::<_, FrameError>(()),
                    Control::Update { topic, value } => self.subscriptions.update(topic, &value),
                    control if self.streams.on_control(&control) => {}
                    _ => return Err(FrameError::Ended),
                }
            }
        };
        let failed = tokio::select! {
            _ = connection.closed() => None,
            heard = heard => match heard {
                Ok(()) => return Detached::Restarting,
                Err(error) => Some(error),
            },
            Err(error) = control::run_sender(&self.streams, &mut subscribing, send) => Some(error),
        };
        if let Some(error) = failed {
            tracing::debug!(%error, "control stream");
            if connection.close_reason().is_none() {
                // Only the control stream failed, which is an error of the agent.
                connection.close(VarInt::from_u32(0), b"");
            }
        }
        match connection.closed().await {
            ConnectionError::ApplicationClosed(close) => {
                match Close::from_wire(close.error_code.into_inner()) {
                    Some(close) => Detached::Closed(close),
                    None => Detached::Lost(ConnectionError::ApplicationClosed(close)),
                }
            }
            error => Detached::Lost(error),
        }
    }
}
