//! A peer that sends anything.

use bytes::Bytes;
use jq_common::{
    protocol::{session::Entry, stream::ResetCode},
    session::core::{Reset, StreamCore, send_buffer::MAX_WINDOW},
};
use proptest::{prelude::*, test_runner::Config};

#[derive(Clone, Debug)]
enum Step {
    Write(u16),
    Finish,
    Widen,
    Deliver(u64),
    DeliverEnd,
    Break,
    Offer(u64),
    Send(u64, u64),
    TakeEnd(u64),
    Accept(u64, u64, u16),
    AcceptEnd(u64, u64),
    Acknowledge(u64, bool),
    ResetByPeer(u32),
    Fence(u64),
    Resume(u64, Option<(u64, u64, bool, Option<u32>)>),
    Forgotten,
    Opened(u64, u64),
}

/// Mostly a small offset, so that it is often valid.
fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => 0u64..300,
        1 => 0u64..200_000,
        1 => any::<u64>(),
        1 => Just(u64::MAX),
    ]
}

fn generation() -> impl Strategy<Value = u64> {
    prop_oneof![9 => 0u64..4, 1 => any::<u64>()]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => prop_oneof![9 => 0u16..100, 1 => any::<u16>()].prop_map(Step::Write),
        1 => Just(Step::Finish),
        1 => Just(Step::Widen),
        1 => (0u64..100).prop_map(Step::Deliver),
        1 => Just(Step::DeliverEnd),
        1 => generation().prop_map(Step::Offer),
        4 => (generation(), 0u64..100).prop_map(|(generation, count)| Step::Send(generation, count)),
        1 => generation().prop_map(Step::TakeEnd),
        4 => (generation(), offset(), 0u16..100).prop_map(|(generation, at, length)| Step::Accept(generation, at, length)),
        1 => (generation(), offset()).prop_map(|(generation, at)| Step::AcceptEnd(generation, at)),
        4 => (offset(), any::<bool>()).prop_map(|(delivered, ended)| Step::Acknowledge(delivered, ended)),
        1 => generation().prop_map(Step::Fence),
        1 => (generation(), prop::option::of((offset(), offset(), any::<bool>(), prop::option::weighted(0.1, any::<u32>()))))
            .prop_map(|(generation, theirs)| Step::Resume(generation, theirs)),
        1 => Just(Step::Forgotten),
        2 => (generation(), offset()).prop_map(|(generation, received)| Step::Opened(generation, received)),
        1 => prop_oneof![Just(Step::Break), any::<u32>().prop_map(Step::ResetByPeer)],
    ]
}

/// Applies a step. False when a violation was found.
fn apply(core: &mut StreamCore, step: &Step) -> bool {
    match *step {
        Step::Write(length) => {
            let length = u64::from(length).min(core.send_buffer().room()) as usize;
            if !core.send_buffer().is_finished() {
                core.write(Bytes::from(vec![7; length]));
            }
        }
        Step::Finish => core.finish(),
        Step::Widen => {
            core.window_blocked();
        }
        Step::Deliver(count) => core.deliver(count),
        Step::DeliverEnd => {
            if core.deliver_end() {
                assert_eq!(core.recv_state().delivered(), core.recv_state().received());
            }
        }
        Step::Break => {
            core.reset(ResetCode::ConnectionReset as u32);
        }
        Step::Offer(generation) => {
            core.offer(generation);
        }
        Step::Send(generation, count) => {
            let mut batch = [const { Bytes::new() }; 3];
            let taken = core.batch(generation, &mut batch);
            let there = batch[..taken].iter().map(|part| part.len() as u64).sum::<u64>();
            core.sent(generation, count.min(there));
        }
        Step::TakeEnd(generation) => {
            core.take_end(generation);
        }
        Step::Accept(generation, at, length) => {
            return core
                .accept(generation, at, Bytes::from(vec![7; length.into()]))
                .is_ok();
        }
        Step::AcceptEnd(generation, at) => return core.accept_end(generation, at).is_ok(),
        Step::Acknowledge(delivered, ended) => return core.acknowledge(delivered, ended).is_ok(),
        Step::ResetByPeer(code) => {
            core.reset_by_peer(code);
        }
        Step::Fence(generation) => {
            core.fence(generation);
        }
        Step::Resume(generation, theirs) => {
            let theirs = theirs.map(|(delivered, received, ended, reset)| Entry {
                stream: 0,
                delivered,
                received,
                ended,
                reset,
            });
            return core.resume(generation, theirs.as_ref()).is_ok();
        }
        Step::Forgotten => {
            let possible = core.forgotten().is_ok();
            assert!(
                !possible || core.is_complete() || core.reset_reason().is_some(),
                "lost data looks complete"
            );
            return possible;
        }
        Step::Opened(generation, received) => return core.opened(generation, received).is_ok(),
    }
    true
}

fn check(core: &StreamCore, written: u64) {
    let (send_buffer, recv_state) = (core.send_buffer(), core.recv_state());
    assert!(send_buffer.held() <= MAX_WINDOW);
    assert!(
        send_buffer.acked() <= send_buffer.sent() && send_buffer.sent() <= send_buffer.end(),
        "{send_buffer:?}"
    );
    assert!(send_buffer.end() <= written);
    assert!(recv_state.delivered() <= recv_state.received());
    let mut batch = [const { Bytes::new() }; 64];
    let taken = send_buffer.batch(&mut batch);
    let there: u64 = batch[..taken].iter().map(|part| part.len() as u64).sum();
    assert!(there <= send_buffer.end() - send_buffer.sent());
    assert!(batch[..taken].iter().all(|part| !part.is_empty()));
    assert!(
        taken == batch.len() || there == send_buffer.end() - send_buffer.sent(),
        "{send_buffer:?}"
    );
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_peer_that_sends_anything_gets_at_most_its_stream_reset(steps in prop::collection::vec(step(), 0..120)) {
        let mut core = StreamCore::new(0, 0);
        let mut written = 0;
        let mut first: Option<Reset> = None;
        for step in &steps {
            if !apply(&mut core, step) {
                // The session does the same.
                core.reset(ResetCode::ProtocolViolation as u32);
                prop_assert!(core.reset_reason().is_some() || core.is_complete());
            }
            written = written.max(core.send_buffer().end());
            check(&core, written);
            if first.is_some() {
                prop_assert_eq!(core.reset_reason(), first, "a reset reason has changed");
                prop_assert!(!core.is_complete());
                prop_assert_eq!(core.send_buffer().held(), 0);
            }
            first = core.reset_reason();
        }
    }
}
