use std::time::Duration;

use super::{Cause, Fate, Impair, Packet};
use crate::lab::conditions::{Conditions, Loss};

const MS: Duration = Duration::from_millis(1);
const PACKET: Packet = Packet {
    len: 1250,
    udp: false,
};

/// The fates of `count` packets that are sent one millisecond apart.
fn fates(seed: u64, conditions: Conditions, count: u32) -> Vec<Fate> {
    let mut impair = Impair::new(seed, conditions);
    (0..count).map(|index| impair.fate(MS * index, PACKET)).collect()
}

fn lost(fates: &[Fate]) -> Vec<bool> {
    fates
        .iter()
        .map(|fate| *fate == Fate::Dropped(Cause::Loss))
        .collect()
}

fn share(of: &[bool]) -> f64 {
    of.iter().filter(|hit| **hit).count() as f64 / of.len() as f64
}

fn arrivals(fates: &[Fate]) -> Vec<Duration> {
    let arrival = |fate: &Fate| match fate {
        Fate::Delivered(delivery, _) => Some(delivery.at),
        Fate::Dropped(_) => None,
    };
    fates.iter().filter_map(arrival).collect()
}

#[test]
fn a_perfect_link_delivers_at_once() {
    let mut impair = Impair::new(1, Conditions::default());
    let Fate::Delivered(delivery, None) = impair.fate(MS, PACKET) else {
        panic!("dropped or duplicated")
    };
    assert_eq!((delivery.at, delivery.flip), (MS, None));
}

#[test]
fn delay_and_rate_add_up() {
    let conditions = Conditions {
        delay: 20 * MS,
        rate: Some(10_000_000),
        ..Conditions::default()
    };
    let mut impair = Impair::new(1, conditions);
    // 1250 bytes are 10,000 bits: one millisecond at 10 Mbit/s.
    let at: Vec<_> = (0..3).map(|_| impair.fate(Duration::ZERO, PACKET)).collect();
    assert_eq!(arrivals(&at), [21 * MS, 22 * MS, 23 * MS]);
}

#[test]
fn a_full_queue_drops_and_an_idle_link_never_does() {
    let conditions = Conditions {
        rate: Some(10_000_000),
        queue: 3000,
        ..Conditions::default()
    };
    let mut impair = Impair::new(1, conditions);
    let fates: Vec<_> = (0..4).map(|_| impair.fate(Duration::ZERO, PACKET)).collect();
    assert_eq!(arrivals(&fates), [MS, 2 * MS]);
    assert_eq!(fates[3], Fate::Dropped(Cause::Queue));
    impair.set(Conditions {
        rate: Some(10_000_000),
        queue: 0,
        ..Conditions::default()
    });
    assert!(matches!(impair.fate(10 * MS, PACKET), Fate::Delivered(..)));
}

#[test]
fn loss_depends_only_on_the_seed() {
    let lossy = Conditions {
        loss: Loss::Random(0.1),
        ..Conditions::default()
    };
    let troubled = Conditions {
        jitter: 5 * MS,
        reorder: 0.3,
        duplicate: 0.1,
        corrupt: 0.1,
        ..lossy
    };
    let plain = lost(&fates(42, lossy.clone(), 20_000));
    assert_eq!(plain, lost(&fates(42, troubled, 20_000)));
    assert_ne!(plain, lost(&fates(43, lossy, 20_000)));
    assert!((share(&plain) - 0.1).abs() < 0.01, "{}", share(&plain));
}

#[test]
fn bursts_have_the_configured_share_and_length() {
    let lossy = Conditions {
        loss: Loss::bursts(0.05, 8.0),
        ..Conditions::default()
    };
    let lost = lost(&fates(3, lossy, 200_000));
    assert!((share(&lost) - 0.05).abs() < 0.01, "{}", share(&lost));
    let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count() as f64;
    let length = lost.iter().filter(|hit| **hit).count() as f64 / bursts;
    assert!((length - 8.0).abs() < 1.0, "{length}");
}

#[test]
fn jitter_keeps_the_order_and_reordering_does_not() {
    let jittery = Conditions {
        delay: 20 * MS,
        jitter: 10 * MS,
        ..Conditions::default()
    };
    let kept = arrivals(&fates(1, jittery.clone(), 2000));
    assert!(kept.is_sorted());
    for (at, sent) in kept.iter().zip(0..) {
        assert!(*at >= MS * sent + 10 * MS && *at <= MS * sent + 30 * MS);
    }
    let reordered = arrivals(&fates(
        1,
        Conditions {
            reorder: 0.25,
            ..jittery
        },
        2000,
    ));
    let overtaken = reordered.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert!((200..600).contains(&overtaken), "{overtaken}");
}

#[test]
fn duplication_and_corruption_have_the_configured_share_and_flips_stay_inside_the_packet() {
    let conditions = Conditions {
        duplicate: 0.05,
        corrupt: 0.02,
        ..Conditions::default()
    };
    let fates = fates(5, conditions, 50_000);
    let doubled: Vec<_> = fates
        .iter()
        .map(|fate| matches!(fate, Fate::Delivered(_, Some(_))))
        .collect();
    assert!((share(&doubled) - 0.05).abs() < 0.005);
    let flips: Vec<_> = fates
        .iter()
        .filter_map(|fate| match fate {
            Fate::Delivered(delivery, _) => delivery.flip,
            Fate::Dropped(_) => None,
        })
        .collect();
    assert!((flips.len() as f64 / 50_000.0 - 0.02).abs() < 0.004);
    assert!(
        flips
            .iter()
            .all(|(byte, mask)| (20..PACKET.len).contains(byte) && mask.count_ones() == 1)
    );
}

#[test]
fn down_blocked_and_too_large_are_different_reasons() {
    let udp = Packet { udp: true, ..PACKET };
    let fate = |conditions, packet| Impair::new(1, conditions).fate(MS, packet);
    let down = Conditions {
        up: false,
        ..Conditions::default()
    };
    assert_eq!(fate(down, PACKET), Fate::Dropped(Cause::Down));
    let blocked = Conditions {
        block_udp: true,
        ..Conditions::default()
    };
    assert_eq!(fate(blocked.clone(), udp), Fate::Dropped(Cause::Udp));
    assert!(matches!(fate(blocked, PACKET), Fate::Delivered(..)));
    let narrow = Conditions {
        mtu: Some(1249),
        ..Conditions::default()
    };
    assert_eq!(fate(narrow, PACKET), Fate::Dropped(Cause::TooBig));
}

#[test]
fn tiny_packets_can_be_corrupted() {
    let conditions = Conditions {
        corrupt: 1.0,
        ..Conditions::default()
    };
    let mut impair = Impair::new(1, conditions);
    for len in 1..60 {
        let Fate::Delivered(delivery, _) = impair.fate(MS, Packet { len, udp: false }) else {
            panic!("dropped")
        };
        assert!(delivery.flip.is_some_and(|(byte, _)| byte < len));
    }
}
