//! One promise each, with its times.

use std::time::{Duration, Instant};

use super::super::{
    Action, Candidate, ConnectionId, Continuity, DetachReason, EndReason, Event, Paths, Refusal, Scope,
    Supervisor,
    policy::{LOGIN_AGAIN, MOVE, PIPE_HEAD_START, REFUSED_AGAIN, SSH_AFTER, SSH_AFTER_CHANGE, SUSPECT},
};
use crate::{
    connection::{backoff::Attempts, bootstrap::Interaction, paths::Rank},
    error::{Failure, Kind},
    status::{Loss, State},
};

const FIRST: ConnectionId = ConnectionId(1);
const SECOND: ConnectionId = ConnectionId(2);
const AT_ONCE: Action = Action::Search(Scope::Any, Duration::ZERO);
const BACKGROUND: Action = Action::Bootstrap(Interaction::Background);

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
        assert_eq!(self.on(Event::Searched(Ok(candidate))), [Action::Install(id)]);
        self.on(Event::Installed(candidate, Continuity::Kept))
    }

    fn refused(&mut self, version: Option<&str>) -> Vec<Action> {
        let version = version.map(str::to_owned);
        self.on(Event::Searched(Err(Refusal { version })))
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
    let better = Action::Search(Scope::BetterThan(Rank::Relay), Duration::ZERO);
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
    for event in [Event::Woke, Event::NetworkChanged] {
        let mut rig = Rig::connected(Rank::Direct);
        assert_eq!(rig.on(event), [AT_ONCE]);
        assert_eq!((rig.state(), rig.wait()), (State::Connected, SSH_AFTER_CHANGE));
        assert_eq!(rig.on_deadline(), [BACKGROUND]);
        assert_eq!(rig.ssh_fails(Kind::LoginRefused), [Action::StopSearch]);
        assert_eq!(rig.state(), State::Connected, "ssh was not needed after all");
    }
}

#[test]
fn ssh_keeps_its_pace_on_a_new_network_and_not_after_a_wake() {
    let mut rig = Rig::detached(DetachReason::Lost);
    assert_eq!(rig.on_deadline(), [BACKGROUND]);
    let anew = [Action::StopBootstrap, Action::StopSearch, AT_ONCE];
    assert_eq!(rig.on(Event::NetworkChanged), anew);
    assert_eq!(rig.wait(), Attempts::SSH);
    assert_eq!(rig.on(Event::Woke), [Action::StopSearch, AT_ONCE]);
    assert_eq!(rig.wait(), SSH_AFTER_CHANGE);
}

#[test]
fn a_login_is_the_users_to_begin_and_no_change_of_networks_takes_it_away() {
    let mut rig = Rig::detached(DetachReason::Lost);
    rig.on_deadline();
    assert_eq!(rig.ssh_fails(Kind::LoginRefused), []);
    assert_eq!((rig.state(), rig.wait()), (State::LoginNeeded, LOGIN_AGAIN));
    rig.on(Event::StatusAsked);
    assert_eq!(rig.wait(), LOGIN_AGAIN, "who asks for the status does not log in");
    let attended = Action::Bootstrap(Interaction::Attended);
    assert_eq!(rig.on(Event::UserAsked), [Action::StopSearch, AT_ONCE, attended]);
    for event in [Event::NetworkChanged, Event::Woke, Event::UserAsked] {
        rig.now += Duration::from_secs(2);
        assert_eq!(rig.on(event), [Action::StopSearch, AT_ONCE]);
    }
    assert_eq!(rig.state(), State::LoginNeeded);
    assert_eq!(rig.ssh_fails(Kind::LoginRefused), [Action::DropSteps]);
    assert_eq!((rig.state(), rig.wait()), (State::LoginNeeded, LOGIN_AGAIN));
}

#[test]
fn a_question_is_taken_back_once_its_answer_is_not_needed() {
    let mut rig = Rig::detached(DetachReason::Lost);
    rig.on_deadline();
    rig.ssh_fails(Kind::LoginRefused);
    rig.on(Event::UserAsked);
    let actions = rig.found(SECOND, Rank::Direct);
    assert_eq!(
        actions,
        [Action::SaveTicket, Action::StopBootstrap, Action::DropSteps]
    );
    assert_eq!(rig.state(), State::Connected);
}

#[test]
fn another_network_may_need_no_login() {
    let mut rig = Rig::detached(DetachReason::Lost);
    rig.on_deadline();
    rig.ssh_fails(Kind::LoginRefused);
    rig.on(Event::NetworkChanged);
    assert_eq!(rig.state(), State::Reconnecting);
}

#[test]
fn enter_lets_ssh_go_on_that_may_be_about_to_succeed_and_replaces_one_that_hangs() {
    let mut rig = Rig::detached(DetachReason::Lost);
    assert_eq!(rig.on_deadline(), [BACKGROUND]);
    for _ in 0..4 {
        rig.now += Duration::from_secs(2);
        assert_eq!(rig.on(Event::UserAsked), [Action::StopSearch, AT_ONCE]);
    }
    rig.now += Duration::from_secs(2);
    let anew = [Action::StopBootstrap, Action::StopSearch, AT_ONCE, BACKGROUND];
    assert_eq!(rig.on(Event::UserAsked), anew);
    for _ in 0..100 {
        rig.now += Duration::from_millis(500);
        assert_eq!(rig.on(Event::UserAsked), [], "the key is held");
    }
}

#[test]
fn enter_starts_ssh_at_once_and_then_every_few_seconds_at_most() {
    let mut rig = Rig::detached(DetachReason::Lost);
    rig.on_deadline();
    rig.ssh_fails(Kind::Unreachable);
    rig.now += Duration::from_secs(1);
    assert_eq!(
        rig.on(Event::UserAsked),
        [Action::StopSearch, AT_ONCE, BACKGROUND]
    );
    rig.ssh_fails(Kind::Unreachable);
    let mut started = 0;
    for _ in 0..8 {
        rig.now += Duration::from_secs(1);
        let due = rig.on(Event::Deadline);
        let asked = rig.on(Event::UserAsked);
        if [due, asked].iter().any(|actions| actions.contains(&BACKGROUND)) {
            started += 1;
            rig.ssh_fails(Kind::Unreachable);
        }
    }
    assert_eq!(started, 2);
}

#[test]
fn who_asks_for_the_status_every_second_starts_ssh_at_its_pace() {
    let mut rig = Rig::detached(DetachReason::Lost);
    rig.on_deadline();
    rig.ssh_fails(Kind::LoginRefused);
    rig.on(Event::NetworkChanged);
    let mut started = 0;
    for _ in 0..60 {
        rig.now += Duration::from_secs(1);
        rig.on(Event::StatusAsked);
        if rig.on(Event::Deadline).contains(&BACKGROUND) {
            started += 1;
            rig.ssh_fails(Kind::Unreachable);
        }
    }
    assert_eq!(started, 4);
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
        let Some(Action::Search(Scope::Any, pause)) = actions.last() else {
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
    assert_eq!(rig.refused(None), [Action::Search(Scope::Any, REFUSED_AGAIN)]);
    assert_eq!(rig.wait(), Duration::ZERO);
}

#[test]
fn another_version_is_believed_of_an_agent_that_ssh_told_of_only() {
    let mut rig = Rig::detached(DetachReason::Lost);
    assert_eq!(rig.refused(Some("direct: old")).len(), 1);
    assert_eq!(rig.on_deadline(), [BACKGROUND]);
    rig.bootstrapped();
    let reason = EndReason::VersionDiffers("direct: old".to_owned());
    assert_eq!(rig.refused(Some("direct: old")), [Action::End(reason)]);
    assert_eq!(rig.on(Event::UserAsked), []);
}

#[test]
fn a_session_that_another_client_took_ends_and_so_does_one_whose_host_has_another_key() {
    let mut rig = Rig::connected(Rank::Direct);
    let actions = rig.on(Event::Detached(FIRST, DetachReason::Superseded));
    assert_eq!(
        actions,
        [Action::Close(FIRST), Action::End(EndReason::Superseded)]
    );

    let mut rig = Rig::detached(DetachReason::Lost);
    rig.on_deadline();
    let actions = rig.ssh_fails(Kind::HostKeyChanged);
    assert!(matches!(
        &actions[..],
        [Action::End(EndReason::HostKeyChanged(_))]
    ));
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
        rig.on(Event::Searched(Ok(candidate)));
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
