//! The wire format between client and relay: how a client proves that it may use the relay.
//!
//! The client sends BIND. The relay answers CHALLENGE with a cookie, which proves the sender's address. The client returns
//! the cookie in ANSWER, and the relay confirms with BOUND. From the ANSWER on, the relay forwards every other packet from
//! that address unchanged, so a client need not wait for the BOUND. All four packets have the same length, so nothing is
//! amplified. Each has a tag (HMAC-SHA256) made with the secret that came over SSH. A packet with a wrong tag gets no answer.
//!
//! Relays form a chain: the client binds at the first one, then through it at the next. A relay forwards a packet of this
//! format like any other when it does not know the pair and the sender is bound. To the next relay, the previous one is the
//! client.
//!
//! The first byte has QUIC's fixed bit clear (RFC 9000, section 17), so that no QUIC packet is taken for one of these.

use std::net::{IpAddr, SocketAddr};

use ring::hmac::{HMAC_SHA256, Key, sign, verify};

use crate::bootstrap::{PairId, RelaySecret};

/// Length of every packet of this format, in bytes.
pub const PACKET: usize = MAGIC.len() + 1 + 16 + 8 + COOKIE + TAG;

/// The first bytes of every packet: a byte that no QUIC packet begins with, the name and the version.
const MAGIC: [u8; 4] = [0x01, b'j', b'q', 1];
const COOKIE: usize = 32;
const TAG: usize = 32;

/// The secret of a relay that cookies are made with, so that they need no memory. New for each process.
pub struct CookieKey(Key);

/// A cookie: proof that the sender receives at the address it sends from.
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

/// The kind of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Client: I want to use this pair from this address.
    Bind = 1,
    /// Relay: return this cookie.
    Challenge = 2,
    /// Client: this is the cookie.
    Answer = 3,
    /// Relay: you may send.
    Bound = 4,
}

/// One packet between a client and a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its kind.
    pub kind: Kind,
    /// The pair it is about.
    pub pair: PairId,
    /// Rises with every bind of a pair while its secret stays the same. A bind that is not newer has no effect.
    pub generation: u64,
    /// The cookie in a challenge and its answer; zeros otherwise.
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

    /// The pair that a packet claims to be about, before its tag is verified: the receiver needs it to find the secret. None
    /// for a packet of another format.
    #[must_use]
    pub fn claimed_pair(wire: &[u8]) -> Option<PairId> {
        (wire.len() == PACKET && wire[..4] == MAGIC).then(|| wire[5..21].try_into().ok())?
    }

    /// Decodes a packet whose tag was made with `secret`. None for any other.
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
    fn a_packet_is_decoded_only_with_its_secret() {
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
    fn no_packet_looks_like_quic() {
        assert_eq!(packet().encode(&[1; 32])[0] & 0xc0, 0);
    }

    #[test]
    fn a_cookie_is_valid_only_for_its_address_pair_and_generation() {
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
        fn no_input_panics(wire: Vec<u8>) {
            let _ = Packet::decode(&wire, &[0; 32]);
        }
    }
}
