//! The first frames of an attachment and of its streams, and the frames on the control stream.
#![no_main]

use jq_common::protocol::{
    limits,
    session::{Attach, AttachReply, Control, Open},
    stream::StreamHeader,
    topics::WorkloadStatus,
};
use jq_fuzz::{body, bounded, frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((what, data)) = data.split_first() else {
        return;
    };
    match what % 5 {
        0 => _ = body::<Attach>(data, limits::CONTROL_FRAME),
        1 => _ = body::<AttachReply>(data, limits::CONTROL_FRAME),
        2 => {
            if let Some(Control::Update { value, .. }) = body(data, limits::SESSION_FRAME) {
                let _ = bounded(data.len(), || value.read::<WorkloadStatus>());
            }
        }
        3 => {
            if let Some(Open {
                header: Some(header), ..
            }) = body(data, limits::HEADER_FRAME)
            {
                let _ = bounded(data.len(), || header.read::<StreamHeader>());
            }
        }
        // A longer limit would allow a few bytes to announce more than the memory limit here.
        _ => _ = frame::<Control>(data, limits::SESSION_FRAME),
    }
});
