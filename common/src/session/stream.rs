//! A logical stream of a session at this end: its state, and who is woken when that changes.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::Notify;

use super::{
    context::StreamContext,
    core::{Entry, Reset, Resumption, StreamAck, StreamCore, StreamId, Violation},
    leg::LegEnd,
};
use crate::protocol::{session::Control, stream::ResetCode};

/// Bytes delivered after which an acknowledgement is sent at once; it is delayed for fewer.
const ACK_AT_ONCE: u64 = 64 * 1024;

/// Bytes that are sent uncompressed after the peer sent something: a response header with cookies, a page with tokens, the
/// next request. That includes what an earlier response still has to send by then.
const UNCOMPRESSED_HEAD: u64 = 16 * 1024;

/// A logical stream of a session at this end.
#[derive(Debug)]
pub struct Stream {
    id: StreamId,
    core: Mutex<StreamCore>,
    pub(super) context: Arc<StreamContext>,
    /// The send buffer may have room.
    pub(super) room: Notify,
    /// There may be something to send.
    pub(super) ready: Notify,
    /// It may be complete or reset.
    pub(super) settled: Notify,
    /// Offset before which nothing is compressed.
    uncompressed_until: AtomicU64,
    /// It stands in the control queue.
    queued: AtomicBool,
    /// Bytes delivered, as the last acknowledgement said.
    acked: AtomicU64,
}

/// How the proxying of a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything was delivered in both directions.
    Complete,
    /// The stream was reset; the local socket is to be reset too.
    Reset(ResetCode),
}

impl Stream {
    pub(super) fn new(core: StreamCore, context: Arc<StreamContext>) -> Self {
        context.budget.held(0, core.send_buffer().held());
        Self {
            id: core.id(),
            acked: AtomicU64::new(core.recv_state().delivered()),
            uncompressed_until: AtomicU64::new(core.send_buffer().end() + UNCOMPRESSED_HEAD),
            core: Mutex::new(core),
            context,
            room: Notify::new(),
            ready: Notify::new(),
            settled: Notify::new(),
            queued: AtomicBool::new(false),
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Its state. The lock is held for moments only.
    pub fn core(&self) -> MutexGuard<'_, StreamCore> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and accounts for the bytes that the send buffer holds.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut StreamCore) -> T) -> T {
        let mut core = self.core();
        let before = core.send_buffer().held();
        let result = change(&mut core);
        let after = core.send_buffer().held();
        drop(core);
        if before != after {
            self.context.budget.held(before, after);
        }
        result
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

    /// Resets the stream at this end, and queues the reset for the peer. Has no effect on a stream that is complete or was reset.
    pub fn reset(&self, code: ResetCode) {
        self.change(|core| core.reset(code as u32));
        self.settled.notify_one();
        self.queue(true);
    }

    /// The peer violated the protocol: resets the stream.
    pub(super) fn violated(&self, violation: &dyn std::error::Error) {
        tracing::debug!(stream = self.id, %violation, "protocol violation of the peer");
        self.reset(ResetCode::ProtocolViolation);
    }

    /// What the end of the leg of `generation` means.
    pub(super) fn leg_end(&self, generation: u64, end: LegEnd) -> LegEnd {
        match end {
            LegEnd::Refused(ResetCode::ShuttingDown) => LegEnd::Lost,
            // What is said on an attachment that was replaced has no effect.
            LegEnd::Refused(_) | LegEnd::Violation(_) if self.context.generation() > generation => {
                LegEnd::Lost
            }
            end => end,
        }
    }

    /// A leg has ended. False when the stream goes on with the next; else it was reset.
    pub(super) fn leg_ended(&self, end: &LegEnd) -> bool {
        match end {
            LegEnd::Lost => return false,
            LegEnd::Refused(code) => self.reset(*code),
            LegEnd::Violation(violation) => self.violated(violation),
            LegEnd::Socket => self.reset(ResetCode::ConnectionReset),
        }
        true
    }

    /// Whether and why it was reset.
    #[must_use]
    pub fn reset_reason(&self) -> Option<Reset> {
        self.core().reset_reason()
    }

    /// At the agent: the client opened the stream on the attachment of `generation`, and has everything before `received`.
    /// False when that attachment is no longer the current one.
    pub fn opened(&self, generation: u64, received: u64) -> bool {
        match self.change(|core| core.opened(generation, received)) {
            Ok(is_current) => is_current,
            Err(violation) => {
                self.violated(&violation);
                false
            }
        }
    }

    // Receiving on the control stream, for the registry.

    pub(super) fn acknowledge(&self, ack: &StreamAck) {
        match self.change(|core| core.acknowledge(ack.delivered, ack.ended)) {
            Ok(freed) => {
                if freed > 0 {
                    self.room.notify_one();
                }
                if ack.ended {
                    self.settled.notify_one();
                }
            }
            Err(violation) => self.violated(&violation),
        }
    }

    pub(super) fn reset_by_peer(&self, code: u32) {
        self.change(|core| core.reset_by_peer(code));
        self.settled.notify_one();
    }

    /// The peer has forgotten the stream.
    ///
    /// # Errors
    /// When it was not complete. It is reset then.
    pub(super) fn forgotten_by_peer(&self) -> Result<(), Violation> {
        let result = self.change(StreamCore::forgotten);
        if let Err(violation) = &result {
            self.violated(violation);
        }
        self.settled.notify_one();
        result
    }

    pub(super) fn fence(&self, generation: u64) -> Entry {
        self.core().fence(generation)
    }

    /// At the client: a new attachment stands, and this is the agent's entry. What becomes of the stream.
    pub(super) fn resume(&self, generation: u64, theirs: Option<&Entry>) -> Resumption {
        let result = self.change(|core| core.resume(generation, theirs));
        self.room.notify_one();
        self.settled.notify_one();
        if theirs.is_some_and(|theirs| theirs.reset.is_some()) {
            return Resumption::Forget;
        }
        match result {
            Ok(Resumption::Resume) => self.queue(false),
            Ok(Resumption::Forget) => return Resumption::Forget,
            Err(violation) => self.violated(&violation),
        }
        Resumption::Resume
    }

    // Sending on the control stream.

    /// Queues the state of this stream for the control stream. `at_once`: without delay.
    pub(super) fn queue(&self, at_once: bool) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.context.control.push_stream(self.id);
        }
        if at_once {
            self.context.control.flush();
        }
    }

    /// The state of this stream for the control stream: an acknowledgement, or a reset by this end.
    pub(super) fn state(&self) -> Result<StreamAck, Control> {
        // Before looking: a later change queues the stream again.
        self.queued.store(false, Ordering::Release);
        let core = self.core();
        if let Some(Reset::Local(code)) = core.reset_reason() {
            let stream = self.id;
            return Err(Control::Reset { stream, code });
        }
        let ack = core.ack();
        self.acked.store(ack.delivered, Ordering::Relaxed);
        Ok(ack)
    }

    /// The local socket took `count` bytes.
    pub(super) fn delivered(&self, count: u64) {
        self.context.count_received(count);
        let delivered = {
            let mut core = self.core();
            core.deliver(count);
            core.recv_state().delivered()
        };
        self.queue(delivered - self.acked.load(Ordering::Relaxed) >= ACK_AT_ONCE);
    }

    // Compression.

    /// The peer sent something. The head of what answers it may contain secrets.
    pub(super) fn received_data(&self, core: &StreamCore) {
        let until = core.send_buffer().end() + UNCOMPRESSED_HEAD;
        self.uncompressed_until.store(until, Ordering::Relaxed);
    }

    /// Offset from which bytes may be compressed now; none where nothing is.
    pub(super) fn compressible_from(&self) -> Option<u64> {
        self.context
            .compresses()
            .then(|| self.uncompressed_until.load(Ordering::Relaxed))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let held = self.core().send_buffer().held();
        self.context.budget.held(held, 0);
    }
}
