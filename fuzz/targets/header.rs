//! Stream headers, including requests.
#![no_main]

use jq_common::protocol::{limits, stream::StreamHeader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = jq_fuzz::body::<StreamHeader>(data, limits::HEADER_FRAME);
});
