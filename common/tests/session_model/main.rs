//! Two ends of a session, a network that does anything to them, and what must hold all the same:
//!
//! - what is delivered is a prefix of what was sent, and an end comes only at full length, where the sender set it
//! - once the link is up and stays up, every stream becomes complete, or was reset for a reason, and both ends forget it
//! - memory stays within the caps, and the pool's account is right
//! - one attachment is written to at a time; what comes late on another changes nothing
//! - acknowledged ≤ delivered ≤ received ≤ sent
//! - a reset is final
//! - nothing that a peer says makes the core panic or do anything but reset the stream concerned
//!
//! Nothing here depends on time: the core has no clock, so a time-out, a sleep of hours and a clock that jumps are each an
//! order of events, and every order may come up.
//!
//! `PROPTEST_CASES=100000 cargo test --release -p jq-common --test session_model` runs that many cases of each.

mod attachments;
mod drain;
mod end;
mod hostile;
mod network;
mod story;
mod world;

use proptest::{prelude::*, test_runner::Config};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use world::{Happening, World};

/// What a case is made of besides what happens: how its end goes.
#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    /// Most streams: with few of them, more happens to each.
    streams: usize,
    /// How often a process may still crash or be replaced.
    crashes: u8,
}

struct Session;

fn ends() -> impl Strategy<Value = usize> {
    0..2usize
}

fn length() -> impl Strategy<Value = u32> {
    prop_oneof![3 => 0u32..40, 2 => 0u32..=65_536]
}

fn usual() -> BoxedStrategy<Happening> {
    prop_oneof![
        60 => Just(Happening::Open),
        140 => (ends(), any::<u8>(), length()).prop_map(|(end, stream, length)| Happening::Write { end, stream, length }),
        30 => (ends(), any::<u8>()).prop_map(|(end, stream)| Happening::Finish { end, stream }),
        8 => (ends(), any::<u8>()).prop_map(|(end, stream)| Happening::Break { end, stream }),
        8 => (ends(), any::<u8>()).prop_map(|(end, stream)| Happening::Stall { end, stream }),
        130 => (ends(), any::<u8>(), length()).prop_map(|(end, stream, length)| Happening::Deliver { end, stream, length }),
        40 => (ends(), any::<u8>()).prop_map(|(end, stream)| Happening::Settle { end, stream }),
        50 => Just(Happening::Connect),
        20 => any::<u8>().prop_map(|attachment| Happening::Die { attachment }),
        100 => (any::<u8>(), any::<u8>()).prop_map(|(attachment, stream)| Happening::Leg { attachment, stream }),
        150 => (ends(), any::<u8>(), any::<u8>(), length())
            .prop_map(|(end, attachment, stream, length)| Happening::Send { end, attachment, stream, length }),
        170 => (ends(), any::<u8>(), any::<u8>(), prop::bool::weighted(0.1))
            .prop_map(|(end, attachment, stream, twice)| Happening::Receive { end, attachment, stream, twice }),
        80 => ends().prop_map(|end| Happening::Tell { end }),
        170 => (ends(), any::<u8>(), prop::bool::weighted(0.1))
            .prop_map(|(end, attachment, twice)| Happening::Hear { end, attachment, twice }),
    ]
    .boxed()
}

thread_local! {
    /// Made once: it is asked for at every step.
    static USUAL: BoxedStrategy<Happening> = usual();
}

impl ReferenceStateMachine for Session {
    type State = Case;
    type Transition = Happening;

    fn init_state() -> BoxedStrategy<Case> {
        (any::<u64>(), prop_oneof![3 => 1..3usize, 1 => 3..7usize], 0u8..3)
            .prop_map(|(seed, streams, crashes)| Case {
                seed,
                streams,
                crashes,
            })
            .boxed()
    }

    fn transitions(case: &Case) -> BoxedStrategy<Happening> {
        let usual = USUAL.with(Clone::clone);
        if case.crashes == 0 {
            return usual;
        }
        prop_oneof![
            130 => usual,
            2 => prop_oneof![1 => Just(Happening::CrashClient), 2 => Just(Happening::CrashAgent), 3 => Just(Happening::RestartAgent)],
        ]
        .boxed()
    }

    fn apply(mut case: Case, happening: &Happening) -> Case {
        if let Happening::CrashClient | Happening::CrashAgent | Happening::RestartAgent = happening {
            case.crashes = case.crashes.saturating_sub(1);
        }
        case
    }
}

impl StateMachineTest for Session {
    type SystemUnderTest = World;
    type Reference = Self;

    fn init_test(case: &Case) -> World {
        World::new(case.streams)
    }

    fn apply(mut world: World, _: &Case, happening: Happening) -> World {
        world.happen(&happening);
        world
    }

    fn check_invariants(world: &World, _: &Case) {
        world.check();
    }

    fn teardown(world: World, case: Case) {
        drain::drain(world, case.seed);
    }
}

prop_state_machine! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_the_network_does_streams_lose_nothing_and_end_as_they_were_ended(sequential 1..120 => Session);
}
