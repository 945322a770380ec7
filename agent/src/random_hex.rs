//! Random values as text.

use std::io;

use jq_common::{bootstrap::random, protocol::hex};

/// `N` random bytes as lower-case hexadecimal digits.
///
/// # Errors
/// When the system's random number generator fails.
pub(crate) fn random_hex<const N: usize>() -> io::Result<String> {
    Ok(hex::encode(&random::<N>().map_err(io::Error::other)?))
}
