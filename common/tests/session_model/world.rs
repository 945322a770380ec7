//! Two ends, the network between them, and all events that can happen.

use std::collections::BTreeMap;

use bytes::Bytes;
use jq_common::{
    protocol::{
        session::{Control, StreamId},
        stream::ResetCode,
    },
    session::core::StreamCore,
};

use crate::{
    end::End,
    network::Attachment,
    story::{LONGEST, Outcome, Story, content, is_content},
};

pub(crate) const CLIENT: usize = 0;
pub(crate) const AGENT: usize = 1;

/// Most attachments alive at once.
pub(crate) const ATTACHMENTS: usize = 4;

/// An event. An index is taken modulo the number of choices. An event that is impossible at the moment has no effect.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Open,
    Write {
        end: usize,
        stream: u8,
        length: u32,
    },
    Finish {
        end: usize,
        stream: u8,
    },
    Break {
        end: usize,
        stream: u8,
    },
    Stall {
        end: usize,
        stream: u8,
    },
    Deliver {
        end: usize,
        stream: u8,
        length: u32,
    },
    Settle {
        end: usize,
        stream: u8,
    },
    Connect,
    Die {
        attachment: u8,
    },
    Leg {
        attachment: u8,
        stream: u8,
    },
    Send {
        end: usize,
        attachment: u8,
        stream: u8,
        length: u32,
    },
    Receive {
        end: usize,
        attachment: u8,
        stream: u8,
        twice: bool,
    },
    SendControl {
        end: usize,
    },
    ReceiveControl {
        end: usize,
        attachment: u8,
        twice: bool,
    },
    CrashClient,
    CrashAgent,
    RestartAgent,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) ends: [End; 2],
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) stories: BTreeMap<StreamId, [Story; 2]>,
    /// At the end of a case: the total number of bytes that a program writes before it ends its data.
    pub(crate) goal: Option<u64>,
    /// Maximum number of streams of a session.
    most: usize,
    next_stream: StreamId,
    pub(crate) next_generation: u64,
    /// The boot id of the agent, and the one that the client saw last.
    pub(crate) boots: [u64; 2],
    /// Whether the agent knows the session.
    pub(crate) begun: bool,
}

pub(crate) fn pick<T: Copy>(all: &[T], which: u8) -> Option<T> {
    (!all.is_empty()).then(|| all[which as usize % all.len()])
}

impl World {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            goal: None,
            most,
            ends: [End::new(), End::new()],
            attachments: Vec::new(),
            stories: BTreeMap::new(),
            next_stream: 0,
            next_generation: 1,
            boots: [0, 1],
            begun: false,
        }
    }

    /// Applies an event. Returns whether it had an effect.
    pub(crate) fn on_event(&mut self, event: &Event) -> bool {
        match *event {
            Event::Open => self.open(),
            Event::Write { end, stream, length } => {
                self.on_stream(end, stream, |world, id| world.write(end, id, length))
            }
            Event::Finish { end, stream } => self.on_stream(end, stream, |world, id| world.finish(end, id)),
            Event::Break { end, stream } => {
                self.on_stream(end, stream, |world, id| world.break_socket(end, id))
            }
            Event::Stall { end, stream } => self.on_stream(end, stream, |world, id| {
                let stream = world.ends[end].at_work(id).expect("the stream exists");
                stream.stalled = !stream.stalled;
                true
            }),
            Event::Deliver { end, stream, length } => {
                self.on_stream(end, stream, |world, id| world.deliver(end, id, length))
            }
            Event::Settle { end, stream } => self.on_stream(end, stream, |world, id| world.settle(end, id)),
            Event::Connect => self.connect(),
            Event::Die { attachment } => {
                let count = self.attachments.len();
                count > 0 && {
                    self.attachments.remove(attachment as usize % count);
                    true
                }
            }
            Event::Leg { attachment, stream } => {
                self.on_stream(CLIENT, stream, |world, id| world.leg(attachment, id))
            }
            Event::Send {
                end,
                attachment,
                stream,
                length,
            } => self.on_stream(end, stream, |world, id| world.send(end, attachment, id, length)),
            Event::Receive {
                end,
                attachment,
                stream,
                twice,
            } => self.receive(end, attachment, stream, twice),
            Event::SendControl { end } => self.send_control(end),
            Event::ReceiveControl {
                end,
                attachment,
                twice,
            } => self.receive_control(end, attachment, twice),
            Event::CrashClient => self.crash_client(),
            Event::CrashAgent => self.crash_agent(),
            Event::RestartAgent => self.restart_agent(),
        }
    }

    fn on_stream(&mut self, end: usize, which: u8, act: impl FnOnce(&mut Self, StreamId) -> bool) -> bool {
        let end = &self.ends[end];
        let all: Vec<_> = end
            .known
            .iter()
            .chain(&end.forgotten)
            .filter(|(_, stream)| stream.open)
            .map(|(id, _)| *id)
            .collect();
        pick(&all, which).is_some_and(|id| act(self, id))
    }

    pub(crate) fn story(&mut self, end: usize, id: StreamId) -> &mut Story {
        &mut self.stories.get_mut(&id).expect("every stream has one")[end]
    }

    // Programs and their sockets.

    fn open(&mut self) -> bool {
        if self.stories.len() >= self.most {
            return false;
        }
        let id = self.next_stream;
        self.next_stream += 1;
        let generation = self.ends[CLIENT].generation;
        self.ends[CLIENT].insert(StreamCore::new(id, generation));
        self.stories.insert(id, Default::default());
        true
    }

    fn write(&mut self, end: usize, id: StreamId, length: u32) -> bool {
        let room = self.ends[end].room(id);
        let length = room.min(length.into()).min(LONGEST as u64);
        let goal = self.goal.unwrap_or(u64::MAX);
        let story = self.story(end, id);
        if length == 0 || story.finished || story.written >= goal {
            return false;
        }
        let bytes = content(id, end, story.written, length as usize);
        let written = self.ends[end].change(id, |core| {
            let before = core.send_buffer().end();
            core.write(bytes);
            core.send_buffer().end() - before
        });
        let story = self.story(end, id);
        story.written += written.unwrap_or(0);
        written.is_some_and(|written| written > 0)
    }

    pub(crate) fn finish(&mut self, end: usize, id: StreamId) -> bool {
        let goal = self.goal.unwrap_or(0);
        let known = self.ends[end].known.get(&id);
        let reset = known.is_none_or(|stream| stream.core.reset_reason().is_some());
        let story = self.story(end, id);
        if story.finished || (story.written < goal && !reset) {
            return false;
        }
        story.finished = true;
        self.ends[end].change(id, StreamCore::finish).is_some()
    }

    fn break_socket(&mut self, end: usize, id: StreamId) -> bool {
        self.ends[end].change(id, |core| core.reset(ResetCode::ConnectionReset as u32));
        let reset = self.ends[end]
            .at_work(id)
            .is_some_and(|stream| stream.core.reset_reason().is_some());
        if reset {
            for story in self.stories.get_mut(&id).expect("every stream has one") {
                story.disturbed = true;
            }
        }
        self.ends[end].queue(id);
        reset
    }

    fn deliver(&mut self, end: usize, id: StreamId, length: u32) -> bool {
        let [peer_written, peer_finished] = {
            let peer = self.story(1 - end, id);
            [peer.written, u64::from(peer.finished)]
        };
        let stream = self.ends[end].at_work(id).expect("the stream exists");
        if stream.stalled {
            return false;
        }
        let count = stream.pending.len().min(length as usize);
        let taken = stream.pending.split_to(count);
        stream.core.deliver(count as u64);
        let ended =
            stream.pending.is_empty() && stream.core.recv_state().wants_end() && stream.core.deliver_end();
        let reset = stream.core.reset_reason().is_some();
        let story = self.story(end, id);
        // I1: what is delivered is a prefix of what was sent.
        assert!(
            is_content(&taken, id, 1 - end, story.delivered),
            "delivered bytes differ from sent bytes"
        );
        story.delivered += count as u64;
        assert!(story.delivered <= peer_written);
        if ended {
            // I2, I10: an end only where the peer's program set it.
            assert!(
                peer_finished == 1 && story.delivered == peer_written,
                "an end was delivered before the full length"
            );
            // I7: no end follows a reset.
            assert!(
                !reset && story.outcome.is_none() && !story.ended,
                "an end was delivered after a reset"
            );
            story.ended = true;
        }
        if count > 0 || ended {
            self.ends[end].queue(id);
        }
        count > 0 || ended
    }

    /// The proxy of the stream at this end notices that the stream has ended.
    fn settle(&mut self, end: usize, id: StreamId) -> bool {
        let stream = self.ends[end].at_work(id).expect("the stream exists");
        let (reset, complete) = (stream.core.reset_reason().is_some(), stream.core.is_complete());
        if !reset && !complete {
            return false;
        }
        stream.open = false;
        stream.pending = Bytes::new();
        let ack = stream.core.ack();
        self.story(end, id).outcome = Some(if reset { Outcome::Reset } else { Outcome::Complete });
        if complete {
            let (here, there) = (self.story(end, id).clone(), self.story(1 - end, id).clone());
            assert!(
                here.ended && here.finished && there.ended && there.finished,
                "the stream is not complete in both directions"
            );
            assert!(here.delivered == there.written && there.delivered == here.written);
            self.ends[end].push_frame(Control::Acks(vec![ack]));
            self.ends[end].forget(id);
        }
        true
    }

    // Processes.

    /// The next client starts a new session.
    fn crash_client(&mut self) -> bool {
        *self = Self {
            boots: [0, self.boots[AGENT]],
            ..Self::new(self.most)
        };
        true
    }

    fn crash_agent(&mut self) -> bool {
        for id in self.ends[AGENT].known.keys().copied().collect::<Vec<_>>() {
            for story in self.stories.get_mut(&id).expect("every stream has one") {
                story.disturbed = true;
            }
            let story = self.story(AGENT, id);
            story.outcome = story.outcome.or(Some(Outcome::Reset));
        }
        self.ends[AGENT] = End::new();
        self.boots[AGENT] += 1;
        self.begun = false;
        self.attachments.iter_mut().for_each(Attachment::orphan);
        true
    }

    fn restart_agent(&mut self) -> bool {
        self.ends[AGENT].restart();
        self.attachments.iter_mut().for_each(Attachment::orphan);
        true
    }

    /// Asserts the invariants.
    pub(crate) fn check(&self) {
        for end in &self.ends {
            end.check_memory();
        }
        for (id, stories) in &self.stories {
            for from in [CLIENT, AGENT] {
                let sender = self.ends[from].known.get(id).map(|stream| &stream.core);
                let receiver = self.ends[1 - from].known.get(id).map(|stream| &stream.core);
                // I6: acknowledged <= delivered <= received <= sent.
                if let Some(core) = sender.filter(|core| core.reset_reason().is_none()) {
                    assert!(core.send_buffer().acked() <= stories[1 - from].delivered);
                    assert!(core.send_buffer().sent() <= core.send_buffer().end());
                }
                if let Some(core) = receiver {
                    assert_eq!(core.recv_state().delivered(), stories[1 - from].delivered);
                    assert!(core.recv_state().delivered() <= core.recv_state().received());
                    assert!(
                        core.recv_state().received() <= stories[from].sent,
                        "bytes were received before they were sent"
                    );
                }
            }
        }
    }
}
