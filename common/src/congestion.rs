//! The congestion controller of a path: fills the link, keeps its queue short, and does not back off for random loss.
//!
//! Loss is a poor signal on wireless and mobile links, and a full queue delays every stream. So the congestion window follows
//! two measurements: the delivery rate (`delivery`, as in BBR, draft-ietf-ccwg-bbr) and the standing queue over whole round
//! trips (`window`, as in Copa and LEDBAT++). Where other flows keep the queue full, it competes as Reno does
//! (`competition`). While nothing is acknowledged, one extra packet may carry an acknowledgement (`ack_probe`).

mod ack_probe;
mod bandwidth_filter;
mod competition;
mod delivery;
mod limits;
#[cfg(test)]
mod link;
mod min_rtt;
mod window;

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

use ack_probe::AckProbe;
use delivery::Deliveries;
use window::Window;

/// Makes the controller of each path of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Congestion;

impl ControllerFactory for Congestion {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Path::new(now, current_mtu))
    }
}

/// The controller of one path.
#[derive(Clone, Debug)]
struct Path {
    deliveries: Deliveries,
    window: Window,
    ack_probe: AckProbe,
}

impl Path {
    fn new(now: Instant, mtu: u16) -> Self {
        Self {
            deliveries: Deliveries::new(now),
            window: Window::new(now, mtu.into()),
            ack_probe: AckProbe::new(now),
        }
    }

    /// `clock` is that of [`Self::window_at`], which quinn asks before each packet; `now` may be older.
    fn sent(&mut self, now: Instant, bytes: u64, clock: impl FnOnce() -> Instant) {
        if !self.has_room() {
            self.ack_probe.sent_beyond(clock());
        }
        self.deliveries.sent(now, bytes);
    }

    fn acked(&mut self, now: Instant, sent: Instant, bytes: u64, round_trip: Duration) {
        self.ack_probe.heard(now, round_trip);
        self.deliveries.acked(now, sent, bytes);
    }

    fn acks_end(&mut self, now: Instant, in_flight: u64, app_limited: bool) {
        if let Some(sample) = self.deliveries.acks_end(now, in_flight, app_limited) {
            self.window.on_sample(now, &sample);
        }
    }

    fn lost(&mut self, bytes: u64, persistent: bool) {
        self.deliveries.lost(bytes);
        self.window.lost(bytes, persistent);
    }

    /// The congestion window in bytes, at the time of `clock` where that matters.
    fn window_at(&self, clock: impl FnOnce() -> Instant) -> u64 {
        let bytes = self.window.bytes();
        if self.has_room() || !self.ack_probe.may_leave(clock()) {
            return bytes;
        }
        // quinn sends a packet when it leaves some of the window unused.
        bytes.max(self.deliveries.in_flight() + 2 * self.window.packet())
    }

    fn has_room(&self) -> bool {
        self.deliveries.in_flight() + self.window.packet() < self.window.bytes()
    }
}

impl Controller for Path {
    fn on_sent(&mut self, now: Instant, bytes: u64, _last_packet_number: u64) {
        self.sent(now, bytes, Instant::now);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, _app_limited: bool, rtt: &RttEstimator) {
        self.acked(now, sent, bytes, rtt.get());
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, _largest_acked: Option<u64>) {
        self.acks_end(now, in_flight, app_limited);
    }

    fn on_congestion_event(
        &mut self,
        _now: Instant,
        _sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.lost(lost_bytes, is_persistent_congestion);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.window.set_mtu(new_mtu.into());
    }

    fn window(&self) -> u64 {
        self.window_at(Instant::now)
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.window.initial()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests;
