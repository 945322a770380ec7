//! A link with a queue, and senders on it, without a clock: what a controller does there is the same each time.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

/// What sends by a window.
pub(super) trait Sender {
    fn window(&self, now: Instant) -> u64;
    fn sent(&mut self, now: Instant, bytes: u64);
    fn acked(&mut self, now: Instant, sent: Instant, bytes: u64, smoothed: Duration);
    fn acks_end(&mut self, now: Instant, in_flight: u64, app_limited: bool);
    fn lost(&mut self, now: Instant, sent: Instant, bytes: u64, persistent: bool);
}

/// What the link is like. Times are of one whole way there and back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// Bits a second.
    pub(super) rate: f64,
    pub(super) round_trip: Duration,
    /// Bytes that may wait.
    pub(super) queue: u64,
    /// Part of the packets that is lost, whatever waits, and how many are lost together.
    pub(super) loss: f64,
    pub(super) burst: u32,
    /// Most that an acknowledgement may be late, evenly spread.
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

    pub(super) fn holds(&self) -> f64 {
        self.rate / 8.0 * self.round_trip.as_secs_f64()
    }
}

const PACKET: u64 = 1452;

/// Bytes that leave at once (quinn's pacer).
const BURST: f64 = 10.0 * PACKET as f64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A packet of a flow arrives, and its acknowledgement leaves.
    Arrived { flow: usize, packet: u64 },
    /// A packet of a flow is acknowledged.
    Acked { flow: usize, packet: u64 },
    /// A flow may send.
    Send { flow: usize },
    /// A flow has heard nothing for long.
    Silence { flow: usize },
}

struct Packet {
    at: Instant,
    lost: bool,
}

/// A sender on the link, and what became of what it sent.
pub(super) struct Flow {
    pub(super) sender: Box<dyn Sender>,
    under_way: BTreeMap<u64, Packet>,
    next: u64,
    tokens: f64,
    filled_at: Instant,
    smoothed: Duration,
    heard_at: Instant,
    held_up: bool,
    /// Bytes that arrived, since the last look.
    pub(super) arrived: u64,
    /// Whether it goes the other way, against the flows that do not.
    pub(super) back: bool,
    /// Of this many bytes a second the application has (none: as many as it may send).
    pub(super) offers: Option<f64>,
    offered: f64,
    pub(super) round_trips: Vec<Duration>,
    pub(super) lost: u64,
}

pub(super) struct Lab {
    pub(super) link: Link,
    pub(super) flows: Vec<Flow>,
    pub(super) now: Instant,
    /// When each way has sent what waits for it.
    free_at: [Instant; 2],
    events: BTreeMap<(Instant, u64), Event>,
    count: u64,
    pub(super) random: u64,
    losing: u32,
    waiting: [VecDeque<Instant>; 2],
}

impl Lab {
    pub(super) fn new(link: Link, senders: Vec<Box<dyn Sender>>, now: Instant) -> Self {
        let flows = senders
            .into_iter()
            .map(|sender| Flow {
                sender,
                under_way: BTreeMap::new(),
                next: 0,
                tokens: BURST,
                filled_at: now,
                smoothed: link.round_trip,
                heard_at: now,
                held_up: false,
                arrived: 0,
                back: false,
                offers: None,
                offered: 0.0,
                round_trips: Vec::new(),
                lost: 0,
            })
            .collect::<Vec<_>>();
        let mut lab = Self {
            link,
            flows,
            now,
            free_at: [now; 2],
            events: BTreeMap::new(),
            count: 0,
            random: 7,
            losing: 0,
            waiting: Default::default(),
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

    /// Lets so much time pass, and gives the part of the link that each flow had.
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
                    self.flows[flow].held_up = false;
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
            if let Some(rate) = flow.offers {
                let offered = rate * now.duration_since(flow.filled_at).as_secs_f64();
                flow.offered = (flow.offered + offered).min(BURST);
            }
            let filled = window as f64 * 1.25 * now.duration_since(flow.filled_at).as_secs_f64()
                / flow.smoothed.as_secs_f64();
            let capacity =
                (window as f64 * 0.002 / flow.smoothed.as_secs_f64()).clamp(BURST, 256.0 * PACKET as f64);
            flow.tokens = (flow.tokens + filled).min(capacity);
            flow.filled_at = now;
            if flow.under_way.len() as u64 * PACKET + PACKET >= window {
                return;
            }
            if flow.offers.is_some() && flow.offered < PACKET as f64 {
                return self.later(index, Duration::from_millis(1));
            }
            if flow.tokens < PACKET as f64 {
                let wait = (capacity - flow.tokens) / (window as f64 * 1.25) * flow.smoothed.as_secs_f64();
                return self.later(index, Duration::from_secs_f64(wait.max(1e-6)));
            }
            flow.tokens -= PACKET as f64;
            flow.offered -= PACKET as f64;
            let packet = flow.next;
            flow.next += 1;
            flow.sender.sent(now, PACKET);
            let arrival = self.carry(index);
            self.flows[index].under_way.insert(
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
        if !std::mem::replace(&mut self.flows[index].held_up, true) {
            self.at(self.now + wait, Event::Send { flow: index });
        }
    }

    /// When a packet arrives that leaves now, unless it is lost.
    fn carry(&mut self, index: usize) -> Option<Instant> {
        if self.losing == 0 && self.chance() < self.link.loss / f64::from(self.link.burst) {
            self.losing = self.link.burst;
        }
        if self.losing > 0 {
            self.losing -= 1;
            return None;
        }
        let way = usize::from(self.flows[index].back);
        let waiting = &mut self.waiting[way];
        while waiting.front().is_some_and(|&gone| gone <= self.now) {
            waiting.pop_front();
        }
        if (waiting.len() as u64 + 1) * PACKET > self.link.queue + PACKET {
            return None;
        }
        let takes = Duration::from_secs_f64(PACKET as f64 * 8.0 / self.link.rate);
        self.free_at[way] = self.free_at[way].max(self.now) + takes;
        waiting.push_back(self.free_at[way]);
        Some(self.free_at[way] + self.link.round_trip / 2)
    }

    /// The acknowledgement is small, but waits behind what goes its way.
    fn arrive(&mut self, index: usize, packet: u64) {
        let way = usize::from(!self.flows[index].back);
        let late = self.link.jitter.mul_f64(self.chance());
        let leaves = self.free_at[way].max(self.now);
        let heard = leaves + self.link.round_trip / 2 + late;
        self.at(heard, Event::Acked { flow: index, packet });
    }

    fn ack(&mut self, index: usize, number: u64) {
        let now = self.now;
        let flow = &mut self.flows[index];
        let Some(packet) = flow.under_way.remove(&number) else {
            return;
        };
        let round_trip = now - packet.at;
        flow.heard_at = now;
        flow.smoothed = (flow.smoothed * 7 + round_trip) / 8;
        flow.round_trips.push(round_trip);
        flow.arrived += PACKET;
        flow.sender.acked(now, packet.at, PACKET, flow.smoothed);
        let app_limited = flow.offers.is_some() && flow.offered < PACKET as f64;
        // Acknowledgements come for every second packet.
        if number % 2 == 1 {
            let in_flight = flow.under_way.len() as u64 * PACKET;
            flow.sender.acks_end(now, in_flight, app_limited);
        }
        // With jitter, a packet is lost only when others are long past it.
        let gone: Vec<_> = flow
            .under_way
            .range(..number.saturating_sub(2))
            .filter(|(_, packet)| packet.lost)
            .map(|(&number, _)| number)
            .collect();
        if let Some(last) = gone.last() {
            let at = flow.under_way[last].at;
            for number in &gone {
                flow.under_way.remove(number);
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
        if now - flow.heard_at > flow.smoothed * 3 + Duration::from_millis(100) && !flow.under_way.is_empty()
        {
            let bytes = flow.under_way.len() as u64 * PACKET;
            flow.under_way.retain(|_, packet| !packet.lost);
            flow.sender.lost(now, flow.heard_at, bytes, true);
            self.send(index);
        }
        self.at(now + Duration::from_millis(200), Event::Silence { flow: index });
    }
}

/// TCP as laptops run it (RFC 9438), with the slow start of RFC 9406 left out.
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
