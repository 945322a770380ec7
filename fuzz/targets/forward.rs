//! The argument of `-L`.
#![no_main]

use jq_client::forward::spec::{Forward, Shown};
use jq_common::protocol::stream::Target;
use jq_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|spec: &str| {
    let Ok(forward) = bounded(spec.len(), || Forward::parse(spec)) else {
        return;
    };
    let again = match &forward.target {
        Target::Workload { port } => format!("{}:{port}", forward.local),
        target @ Target::Host { .. } => format!("{}:{}", forward.local, Shown(target)),
    };
    assert_eq!(Forward::parse(&again), Ok(forward));
});
