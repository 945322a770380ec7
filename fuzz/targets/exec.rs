//! What a command's stream carries, what comes back first on a stream, datagrams.
#![no_main]

use jq_common::protocol::{
    datagram::Datagram,
    exec::{ExecInput, ExecOutput},
    limits,
    stream::{Accepted, Opened},
};
use jq_fuzz::body;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    body::<ExecInput>(data, limits::EXEC_FRAME);
    body::<ExecOutput>(data, limits::EXEC_FRAME);
    body::<Opened>(data, limits::REPLY_FRAME);
    body::<Accepted>(data, limits::REPLY_FRAME);
    let wire = data.to_vec().into();
    if let Some(datagram) = Datagram::decode(&wire) {
        assert_eq!(datagram.encode(), Some(wire));
    }
});
