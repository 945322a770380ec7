//! Keys of things in the cache: hashes of what made them.

use sha2::{Digest as _, Sha256};

/// Sixteen hexadecimal digits that differ if a part differs.
pub(crate) fn short<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    let bytes = hash.finalize();
    bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
