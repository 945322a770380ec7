//! How much may be under way on a path: as much as it carries, with hardly a queue, whatever it loses.
//!
//! Loss says little on the links that people have, and a queue that is kept full makes every other stream wait. So the
//! window follows what is measured: the rate at which bytes arrive ([`delivery`], as BBR does it, draft-ietf-ccwg-bbr) and
//! the queue that stands for whole round trips ([`window`], as Copa and LEDBAT++ look for it). Where others keep the queue
//! full anyway, it competes for a share as Reno does ([`crowd`]).

mod crowd;
mod delivery;
#[cfg(test)]
mod link;
mod rates;
mod window;

use std::{any::Any, sync::Arc, time::Instant};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

use delivery::Deliveries;
use window::Window;

/// Makes the controller of each path of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Congestion;

impl ControllerFactory for Congestion {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Path::new(now, current_mtu))
    }
}

/// What is known of one path.
#[derive(Clone, Debug)]
struct Path {
    deliveries: Deliveries,
    window: Window,
}

impl Path {
    fn new(now: Instant, mtu: u16) -> Self {
        Self {
            deliveries: Deliveries::new(now),
            window: Window::new(now, mtu.into()),
        }
    }

    fn sent(&mut self, now: Instant, bytes: u64) {
        self.deliveries.sent(now, bytes);
    }

    fn acked(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.deliveries.acked(now, sent, bytes);
    }

    fn acks_end(&mut self, now: Instant, in_flight: u64, starved: bool) {
        if let Some(sample) = self.deliveries.acks_end(now, in_flight, starved) {
            self.window.take(now, &sample);
        }
    }

    fn lost(&mut self, bytes: u64, persistent: bool) {
        self.window.lost(bytes, persistent);
    }
}

impl Controller for Path {
    fn on_sent(&mut self, now: Instant, bytes: u64, _last_packet_number: u64) {
        self.sent(now, bytes);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, _app_limited: bool, _rtt: &RttEstimator) {
        self.acked(now, sent, bytes);
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
        self.window.bytes()
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
