//! The relay's wire format: how a client proves to a relay that it may use it.
//!
//! The client sends BIND, the relay answers CHALLENGE with a cookie that only the sender's address can have received,
//! the client returns it in ANSWER, the relay says BOUND; from the ANSWER on every other packet from that address is
//! passed on as it is, so that a client need not wait for the BOUND. All four have the same length, so nothing is
//! amplified. Each carries a tag (HMAC-SHA256) made with the secret that came over SSH; a packet whose tag is wrong gets
//! no answer.
//!
//! Relays form a chain: the client binds at the first, and then, through it, at the next one. A relay passes a packet of
//! this format on like any other when it knows nothing of its pair and its sender is bound; the next relay takes the one
//! before it for the client.
//!
//! The first byte keeps QUIC's fixed bit clear (RFC 9000, section 17), so that no QUIC packet is taken for one of these.

use std::net::{IpAddr, SocketAddr};

use ring::hmac::{HMAC_SHA256, Key, sign, verify};

use crate::bootstrap::{PairId, RelaySecret};

/// Length of every packet of this format, in bytes.
pub const PACKET: usize = MAGIC.len() + 1 + 16 + 8 + COOKIE + TAG;

/// What every packet begins with: a byte no QUIC packet begins with, the name and the version.
const MAGIC: [u8; 4] = [0x01, b'j', b'q', 1];
const COOKIE: usize = 32;
const TAG: usize = 32;

/// What the relay keeps to itself, so that cookies need no memory. New for each process.
pub struct CookieKey(Key);

/// A cookie: proof that its holder receives at the address it sends from.
pub(crate) type Cookie = [u8; COOKIE];

impl CookieKey {
    /// A key from 32 random bytes.
    #[must_use]
    pub fn new(random: &[u8; 32]) -> Self {
        Self(Key::new(HMAC_SHA256, random))
    }

    /// The cookie of this address, pair and generation.
    #[must_use]
    pub fn cookie(&self, from: SocketAddr, pair: &PairId, generation: u64) -> Cookie {
        let tag = sign(&self.0, &Self::context(from, pair, generation));
        let mut cookie = [0; COOKIE];
        cookie.copy_from_slice(tag.as_ref());
        cookie
    }

    /// Whether `cookie` is the one for this address, pair and generation (in constant time).
    #[must_use]
    pub fn accepts(&self, cookie: &Cookie, from: SocketAddr, pair: &PairId, generation: u64) -> bool {
        verify(&self.0, &Self::context(from, pair, generation), cookie).is_ok()
    }

    fn context(from: SocketAddr, pair: &PairId, generation: u64) -> Vec<u8> {
        let mut context = Vec::with_capacity(64);
        match from.ip().to_canonical() {
            IpAddr::V4(ip) => context.extend_from_slice(&ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => context.extend_from_slice(&ip.octets()),
        }
        context.extend_from_slice(&from.port().to_be_bytes());
        context.extend_from_slice(pair);
        context.extend_from_slice(&generation.to_be_bytes());
        context
    }
}

/// What a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Client: I want to use this pair from here.
    Bind = 1,
    /// Relay: then return this cookie.
    Challenge = 2,
    /// Client: here it is.
    Answer = 3,
    /// Relay: you may send.
    Bound = 4,
}

/// One packet between a client and a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What it says.
    pub kind: Kind,
    /// Which pair it is about.
    pub pair: PairId,
    /// Rises with every bind of a pair for as long as its secret stays the same; one that is not newer moves nothing.
    pub generation: u64,
    /// The cookie of a challenge and its answer; zeros otherwise.
    pub cookie: Cookie,
}

impl Packet {
    /// The bytes on the wire, with their tag.
    #[must_use]
    pub fn encode(&self, secret: &RelaySecret) -> [u8; PACKET] {
        let mut wire = [0; PACKET];
        wire[..4].copy_from_slice(&MAGIC);
        wire[4] = self.kind as u8;
        wire[5..21].copy_from_slice(&self.pair);
        wire[21..29].copy_from_slice(&self.generation.to_be_bytes());
        wire[29..61].copy_from_slice(&self.cookie);
        let tag = sign(&Key::new(HMAC_SHA256, secret), &wire[..61]);
        wire[61..].copy_from_slice(tag.as_ref());
        wire
    }

    /// The pair a packet claims to be about, before its tag is checked: by it the receiver finds the secret. None for
    /// whatever is not of this format.
    #[must_use]
    pub fn claimed_pair(wire: &[u8]) -> Option<PairId> {
        (wire.len() == PACKET && wire[..4] == MAGIC).then(|| wire[5..21].try_into().ok())?
    }

    /// Reads a packet whose tag was made with `secret`. None for every other.
    #[must_use]
    pub fn decode(wire: &[u8], secret: &RelaySecret) -> Option<Self> {
        let pair = Self::claimed_pair(wire)?;
        verify(&Key::new(HMAC_SHA256, secret), &wire[..61], &wire[61..]).ok()?;
        let kind = match wire[4] {
            1 => Kind::Bind,
            2 => Kind::Challenge,
            3 => Kind::Answer,
            4 => Kind::Bound,
            _ => return None,
        };
        Some(Self {
            kind,
            pair,
            generation: u64::from_be_bytes(wire[21..29].try_into().ok()?),
            cookie: wire[29..61].try_into().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> Packet {
        Packet {
            kind: Kind::Answer,
            pair: [7; 16],
            generation: 3,
            cookie: [9; 32],
        }
    }

    #[test]
    fn a_packet_survives_the_wire_and_only_with_the_secret() {
        let wire = packet().encode(&[1; 32]);
        assert_eq!(Packet::decode(&wire, &[1; 32]), Some(packet()));
        assert_eq!(Packet::decode(&wire, &[2; 32]), None);
        assert_eq!(Packet::claimed_pair(&wire), Some([7; 16]));
    }

    #[test]
    fn every_changed_byte_is_found() {
        let wire = packet().encode(&[1; 32]);
        for at in 0..wire.len() {
            let mut changed = wire;
            changed[at] ^= 1;
            assert_eq!(Packet::decode(&changed, &[1; 32]), None, "byte {at}");
        }
    }

    #[test]
    fn no_packet_of_ours_looks_like_quic() {
        assert_eq!(packet().encode(&[1; 32])[0] & 0xc0, 0);
    }

    #[test]
    fn a_cookie_is_good_for_its_address_pair_and_generation_only() {
        let key = CookieKey::new(&[5; 32]);
        let here: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        let cookie = key.cookie(here, &[7; 16], 1);
        assert!(key.accepts(&cookie, here, &[7; 16], 1));
        assert!(key.accepts(&cookie, "[::ffff:192.0.2.1]:4000".parse().unwrap(), &[7; 16], 1));
        assert!(!key.accepts(&cookie, "192.0.2.1:4001".parse().unwrap(), &[7; 16], 1));
        assert!(!key.accepts(&cookie, here, &[8; 16], 1));
        assert!(!key.accepts(&cookie, here, &[7; 16], 2));
        assert!(!CookieKey::new(&[6; 32]).accepts(&cookie, here, &[7; 16], 1));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(wire: Vec<u8>) {
            let _ = Packet::decode(&wire, &[0; 32]);
        }
    }
}
