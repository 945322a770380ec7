//! Events from an agent.
#![no_main]

use jq_common::protocol::{limits, workload::Event};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = jq_fuzz::body::<Event>(data, limits::CONTROL_FRAME);
});
