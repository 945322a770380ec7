//! What an agent leaves to the build that takes over from it.
#![no_main]

use jq_agent::fuzzing::handover_snapshot;
use jq_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Whatever is wrong with it is refused.
    let _ = bounded(data.len(), || handover_snapshot(data));
});
