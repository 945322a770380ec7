//! A stream at work: between its local socket and whatever attachment there is.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::Notify;

use super::{
    core::{Fault, Reset, Resumption, StreamCore},
    leg::{Leg, LegEnd, LegSource},
    opening::Opening,
    recv::Inbound,
    socket::Socket,
    streams::Streams,
};
use crate::protocol::{
    session::{Control, Entry, StreamAck, StreamId},
    stream::ResetCode,
};

/// Progress of this many bytes is told at once, less soon.
const STEP: u64 = 64 * 1024;

/// What is sent first after the peer spoke is not deflated, in bytes: an answer's head with its cookies, a page with its
/// tokens, the next request. What an earlier answer still has to send by then is not either.
const HEAD: u64 = 16 * 1024;

/// A logical stream of a session at this end.
#[derive(Debug)]
pub struct Stream {
    id: StreamId,
    core: Mutex<StreamCore>,
    pub(super) streams: Arc<Streams>,
    /// The send buffer may have room.
    pub(super) room: Notify,
    /// There may be something to send.
    pub(super) ready: Notify,
    /// It may be complete or reset.
    pub(super) settled: Notify,
    /// Nothing before this offset is deflated.
    plain_until: AtomicU64,
    /// It stands in the queue of what the peer is to be told.
    queued: AtomicBool,
    /// How much the peer was told to be delivered.
    told: AtomicU64,
}

/// How a stream's work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything was carried both ways.
    Complete,
    /// It was reset; the local socket is to be reset too.
    Reset(Reset),
}

impl Stream {
    pub(super) fn new(core: StreamCore, streams: Arc<Streams>) -> Self {
        Self {
            id: core.id(),
            told: AtomicU64::new(core.recv_state().delivered()),
            plain_until: AtomicU64::new(core.send_buffer().end() + HEAD),
            core: Mutex::new(core),
            streams,
            room: Notify::new(),
            ready: Notify::new(),
            settled: Notify::new(),
            queued: AtomicBool::new(false),
        }
    }

    /// Which stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Its state. Held for moments only.
    pub fn core(&self) -> MutexGuard<'_, StreamCore> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and keeps the pool's account of what the send buffer holds.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut StreamCore) -> T) -> T {
        let mut core = self.core();
        let before = core.send_buffer().held();
        let result = change(&mut core);
        let after = core.send_buffer().held();
        drop(core);
        if before != after {
            self.streams.budget().held(before, after);
        }
        result
    }

    /// Carries `socket` until everything was carried both ways, or the stream is reset. `socket` stays with the caller,
    /// who resets it unless the stream is complete. Dropping the future leaves the stream as it is.
    pub async fn proxy(self: &Arc<Self>, socket: &Socket, legs: &mut impl LegSource) -> Ended {
        self.proxy_from(Opening::default(), socket, legs).await
    }

    /// As [`Stream::proxy`], from where `opening` stands.
    pub async fn proxy_from(
        self: &Arc<Self>,
        mut opening: Opening,
        socket: &Socket,
        legs: &mut impl LegSource,
    ) -> Ended {
        tokio::select! {
            biased;
            () = self.settles() => {}
            () = self.streams.ended() => self.reset(ResetCode::SessionLost),
            () = self.fill(socket) => self.reset(ResetCode::ConnectionReset),
            () = self.work(socket, legs, &mut opening) => {}
        }
        self.settle(socket)
    }

    /// Returns when the stream is complete or reset.
    pub async fn settles(&self) {
        loop {
            {
                let core = self.core();
                if core.is_complete() || core.reset_reason().is_some() {
                    return;
                }
            }
            self.settled.notified().await;
        }
    }

    fn settle(self: &Arc<Self>, socket: &Socket) -> Ended {
        let (ack, reset) = {
            let core = self.core();
            (core.ack(), core.reset_reason())
        };
        match reset {
            None => {
                socket.end_on_close();
                // The peer waits for this, and nothing else will tell it.
                self.streams.tell(Control::Acks(vec![ack]));
                self.streams.forget(self.id);
                Ended::Complete
            }
            Some(reset) => Ended::Reset(reset),
        }
    }

    /// On one leg after another. Returns when the socket breaks or the stream is reset.
    async fn work(self: &Arc<Self>, socket: &Socket, legs: &mut impl LegSource, opening: &mut Opening) {
        let Opening { inbound, leg: next } = opening;
        loop {
            let leg = match next.take() {
                Some(leg) => leg,
                None => tokio::select! {
                    leg = legs.next() => {
                        inbound.begin(leg.at);
                        leg
                    }
                    () = inbound.starve(self, socket) => return self.reset(ResetCode::ConnectionReset),
                },
            };
            tokio::select! {
                newer = legs.next() => {
                    inbound.begin(newer.at);
                    *next = Some(newer);
                }
                end = self.on(leg, socket, inbound) => if self.leg_ended(end) {
                    return;
                },
            }
        }
    }

    /// What the end of a leg means. False when the stream goes on with the next.
    pub(super) fn leg_ended(self: &Arc<Self>, end: LegEnd) -> bool {
        match end {
            LegEnd::Lost => return false,
            LegEnd::Refused(code) => self.reset(code),
            LegEnd::Faulty(fault) => self.fault(fault),
            LegEnd::Socket => self.reset(ResetCode::ConnectionReset),
        }
        true
    }

    async fn on(self: &Arc<Self>, leg: Leg, socket: &Socket, inbound: &mut Inbound) -> LegEnd {
        let Leg {
            generation,
            mut send,
            mut receive,
            at: _,
        } = leg;
        let end = tokio::select! {
            end = self.send(generation, &mut send) => end,
            end = inbound.receive(self, generation, &mut receive, socket) => end,
        };
        self.judge(generation, end)
    }

    /// What the end of the leg of `generation` was in truth.
    pub(super) fn judge(&self, generation: u64, end: LegEnd) -> LegEnd {
        match end {
            LegEnd::Refused(ResetCode::ShuttingDown) => LegEnd::Lost,
            // Whatever an attachment says that counts no more.
            LegEnd::Refused(_) | LegEnd::Faulty(_) if self.streams.generation() > generation => LegEnd::Lost,
            end => end,
        }
    }

    /// The peer tells what was delivered there.
    pub fn acknowledge(self: &Arc<Self>, ack: &StreamAck) {
        let result = self.change(|core| core.acknowledge(ack.delivered, ack.ended));
        match result {
            Ok(freed) => {
                if freed > 0 {
                    self.room.notify_one();
                }
                if ack.ended {
                    self.settled.notify_one();
                }
            }
            Err(fault) => self.fault(fault),
        }
    }

    /// The stream is given up at this end, and the peer will hear of it.
    pub fn reset(self: &Arc<Self>, code: ResetCode) {
        self.change(|core| core.reset(code));
        self.settled.notify_one();
        self.tell_peer(true);
    }

    /// The peer gave the stream up.
    pub fn reset_by_peer(&self, code: ResetCode) {
        self.change(|core| core.reset_by_peer(code));
        self.settled.notify_one();
    }

    /// Whether and why it was reset.
    #[must_use]
    pub fn reset_reason(&self) -> Option<Reset> {
        self.core().reset_reason()
    }

    /// Whether the peer may know the stream.
    #[must_use]
    pub fn is_offered(&self) -> bool {
        self.core().is_offered()
    }

    pub(super) fn fault(self: &Arc<Self>, fault: Fault) {
        tracing::debug!(stream = self.id, %fault, "the other end's fault");
        self.reset(ResetCode::ProtocolViolation);
    }

    pub(super) fn fence(&self, generation: u64) -> Entry {
        self.core().fence(generation)
    }

    pub(super) fn resume(self: &Arc<Self>, generation: u64, theirs: Option<&Entry>) {
        let result = self.change(|core| core.resume(generation, theirs));
        self.room.notify_one();
        self.settled.notify_one();
        if theirs.is_some_and(|theirs| theirs.reset.is_some()) {
            self.streams.forget(self.id);
            return self.streams.tell(Control::ResetAck { stream: self.id });
        }
        match result {
            Ok(Resumption::Resume) => self.tell_peer(false),
            Ok(Resumption::Forget) => self.streams.forget(self.id),
            Err(fault) => self.fault(fault),
        }
    }

    pub(super) fn forgotten_by_peer(self: &Arc<Self>) {
        if let Err(fault) = self.change(StreamCore::forgotten) {
            self.fault(fault);
        }
        self.settled.notify_one();
        self.streams.forget(self.id);
    }

    /// At the agent: the client opened it on the attachment of `generation` and has everything before `received`. False
    /// when that is no longer what counts.
    pub fn opened(self: &Arc<Self>, generation: u64, received: u64) -> bool {
        match self.change(|core| core.opened(generation, received)) {
            Ok(counts) => counts,
            Err(fault) => {
                self.fault(fault);
                false
            }
        }
    }

    /// Has the peer be told how this stream stands, soon or at once.
    pub(super) fn tell_peer(self: &Arc<Self>, at_once: bool) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.streams.control_queue.look(self);
        }
        if at_once {
            self.streams.control_queue.hurry();
        }
    }

    /// What there is to tell.
    pub(super) fn control_frame(&self) -> Result<StreamAck, Control> {
        // Before looking: whatever changes afterwards is told again.
        self.queued.store(false, Ordering::Release);
        let core = self.core();
        if let Some(Reset::Local(code)) = core.reset_reason() {
            let stream = self.id;
            return Err(Control::Reset {
                stream,
                code: code as u32,
            });
        }
        let ack = core.ack();
        self.told.store(ack.delivered, Ordering::Relaxed);
        Ok(ack)
    }

    /// The peer said something. What it is answered with may have secrets at its head.
    pub(super) fn heard(&self, core: &StreamCore) {
        self.plain_until
            .store(core.send_buffer().end() + HEAD, Ordering::Relaxed);
    }

    /// What may be deflated of it now: nothing before this offset.
    pub(super) fn deflates_from(&self) -> Option<u64> {
        self.streams
            .deflates()
            .then(|| self.plain_until.load(Ordering::Relaxed))
    }

    pub(super) fn delivered(self: &Arc<Self>, count: u64) {
        self.streams.count(0, count);
        let delivered = {
            let mut core = self.core();
            core.deliver(count);
            core.recv_state().delivered()
        };
        self.tell_peer(delivered - self.told.load(Ordering::Relaxed) >= STEP);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let held = self.core().send_buffer().held();
        self.streams.budget().held(held, 0);
    }
}
