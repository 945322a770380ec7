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
        0 => body::<Attach>(data, limits::CONTROL_FRAME),
        1 => body::<AttachReply>(data, limits::CONTROL_FRAME),
        2 => body::<Control>(data, limits::CONTROL_FRAME),
        3 => body::<Open>(data, limits::HEADER_FRAME),
        _ => {
            if let Ok(Control::Update { value, .. }) = frame(data, limits::SESSION_FRAME) {
                let _ = bounded(data.len(), || value.read::<WorkloadStatus>());
            }
            if let Ok(Open {
                header: Some(header), ..
            }) = frame(data, limits::HEADER_FRAME)
            {
                let _ = bounded(data.len(), || header.read::<StreamHeader>());
            }
        }
    }
});
