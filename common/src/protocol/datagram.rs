//! Datagrams of a flow: what a QUIC datagram carries (RFC 9221), or a frame on a stream where those do not fit.
//!
//! A flow is announced by a stream whose header is [`StreamHeader::Datagrams`](super::stream::StreamHeader::Datagrams);
//! it ends with that stream. Reserved: no build announces
//! [`Capabilities::DATAGRAMS`](super::capabilities::Capabilities::DATAGRAMS) yet.

use bytes::{BufMut, Bytes, BytesMut};

use super::limits;

/// Names a flow within a session, given out by the client.
pub type FlowId = u32;

/// Bytes before the payload.
const HEAD: usize = size_of::<FlowId>();

/// A datagram of a flow: its flow's id (big endian), then what it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Whose it is.
    pub flow: FlowId,
    /// What it carries, at most [`limits::DATAGRAM`] bytes.
    pub payload: Bytes,
}

impl Datagram {
    /// As it travels. None when the payload is too long.
    #[must_use]
    pub fn encode(&self) -> Option<Bytes> {
        if self.payload.len() > limits::DATAGRAM {
            return None;
        }
        let mut bytes = BytesMut::with_capacity(HEAD + self.payload.len());
        bytes.put_u32(self.flow);
        bytes.put_slice(&self.payload);
        Some(bytes.freeze())
    }

    /// What came. None when it is too short or too long to be one. The payload shares its memory.
    #[must_use]
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let (flow, payload) = bytes.split_first_chunk::<HEAD>()?;
        (payload.len() <= limits::DATAGRAM).then(|| Self {
            flow: FlowId::from_be_bytes(*flow),
            payload: bytes.slice(HEAD..),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_survives_the_wire_up_to_its_bound() {
        for length in [0, 1, limits::DATAGRAM] {
            let datagram = Datagram {
                flow: 0x0102_0304,
                payload: vec![7; length].into(),
            };
            let wire = datagram.encode().unwrap();
            assert_eq!(wire[..HEAD], [1, 2, 3, 4]);
            assert_eq!(Datagram::decode(&wire), Some(datagram));
        }
    }

    #[test]
    fn what_is_too_short_or_too_long_is_no_datagram() {
        assert_eq!(Datagram::decode(&Bytes::from_static(&[0, 0, 0])), None);
        let long = vec![0; HEAD + limits::DATAGRAM + 1];
        assert_eq!(Datagram::decode(&long.clone().into()), None);
        let datagram = Datagram {
            flow: 0,
            payload: long.into(),
        };
        assert_eq!(datagram.encode(), None);
    }
}
