//! Says how the connection is, to all who want to know.

use std::time::Duration;

use jq_common::session::streams::Moved;
use tokio::{
    sync::watch,
    time::{Instant, Interval, interval_at},
};

use super::carriers::Carriers;
use crate::{
    connection::supervisor::Supervisor,
    resumable_session::Session,
    status::{State, Status},
    ticker::{self, TICK},
};

/// Publishes the status.
pub(super) struct Publisher {
    status: watch::Sender<Status>,
    tick: Interval,
    /// What had been moved at the last tick.
    moved: Moved,
}

impl Publisher {
    pub(super) fn new(host: String) -> Self {
        Self {
            status: watch::Sender::new(Status {
                host,
                state: State::Connected,
                path: None,
                round_trip: None,
                down_per_s: 0,
                up_per_s: 0,
                connections: 0,
                outage: None,
                lost: None,
            }),
            tick: interval_at(ticker::next(), TICK),
            moved: Moved::default(),
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Returns once a second, when the numbers are to be looked at. Dropping the future loses nothing.
    pub(super) async fn tick(&mut self) {
        self.tick.tick().await;
    }

    /// Takes what was moved since the last tick.
    pub(super) fn measure(&mut self, session: &Session) {
        let moved = session.moved();
        self.status.send_modify(|status| {
            status.up_per_s = moved.sent - self.moved.sent;
            status.down_per_s = moved.received - self.moved.received;
        });
        self.moved = moved;
    }

    /// Publishes how the connection is. `ended` is the length of an outage, if one may just have ended.
    pub(super) fn publish(
        &self,
        supervisor: &Supervisor,
        carriers: &Carriers,
        session: &Session,
        ended: Option<Duration>,
    ) {
        let now = Instant::now().into_std();
        self.status.send_modify(|status| {
            status.state = supervisor.state(now);
            status.path = carriers.path().map(ToString::to_string);
            status.round_trip = carriers.round_trip();
            status.connections = session.len();
            status.outage = supervisor.outage(now).or(ended);
            status.lost = supervisor.loss();
        });
    }
}
