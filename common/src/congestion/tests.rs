use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{
    Path,
    link::{Cubic, Lab, Link, Sender},
};

impl Sender for Path {
    fn window(&self, now: Instant) -> u64 {
        self.window_at(|| now)
    }

    fn sent(&mut self, now: Instant, bytes: u64) {
        Self::sent(self, now, bytes, || now);
    }

    fn acked(&mut self, now: Instant, sent: Instant, bytes: u64, smoothed: Duration) {
        Self::acked(self, now, sent, bytes, smoothed);
    }

    fn acks_end(&mut self, now: Instant, in_flight: u64, app_limited: bool) {
        Self::acks_end(self, now, in_flight, app_limited);
    }

    fn lost(&mut self, _now: Instant, _sent: Instant, bytes: u64, persistent: bool) {
        Self::lost(self, bytes, persistent);
    }
}

fn alone(link: Link) -> Lab {
    let now = Instant::now();
    Lab::new(link, vec![Box::new(Path::new(now, 1452))], now)
}

fn secs(secs: f64) -> Duration {
    Duration::from_secs_f64(secs)
}

/// The part of the link that a flow got, the 95th percentile of its round trips, and its loss rate.
struct Seen {
    part: f64,
    round_trip: Duration,
    lost: f64,
}

fn seen(lab: &mut Lab, time: f64) -> Vec<Seen> {
    let parts = lab.run(secs(time));
    let mut seen = Vec::new();
    for (flow, part) in lab.flows.iter_mut().zip(parts) {
        flow.round_trips.sort_unstable();
        let nearly_all = flow.round_trips.len() * 95 / 100;
        seen.push(Seen {
            part,
            round_trip: flow.round_trips.get(nearly_all).copied().unwrap_or_default(),
            lost: flow.lost as f64 / (flow.arrived + flow.lost).max(1) as f64,
        });
    }
    seen
}

/// One flow alone, after its first seconds.
fn settled(link: Link) -> Seen {
    let mut lab = alone(link);
    lab.run(secs(3.0));
    seen(&mut lab, 20.0).remove(0)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_clean_link_is_filled_and_its_queue_stays_short() {
    for (link, longest) in [
        (Link::new(100e6, 40), ms(45)),
        (
            Link {
                queue: 2_500_000,
                ..Link::new(20e6, 150)
            },
            ms(165),
        ),
        (
            Link {
                queue: 100_000,
                ..Link::new(1e6, 50)
            },
            ms(140),
        ),
    ] {
        let seen = settled(link);
        assert!(seen.part > 0.98, "{link:?}: {}", seen.part);
        assert!(seen.round_trip < longest, "{link:?}: {:?}", seen.round_trip);
        assert!(seen.lost < 0.001, "{link:?}: {}", seen.lost);
    }
}

#[test]
fn random_loss_costs_no_more_bandwidth_than_itself() {
    let link = Link::new(100e6, 40);
    for (loss, burst, least) in [
        (0.01, 1, 0.98),
        (0.01, 8, 0.97),
        (0.03, 1, 0.92),
        (0.08, 1, 0.9),
        (0.08, 8, 0.9),
    ] {
        let seen = settled(Link { loss, burst, ..link });
        assert!(seen.part > least, "{loss} in {burst}: {}", seen.part);
        assert!(
            seen.round_trip < ms(52),
            "{loss} in {burst}: {:?}",
            seen.round_trip
        );
    }
    let seen = settled(Link {
        loss: 0.001,
        ..Link::new(300e6, 80)
    });
    assert!(seen.part > 0.97, "{}", seen.part);
}

#[test]
fn jitter_is_not_taken_for_a_queue() {
    for (round_trip, jitter, least) in [(40, 10, 0.95), (40, 50, 0.85), (5, 20, 0.95)] {
        let seen = settled(Link {
            jitter: ms(jitter),
            ..Link::new(100e6, round_trip)
        });
        assert!(seen.part > least, "{round_trip} and {jitter}: {}", seen.part);
    }
}

#[test]
fn a_link_with_a_tiny_queue_is_filled_with_little_loss() {
    for queue in [15_000, 50_000] {
        let seen = settled(Link {
            queue,
            ..Link::new(100e6, 40)
        });
        assert!(seen.part > 0.95, "{queue}: {}", seen.part);
        assert!(seen.lost < 0.02, "{queue}: {}", seen.lost);
    }
}

#[test]
fn startup_fills_the_link_with_little_loss() {
    let mut lab = alone(Link::new(100e6, 40));
    let first = seen(&mut lab, 1.0).remove(0);
    assert!(first.part > 0.6, "{}", first.part);
    assert!(first.lost < 0.01, "{}", first.lost);
    assert!(first.round_trip < ms(80), "{:?}", first.round_trip);
    assert!(seen(&mut lab, 1.0).remove(0).part > 0.95);
}

#[test]
fn it_and_a_tcp_flow_share_the_link() {
    let link = Link::new(100e6, 40);
    for queue in [0.3, 0.5, 1.0, 2.0, 4.0] {
        let link = Link {
            queue: (link.bdp() * queue) as u64,
            ..link
        };
        let now = Instant::now();
        let mut lab = Lab::new(
            link,
            vec![Box::new(Path::new(now, 1452)), Box::new(Cubic::new(now))],
            now,
        );
        let parts: Vec<_> = seen(&mut lab, 30.0).into_iter().map(|seen| seen.part).collect();
        assert!(parts.iter().all(|&part| part > 0.35), "queue {queue}: {parts:?}");
        assert!(parts.iter().sum::<f64>() > 0.9, "queue {queue}: {parts:?}");
    }
}

#[test]
fn among_many_tcp_flows_it_takes_little_more_than_its_fair_share() {
    let link = Link::new(100e6, 40);
    for queue in [1.0, 4.0] {
        let link = Link {
            queue: (link.bdp() * queue) as u64,
            ..link
        };
        let now = Instant::now();
        let mut flows: Vec<Box<dyn Sender>> = vec![Box::new(Path::new(now, 1452))];
        flows.extend((0..16).map(|_| Box::new(Cubic::new(now)) as Box<dyn Sender>));
        let mut lab = Lab::new(link, flows, now);
        // It has measured the path only with their queue on it.
        lab.flows[0].app_rate = Some(20e3);
        lab.run(secs(10.0));
        lab.flows[0].app_rate = None;
        let part = seen(&mut lab, 40.0).remove(0).part;
        assert!(part < 3.0 / 17.0, "queue {queue}: {part}");
    }
}

#[test]
fn two_flows_of_its_own_share_the_link_and_keep_the_queue_short() {
    let now = Instant::now();
    let mut lab = Lab::new(
        Link::new(100e6, 40),
        vec![Box::new(Path::new(now, 1452)), Box::new(Path::new(now, 1452))],
        now,
    );
    lab.run(secs(3.0));
    for seen in seen(&mut lab, 20.0) {
        assert!(seen.part > 0.35, "{}", seen.part);
        assert!(seen.round_trip < ms(55), "{:?}", seen.round_trip);
    }
}

#[test]
fn it_adapts_to_a_link_that_becomes_slower_faster_or_longer() {
    let mut lab = alone(Link::new(100e6, 40));
    lab.run(secs(5.0));
    lab.link.rate = 20e6;
    lab.run(secs(2.0));
    let slower = seen(&mut lab, 5.0).remove(0);
    assert!(
        slower.part > 0.95 && slower.round_trip < ms(55),
        "{} {:?}",
        slower.part,
        slower.round_trip
    );
    lab.link.rate = 100e6;
    lab.run(secs(2.0));
    let faster = seen(&mut lab, 5.0).remove(0);
    assert!(
        faster.part > 0.95 && faster.round_trip < ms(50),
        "{} {:?}",
        faster.part,
        faster.round_trip
    );
    lab.link.round_trip = ms(100);
    lab.run(secs(5.0));
    let longer = seen(&mut lab, 5.0).remove(0);
    assert!(longer.part > 0.8, "{}", longer.part);
}

#[test]
fn it_adapts_to_a_path_that_becomes_longer_before_much_was_sent() {
    for (jitter, loss, least) in [(0, 0.0, 0.9), (0, 0.01, 0.9), (20, 0.01, 0.8), (50, 0.01, 0.6)] {
        for random in [7, 7919, 104_729] {
            let mut lab = alone(Link::new(100e6, 1));
            lab.random = random;
            lab.flows[0].app_rate = Some(20e3);
            lab.run(secs(3.0));
            lab.link = Link {
                jitter: ms(jitter),
                loss,
                ..Link::new(100e6, 120)
            };
            lab.run(secs(1.0));
            lab.flows[0].app_rate = None;
            lab.run(secs(5.0));
            let seen = seen(&mut lab, 5.0).remove(0);
            assert!(seen.part > least, "{jitter}, {loss}, {random}: {}", seen.part);
        }
    }
}

#[test]
fn new_bandwidth_is_found_under_random_loss() {
    for (loss, burst) in [(0.01, 1), (0.03, 1), (0.08, 1), (0.08, 8)] {
        for random in [7, 7919, 104_729] {
            let mut lab = alone(Link {
                loss,
                burst,
                ..Link::new(10e6, 40)
            });
            lab.random = random;
            lab.run(secs(5.0));
            lab.link = Link {
                loss,
                burst,
                ..Link::new(100e6, 40)
            };
            lab.run(secs(5.0));
            let seen = seen(&mut lab, 3.0).remove(0);
            assert!(seen.part > 0.9, "{loss} in {burst}, {random}: {}", seen.part);
        }
    }
}

#[test]
fn an_application_limited_flow_fills_the_link_when_it_has_more_to_send() {
    let mut lab = alone(Link::new(100e6, 40));
    lab.flows[0].app_rate = Some(100e3);
    lab.run(secs(5.0));
    lab.flows[0].app_rate = None;
    lab.run(secs(1.0));
    let seen = seen(&mut lab, 3.0).remove(0);
    assert!(seen.part > 0.95, "{}", seen.part);
}

#[test]
fn the_link_is_filled_again_soon_after_an_outage() {
    let mut lab = alone(Link::new(100e6, 40));
    lab.run(secs(3.0));
    let link = std::mem::replace(
        &mut lab.link,
        Link {
            loss: 1.0,
            ..Link::new(100e6, 40)
        },
    );
    lab.run(secs(3.0));
    lab.link = link;
    lab.run(secs(1.5));
    let seen = seen(&mut lab, 3.0).remove(0);
    assert!(seen.part > 0.95, "{}", seen.part);
}

#[test]
fn only_one_packet_exceeds_the_window_even_if_its_time_is_older() {
    const MTU: u64 = 1200;
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let mut path = Path::new(start, 1200);
    while path.has_room() {
        path.sent(start, MTU, || start);
    }
    let full = path.window_at(|| start);
    for probe in [100, 300, 700] {
        path.sent(at(probe), MTU, || at(probe));
    }
    assert!(path.window_at(|| at(702)) > full);
    path.sent(at(700), MTU, || at(702));
    assert_eq!(path.window_at(|| at(703)), full);
}

proptest! {
    #[test]
    fn the_window_stays_in_bounds_whatever_is_reported(
        steps in proptest::collection::vec((0u8..5, 0u64..200_000, 0u64..100_000, any::<bool>()), 0..400)
    ) {
        let start = Instant::now();
        let mut path = Path::new(start, 1200);
        let (mut now, mut under_way, mut in_flight) = (start, Vec::new(), 0u64);
        for (step, micros, bytes, flag) in steps {
            now += Duration::from_micros(micros);
            match step {
                0 | 1 => {
                    path.sent(now, bytes, || now);
                    under_way.push((now, bytes));
                    in_flight += bytes;
                }
                2 => {
                    let count = under_way.len() / 2;
                    for (sent, bytes) in under_way.drain(..count) {
                        path.acked(now, sent, bytes, now - sent);
                        in_flight -= bytes;
                    }
                    path.acks_end(now, in_flight, flag);
                }
                3 => path.lost(bytes, flag),
                _ => path.window.set_mtu(1200 + bytes % 300),
            }
            let window = path.window.bytes();
            prop_assert!(window > 2 * 1200 && window < 1 << 40, "{window}");
            let widened = path.window_at(|| now);
            let most = window.max(path.deliveries.in_flight() + 2 * path.window.packet());
            prop_assert!(window <= widened && widened <= most, "{window} {widened} {most}");
        }
    }
}
