//! The queue of frames for the control stream. Entries stay in it until an attachment has sent them.
//!
//! Streams are named by id, so the queue keeps no stream alive.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::sync::{Notify, mpsc};

use super::core::{StreamAck, StreamId};
use crate::protocol::{
    limits,
    session::{Control, MOST_ENTRIES},
};

/// Most entries that wait for a peer that does not read. An honest peer may cause as many reset acknowledgements as it has
/// streams.
const MOST_PENDING: usize = 8 * limits::STREAMS as usize;

/// An entry of the queue.
#[derive(Debug)]
enum Pending {
    /// The state of this stream: an acknowledgement, or its reset. Each stream stands in the queue once at most.
    Stream(StreamId),
    /// This frame.
    Frame(Control),
}

#[derive(Debug, Default)]
struct Signals {
    /// An entry should be sent at once.
    urgent: Notify,
    /// Entries that are not sent yet.
    pending: AtomicUsize,
}

/// The end of the queue that entries are put into.
#[derive(Debug)]
pub(super) struct ControlSender {
    queue: mpsc::UnboundedSender<Pending>,
    signals: Arc<Signals>,
}

/// The end of the queue that one attachment after another sends from.
#[derive(Debug)]
pub(super) struct ControlQueue {
    queue: mpsc::UnboundedReceiver<Pending>,
    /// Taken from `queue`, and not sent for certain.
    unsent: Vec<Pending>,
    signals: Arc<Signals>,
}

pub(super) fn channel() -> (ControlSender, ControlQueue) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let signals = Arc::<Signals>::default();
    let sender = ControlSender {
        queue: sender,
        signals: signals.clone(),
    };
    let queue = ControlQueue {
        queue: receiver,
        unsent: Vec::new(),
        signals,
    };
    (sender, queue)
}

impl ControlSender {
    fn push(&self, pending: Pending) {
        self.signals.pending.fetch_add(1, Ordering::Relaxed);
        // Fails only when the session is being dropped.
        let _ = self.queue.send(pending);
    }

    /// The state of `stream` is to be sent, soon.
    pub(super) fn push_stream(&self, stream: StreamId) {
        self.push(Pending::Stream(stream));
    }

    /// `frame` is to be sent at once, or on the next attachment.
    pub(super) fn push_frame(&self, frame: Control) {
        self.push(Pending::Frame(frame));
        self.flush();
    }

    /// What is in the queue is to be sent at once.
    pub(super) fn flush(&self) {
        self.signals.urgent.notify_one();
    }

    /// Whether the queue is too long: the peer does not read its control stream.
    pub(super) fn is_full(&self) -> bool {
        self.signals.pending.load(Ordering::Relaxed) >= MOST_PENDING
    }
}

impl ControlQueue {
    /// Waits until there is an entry. Those that the attachment before did not send for certain come first.
    pub(super) async fn wait(&mut self) {
        poll_fn(|cx| self.poll_wait(cx)).await;
    }

    /// Pending for ever once the session is being dropped.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.unsent.is_empty()
            && ready!(self.queue.poll_recv_many(cx, &mut self.unsent, MOST_ENTRIES)) == 0
        {
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Whether none of the entries taken is urgent.
    pub(super) fn may_wait(&self) -> bool {
        let mut all = self.unsent.iter();
        all.all(|pending| matches!(pending, Pending::Stream(_)))
    }

    /// Returns when an entry should be sent at once.
    pub(super) async fn urgent(&self) {
        self.signals.urgent.notified().await;
    }

    /// Everything there is to send now. `state` gives the frame of a stream: its acknowledgement, or its reset; none for a
    /// stream that was forgotten meanwhile.
    pub(super) fn frames(
        &mut self,
        state: impl Fn(StreamId) -> Option<Result<StreamAck, Control>>,
    ) -> Vec<Control> {
        while let Ok(pending) = self.queue.try_recv() {
            self.unsent.push(pending);
        }
        let mut frames = Vec::new();
        let mut acks = Vec::new();
        for pending in &self.unsent {
            match pending {
                Pending::Stream(id) => match state(*id) {
                    Some(Ok(ack)) => acks.push(ack),
                    Some(Err(reset)) => frames.push(reset),
                    None => {}
                },
                Pending::Frame(Control::Acks(more)) if !more.is_empty() => acks.extend_from_slice(more),
                Pending::Frame(frame) => frames.push(frame.clone()),
            }
        }
        let acks = acks.chunks(MOST_ENTRIES);
        frames.extend(acks.map(|part| Control::Acks(part.to_vec())));
        frames
    }

    /// Those frames were sent.
    pub(super) fn sent(&mut self) {
        self.signals
            .pending
            .fetch_sub(self.unsent.len(), Ordering::Relaxed);
        self.unsent.clear();
    }
}
