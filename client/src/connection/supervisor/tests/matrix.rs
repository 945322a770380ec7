//! Every event meets every phase: by chance in the worlds, a few on purpose. What cannot happen is listed.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    time::{Duration, Instant},
};

use proptest::{
    collection::vec,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::{
    super::{
        Action, Candidate, ConnectionId, Continuity, DetachReason, EndReason, Event, Paths, PipeFailure,
        Supervisor,
        policy::{PIPE_HEAD_START, SSH_AFTER_CHANGE},
    },
    Happening, World, ending, worlds,
};
use crate::{
    connection::rank::Rank,
    error::{Failure, Kind},
    status::Loss,
};

/// The phases, but for the end.
const PHASES: [&str; 6] = [
    "Connected",
    "Replacing",
    "Moving to a better path",
    "Moving",
    "Suspect",
    "Down",
];

const EVENTS: [&str; 20] = [
    "Detached",
    "Silent",
    "Heard",
    "Gone",
    "Searched, found",
    "Searched, refused",
    "PipeTried, connected",
    "PipeTried, failed",
    "PipeTried, another version",
    "Installed",
    "NotInstalled",
    "StreamsReset",
    "Bootstrapped",
    "BootstrapFailed",
    "UserAsked",
    "Woke, suspended",
    "Woke, stood still",
    "NetworkChanged",
    "StatusAsked",
    "Deadline",
];

/// Without an effort to find any connection, neither ssh nor an attempt over its channel is under way.
const WITHOUT_RECOVERY: &[&str] = &["Connected", "Moving to a better path"];

/// The phases in which an event cannot happen.
const IMPOSSIBLE: [(&str, &[&str]); 6] = [
    ("PipeTried, connected", WITHOUT_RECOVERY),
    ("PipeTried, failed", WITHOUT_RECOVERY),
    ("PipeTried, another version", WITHOUT_RECOVERY),
    ("Bootstrapped", WITHOUT_RECOVERY),
    ("BootstrapFailed", WITHOUT_RECOVERY),
    // It follows at once when the agent has ended or has discarded the session.
    (
        "StreamsReset",
        &[
            "Connected",
            "Replacing",
            "Moving to a better path",
            "Moving",
            "Suspect",
        ],
    ),
];

pub(super) fn name(event: &Event) -> &'static str {
    match event {
        Event::Detached(..) => "Detached",
        Event::Silent(_) => "Silent",
        Event::Heard(_) => "Heard",
        Event::Gone(_) => "Gone",
        Event::Searched(Some(_)) => "Searched, found",
        Event::Searched(None) => "Searched, refused",
        Event::PipeTried(Ok(_)) => "PipeTried, connected",
        Event::PipeTried(Err(PipeFailure { version: None })) => "PipeTried, failed",
        Event::PipeTried(Err(PipeFailure { version: Some(_) })) => "PipeTried, another version",
        Event::Installed(..) => "Installed",
        Event::NotInstalled => "NotInstalled",
        Event::StreamsReset(_) => "StreamsReset",
        Event::Bootstrapped { .. } => "Bootstrapped",
        Event::BootstrapFailed(_) => "BootstrapFailed",
        Event::UserAsked => "UserAsked",
        Event::Woke { suspended } if suspended.is_zero() => "Woke, stood still",
        Event::Woke { .. } => "Woke, suspended",
        Event::NetworkChanged => "NetworkChanged",
        Event::StatusAsked => "StatusAsked",
        Event::Deadline => "Deadline",
    }
}

/// What needs too many chances: on another network ssh is there, and perhaps the agent moves the session, before the attempt
/// over the ssh channel ends.
fn rare() -> Vec<Vec<Happening>> {
    let ends = [
        Happening::PipeConnects,
        Happening::PipeRefused { version: false },
        Happening::PipeRefused { version: true },
    ];
    let moved = [None, Some(Happening::Part(DetachReason::Fenced))];
    let mut all = Vec::new();
    for end in ends {
        for moved in &moved {
            let mut happenings = vec![
                Happening::NetworkChanges,
                Happening::Pass(SSH_AFTER_CHANGE),
                Happening::BootstrapSucceeds {
                    paths: Paths::from([Rank::Direct]),
                    has_pipe: true,
                },
                Happening::Pass(PIPE_HEAD_START),
            ];
            happenings.extend(moved.clone());
            happenings.push(end.clone());
            all.push(happenings);
        }
    }
    all
}

/// The same cases each time, so that the set of pairs is always the same one.
#[test]
fn every_event_meets_every_phase_in_which_it_can_happen() {
    let config = Config {
        cases: 20_000,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let met = RefCell::new(BTreeSet::new());
    let cases = (worlds(), vec(ending(), 1..60));
    let run = runner.run(&cases, |(start, happenings)| {
        met.borrow_mut().extend(World::after(start, &happenings).met);
        Ok(())
    });
    run.expect("every rule holds");
    for happenings in rare() {
        let start = (Paths::from([Rank::Direct, Rank::Relay]), Rank::Direct);
        met.borrow_mut().extend(World::after(start, &happenings).met);
    }
    let met: BTreeSet<_> = met
        .into_inner()
        .into_iter()
        .filter(|(phase, _)| *phase != "Ended")
        .collect();
    let is_possible = |phase: &str, event: &str| {
        !IMPOSSIBLE
            .iter()
            .any(|(impossible, phases)| *impossible == event && phases.contains(&phase))
    };
    let all = PHASES
        .iter()
        .flat_map(|phase| EVENTS.map(|event| (*phase, event)));
    let expected: BTreeSet<_> = all.filter(|(phase, event)| is_possible(phase, event)).collect();
    let missing: Vec<_> = expected.difference(&met).collect();
    let surplus: Vec<_> = met.difference(&expected).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "never: {missing:?}, and yet: {surplus:?}"
    );
}

/// One event of each kind.
fn events(id: ConnectionId) -> Vec<Event> {
    let candidate = Candidate {
        id,
        rank: Rank::Direct,
    };
    let version = Some("ssh: another version".to_owned());
    vec![
        Event::Detached(id, DetachReason::Lost),
        Event::Silent(id),
        Event::Heard(id),
        Event::Gone(id),
        Event::Searched(Some(candidate)),
        Event::Searched(None),
        Event::PipeTried(Ok(candidate)),
        Event::PipeTried(Err(PipeFailure { version: None })),
        Event::PipeTried(Err(PipeFailure { version })),
        Event::Installed(candidate, Continuity::Kept),
        Event::NotInstalled,
        Event::StreamsReset(Loss::AgentRestarted),
        Event::Bootstrapped {
            paths: Paths::new(),
            has_pipe: true,
        },
        Event::BootstrapFailed(Failure::new(Kind::LoginRefused, "ssh")),
        Event::UserAsked,
        Event::Woke {
            suspended: Duration::from_secs(60),
        },
        Event::Woke {
            suspended: Duration::ZERO,
        },
        Event::NetworkChanged,
        Event::StatusAsked,
        Event::Deadline,
    ]
}

#[test]
fn nothing_follows_the_end_whatever_happens() {
    let now = Instant::now();
    let id = ConnectionId(1);
    let mut supervisor = Supervisor::new(Paths::from([Rank::Direct]), now);
    let first = Candidate {
        id,
        rank: Rank::Direct,
    };
    supervisor.on(Event::Installed(first, Continuity::Kept), now);
    let end = supervisor.on(Event::Detached(id, DetachReason::Superseded), now);
    assert!(end.contains(&Action::End(EndReason::Superseded)));
    let events = events(id);
    let names: BTreeSet<_> = events.iter().map(name).collect();
    assert_eq!(names, BTreeSet::from(EVENTS));
    for event in events {
        assert_eq!(supervisor.on(event, now), []);
        assert_eq!(supervisor.deadline(), None);
    }
}
