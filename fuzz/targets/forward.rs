//! The argument of `-L`.
#![no_main]

use jq_client::forward::spec::{Forward, Shown};
use jq_common::protocol::target::Address;
use jq_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|spec: &str| {
    let Ok(forward) = bounded(spec.len(), || Forward::parse(spec)) else {
        return;
    };
    let again = match &forward.target.address {
        Address::Port(port) => format!("{}:{port}", forward.local),
        Address::Name { .. } | Address::Unix { .. } => {
            format!("{}:{}", forward.local, Shown(&forward.target))
        }
    };
    assert_eq!(Forward::parse(&again), Ok(forward));
});
