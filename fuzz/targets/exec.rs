//! The frames of a command's stream, the first reply on a stream, and datagrams.
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
    let _ = body::<ExecInput>(data, limits::EXEC_FRAME);
    let _ = body::<ExecOutput>(data, limits::EXEC_FRAME);
    let _ = body::<Opened>(data, limits::REPLY_FRAME);
    let _ = body::<Accepted>(data, limits::REPLY_FRAME);
    let wire = data.to_vec().into();
    if let Some(datagram) = Datagram::decode(&wire) {
        assert_eq!(datagram.encode(), Some(wire));
    }
});
