//! Byte strings in JSON: lower-case hexadecimal digits, two a byte.
//!
//! For serde's `with`, on arrays and on lists of bytes.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserializer, Serializer,
    de::{Error, Visitor},
};

/// Lower-case hexadecimal digits of `bytes`.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0'))
        .collect()
}

/// The bytes of lower-case or upper-case hexadecimal digits. None when `text` is something else.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let bytes = pairs
        .iter()
        .map(|&[high, low]| u8::try_from(digit(high)? << 4 | digit(low)?).ok());
    bytes.collect()
}

/// For serde.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(bytes: &impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&encode(bytes.as_ref()))
}

/// For serde.
///
/// # Errors
/// When there is no string of hexadecimal digits, or it has another length than `T`.
pub fn deserialize<'de, T: TryFrom<Vec<u8>>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_str(Hex(PhantomData))
}

struct Hex<T>(PhantomData<T>);

impl<T: TryFrom<Vec<u8>>> Visitor<'_> for Hex<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hexadecimal digits of a byte string of this length")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        decode(text)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| E::invalid_length(text.len(), &self))
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Strings {
        #[serde(with = "super")]
        four: [u8; 4],
        #[serde(with = "super")]
        any: Vec<u8>,
    }

    #[test]
    fn byte_strings_are_hexadecimal_digits_of_the_right_number() {
        let strings = Strings {
            four: [0, 1, 0xab, 0xff],
            any: vec![7],
        };
        let text = serde_json::to_string(&strings).unwrap();
        assert_eq!(text, r#"{"four":"0001abff","any":"07"}"#);
        assert_eq!(serde_json::from_str::<Strings>(&text).unwrap(), strings);
        for four in [
            "0001abf",
            "0001ab",
            "0001abff00",
            "0001abfg",
            "+001abff",
            "é01abff",
        ] {
            let text = format!(r#"{{"four":"{four}","any":""}}"#);
            assert!(serde_json::from_str::<Strings>(&text).is_err(), "{four}");
        }
    }
}
