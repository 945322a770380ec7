//! The snapshot that an agent hands over to the next build.
#![no_main]

use jq_agent::fuzzing::handover_snapshot;
use jq_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // An invalid snapshot must be refused.
    let _ = bounded(data.len(), || handover_snapshot(data));
});
