//! A model of the two ends of a session, and a network on which anything can happen. It checks these invariants:
//!
//! - the delivered bytes are a prefix of the sent bytes, and the end is delivered only at full length
//! - once the link stays up, every stream becomes complete or was reset for a reason, and both ends forget it
//! - memory stays within the limits, and the budget counts it correctly
//! - only one attachment is written to at a time; late input from another one has no effect
//! - acknowledged ≤ delivered ≤ received ≤ sent
//! - a reset is final
//! - no input from a peer makes the core panic; invalid input resets at most the stream concerned
//!
//! The core has no clock: a timeout, a suspend of hours and a clock that jumps are only different orders of events, and the
//! model generates every order.
//!
//! `PROPTEST_CASES=100000 cargo test --release -p jq-common --test session_model` runs 100,000 cases of each property.

mod attachments;
mod drain;
mod end;
mod hostile;
mod network;
#[path = "../shared/random.rs"]
mod random;
mod story;
mod world;

use proptest::{prelude::*, test_runner::Config};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use world::{Event, World};

/// The parameters of a case besides its events.
#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    /// Maximum number of streams. With few streams, more events happen to each.
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

fn usual() -> BoxedStrategy<Event> {
    prop_oneof![
        60 => Just(Event::Open),
        140 => (ends(), any::<u8>(), length()).prop_map(|(end, stream, length)| Event::Write { end, stream, length }),
        30 => (ends(), any::<u8>()).prop_map(|(end, stream)| Event::Finish { end, stream }),
        8 => (ends(), any::<u8>()).prop_map(|(end, stream)| Event::Break { end, stream }),
        8 => (ends(), any::<u8>()).prop_map(|(end, stream)| Event::Stall { end, stream }),
        130 => (ends(), any::<u8>(), length()).prop_map(|(end, stream, length)| Event::Deliver { end, stream, length }),
        40 => (ends(), any::<u8>()).prop_map(|(end, stream)| Event::Settle { end, stream }),
        50 => Just(Event::Connect),
        20 => any::<u8>().prop_map(|attachment| Event::Die { attachment }),
        100 => (any::<u8>(), any::<u8>()).prop_map(|(attachment, stream)| Event::Leg { attachment, stream }),
        150 => (ends(), any::<u8>(), any::<u8>(), length())
            .prop_map(|(end, attachment, stream, length)| Event::Send { end, attachment, stream, length }),
        170 => (ends(), any::<u8>(), any::<u8>(), prop::bool::weighted(0.1))
            .prop_map(|(end, attachment, stream, twice)| Event::Receive { end, attachment, stream, twice }),
        80 => ends().prop_map(|end| Event::SendControl { end }),
        170 => (ends(), any::<u8>(), prop::bool::weighted(0.1))
            .prop_map(|(end, attachment, twice)| Event::ReceiveControl { end, attachment, twice }),
    ]
    .boxed()
}

thread_local! {
    /// Built once, because every step needs it.
    static USUAL: BoxedStrategy<Event> = usual();
}

impl ReferenceStateMachine for Session {
    type State = Case;
    type Transition = Event;

    fn init_state() -> BoxedStrategy<Case> {
        (any::<u64>(), prop_oneof![3 => 1..3usize, 1 => 3..7usize], 0u8..3)
            .prop_map(|(seed, streams, crashes)| Case {
                seed,
                streams,
                crashes,
            })
            .boxed()
    }

    fn transitions(case: &Case) -> BoxedStrategy<Event> {
        let usual = USUAL.with(Clone::clone);
        if case.crashes == 0 {
            return usual;
        }
        prop_oneof![
            130 => usual,
            2 => prop_oneof![1 => Just(Event::CrashClient), 2 => Just(Event::CrashAgent), 3 => Just(Event::RestartAgent)],
        ]
        .boxed()
    }

    fn apply(mut case: Case, event: &Event) -> Case {
        if let Event::CrashClient | Event::CrashAgent | Event::RestartAgent = event {
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

    fn apply(mut world: World, _: &Case, event: Event) -> World {
        world.on_event(&event);
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
    fn streams_lose_no_data_and_end_correctly_whatever_the_network_does(sequential 1..120 => Session);
}
