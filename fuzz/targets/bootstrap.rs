//! The bootstrap messages over SSH.
#![no_main]

use jq_common::{
    bootstrap::{BootstrapReply, BootstrapRequest},
    protocol::limits,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = jq_fuzz::body::<BootstrapRequest>(data, limits::BOOTSTRAP_FRAME);
    let _ = jq_fuzz::body::<BootstrapReply>(data, limits::BOOTSTRAP_FRAME);
});
