//! Random values as text.

use std::io;

use jq_common::bootstrap::{hex, random};

/// `N` random bytes as lower-case hexadecimal digits.
///
/// # Errors
/// When the system's random number generator fails.
pub(crate) fn random_hex<const N: usize>() -> io::Result<String> {
    Ok(hex(&random::<N>().map_err(io::Error::other)?))
}
