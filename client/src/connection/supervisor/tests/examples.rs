//! One promise each, with its times.

mod ssh;

use std::time::{Duration, Instant};

use jq_common::protocol::workload::FailureKind;

use super::super::{
    Action, Candidate, ConnectionId, Continuity, DetachReason, EndReason, Event, Paths, PipeFailure,
    Supervisor,
    policy::{MOVE, PIPE_HEAD_START, REFUSED_AGAIN, SSH_AFTER, SSH_AFTER_CHANGE, SUSPECT},
};
use crate::{
    connection::{backoff::Attempts, interaction::Interaction, rank::Rank},
    error::{Failure, Kind},
    status::{Loss, State},
};

const FIRST: ConnectionId = ConnectionId(1);
const SECOND: ConnectionId = ConnectionId(2);
const AT_ONCE: Action = Action::Search(Duration::ZERO);
const BACKGROUND: Action = Action::Bootstrap(Interaction::Background);
const STOOD_STILL: Event = Event::Woke {
    suspended: Duration::ZERO,
};

fn resumed(suspended: Duration) -> Event {
    Event::Woke { suspended }
}

/// A supervisor and a clock.
struct Rig {
    supervisor: Supervisor,
    now: Instant,
}

impl Rig {
    /// Connected by a path of this rank, with all kinds of path known.
    fn connected(rank: Rank) -> Self {
        let now = Instant::now();
        let supervisor = Supervisor::new(Paths::from([Rank::Direct, Rank::Relay]), now);
        let mut rig = Self { supervisor, now };
        rig.found(FIRST, rank);
        // Its life was not short, whatever ends it.
        rig.now += Duration::from_secs(60);
        rig
    }

    /// Connected directly, until the connection reason.
    fn detached(reason: DetachReason) -> Self {
        let mut rig = Self::connected(Rank::Direct);
        rig.on(Event::Detached(FIRST, reason));
        rig
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.supervisor.on(event, self.now)
    }

    /// What is done when the next deadline has come.
    fn on_deadline(&mut self) -> Vec<Action> {
        self.now += self.wait();
        self.on(Event::Deadline)
    }

    /// How long until the next deadline.
    fn wait(&self) -> Duration {
        self.supervisor.deadline().expect("a deadline") - self.now
    }

    fn state(&self) -> State {
        self.supervisor.state(self.now)
    }

    /// A search leads to this connection, and it is installed.
    fn found(&mut self, id: ConnectionId, rank: Rank) -> Vec<Action> {
        let candidate = Candidate { id, rank };
        assert_eq!(self.on(Event::Searched(Some(candidate))), [Action::Install(id)]);
        self.on(Event::Installed(candidate, Continuity::Kept))
    }

    fn bootstrapped(&mut self) -> Vec<Action> {
        self.on(Event::Bootstrapped {
            paths: Paths::from([Rank::Direct]),
            has_pipe: true,
        })
    }

    fn ssh_fails(&mut self, kind: Kind) -> Vec<Action> {
        self.on(Event::BootstrapFailed(Failure::new(kind, "cannot")))
    }
}

#[test]
fn a_lost_connection_is_searched_at_once_and_ssh_takes_part_when_it_may_help() {
    for (reason, ssh_after) in [
        (DetachReason::Lost, SSH_AFTER),
        (DetachReason::Reset, Duration::ZERO),
        (DetachReason::AgentEnding, Duration::ZERO),
        (DetachReason::GivenUp, Duration::ZERO),
    ] {
        let mut rig = Rig::connected(Rank::Direct);
        let actions = rig.on(Event::Detached(FIRST, reason));
        assert_eq!(actions.first(), Some(&Action::Close(FIRST)));
        assert_eq!(actions.last(), Some(&AT_ONCE));
        assert_eq!(
            (rig.state(), rig.wait()),
            (State::Reconnecting, ssh_after),
            "{reason:?}"
        );
        assert_eq!(rig.on_deadline(), [BACKGROUND]);
    }
}

#[test]
fn what_ssh_tells_of_is_tried_by_udp_first_and_ssh_is_tried_again_after_its_pace() {
    let mut rig = Rig::detached(DetachReason::Lost);
    rig.on_deadline();
    let told = [Action::StopSearch, AT_ONCE, Action::TryPipe(PIPE_HEAD_START)];
    assert_eq!(rig.bootstrapped(), told);
    assert_eq!(rig.wait(), Attempts::SSH);
    assert_eq!(rig.on_deadline(), [BACKGROUND]);
    assert_eq!(rig.ssh_fails(Kind::Unreachable), []);
    assert_eq!(rig.wait(), Attempts::SSH);
}

#[test]
fn silence_is_suspect_first_and_over_when_the_peer_is_heard() {
    let mut rig = Rig::connected(Rank::Relay);
    assert_eq!(rig.on(Event::Silent(FIRST)), [Action::StopSearch, AT_ONCE]);
    assert_eq!((rig.state(), rig.wait()), (State::Suspect, SSH_AFTER));
    assert_eq!(rig.on_deadline(), [BACKGROUND]);
    rig.now += SUSPECT;
    assert_eq!(rig.state(), State::Reconnecting);
    let better = Action::Improve(Rank::Relay);
    let settled = [Action::StopBootstrap, Action::StopSearch, better];
    assert_eq!(rig.on(Event::Heard(FIRST)), settled);
    assert_eq!(rig.state(), State::Connected);
}

#[test]
fn a_refusal_that_may_be_forged_closes_nothing_and_an_ssh_channel_that_ended_is_closed() {
    let mut rig = Rig::connected(Rank::Direct);
    assert_eq!(rig.on(Event::Gone(FIRST)), [AT_ONCE]);
    assert_eq!((rig.state(), rig.wait()), (State::Suspect, Duration::ZERO));
    assert!(rig.found(SECOND, Rank::Relay).contains(&Action::Close(FIRST)));

    let mut rig = Rig::connected(Rank::Ssh);
    let actions = rig.on(Event::Gone(FIRST));
    assert_eq!(actions, [Action::Close(FIRST), Action::StopSearch, AT_ONCE]);
    assert_eq!(rig.state(), State::Reconnecting);
}

#[test]
fn a_machine_that_woke_makes_another_connection_while_the_old_one_stays() {
    for event in [
        resumed(Duration::from_secs(60)),
        STOOD_STILL,
        Event::NetworkChanged,
    ] {
        let mut rig = Rig::connected(Rank::Direct);
        assert_eq!(rig.on(event), [AT_ONCE]);
        assert_eq!((rig.state(), rig.wait()), (State::Connected, SSH_AFTER_CHANGE));
        assert_eq!(rig.on_deadline(), [BACKGROUND]);
        assert_eq!(rig.ssh_fails(Kind::LoginRefused), [Action::StopSearch]);
        assert_eq!(rig.state(), State::Connected, "ssh was not needed after all");
    }
}

#[test]
fn a_move_to_another_connection_is_no_outage_unless_it_takes_long() {
    let mut rig = Rig::connected(Rank::Relay);
    assert_eq!(
        rig.on(Event::Detached(FIRST, DetachReason::Fenced)),
        [Action::Close(FIRST)]
    );
    assert_eq!((rig.state(), rig.wait()), (State::Connected, MOVE));
    rig.found(SECOND, Rank::Direct);
    assert_eq!(rig.state(), State::Connected);

    let mut rig = Rig::connected(Rank::Relay);
    rig.on(Event::Detached(FIRST, DetachReason::Fenced));
    assert_eq!(rig.on_deadline(), [Action::StopSearch, AT_ONCE]);
    assert_eq!((rig.state(), rig.wait()), (State::Reconnecting, SSH_AFTER));
}

#[test]
fn a_fence_for_no_connection_of_this_client_is_an_outage() {
    let mut rig = Rig::connected(Rank::Direct);
    let actions = rig.on(Event::Detached(FIRST, DetachReason::Fenced));
    assert_eq!(actions, [Action::Close(FIRST), AT_ONCE]);
    assert_eq!(rig.state(), State::Reconnecting);
}

#[test]
fn connections_that_do_not_last_are_not_made_in_a_row() {
    let mut rig = Rig::connected(Rank::Direct);
    let mut pauses = Vec::new();
    for id in 1..16 {
        let actions = rig.on(Event::Detached(ConnectionId(id), DetachReason::Lost));
        let Some(Action::Search(pause)) = actions.last() else {
            panic!("{actions:?}");
        };
        pauses.push(pause.as_secs());
        rig.found(ConnectionId(id + 1), Rank::Direct);
    }
    assert_eq!(pauses, [0, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 10, 10]);
}

#[test]
fn paths_that_are_refused_are_tried_again_soon_and_ssh_at_once() {
    let mut rig = Rig::detached(DetachReason::Lost);
    assert_eq!(rig.on(Event::Searched(None)), [Action::Search(REFUSED_AGAIN)]);
    assert_eq!(rig.wait(), Duration::ZERO);
}

#[test]
fn another_version_is_believed_of_the_ssh_channel_only() {
    let mut rig = Rig::detached(DetachReason::Lost);
    rig.on_deadline();
    rig.bootstrapped();
    assert_eq!(
        rig.on(Event::Searched(None)),
        [Action::Search(REFUSED_AGAIN)],
        "a refusal by UDP, which anybody can forge, leaves the ssh channel to be tried"
    );
    let differs = PipeFailure {
        version: Some("ssh: another version".to_owned()),
    };
    let reason = EndReason::VersionDiffers("ssh: another version".to_owned());
    assert_eq!(rig.on(Event::PipeTried(Err(differs))), [Action::End(reason)]);
    assert_eq!(rig.on(Event::UserAsked), []);
}

#[test]
fn a_session_that_another_client_took_ends() {
    let mut rig = Rig::connected(Rank::Direct);
    let actions = rig.on(Event::Detached(FIRST, DetachReason::Superseded));
    assert_eq!(
        actions,
        [Action::Close(FIRST), Action::End(EndReason::Superseded)]
    );
}

#[test]
fn a_session_waits_for_its_own_host_while_another_machine_answers_there_and_says_so_once() {
    for kind in [Kind::HostKeyChanged, Kind::Agent(FailureKind::OtherMachine)] {
        waits_for_its_own_host(kind);
    }
}

fn waits_for_its_own_host(kind: Kind) {
    let tells = |actions: &[Action]| {
        let told = actions.iter().filter(
            |action| matches!(action, Action::Note(words) if words.contains("waits for its own host")),
        );
        told.count()
    };
    // A captive portal answers on a network that the session has just come to.
    let mut rig = Rig::connected(Rank::Direct);
    rig.on(Event::NetworkChanged);
    rig.on_deadline();
    assert_eq!(tells(&rig.ssh_fails(kind)), 1);
    assert_eq!((rig.state(), rig.supervisor.deadline()), (State::Connected, None));
    rig.on(Event::Silent(FIRST));
    for _ in 0..3 {
        assert_eq!(rig.on_deadline(), [BACKGROUND]);
        assert_eq!(rig.ssh_fails(kind), []);
        assert_eq!((rig.state(), rig.wait()), (State::Reconnecting, Attempts::SSH));
        rig.now += Duration::from_millis(1);
    }
    rig.found(SECOND, Rank::Direct);
    assert_eq!(rig.state(), State::Connected, "it goes on at home");
    rig.on(Event::Detached(SECOND, DetachReason::Lost));
    rig.on_deadline();
    assert_eq!(tells(&rig.ssh_fails(kind)), 1);
}

#[test]
fn an_agent_that_ends_has_its_streams_reset_and_the_next_one_starts_the_workload() {
    for (reason, loss) in [
        (DetachReason::AgentEnding, Loss::AgentRestarted),
        (DetachReason::GivenUp, Loss::SessionGivenUp),
    ] {
        let mut rig = Rig::connected(Rank::Direct);
        let actions = rig.on(Event::Detached(FIRST, reason));
        assert!(actions.contains(&Action::ResetStreams(loss)));
        assert_eq!(rig.supervisor.loss(), None, "no stream was open");
        rig.on(Event::StreamsReset(loss));
        assert_eq!(rig.supervisor.loss(), Some(loss));
        let candidate = Candidate {
            id: SECOND,
            rank: Rank::Direct,
        };
        rig.on(Event::Searched(Some(candidate)));
        let actions = rig.on(Event::Installed(candidate, Continuity::Broken(loss)));
        assert!(actions.contains(&Action::RestartWorkload));
        assert_eq!(
            rig.supervisor.loss(),
            Some(loss),
            "it stays until the next outage"
        );
        rig.on(Event::Silent(SECOND));
        assert_eq!(rig.supervisor.loss(), None);
    }
}

#[test]
fn a_failure_of_ssh_is_told_once_and_not_at_all_if_it_comes_of_the_outage() {
    let mut rig = Rig::detached(DetachReason::Lost);
    let note = [Action::Note("cannot".to_owned())];
    for (kind, told) in [
        (Kind::Unreachable, &[][..]),
        (Kind::AgentFailed, &note),
        (Kind::AgentFailed, &[]),
        (Kind::LoginRefused, &[]),
    ] {
        assert_eq!(rig.on_deadline(), [BACKGROUND]);
        assert_eq!(rig.ssh_fails(kind), told, "{kind:?}");
    }
}
