//! The state of one stream, with any behaviour of its session and its peer.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use jq_common::{
    protocol::{session::Entry, stream::ResetCode},
    session::core::{Reset, StreamCore, Violation, send_buffer::MAX_WINDOW},
};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Offset {
    Near(u8),
    /// An offset relative to the sent, received or delivered bytes.
    Sent(i8),
    Received(i8),
    Delivered(i8),
    Any(u64),
}

#[derive(Arbitrary, Debug)]
enum Generation {
    Known(u8),
    Any(u64),
}

#[derive(Arbitrary, Debug)]
enum Step {
    Write(u16),
    Finish,
    Wanted,
    Deliver(u16),
    DeliverEnd,
    Reset,
    Offer(Generation),
    Send(Generation, u16),
    TakeEnd(Generation),
    Accept(Generation, Offset, u8),
    AcceptEnd(Generation, Offset),
    Acknowledge(Offset, bool),
    ResetByPeer(u32),
    Fence(Generation),
    Resume(Generation, Option<(Offset, Offset, bool, Option<u32>)>),
    Forgotten,
    Opened(Generation, Offset),
}

struct World {
    core: StreamCore,
    /// Number of bytes accepted so far.
    given: u64,
}

impl World {
    fn offset(&self, offset: &Offset) -> u64 {
        let (send_buffer, recv_state) = (self.core.send_buffer(), self.core.recv_state());
        match *offset {
            Offset::Near(offset) => offset.into(),
            Offset::Sent(by) => send_buffer.sent().wrapping_add_signed(by.into()),
            Offset::Received(by) => recv_state.received().wrapping_add_signed(by.into()),
            Offset::Delivered(by) => send_buffer.acked().wrapping_add_signed(by.into()),
            Offset::Any(offset) => offset,
        }
    }

    fn apply(&mut self, step: &Step) -> Result<(), Violation> {
        let generation = |generation: &Generation| match *generation {
            Generation::Known(generation) => u64::from(generation % 4),
            Generation::Any(generation) => generation,
        };
        match step {
            Step::Write(length) => {
                let length = u64::from(*length).min(self.core.send_buffer().room()) as usize;
                if !self.core.send_buffer().is_finished() {
                    self.core.write(Bytes::from(vec![7; length]));
                }
            }
            Step::Finish => self.core.finish(),
            Step::Wanted => self.core.window_blocked(),
            Step::Deliver(count) => self.core.deliver((*count).into()),
            Step::DeliverEnd => drop(self.core.deliver_end()),
            Step::Reset => drop(self.core.reset(ResetCode::ConnectionReset as u32)),
            Step::Offer(on) => drop(self.core.offer(generation(on))),
            Step::Send(on, count) => {
                let mut batch = [const { Bytes::new() }; 3];
                let taken = self.core.batch(generation(on), &mut batch);
                let there: u64 = batch[..taken].iter().map(|part| part.len() as u64).sum();
                self.core.sent(generation(on), u64::from(*count).min(there));
            }
            Step::TakeEnd(on) => drop(self.core.take_end(generation(on))),
            Step::Accept(on, at, length) => {
                let before = self.core.recv_state().received();
                let bytes = Bytes::from(vec![7; (*length).into()]);
                let new = self.core.accept(generation(on), self.offset(at), bytes)?;
                let new = new.map_or(0, |new| new.len() as u64);
                assert_eq!(
                    self.core.recv_state().received(),
                    before + new,
                    "a byte was received twice"
                );
                self.given += new;
            }
            Step::AcceptEnd(on, at) => self.core.accept_end(generation(on), self.offset(at))?,
            Step::Acknowledge(delivered, ended) => {
                let before = self.core.send_buffer().held();
                let freed = self.core.acknowledge(self.offset(delivered), *ended)?;
                assert_eq!(self.core.send_buffer().held() + freed, before);
            }
            Step::ResetByPeer(code) => drop(self.core.reset_by_peer(*code)),
            Step::Fence(on) => drop(self.core.fence(generation(on))),
            Step::Resume(on, theirs) => {
                let theirs = theirs.as_ref().map(|(delivered, received, ended, reset)| Entry {
                    stream: 0,
                    delivered: self.offset(delivered),
                    received: self.offset(received),
                    ended: *ended,
                    reset: *reset,
                });
                self.core.resume(generation(on), theirs.as_ref())?;
            }
            Step::Forgotten => self.core.forgotten()?,
            Step::Opened(on, received) => drop(self.core.opened(generation(on), self.offset(received))?),
        }
        Ok(())
    }

    fn check(&self) {
        let (send_buffer, recv_state) = (self.core.send_buffer(), self.core.recv_state());
        assert!(send_buffer.held() <= MAX_WINDOW);
        assert!(
            send_buffer.acked() <= send_buffer.sent() && send_buffer.sent() <= send_buffer.end(),
            "{send_buffer:?}"
        );
        assert!(recv_state.delivered() <= recv_state.received());
        assert_eq!(recv_state.received(), self.given);
        let mut batch = [const { Bytes::new() }; 64];
        let taken = send_buffer.batch(&mut batch);
        let there: u64 = batch[..taken].iter().map(|part| part.len() as u64).sum();
        assert!(batch[..taken].iter().all(|part| !part.is_empty()));
        assert!(there <= send_buffer.end() - send_buffer.sent());
        assert!(
            taken == batch.len() || there == send_buffer.end() - send_buffer.sent(),
            "{send_buffer:?}"
        );
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let mut world = World {
        core: StreamCore::new(0, 0),
        given: 0,
    };
    let mut reset: Option<Reset> = None;
    for step in &steps {
        if world.apply(step).is_err() {
            // The session does the same.
            world.core.reset(ResetCode::ProtocolViolation as u32);
            assert!(world.core.reset_reason().is_some() || world.core.is_complete());
        }
        world.check();
        if reset.is_some() {
            assert_eq!(world.core.reset_reason(), reset, "a reset reason has changed");
            assert!(!world.core.is_complete());
            assert_eq!(world.core.send_buffer().held(), 0);
        }
        reset = world.core.reset_reason();
    }
});
