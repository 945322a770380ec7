//! The streams of a session, and a peer that sends anything on the control stream: its table, then other frames.
#![no_main]

use std::collections::HashMap;

use jq_common::{
    codec,
    protocol::{limits, session::Control},
    session::{
        buffer_budget::{self, BufferBudget},
        control,
        streams::Streams,
    },
};
use jq_fuzz::{measured, now};
use libfuzzer_sys::fuzz_target;

/// Bytes of queued replies for each byte of input.
const FACTOR: usize = 24;
const BASE: usize = 256 * 1024;

fn next(data: &mut &[u8]) -> Option<Control> {
    now(codec::read(data, limits::CONTROL_FRAME)).ok()
}

fuzz_target!(|data: &[u8]| {
    let length = data.len();
    let ((), most) = measured(|| {
        let mut data = data;
        let streams = Streams::new(BufferBudget::new(buffer_budget::SESSION));
        for _ in 0..3 {
            streams.open();
        }
        let mut generation = 0;
        while !data.is_empty() {
            generation += 1;
            let table = now(control::read_table(&mut data)).unwrap_or_default();
            assert!(streams.resume(generation, table));
            assert!(
                !streams.resume(generation, HashMap::new()),
                "a session was resumed twice"
            );
            while let Some(control) = next(&mut data) {
                if !streams.on_control(&control) {
                    break;
                }
            }
            assert!(streams.len() <= 3, "a frame has opened a stream");
        }
        streams.end();
    });
    assert!(
        most <= FACTOR * length + BASE,
        "{most} bytes were held for an input of {length}"
    );
});
