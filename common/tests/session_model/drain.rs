//! The last part of each case: the link stays up, sockets are read, and programs end their data.

use crate::{
    random::Random,
    story::Outcome,
    world::{AGENT, CLIENT, Event, World},
};

/// The maximum number of remaining steps of a case.
const STEPS: usize = 20_000;

/// Bytes to write, more than the first window.
const MUCH: u64 = 700 * 1024;

pub(crate) fn drain(mut world: World, seed: u64) {
    let mut random = Random(seed);
    for end in &mut world.ends {
        for stream in end.known.values_mut().chain(end.forgotten.values_mut()) {
            stream.stalled = false;
        }
    }
    // In some cases, more data than a window is written at the end.
    world.goal = Some(if random.next().is_multiple_of(8) { MUCH } else { 0 });
    for _ in 0..random.next() % 4 {
        let after = random.next() % 150;
        settle(&mut world, &mut random, after as usize);
        disturb(&mut world, &mut random);
    }
    // In some cases there is no new attachment, because not everything needs one.
    if random.next().is_multiple_of(2) {
        world.connect();
    }
    loop {
        assert!(
            settle(&mut world, &mut random, STEPS),
            "the streams do not end: {world:#?}"
        );
        if is_up(&world) {
            break;
        }
        world.connect();
    }
    check_end(&world);
}

fn is_up(world: &World) -> bool {
    let generation = world.ends[CLIENT].generation;
    generation == world.ends[AGENT].generation
        && world
            .attachments
            .iter()
            .any(|attachment| attachment.generation == generation && !attachment.orphaned)
}

/// Injects an event near the end, where random events are rare.
fn disturb(world: &mut World, random: &mut Random) {
    let number = random.next().to_le_bytes();
    let end = usize::from(number[1] % 2);
    world.on_event(&match number[0] % 16 {
        0 => Event::CrashAgent,
        1 | 2 => Event::RestartAgent,
        3..7 => Event::Die {
            attachment: number[2],
        },
        7..11 => Event::Connect,
        _ => Event::Break {
            end,
            stream: number[2],
        },
    });
}

/// Applies possible events in random order until none has an effect. False when that takes more than `steps`.
fn settle(world: &mut World, random: &mut Random, steps: usize) -> bool {
    for _ in 0..steps {
        let mut all = possible(world);
        let mut acted = false;
        while !all.is_empty() && !acted {
            let next = all.swap_remove(random.next() as usize % all.len());
            acted = world.on_event(&next);
        }
        world.check();
        if !acted {
            return true;
        }
    }
    false
}

fn possible(world: &World) -> Vec<Event> {
    let mut all = Vec::new();
    let length = u32::MAX;
    for end in [CLIENT, AGENT] {
        all.push(Event::SendControl { end });
        let streams = world.ends[end].known.len() + world.ends[end].forgotten.len();
        for stream in 0..streams as u8 {
            all.push(Event::Write { end, stream, length });
            all.push(Event::Finish { end, stream });
            all.push(Event::Deliver { end, stream, length });
            all.push(Event::Settle { end, stream });
        }
        for attachment in 0..world.attachments.len() as u8 {
            all.push(Event::ReceiveControl {
                end,
                attachment,
                twice: false,
            });
            for stream in 0..streams as u8 {
                all.push(Event::Leg { attachment, stream });
                all.push(Event::Send {
                    end,
                    attachment,
                    stream,
                    length,
                });
                all.push(Event::Receive {
                    end,
                    attachment,
                    stream,
                    twice: false,
                });
            }
            all.push(Event::Receive {
                end,
                attachment,
                stream: 0,
                twice: false,
            });
        }
    }
    all
}

fn check_end(world: &World) {
    for end in &world.ends {
        assert!(end.known.is_empty(), "a stream is not forgotten: {world:#?}");
        assert!(
            end.forgotten.values().all(|stream| !stream.open),
            "a socket is left: {world:#?}"
        );
    }
    for (id, [client, agent]) in &world.stories {
        let outcomes = [client.outcome, agent.outcome];
        match outcomes {
            [Some(Outcome::Complete), Some(Outcome::Complete)] => {}
            // A reset that arrives after the other end is complete has no effect there.
            [Some(Outcome::Complete | Outcome::Reset), Some(Outcome::Complete | Outcome::Reset)]
            // The stream was reset before the agent knew it.
            | [Some(Outcome::Reset), None] => assert!(client.disturbed, "stream {id} was reset without a reason"),
            _ => panic!("stream {id} ended as {outcomes:?}"),
        }
    }
}
