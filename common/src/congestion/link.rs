//! A simulated link with a queue and senders on it, without a clock: each run is the same.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

/// A congestion-controlled sender.
pub(super) trait Sender {
    fn window(&self, now: Instant) -> u64;
    fn sent(&mut self, now: Instant, bytes: u64);
    fn acked(&mut self, now: Instant, sent: Instant, bytes: u64, smoothed: Duration);
    fn acks_end(&mut self, now: Instant, in_flight: u64, app_limited: bool);
    fn lost(&mut self, now: Instant, sent: Instant, bytes: u64, persistent: bool);
}

/// The properties of the link. Times are round trips.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// Bits a second.
    pub(super) rate: f64,
    pub(super) round_trip: Duration,
    /// Bytes that fit into the queue.
    pub(super) queue: u64,
    /// Random loss rate, and how many packets are lost together.
    pub(super) loss: f64,
    pub(super) burst: u32,
    /// Largest delay of an acknowledgement, uniformly distributed.
    pub(super) jitter: Duration,
}

impl Link {
    pub(super) fn new(rate: f64, round_trip_ms: u64) -> Self {
        let round_trip = Duration::from_millis(round_trip_ms);
        Self {
            rate,
            round_trip,
            queue: (rate / 8.0 * round_trip.as_secs_f64()) as u64,
            loss: 0.0,
            burst: 1,
            jitter: Duration::ZERO,
        }
    }

    pub(super) fn bdp(&self) -> f64 {
        self.rate / 8.0 * self.round_trip.as_secs_f64()
    }
}

const PACKET: u64 = 1452;

/// Bytes sent at once (quinn's pacer).
const BURST: f64 = 10.0 * PACKET as f64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A packet of a flow arrives, and its acknowledgement is sent.
    Arrived { flow: usize, packet: u64 },
    /// A packet of a flow is acknowledged.
    Acked { flow: usize, packet: u64 },
    /// A flow may send.
    Send { flow: usize },
    /// Nothing was acknowledged for long.
    Silence { flow: usize },
}

struct Packet {
    at: Instant,
    lost: bool,
}

/// A sender on the link, and what became of its packets.
pub(super) struct Flow {
    pub(super) sender: Box<dyn Sender>,
    in_flight_packets: BTreeMap<u64, Packet>,
    next: u64,
    tokens: f64,
    filled_at: Instant,
    smoothed: Duration,
    acked_at: Instant,
    waits: bool,
    /// Bytes that arrived since the last query.
    pub(super) arrived: u64,
    /// Whether it sends in the other direction.
    pub(super) back: bool,
    /// Bytes a second that the application produces; none: unlimited.
    pub(super) app_rate: Option<f64>,
    app_bytes: f64,
    pub(super) round_trips: Vec<Duration>,
    pub(super) lost: u64,
}

pub(super) struct Lab {
    pub(super) link: Link,
    pub(super) flows: Vec<Flow>,
    pub(super) now: Instant,
    /// When the queue of each direction is empty.
    empty_at: [Instant; 2],
    events: BTreeMap<(Instant, u64), Event>,
    count: u64,
    pub(super) random: u64,
    losing: u32,
    queues: [VecDeque<Instant>; 2],
}

impl Lab {
    pub(super) fn new(link: Link, senders: Vec<Box<dyn Sender>>, now: Instant) -> Self {
        let flows = senders
            .into_iter()
            .map(|sender| Flow {
                sender,
                in_flight_packets: BTreeMap::new(),
                next: 0,
                tokens: BURST,
                filled_at: now,
                smoothed: link.round_trip,
                acked_at: now,
                waits: false,
                arrived: 0,
                back: false,
                app_rate: None,
                app_bytes: 0.0,
                round_trips: Vec::new(),
                lost: 0,
            })
            .collect::<Vec<_>>();
        let mut lab = Self {
            link,
            flows,
            now,
            empty_at: [now; 2],
            events: BTreeMap::new(),
            count: 0,
            random: 7,
            losing: 0,
            queues: Default::default(),
        };
        for flow in 0..lab.flows.len() {
            lab.at(now, Event::Send { flow });
            lab.at(now + Duration::from_secs(1), Event::Silence { flow });
        }
        lab
    }

    fn at(&mut self, when: Instant, event: Event) {
        self.count += 1;
        self.events.insert((when, self.count), event);
    }

    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Lets time pass. Returns the part of the link that each flow got.
    pub(super) fn run(&mut self, time: Duration) -> Vec<f64> {
        let until = self.now + time;
        for flow in &mut self.flows {
            flow.arrived = 0;
            flow.lost = 0;
            flow.round_trips.clear();
        }
        while let Some((&(when, _), _)) = self.events.first_key_value() {
            if when > until {
                break;
            }
            let Some((_, event)) = self.events.pop_first() else {
                break;
            };
            self.now = when;
            match event {
                Event::Arrived { flow, packet } => self.arrive(flow, packet),
                Event::Acked { flow, packet } => self.ack(flow, packet),
                Event::Send { flow } => {
                    self.flows[flow].waits = false;
                    self.send(flow);
                }
                Event::Silence { flow } => self.silence(flow),
            }
        }
        self.now = until;
        let all = self.link.rate / 8.0 * time.as_secs_f64();
        self.flows.iter().map(|flow| flow.arrived as f64 / all).collect()
    }

    fn send(&mut self, index: usize) {
        loop {
            let now = self.now;
            let flow = &mut self.flows[index];
            let window = flow.sender.window(now);
            if let Some(rate) = flow.app_rate {
                let app_bytes = rate * now.duration_since(flow.filled_at).as_secs_f64();
                flow.app_bytes = (flow.app_bytes + app_bytes).min(BURST);
            }
            let filled = window as f64 * 1.25 * now.duration_since(flow.filled_at).as_secs_f64()
                / flow.smoothed.as_secs_f64();
            let capacity =
                (window as f64 * 0.002 / flow.smoothed.as_secs_f64()).clamp(BURST, 256.0 * PACKET as f64);
            flow.tokens = (flow.tokens + filled).min(capacity);
            flow.filled_at = now;
            if flow.in_flight_packets.len() as u64 * PACKET + PACKET >= window {
                return;
            }
            if flow.app_rate.is_some() && flow.app_bytes < PACKET as f64 {
                return self.later(index, Duration::from_millis(1));
            }
            if flow.tokens < PACKET as f64 {
                let wait = (capacity - flow.tokens) / (window as f64 * 1.25) * flow.smoothed.as_secs_f64();
                return self.later(index, Duration::from_secs_f64(wait.max(1e-6)));
            }
            flow.tokens -= PACKET as f64;
            flow.app_bytes -= PACKET as f64;
            let packet = flow.next;
            flow.next += 1;
            flow.sender.sent(now, PACKET);
            let arrival = self.transmit(index);
            self.flows[index].in_flight_packets.insert(
                packet,
                Packet {
                    at: now,
                    lost: arrival.is_none(),
                },
            );
            if let Some(arrival) = arrival {
                self.at(arrival, Event::Arrived { flow: index, packet });
            }
        }
    }

    fn later(&mut self, index: usize, wait: Duration) {
        if !std::mem::replace(&mut self.flows[index].waits, true) {
            self.at(self.now + wait, Event::Send { flow: index });
        }
    }

    /// When a packet sent now arrives, unless it is lost.
    fn transmit(&mut self, index: usize) -> Option<Instant> {
        if self.losing == 0 && self.chance() < self.link.loss / f64::from(self.link.burst) {
            self.losing = self.link.burst;
        }
        if self.losing > 0 {
            self.losing -= 1;
            return None;
        }
        let direction = usize::from(self.flows[index].back);
        let queues = &mut self.queues[direction];
        while queues.front().is_some_and(|&gone| gone <= self.now) {
            queues.pop_front();
        }
        if (queues.len() as u64 + 1) * PACKET > self.link.queue + PACKET {
            return None;
        }
        let takes = Duration::from_secs_f64(PACKET as f64 * 8.0 / self.link.rate);
        self.empty_at[direction] = self.empty_at[direction].max(self.now) + takes;
        queues.push_back(self.empty_at[direction]);
        Some(self.empty_at[direction] + self.link.round_trip / 2)
    }

    /// The acknowledgement takes no bandwidth, but waits in the queue of its direction.
    fn arrive(&mut self, index: usize, packet: u64) {
        let direction = usize::from(!self.flows[index].back);
        let late = self.link.jitter.mul_f64(self.chance());
        let leaves = self.empty_at[direction].max(self.now);
        let heard = leaves + self.link.round_trip / 2 + late;
        self.at(heard, Event::Acked { flow: index, packet });
    }

    fn ack(&mut self, index: usize, number: u64) {
        let now = self.now;
        let flow = &mut self.flows[index];
        let Some(packet) = flow.in_flight_packets.remove(&number) else {
            return;
        };
        let round_trip = now - packet.at;
        flow.acked_at = now;
        flow.smoothed = (flow.smoothed * 7 + round_trip) / 8;
        flow.round_trips.push(round_trip);
        flow.arrived += PACKET;
        flow.sender.acked(now, packet.at, PACKET, flow.smoothed);
        let app_limited = flow.app_rate.is_some() && flow.app_bytes < PACKET as f64;
        // Acknowledgements come for every second packet.
        if number % 2 == 1 {
            let in_flight = flow.in_flight_packets.len() as u64 * PACKET;
            flow.sender.acks_end(now, in_flight, app_limited);
        }
        // Reordering: a packet counts as lost only when later ones are acknowledged.
        let gone: Vec<_> = flow
            .in_flight_packets
            .range(..number.saturating_sub(2))
            .filter(|(_, packet)| packet.lost)
            .map(|(&number, _)| number)
            .collect();
        if let Some(last) = gone.last() {
            let at = flow.in_flight_packets[last].at;
            for number in &gone {
                flow.in_flight_packets.remove(number);
            }
            let bytes = gone.len() as u64 * PACKET;
            flow.lost += bytes;
            flow.sender.lost(now, at, bytes, false);
        }
        self.send(index);
    }

    fn silence(&mut self, index: usize) {
        let now = self.now;
        let flow = &mut self.flows[index];
        if now - flow.acked_at > flow.smoothed * 3 + Duration::from_millis(100)
            && !flow.in_flight_packets.is_empty()
        {
            let bytes = flow.in_flight_packets.len() as u64 * PACKET;
            flow.in_flight_packets.retain(|_, packet| !packet.lost);
            flow.sender.lost(now, flow.acked_at, bytes, true);
            self.send(index);
        }
        self.at(now + Duration::from_millis(200), Event::Silence { flow: index });
    }
}

/// TCP CUBIC (RFC 9438), without HyStart++ (RFC 9406).
pub(super) struct Cubic {
    window: f64,
    threshold: f64,
    largest: f64,
    cut_at: Instant,
    round_trip: Duration,
    reno: f64,
}

impl Cubic {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            window: 10.0,
            threshold: f64::MAX,
            largest: 0.0,
            cut_at: now,
            round_trip: Duration::from_millis(100),
            reno: 0.0,
        }
    }
}

impl Sender for Cubic {
    fn window(&self, _now: Instant) -> u64 {
        (self.window * PACKET as f64) as u64
    }

    fn sent(&mut self, _now: Instant, _bytes: u64) {}

    fn acked(&mut self, now: Instant, sent: Instant, _bytes: u64, _smoothed: Duration) {
        self.round_trip = now - sent;
        if self.window < self.threshold {
            self.window += 1.0;
            return;
        }
        let flat = (self.largest * 0.3 / 0.4).cbrt();
        let time = (now + self.round_trip - self.cut_at).as_secs_f64() - flat;
        let target = (0.4 * time.powi(3) + self.largest).clamp(self.window, self.window * 1.5);
        self.reno += 0.53 / self.window;
        let next = self.window + (target - self.window) / self.window;
        self.window = next.max(self.reno);
    }

    fn acks_end(&mut self, _now: Instant, _in_flight: u64, _app_limited: bool) {}

    fn lost(&mut self, now: Instant, sent: Instant, _bytes: u64, persistent: bool) {
        if sent < self.cut_at && !persistent {
            return;
        }
        self.largest = if self.window < self.largest {
            self.window * 0.85
        } else {
            self.window
        };
        self.window = if persistent {
            2.0
        } else {
            (self.window * 0.7).max(2.0)
        };
        self.reno = self.window;
        self.threshold = self.window;
        self.cut_at = now;
    }
}
