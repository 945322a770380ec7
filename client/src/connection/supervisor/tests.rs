//! The supervisor in every world: searches, ssh and connections end in any order, are cancelled, or never end; keys are
//! pressed, machines wake, time leaps.
//!
//! `world` holds what must hold after each event:
//! - one search, one ssh and one attempt over the ssh channel at a time; no connection is left open
//! - ssh starts 15 s apart, unless the user pressed Enter or this machine woke since; a key that is held starts one
//! - ssh asks on the terminal only after Enter, pressed while a login was needed; no change of networks takes that away
//! - the connection that carries the session is closed once another one is installed, or once it is dead
//! - the session ends for an [`EndReason`] only, and nothing follows
//! - without a connection something is always scheduled; known paths are searched; a better path is searched
//! - the state is what the user was promised: connected unless nothing comes through, login needed if and only if the
//!   last ssh failed for want of the user and nothing has changed since
//!
//! `PROPTEST_CASES=100000 cargo test --release -p jq-client --lib supervisor` runs that many cases of each.

mod examples;
mod world;

use std::time::Duration;

use proptest::{
    collection::{btree_set, vec},
    prelude::*,
    sample::select,
};

use super::{
    Continuity, DetachReason, Event, Paths, Scope,
    policy::{ASKED_APART, LOGIN_AGAIN, MOVE, SHORT_LIFE},
};
use crate::{
    connection::{backoff::Attempts, paths::Rank},
    error::Kind,
    status::{Loss, State},
};
use world::World;

/// Something that may happen at any time. What cannot happen now does not.
#[derive(Clone, Debug)]
enum Happening {
    Pass(Duration),
    Leap(Duration),
    SearchFinds(Rank),
    SearchRefused { version: bool },
    PipeConnects,
    PipeRefused { version: bool },
    BootstrapSucceeds { paths: Paths, has_pipe: bool },
    BootstrapFails(Kind),
    Part(DetachReason),
    Silent,
    Heard,
    Gone,
    OfAnother(fn(super::ConnectionId) -> Event),
    NextInstall(Option<Continuity>),
    StreamsOpen,
    Enter,
    HoldEnter { times: u8, apart: Duration },
    Wake,
    NetworkChanges,
    StatusAsked,
    EarlyDeadline,
}

fn udp() -> impl Strategy<Value = Paths> {
    btree_set(select(vec![Rank::Direct, Rank::Relay]), 0..3)
}

fn loss() -> impl Strategy<Value = Loss> {
    select(vec![Loss::AgentRestarted, Loss::SessionGivenUp])
}

fn failures() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::Unreachable),
        4 => Just(Kind::LoginRefused),
        2 => Just(Kind::HostKeyUnknown),
        2 => Just(Kind::InstallFailed),
        2 => Just(Kind::AgentFailed),
    ]
}

fn times() -> impl Strategy<Value = Duration> {
    prop_oneof![
        3 => 0u64..400,
        3 => 400u64..6_000,
        2 => 6_000u64..40_000,
        1 => 40_000u64..400_000,
    ]
    .prop_map(Duration::from_millis)
}

/// What does not end the session.
fn happening() -> BoxedStrategy<Happening> {
    use Happening::{
        BootstrapFails, BootstrapSucceeds, EarlyDeadline, Enter, Gone, Heard, HoldEnter, Leap,
        NetworkChanges, NextInstall, OfAnother, Part, Pass, PipeConnects, PipeRefused, SearchFinds,
        SearchRefused, Silent, StatusAsked, StreamsOpen, Wake,
    };
    let reason = select(vec![
        DetachReason::Fenced,
        DetachReason::AgentEnding,
        DetachReason::GivenUp,
        DetachReason::Reset,
        DetachReason::Lost,
    ]);
    let of_another = select(vec![
        Event::Silent as fn(_) -> _,
        Event::Heard,
        Event::Gone,
        |id| Event::Detached(id, DetachReason::Superseded),
    ]);
    let continuity = prop_oneof![
        Just(None),
        Just(Some(Continuity::Kept)),
        loss().prop_map(|loss| Some(Continuity::Broken(loss))),
    ];
    prop_oneof![
        20 => times().prop_map(Pass),
        2 => times().prop_map(Leap),
        8 => select(vec![Rank::Direct, Rank::Relay]).prop_map(SearchFinds),
        4 => Just(SearchRefused { version: false }),
        5 => Just(PipeConnects),
        2 => Just(PipeRefused { version: false }),
        6 => (udp(), any::<bool>()).prop_map(|(paths, has_pipe)| BootstrapSucceeds { paths, has_pipe }),
        8 => failures().prop_map(BootstrapFails),
        10 => reason.prop_map(Part),
        6 => Just(Silent),
        4 => Just(Heard),
        4 => Just(Gone),
        2 => of_another.prop_map(OfAnother),
        2 => continuity.prop_map(NextInstall),
        2 => Just(StreamsOpen),
        6 => Just(Enter),
        3 => (1..40u8, 10..900u64).prop_map(|(times, apart)| HoldEnter { times, apart: Duration::from_millis(apart) }),
        4 => Just(Wake),
        4 => Just(NetworkChanges),
        3 => Just(StatusAsked),
        2 => Just(EarlyDeadline),
    ]
    .boxed()
}

/// What may end it.
fn ending() -> BoxedStrategy<Happening> {
    prop_oneof![
        30 => happening(),
        1 => Just(Happening::Part(DetachReason::Superseded)),
        1 => Just(Happening::BootstrapFails(Kind::HostKeyChanged)),
        1 => Just(Happening::SearchRefused { version: true }),
        1 => Just(Happening::PipeRefused { version: true }),
    ]
    .boxed()
}

fn worlds() -> impl Strategy<Value = (Paths, Rank)> {
    let rank = select(vec![Rank::Direct, Rank::Relay, Rank::Ssh]);
    (udp(), rank).prop_map(|(paths, rank)| {
        let rank = if paths.contains(&rank) { rank } else { Rank::Ssh };
        (paths, rank)
    })
}

impl World {
    fn after(start: (Paths, Rank), happenings: &[Happening]) -> Self {
        let mut world = Self::new(start.0, start.1);
        for happening in happenings {
            world.happen(happening);
        }
        world
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Pass(time) => self.pass(*time),
            Happening::Leap(time) => self.leap(*time),
            Happening::SearchFinds(rank) => self.search_finds(*rank),
            Happening::SearchRefused { version } => self.search_is_refused(*version),
            Happening::PipeConnects => self.pipe_connects(),
            Happening::PipeRefused { version } => self.pipe_is_refused(*version),
            Happening::BootstrapSucceeds { paths, has_pipe } => self.bootstrap_succeeds(paths, *has_pipe),
            Happening::BootstrapFails(kind) => self.bootstrap_fails(*kind),
            Happening::Part(reason) => self.part(*reason),
            Happening::Silent => self.tell_of_current(Event::Silent),
            Happening::Heard => self.be_heard(),
            Happening::Gone => self.say_gone(),
            Happening::OfAnother(event) => self.tell(event(super::ConnectionId(0))),
            Happening::NextInstall(next) => self.next_install = *next,
            Happening::StreamsOpen => self.has_streams = true,
            Happening::Enter => self.ask(),
            Happening::HoldEnter { times, apart } => self.hold_enter(*times, *apart),
            Happening::Wake => self.wake(),
            Happening::NetworkChanges => self.change_network(),
            Happening::StatusAsked => self.tell(Event::StatusAsked),
            Happening::EarlyDeadline => self.tell(Event::Deadline),
        }
    }

    fn tell_of_current(&mut self, event: fn(super::ConnectionId) -> Event) {
        if let Some((id, _)) = self.current() {
            self.tell(event(id));
        }
    }

    fn hold_enter(&mut self, times: u8, apart: Duration) {
        for _ in 0..times {
            self.ask();
            self.pass(apart);
        }
    }

    /// Nothing leads to the agent but ssh, and that needs the user.
    fn only_the_user_helps(&mut self) {
        self.part(DetachReason::Lost);
        let limit = self.now + MOVE + Attempts::SSH + LOGIN_AGAIN;
        while self.state() != State::LoginNeeded {
            assert!(self.now <= limit, "{:?} after so long", self.state());
            self.bootstrap_fails(Kind::LoginRefused);
            self.pass(Duration::from_millis(100));
        }
    }

    fn searches_any(&self) -> bool {
        self.search.is_some_and(|search| search.scope == Scope::Any)
    }

    /// Whatever is tried works from now on: gives how long it takes until the session is carried.
    fn everything_works(&mut self) -> Duration {
        let start = self.now;
        self.next_install = Some(Continuity::Kept);
        while self.state() != State::Connected || self.installed.is_none() || self.searches_any() {
            assert!(
                self.now - start <= LOGIN_AGAIN + Attempts::SSH + MOVE,
                "{:?} after so long",
                self.state()
            );
            self.search_finds(Rank::Direct);
            self.pipe_connects();
            self.bootstrap_succeeds(&Paths::from([Rank::Relay]), true);
            self.pass(Duration::from_millis(100));
        }
        self.now - start
    }
}

/// Most time from a search that can succeed to a connection: its longest pause.
const BY_UDP: Duration = Duration::from_secs(11);

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_rule_holds(start in worlds(), happenings in vec(ending(), 1..60)) {
        World::after(start, &happenings);
    }

    #[test]
    fn once_what_is_tried_works_the_session_is_soon_carried(start in worlds(), happenings in vec(happening(), 0..40)) {
        let mut world = World::after(start, &happenings);
        let is_searched = world.search.is_some();
        let took = world.everything_works();
        prop_assert!(!is_searched || took <= BY_UDP, "{:?}", took);
    }

    #[test]
    fn a_login_is_asked_for_when_only_the_user_helps_and_one_enter_leads_back(
        start in worlds(), happenings in vec(happening(), 0..40)
    ) {
        let mut world = World::after(start, &happenings);
        world.only_the_user_helps();
        world.bootstrap_fails(Kind::LoginRefused);
        world.pass(SHORT_LIFE);
        let before = world.bootstraps;
        world.hold_enter(30, Duration::from_millis(33));
        // At once, unless the user has just done so.
        world.pass(ASKED_APART);
        prop_assert_eq!(world.bootstraps, before + 1);
        prop_assert_eq!(world.state(), State::LoginNeeded);
        world.next_install = Some(Continuity::Kept);
        world.bootstrap_succeeds(&Paths::new(), true);
        world.pass(SHORT_LIFE);
        world.pipe_connects();
        prop_assert_eq!(world.state(), State::Connected);
    }

    #[test]
    fn a_better_path_is_taken_without_a_gap(start in worlds(), happenings in vec(happening(), 0..40)) {
        let mut world = World::after(start, &happenings);
        world.everything_works();
        while let Some(search) = world.search.filter(|search| matches!(search.scope, Scope::BetterThan(_))) {
            let (before, old) = world.current().expect("connected");
            let closed = world.closed.len();
            world.search_finds(Rank::Direct);
            let (after, new) = world.current().expect("no gap");
            prop_assert!(new.rank < old.rank && after != before, "{:?} {:?}", search, new);
            prop_assert_eq!(world.state(), State::Connected);
            prop_assert_eq!(&world.closed[closed..], [before]);
        }
        let (_, best) = world.current().expect("connected");
        prop_assert!(world.paths.iter().all(|rank| *rank >= best.rank), "{:?} {:?}", best, world.paths);
    }

    #[test]
    fn a_path_that_fails_is_left_once_another_one_works(
        start in worlds(), happenings in vec(happening(), 0..40), silent in any::<bool>()
    ) {
        let mut world = World::after(start, &happenings);
        world.everything_works();
        let (failing, open) = world.current().expect("connected");
        if silent || open.rank == Rank::Ssh {
            world.tell(Event::Silent(failing));
        } else {
            world.say_gone();
        }
        prop_assert_eq!(world.installed, Some(failing), "it stays until another one works");
        world.everything_works();
        prop_assert!(world.installed != Some(failing) && world.closed.contains(&failing));
    }
}
