//! Messages: everything that is said above the session layer, as JSON.
//!
//! JSON, so that either end may be older than the other: a field that is left out has its default, one that is not known
//! is ignored. What cannot be understood all the same is [`FrameError::Unsupported`], and is answered, not punished: it
//! comes from an honest peer of another version. What is no JSON at all is a fault of the peer's.

use std::fmt;

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error, IgnoredAny, Visitor},
};

use crate::codec::{Frame, FrameError};

/// What is allocated for a message within a frame, in bytes: most are shorter.
const USUAL: usize = 128;

/// A type whose values travel as JSON.
pub trait Message: Serialize + DeserializeOwned {}

impl<T: Message> Frame for T {
    fn append_to(&self, mut frame: Vec<u8>) -> Result<Vec<u8>, FrameError> {
        serde_json::to_writer(&mut frame, self).map_err(FrameError::MalformedJson)?;
        Ok(frame)
    }

    fn decode(body: &[u8]) -> Result<Self, FrameError> {
        serde_json::from_slice(body).map_err(|error| {
            // The error alone does not tell: there may be no JSON behind what was not understood.
            if serde_json::from_slice::<IgnoredAny>(body).is_ok() {
                FrameError::Unsupported(error)
            } else {
                FrameError::MalformedJson(error)
            }
        })
    }
}

/// A message of at most `MOST` bytes within a frame of the session layer, which passes it on unread. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Json<const MOST: usize>(Bytes);

impl<const MOST: usize> Json<MOST> {
    /// That of `message`.
    ///
    /// # Errors
    /// [`FrameError::TooLong`], or what keeps `message` from being JSON.
    pub fn of(message: &impl Message) -> Result<Self, FrameError> {
        let json = message.append_to(Vec::with_capacity(USUAL))?;
        if json.len() > MOST {
            return Err(FrameError::TooLong {
                length: json.len(),
                limit: MOST,
            });
        }
        Ok(Self(json.into()))
    }

    /// These bytes, whatever they are. None when they are too many.
    #[must_use]
    pub fn of_bytes(bytes: Bytes) -> Option<Self> {
        (bytes.len() <= MOST).then_some(Self(bytes))
    }

    /// The message in it.
    ///
    /// # Errors
    /// [`FrameError::Unsupported`] and [`FrameError::MalformedJson`].
    pub fn read<T: Message>(&self) -> Result<T, FrameError> {
        T::decode(&self.0)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl<const MOST: usize> fmt::Debug for Json<MOST> {
    /// Its length alone: there may be secrets in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.0.len())
    }
}

impl<const MOST: usize> Serialize for Json<MOST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de, const MOST: usize> Deserialize<'de> for Json<MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(AtMost::<MOST>)
    }
}

struct AtMost<const MOST: usize>;

impl<const MOST: usize> Visitor<'_> for AtMost<MOST> {
    type Value = Json<MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MOST} bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Json<MOST>, E> {
        if bytes.len() > MOST {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        Ok(Json(Bytes::copy_from_slice(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    struct Record {
        number: u32,
        kind: Kind,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        #[default]
        Plain,
        Odd(u8),
    }

    impl Message for Record {}

    #[test]
    fn what_is_left_out_has_its_default_and_what_is_not_known_is_ignored() {
        let sparse = Record::decode(b"{}").unwrap();
        assert_eq!(sparse, Record::default());
        let newer = Record::decode(br#"{"number":7,"of_a_newer_peer":[{"deep":null}]}"#).unwrap();
        assert_eq!(newer.number, 7);
    }

    #[test]
    fn json_that_is_not_understood_is_unsupported_and_anything_else_is_a_fault() {
        for newer in [
            r#"{"kind":"newer"}"#,
            r#"{"kind":{"newer":{"with":"fields"}}}"#,
            r#"{"kind":{"odd":256}}"#,
            r#"{"number":"seven"}"#,
            "7",
        ] {
            let read = Record::decode(newer.as_bytes());
            assert!(
                matches!(read, Err(FrameError::Unsupported(_))),
                "{newer}: {read:?}"
            );
        }
        for broken in ["", "{", r#"{"kind":"newer""#, "{}x", r#"{"kind":"newer"}}"#, "\0"] {
            let read = Record::decode(broken.as_bytes());
            assert!(
                matches!(read, Err(FrameError::MalformedJson(_))),
                "{broken}: {read:?}"
            );
        }
    }

    #[test]
    fn json_within_a_frame_is_bounded_both_ways() {
        let record = Record::default();
        let json = Json::<64>::of(&record).unwrap();
        assert_eq!(json.read::<Record>().unwrap(), record);
        let wire = postcard::to_stdvec(&json).unwrap();
        assert_eq!(postcard::from_bytes::<Json<64>>(&wire).unwrap(), json);
        assert!(postcard::from_bytes::<Json<8>>(&wire).is_err());
        assert!(matches!(Json::<8>::of(&record), Err(FrameError::TooLong { .. })));
        // 2^32 - 1 bytes that do not follow.
        assert!(postcard::from_bytes::<Json<64>>(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1]).is_err());
    }
}
