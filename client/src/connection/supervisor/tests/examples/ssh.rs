//! When ssh starts, how long it may take, and when it asks.

use std::time::Duration;

use super::{
    super::super::{
        Action, DetachReason, Event,
        policy::{BACKGROUND_LIMIT, LOGIN_AGAIN, LOGIN_GRACE, LOGIN_LIMIT, POLLED, SSH_AFTER_CHANGE},
    },
    AT_ONCE, BACKGROUND, Rig, SECOND, STOOD_STILL, resumed,
};
use crate::{
    connection::{backoff::Attempts, interaction::Interaction, rank::Rank},
    error::Kind,
    status::State,
};

const ATTENDED: Action = Action::Bootstrap(Interaction::Attended);

#[test]
fn ssh_keeps_its_pace_on_a_new_network_and_time_asleep_counts() {
    let mut rig = Rig::detached(DetachReason::Lost);
    assert_eq!(rig.on_deadline(), [BACKGROUND]);
    let anew = [Action::StopSearch, AT_ONCE];
    assert_eq!(rig.on(Event::NetworkChanged), anew);
    assert_eq!(rig.wait(), Attempts::SSH, "the one that runs has until then");
    assert_eq!(rig.on(resumed(Duration::from_secs(5))), anew);
    assert_eq!(rig.wait(), Attempts::SSH - Duration::from_secs(5));
    assert_eq!(rig.on(resumed(Duration::from_secs(8 * 3600))), anew);
    assert_eq!(rig.wait(), SSH_AFTER_CHANGE);
    assert_eq!(rig.on_deadline(), [Action::StopBootstrap, BACKGROUND]);
}

#[test]
fn a_busy_machine_that_stands_still_again_and_again_neither_stops_ssh_nor_hastens_it() {
    let mut rig = Rig::detached(DetachReason::Lost);
    assert_eq!(rig.on_deadline(), [BACKGROUND]);
    for _ in 0..30 {
        rig.now += Duration::from_secs(3);
        assert_eq!(rig.on(STOOD_STILL), [Action::StopSearch, AT_ONCE]);
        assert_eq!(rig.on(Event::Deadline), []);
    }
    let mut rig = Rig::detached(DetachReason::Lost);
    rig.on_deadline();
    rig.ssh_fails(Kind::Unreachable);
    rig.on(STOOD_STILL);
    assert_eq!(rig.wait(), Attempts::SSH);
}

#[test]
fn ssh_in_the_background_has_a_limit_which_allows_a_slow_proxy_command() {
    let mut rig = Rig::detached(DetachReason::Lost);
    assert_eq!(rig.on_deadline(), [BACKGROUND]);
    assert_eq!(rig.wait(), BACKGROUND_LIMIT);
    let actions = rig.on_deadline();
    assert!(
        matches!(&actions[..], [Action::StopBootstrap, Action::Note(words)] if words.contains("in time")),
        "{actions:?}"
    );
    assert_eq!((rig.state(), rig.wait()), (State::Reconnecting, Attempts::SSH));
    assert_eq!(rig.on_deadline(), [BACKGROUND]);
    rig.now += BACKGROUND_LIMIT;
    assert_eq!(
        rig.on(Event::Deadline),
        [Action::StopBootstrap],
        "it is said once"
    );
}

#[test]
fn ssh_that_hangs_while_a_connection_works_is_given_up() {
    let mut rig = Rig::connected(Rank::Direct);
    rig.on(Event::NetworkChanged);
    assert_eq!(rig.on_deadline(), [BACKGROUND]);
    let actions = rig.on_deadline();
    assert_eq!(actions.first(), Some(&Action::StopBootstrap));
    assert_eq!(actions.last(), Some(&Action::StopSearch));
    assert_eq!((rig.state(), rig.supervisor.deadline()), (State::Connected, None));
}

#[test]
fn a_login_is_the_users_to_begin_and_is_not_interrupted_while_it_may_succeed() {
    let mut rig = Rig::detached(DetachReason::Lost);
    rig.on_deadline();
    assert_eq!(rig.ssh_fails(Kind::LoginRefused), []);
    assert_eq!((rig.state(), rig.wait()), (State::LoginNeeded, LOGIN_AGAIN));
    rig.now += Attempts::ASKED;
    rig.on(Event::StatusAsked);
    assert_eq!(
        rig.wait(),
        LOGIN_AGAIN - Attempts::ASKED,
        "who asks for the status does not log in"
    );
    assert_eq!(rig.on(Event::UserAsked), [Action::StopSearch, AT_ONCE, ATTENDED]);
    for event in [
        Event::NetworkChanged,
        resumed(Duration::from_secs(3)),
        Event::UserAsked,
    ] {
        rig.now += Duration::from_secs(2);
        assert_eq!(rig.on(event), [Action::StopSearch, AT_ONCE]);
    }
    assert_eq!(rig.state(), State::LoginNeeded);
    assert_eq!(rig.ssh_fails(Kind::LoginRefused), [Action::DropSteps]);
    assert_eq!((rig.state(), rig.wait()), (State::LoginNeeded, LOGIN_AGAIN));
}

/// Enter is pressed while a login is needed.
fn logging_in() -> Rig {
    let mut rig = Rig::detached(DetachReason::Lost);
    rig.on_deadline();
    rig.ssh_fails(Kind::LoginRefused);
    assert!(rig.on(Event::UserAsked).contains(&ATTENDED));
    rig
}

#[test]
fn a_login_that_a_change_of_networks_has_cut_off_is_given_up_and_can_be_had_again() {
    for event in [Event::NetworkChanged, resumed(Duration::from_secs(60))] {
        let mut rig = logging_in();
        assert_eq!(rig.wait(), LOGIN_LIMIT);
        rig.now += Duration::from_secs(10);
        rig.on(event);
        assert_eq!(rig.wait(), LOGIN_GRACE);
        let actions = rig.on_deadline();
        assert!(
            matches!(
                &actions[..],
                [Action::StopBootstrap, Action::Note(_), Action::DropSteps]
            ),
            "{actions:?}"
        );
        assert_eq!(rig.state(), State::LoginNeeded);
        assert_eq!(rig.on(Event::UserAsked).last(), Some(&ATTENDED));
    }
}

#[test]
fn a_login_that_never_ends_is_given_up() {
    let mut rig = logging_in();
    rig.now += LOGIN_LIMIT;
    assert_eq!(rig.on(Event::Deadline).first(), Some(&Action::StopBootstrap));
    assert_eq!(rig.state(), State::LoginNeeded);
}

#[test]
fn enter_right_after_a_login_that_failed_is_not_lost() {
    let mut rig = logging_in();
    rig.now += Duration::from_millis(600);
    rig.ssh_fails(Kind::LoginRefused);
    assert_eq!(rig.on(Event::UserAsked), [Action::StopSearch, AT_ONCE]);
    assert_eq!(rig.state(), State::LoginNeeded);
    assert_eq!(rig.wait(), Attempts::ASKED - Duration::from_millis(600));
    assert_eq!(rig.on_deadline(), [ATTENDED]);
}

#[test]
fn a_question_is_taken_back_once_its_answer_is_not_needed() {
    let mut rig = Rig::detached(DetachReason::Lost);
    rig.on_deadline();
    rig.ssh_fails(Kind::LoginRefused);
    rig.now += Attempts::ASKED;
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
fn enter_starts_ssh_soon_and_replaces_one_that_may_hang_but_not_one_that_just_began() {
    let mut rig = Rig::detached(DetachReason::Lost);
    rig.on_deadline();
    let searches = [Action::StopSearch, AT_ONCE];
    rig.now += Duration::from_secs(10);
    assert_eq!(rig.on(Event::UserAsked), searches);
    rig.now += Duration::from_secs(5);
    let anew = [Action::StopSearch, AT_ONCE, Action::StopBootstrap, BACKGROUND];
    assert_eq!(rig.on(Event::UserAsked), anew);
    rig.now += Duration::from_secs(2);
    rig.ssh_fails(Kind::Unreachable);
    assert_eq!(rig.on(Event::UserAsked), searches);
    assert_eq!(rig.wait(), Duration::from_secs(3));
    assert_eq!(rig.on_deadline(), [BACKGROUND]);
    rig.now += Attempts::ASKED;
    rig.ssh_fails(Kind::Unreachable);
    assert_eq!(
        rig.on(Event::UserAsked),
        [Action::StopSearch, AT_ONCE, BACKGROUND]
    );
}

#[test]
fn enter_that_is_held_down_or_pressed_each_second_starts_ssh_with_a_floor() {
    for every in [Duration::from_millis(33), Duration::from_millis(1100)] {
        let mut rig = Rig::detached(DetachReason::Lost);
        let (mut started, minute) = (0, rig.now + Duration::from_secs(60));
        while rig.now < minute {
            rig.now += every;
            let mut actions = rig.on(Event::UserAsked);
            actions.extend(rig.on(Event::Deadline));
            if actions.contains(&BACKGROUND) {
                started += 1;
                rig.ssh_fails(Kind::Unreachable);
            }
        }
        let most = if every < Duration::from_secs(1) { 5 } else { 13 };
        assert!((1..=most).contains(&started), "{started} for {every:?}");
    }
}

#[test]
fn a_query_of_the_status_retries_at_once_and_a_program_that_polls_it_starts_ssh_at_its_pace() {
    let mut rig = Rig::detached(DetachReason::Lost);
    rig.on_deadline();
    rig.ssh_fails(Kind::Unreachable);
    rig.now += Attempts::ASKED;
    assert_eq!(
        rig.on(Event::StatusAsked),
        [Action::StopSearch, AT_ONCE, BACKGROUND]
    );
    rig.ssh_fails(Kind::Unreachable);
    let mut started = 0;
    for _ in 0..60 {
        rig.now += Duration::from_secs(1);
        assert_eq!(rig.on(Event::StatusAsked), []);
        if rig.on(Event::Deadline).contains(&BACKGROUND) {
            started += 1;
            rig.ssh_fails(Kind::Unreachable);
        }
    }
    assert_eq!(started, 4);
    rig.now += POLLED;
    assert!(rig.on(Event::StatusAsked).contains(&AT_ONCE));
}
