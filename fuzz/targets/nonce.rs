//! The output of a shell up to the nonce, in pieces.
#![no_main]

use jq_common::bootstrap::{Nonce, NonceScanner, Scan};
use jq_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

/// The offset after the nonce's line in `pieces`.
fn found<'a>(nonce: &Nonce, pieces: impl Iterator<Item = &'a [u8]>) -> Option<usize> {
    let mut scanner = NonceScanner::new(nonce);
    let mut before = 0;
    for piece in pieces {
        match scanner.push(piece) {
            Scan::Found { used } => return Some(before + used),
            Scan::GaveUp => return None,
            Scan::Searching => before += piece.len(),
        }
    }
    let _ = scanner.seen_instead();
    None
}

fuzz_target!(|data: (u8, &[u8])| {
    let (size, noise) = data;
    let nonce = Nonce::parse(&"a1".repeat(16)).expect("the nonce is valid");
    // Here the shell's other output may contain the nonce. In reality a start-up file cannot know it.
    let wire = [noise, format!("\n{nonce}\n").as_bytes(), noise].concat();
    let size = usize::from(size).max(1);
    let at_once = bounded(wire.len(), || found(&nonce, [wire.as_slice()].into_iter()));
    let in_pieces = bounded(wire.len(), || found(&nonce, wire.chunks(size)));
    assert_eq!(at_once, in_pieces);
    let end = at_once.expect("the nonce is in the output");
    assert!(wire[..end].ends_with(b"\n"));
    if let Ok(text) = std::str::from_utf8(noise) {
        let _ = Nonce::parse(text).map(|nonce| assert_eq!(nonce.to_string(), text));
    }
});
