//! What waits to be told to the peer, until it was told for certain.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::sync::{self, Notify, mpsc};

use super::stream::Stream;
use crate::protocol::{
    limits,
    session::{Control, MOST_ENTRIES},
};

/// Most that waits to be told to a peer that does not listen. An honest one may have as many resets answered as it has
/// streams.
const MOST_WAITING: usize = 8 * limits::STREAMS as usize;

/// What waits. It is told by one attachment after another.
#[derive(Debug)]
pub(super) struct ControlQueue {
    pending: mpsc::UnboundedSender<Pending>,
    taken: Mutex<Taken>,
    /// Held by the attachment that tells. It may be asleep for long.
    pub(super) teller: sync::Mutex<()>,
    /// There is something that the peer should hear at once.
    urgent: Notify,
    /// How many are not told yet for certain.
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct Taken {
    pending: mpsc::UnboundedReceiver<Pending>,
    /// Taken from `pending` and not yet told for certain.
    held: Vec<Pending>,
}

/// Something to tell.
#[derive(Debug)]
enum Pending {
    /// Whatever there is to tell of this stream. Each stream stands in the queue once at most.
    Look(Arc<Stream>),
    /// This.
    Tell(Control),
}

impl ControlQueue {
    pub(super) fn new() -> Self {
        let (pending, waiting) = mpsc::unbounded_channel();
        Self {
            pending,
            taken: Mutex::new(Taken {
                pending: waiting,
                held: Vec::new(),
            }),
            teller: sync::Mutex::new(()),
            urgent: Notify::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    fn push(&self, pending: Pending) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Fails only when the session is being dropped.
        let _ = self.pending.send(pending);
    }

    /// Whatever there is to tell of `stream` is to be told.
    pub(super) fn look(&self, stream: &Arc<Stream>) {
        self.push(Pending::Look(stream.clone()));
    }

    /// `control` is to be told, now or on the next attachment.
    pub(super) fn tell(&self, control: Control) {
        self.push(Pending::Tell(control));
        self.hurry();
    }

    /// What waits should be told at once.
    pub(super) fn hurry(&self) {
        self.urgent.notify_one();
    }

    /// Returns when something should be told at once.
    pub(super) async fn is_urgent(&self) {
        self.urgent.notified().await;
    }

    /// Whether the peer hears what it is told, or still may.
    pub(super) fn is_listened_to(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < MOST_WAITING
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to tell. What an earlier attachment could not tell for certain comes first.
    pub(super) async fn some(&self) {
        poll_fn(|cx| self.taken().poll_some(cx)).await;
    }

    /// Whether nothing of that is urgent.
    pub(super) fn may_wait(&self) -> bool {
        self.taken()
            .held
            .iter()
            .all(|pending| matches!(pending, Pending::Look(_)))
    }

    /// Everything that there is to tell now.
    pub(super) fn frames(&self) -> Vec<Control> {
        let mut taken = self.taken();
        while let Ok(pending) = taken.pending.try_recv() {
            taken.held.push(pending);
        }
        frames(&taken.held)
    }

    /// It was told for certain.
    pub(super) fn told(&self) {
        let told = std::mem::take(&mut self.taken().held);
        self.waiting.fetch_sub(told.len(), Ordering::Relaxed);
    }

    /// There is nobody to tell it to any more.
    pub(super) fn clear(&self) {
        let mut taken = self.taken();
        // What is looked at keeps the streams, and they keep this.
        drop(std::mem::take(&mut taken.held));
        while taken.pending.try_recv().is_ok() {}
        self.waiting.store(0, Ordering::Relaxed);
    }
}

impl Taken {
    /// For ever once the session is being dropped.
    fn poll_some(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.held.is_empty() && ready!(self.pending.poll_recv_many(cx, &mut self.held, MOST_ENTRIES)) == 0
        {
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

fn frames(pending: &[Pending]) -> Vec<Control> {
    let mut frames = Vec::new();
    let mut acks = Vec::new();
    for pending in pending {
        match pending {
            Pending::Look(stream) => match stream.control_frame() {
                Ok(ack) => acks.push(ack),
                Err(reset) => frames.push(reset),
            },
            Pending::Tell(Control::Acks(more)) if !more.is_empty() => acks.extend_from_slice(more),
            Pending::Tell(control) => frames.push(control.clone()),
        }
    }
    frames.extend(acks.chunks(MOST_ENTRIES).map(|part| Control::Acks(part.to_vec())));
    frames
}
