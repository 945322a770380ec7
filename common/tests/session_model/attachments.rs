//! Events on attachments: on the QUIC streams of their logical streams, and on their control streams.

use bytes::Bytes;
use jq_common::{protocol::session::StreamId, session::core::recv_state::RecvState};

use crate::{
    end::Stream,
    network::{Attachment, Frame, Item},
    story::is_content,
    world::{AGENT, ATTACHMENTS, CLIENT, World, pick},
};

impl World {
    pub(crate) fn connect(&mut self) -> bool {
        if self.attachments.len() >= ATTACHMENTS {
            self.attachments.remove(0);
        }
        self.attachments.push(Attachment::new(self.next_generation));
        self.next_generation += 1;
        true
    }

    fn attachment(&self, which: u8) -> Option<usize> {
        let all: Vec<_> = (0..self.attachments.len()).collect();
        pick(&all, which)
    }

    pub(crate) fn leg(&mut self, which: u8, id: StreamId) -> bool {
        let Some(index) = self.attachment(which) else {
            return false;
        };
        let attachment = &mut self.attachments[index];
        let stream: &mut Stream = self.ends[CLIENT].at_work(id).expect("the stream exists");
        if !attachment.established
            || attachment.wires.contains_key(&id)
            || stream.core.reset_reason().is_some()
            || !stream.core.offer(attachment.generation)
        {
            return false;
        }
        let received = stream.core.recv_state().received();
        let wire = attachment.wires.entry(id).or_default();
        wire.at = [received, stream.core.send_buffer().sent()];
        wire.used[CLIENT] = true;
        if !attachment.orphaned {
            wire.pipes[CLIENT].push_back(Item::Open {
                received,
                with_header: !stream.core.is_confirmed(),
            });
        }
        true
    }

    pub(crate) fn send(&mut self, end: usize, which: u8, id: StreamId, length: u32) -> bool {
        let Some(index) = self.attachment(which) else {
            return false;
        };
        let attachment = &mut self.attachments[index];
        let generation = attachment.generation;
        let current = generation == self.ends[end].generation;
        let stream = self.ends[end].at_work(id).expect("the stream exists");
        let Some(wire) = attachment.wires.get_mut(&id).filter(|wire| wire.used[end]) else {
            return false;
        };
        let from = stream.core.send_buffer().sent();
        let mut batch = [const { Bytes::new() }; 4];
        let taken = stream.core.batch(generation, &mut batch);
        let mut left = length.max(1) as usize;
        let mut sent = 0;
        let mut items = Vec::new();
        for chunk in &mut batch[..taken] {
            let part = chunk.split_to(chunk.len().min(left));
            left -= part.len();
            assert!(
                is_content(&part, id, end, from + sent),
                "sent bytes differ from written bytes"
            );
            sent += part.len() as u64;
            if !part.is_empty() {
                items.push(Item::Data(part));
            }
        }
        stream.core.sent(generation, sent);
        if taken == 0 && stream.core.take_end(generation) {
            items.push(Item::End);
        }
        let reached = stream.core.send_buffer().sent();
        // I5: only the current attachment is written to.
        assert!(
            items.is_empty() || current,
            "a replaced attachment was written to"
        );
        let acts = !items.is_empty();
        if end == AGENT || !attachment.orphaned {
            wire.pipes[end].extend(items);
        }
        let story = self.story(end, id);
        story.sent = story.sent.max(reached);
        acts
    }

    pub(crate) fn receive(&mut self, end: usize, which: u8, stream: u8, twice: bool) -> bool {
        let Some(index) = self.attachment(which) else {
            return false;
        };
        let attachment = &mut self.attachments[index];
        let generation = attachment.generation;
        if end == AGENT && attachment.orphaned {
            return false;
        }
        let current = generation == self.ends[end].generation;
        let waiting: Vec<_> = attachment
            .wires
            .iter()
            .filter(|(_, wire)| !wire.pipes[1 - end].is_empty())
            .map(|(id, _)| *id)
            .collect();
        let Some(id) = pick(&waiting, stream) else {
            return false;
        };
        let wire = attachment.wires.get_mut(&id).expect("the stream exists");
        let local = self.ends[end].at_work(id);
        // A stalled socket blocks its own stream.
        if current && local.as_ref().is_some_and(|local| !local.pending.is_empty()) {
            return false;
        }
        let item = wire.pipes[1 - end].pop_front().expect("the stream exists");
        if let Item::Open {
            received,
            with_header,
        } = item
        {
            let opened = self.ends[AGENT].opened(generation, id, received, with_header);
            wire.used[AGENT] = opened.expect("an honest peer commits no violation");
            return true;
        }
        let at = wire.at[end];
        if let Item::Data(bytes) = &item {
            wire.at[end] += bytes.len() as u64;
        }
        let Some(local) = local.filter(|_| wire.used[end]) else {
            return true;
        };
        let before = state_of(local);
        match &item {
            Item::Data(bytes) => {
                // In two steps, so that a part is accepted first.
                let first = if twice { bytes.len() / 2 } else { bytes.len() };
                for bytes in [bytes.slice(..first), bytes.clone()] {
                    let new = local
                        .core
                        .accept(generation, at, bytes)
                        .expect("an honest peer commits no violation");
                    let new = new.unwrap_or_default();
                    local.pending = if local.pending.is_empty() {
                        new
                    } else {
                        [&local.pending[..], &new].concat().into()
                    };
                }
            }
            Item::End => {
                for _ in 0..=u8::from(twice) {
                    local
                        .core
                        .accept_end(generation, at)
                        .expect("an honest peer commits no violation");
                }
            }
            Item::Open { .. } => unreachable!("handled above"),
        }
        // I9: late input has no effect.
        assert!(
            current || before == state_of(local),
            "input of a replaced attachment had an effect"
        );
        true
    }

    // The control stream.

    pub(crate) fn send_control(&mut self, end: usize) -> bool {
        let generation = self.ends[end].generation;
        let Some(attachment) = self
            .attachments
            .iter_mut()
            .find(|attachment| attachment.generation == generation)
        else {
            return false;
        };
        if end == AGENT && attachment.orphaned {
            return false;
        }
        let frames = self.ends[end].frames();
        let any = !frames.is_empty();
        if end == AGENT || !attachment.orphaned {
            attachment.control[end].extend(frames.into_iter().map(Frame::Control));
        }
        any
    }

    pub(crate) fn receive_control(&mut self, end: usize, which: u8, twice: bool) -> bool {
        let Some(index) = self.attachment(which) else {
            return false;
        };
        let Some(frame) = self.attachments[index].control[1 - end].pop_front() else {
            return false;
        };
        let generation = self.attachments[index].generation;
        match frame {
            Frame::Attach => self.attach(index),
            Frame::Attached { boot, fresh, table } => {
                let attachment = &mut self.attachments[index];
                attachment.established = generation > self.ends[CLIENT].generation;
                if attachment.established {
                    if fresh || boot != self.boots[CLIENT] {
                        for id in self.ends[CLIENT].lose() {
                            for story in self.stories.get_mut(&id).expect("every stream has one") {
                                story.disturbed = true;
                            }
                        }
                    }
                    self.boots[CLIENT] = boot;
                    self.ends[CLIENT]
                        .resume(generation, &table)
                        .expect("an honest peer commits no violation");
                }
            }
            Frame::Control(control) => {
                for _ in 0..=u8::from(twice) {
                    self.ends[end]
                        .on_control(control.clone())
                        .expect("an honest peer commits no violation");
                }
            }
        }
        true
    }

    fn attach(&mut self, index: usize) {
        let attachment = &mut self.attachments[index];
        if attachment.generation <= self.ends[AGENT].generation {
            return;
        }
        let table = self.ends[AGENT].fence(attachment.generation);
        attachment.control[AGENT].push_back(Frame::Attached {
            boot: self.boots[AGENT],
            fresh: !self.begun,
            table,
        });
        self.begun = true;
    }
}

/// The whole state of a stream, for comparisons.
fn state_of(stream: &Stream) -> (u64, u64, u64, RecvState, bool, usize) {
    let (core, send_buffer) = (&stream.core, stream.core.send_buffer());
    (
        send_buffer.acked(),
        send_buffer.sent(),
        send_buffer.end(),
        *core.recv_state(),
        core.reset_reason().is_some(),
        stream.pending.len(),
    )
}
