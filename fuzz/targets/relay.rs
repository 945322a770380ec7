//! The packets between a client and a relay.
#![no_main]

use arbitrary::Arbitrary;
use jq_common::carrier::relay::{CookieKey, Kind, PACKET, Packet};
use jq_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    secret: [u8; 32],
    kind: u8,
    pair: [u8; 16],
    generation: u64,
    cookie: [u8; 32],
    from: std::net::SocketAddr,
    changed: (usize, u8),
    other: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    bounded(input.other.len(), || {
        if let Some(packet) = Packet::decode(input.other, &input.secret) {
            assert_eq!(packet.encode(&input.secret), input.other);
            assert_eq!(Packet::claimed_pair(input.other), Some(packet.pair));
        }
    });
    let kinds = [Kind::Bind, Kind::Challenge, Kind::Answer, Kind::Bound];
    let packet = Packet {
        kind: kinds[usize::from(input.kind) % kinds.len()],
        pair: input.pair,
        generation: input.generation,
        cookie: input.cookie,
    };
    let mut wire = packet.encode(&input.secret);
    assert_eq!(Packet::decode(&wire, &input.secret).as_ref(), Some(&packet));
    let (at, change) = input.changed;
    wire[at % PACKET] ^= change;
    assert_eq!(Packet::decode(&wire, &input.secret).is_some(), change == 0);

    let key = CookieKey::new(&input.secret);
    let cookie = key.cookie(input.from, &input.pair, input.generation);
    assert!(key.accepts(&cookie, input.from, &input.pair, input.generation));
    assert!(input.cookie == cookie || !key.accepts(&input.cookie, input.from, &input.pair, input.generation));
});
