//! The connection that carries a session, and what can be heard from it.

use std::future::pending;

use futures_util::future::BoxFuture;
use jq_common::session::streams::Moved;
use quinn::Endpoint;
use tokio::time::Instant;

use super::Event;
use crate::{
    connection::{bootstrap::Ssh, liveness::Liveness, paths::Path},
    session::core::Detached,
};

/// The connection that carries the session.
pub(super) struct Live {
    pub(super) since: Instant,
    /// What it goes through.
    pub(super) _ssh: Option<Ssh>,
    pub(super) path: Path,
    pub(super) connection: quinn::Connection,
    /// Closed last.
    pub(super) endpoint: Endpoint,
    pub(super) heart: Liveness,
    pub(super) talk: BoxFuture<'static, Detached>,
    pub(super) gone: BoxFuture<'static, ()>,
}

/// Bytes a second, each way.
#[derive(Default)]
pub(super) struct Meter {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) up: u64,
    pub(super) down: u64,
}

impl Live {
    pub(super) async fn next(live: &mut Option<Self>) -> Event {
        let Some(live) = live else {
            return pending().await;
        };
        tokio::select! {
            parted = &mut live.talk => Event::Detached(parted),
            silent = live.heart.changed() => Event::Silent(silent),
            () = &mut live.gone => Event::Gone,
        }
    }
}

impl Meter {
    pub(super) fn look(&mut self, moved: Moved) {
        self.up = moved.sent - self.sent;
        self.down = moved.received - self.received;
        (self.sent, self.received) = (moved.sent, moved.received);
    }
}
