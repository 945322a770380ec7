use super::*;

/// A status with the seconds of its outage.
fn status(state: State, path: &str, outage_s: Option<u64>) -> Status {
    Status {
        host: "gpu".to_owned(),
        state,
        logging_in: false,
        path: Some(path.to_owned()),
        round_trip: Some(Duration::from_micros(43_100)),
        down_per_s: 1_200_000,
        up_per_s: 3_000,
        connections: 5,
        outage: outage_s.map(Duration::from_secs),
        lost: None,
    }
}

fn connected(path: &str) -> Status {
    status(State::Connected, path, None)
}

const fn look(width: usize) -> Look {
    Look {
        colours: false,
        hears: true,
        width,
    }
}

fn drawn(status: &Status, doing: Option<&str>, width: usize) -> String {
    status.drawn(doing, look(width)).unwrap_or_default()
}

#[test]
fn the_status_line_shows_the_state_and_its_figures() {
    use State::{Connected, LoginNeeded, Lost, Reconnecting, Suspect};
    let direct = Status {
        connections: 1,
        round_trip: None,
        ..connected("direct")
    };
    let idle = Status {
        connections: 0,
        down_per_s: 0,
        up_per_s: 0,
        ..status(Connected, "ssh", None)
    };
    for (status, line) in [
        (
            connected("through gateway"),
            "  ● connected through gateway · 43 ms · ↓ 1.2 MB/s ↑ 3 kB/s · 5 connections",
        ),
        (
            direct,
            "  ● connected directly · ↓ 1.2 MB/s ↑ 3 kB/s · 1 connection",
        ),
        (
            idle,
            "  ● connected over ssh · 43 ms · ↓ 0 B/s ↑ 0 B/s · no connections",
        ),
        (
            status(Suspect, "direct", Some(4)),
            "  ◐ gpu does not answer · 4 s",
        ),
        (
            status(Reconnecting, "direct", Some(34)),
            "  ○ reconnecting to gpu · 34 s · Enter tries now",
        ),
        (
            status(LoginNeeded, "direct", Some(125)),
            "  ○ login needed for gpu · 2 min · Enter logs in",
        ),
        (status(Lost, "direct", Some(125)), ""),
    ] {
        assert_eq!(drawn(&status, None, 200), line);
    }
}

#[test]
fn enter_is_not_offered_while_what_is_typed_is_for_ssh() {
    let logging_in = Status {
        logging_in: true,
        ..status(State::LoginNeeded, "direct", Some(125))
    };
    for (doing, line) in [
        (None, "  ○ login needed for gpu · 2 min · logging in"),
        (
            Some("gpu: starting the agent"),
            "  ○ login needed for gpu · 2 min · gpu: starting the agent",
        ),
    ] {
        assert_eq!(drawn(&logging_in, doing, 200), line);
    }
}

#[test]
fn keys_are_offered_only_if_they_can_be_read() {
    let deaf = Look {
        hears: false,
        ..look(200)
    };
    let status = status(State::Reconnecting, "direct", Some(34));
    assert_eq!(
        status.drawn(None, deaf).unwrap(),
        "  ○ reconnecting to gpu · 34 s"
    );
}

#[test]
fn a_step_of_reconnecting_is_shown_in_the_line() {
    let status = status(State::Reconnecting, "direct", Some(34));
    assert_eq!(
        drawn(&status, Some("gateway: logging in"), 200),
        "  ○ reconnecting to gpu · 34 s · gateway: logging in"
    );
}

#[test]
fn the_status_line_fits_the_terminal_and_drops_the_least_important_parts() {
    let status = connected("through gateway");
    for (width, line) in [
        (
            75,
            "  ● connected through gateway · 43 ms · ↓ 1.2 MB/s ↑ 3 kB/s · 5 connections",
        ),
        (74, "  ● connected through gateway · 43 ms · ↓ 1.2 MB/s ↑ 3 kB/s"),
        (40, "  ● connected through gateway · 43 ms"),
        (29, "  ● connected through gateway"),
        (20, "  ● connected throu…"),
    ] {
        let drawn = drawn(&status, None, width);
        assert_eq!(drawn, line);
        assert!(drawn.chars().count() <= width, "{width}");
    }
}

#[test]
fn only_the_mark_is_coloured_and_only_if_colours_are_on() {
    let status = connected("direct");
    let colours = Look {
        colours: true,
        ..look(80)
    };
    let plain = status.drawn(None, look(80)).unwrap();
    let coloured = status.drawn(None, colours).unwrap();
    assert!(!plain.contains('\x1b'));
    assert_eq!(coloured.replace("\x1b[32m●\x1b[0m", "●"), plain);
}

/// What lasts of a sequence of statuses.
fn told(statuses: &[Status], draws: bool) -> Vec<String> {
    let mut previous: Option<Status> = None;
    let mut lines = Vec::new();
    for status in statuses {
        let mut next = status.clone();
        if let Some(previous) = &previous {
            next.complete(previous);
        }
        lines.extend(lasting(previous.as_ref(), &next, draws));
        previous = Some(next);
    }
    lines
}

#[test]
fn on_a_terminal_only_the_end_of_an_outage_stays_visible() {
    use State::{Connected, LoginNeeded, Reconnecting, Suspect};
    let (gw, direct) = ("through gateway", "direct");
    let nothing: &[&str] = &[];
    for (what, statuses, lines) in [
        ("nothing happens", vec![connected(gw), connected(gw)], nothing),
        (
            "a pause too short to tell of",
            vec![connected(gw), status(Suspect, gw, Some(2)), connected(gw)],
            nothing,
        ),
        (
            "silence, then an answer",
            vec![
                connected(gw),
                status(Suspect, gw, Some(2)),
                status(Suspect, gw, Some(4)),
                connected(gw),
            ],
            &["connected again through gateway after 4 s; nothing was lost"],
        ),
        (
            "an outage, and another path after it",
            vec![
                connected(gw),
                status(Suspect, gw, Some(2)),
                status(Reconnecting, gw, Some(33)),
                status(Connected, direct, Some(34)),
                connected(direct),
            ],
            &["connected again directly after 34 s; nothing was lost"],
        ),
        (
            "a login",
            vec![
                connected(gw),
                status(LoginNeeded, gw, Some(7200)),
                connected("ssh"),
            ],
            &["connected again over ssh after 2 h; nothing was lost"],
        ),
        (
            "any reconnecting, however short",
            vec![connected(gw), status(Reconnecting, gw, Some(1)), connected(gw)],
            &["connected again through gateway after 1 s; nothing was lost"],
        ),
        (
            "a better path",
            vec![connected(gw), connected(direct), connected(direct)],
            &["now direct (before: through gateway)"],
        ),
        (
            "another path after a short silence",
            vec![
                connected(direct),
                status(Suspect, direct, Some(2)),
                connected("ssh"),
            ],
            &["now over ssh (before: direct)"],
        ),
    ] {
        assert_eq!(told(&statuses, true), lines, "{what}");
    }
}

#[test]
fn a_log_shows_the_beginning_and_the_end_of_a_long_outage() {
    use State::{LoginNeeded, Reconnecting, Suspect};
    let gw = "through gateway";
    for (what, statuses, lines) in [
        (
            "a short pause",
            vec![connected(gw), status(Suspect, gw, Some(2)), connected(gw)],
            &[][..],
        ),
        (
            "an outage",
            vec![
                connected(gw),
                status(Suspect, gw, Some(2)),
                status(Reconnecting, gw, Some(3)),
                status(Reconnecting, gw, Some(4)),
                connected(gw),
            ],
            &[
                "no answer from gpu, trying again",
                "connected again through gateway after 4 s; nothing was lost",
            ],
        ),
        (
            "an outage that wants a login",
            vec![
                connected(gw),
                status(Suspect, gw, Some(4)),
                status(LoginNeeded, gw, Some(20)),
                status(LoginNeeded, gw, Some(21)),
            ],
            &["no answer from gpu, trying again", "login needed for gpu"],
        ),
    ] {
        assert_eq!(told(&statuses, false), lines, "{what}");
    }
}

#[test]
fn a_loss_is_reported_once_and_never_as_no_loss() {
    use State::{Reconnecting, Suspect};
    let restarted = "the agent on gpu was restarted: open connections were reset, new ones work";
    let anew = Status {
        lost: Some(Loss::AgentRestarted),
        ..connected("direct")
    };
    let forgotten = "the agent on gpu had discarded this session: open connections were reset, new ones work \
                     (--linger sets how long it waits)";
    let given_up = Status {
        lost: Some(Loss::SessionGivenUp),
        ..connected("direct")
    };
    let outage = status(Reconnecting, "direct", Some(10));
    for (statuses, lines) in [
        (
            vec![
                connected("direct"),
                outage.clone(),
                anew.clone(),
                anew.clone(),
                connected("direct"),
            ],
            vec!["connected again directly after 10 s", restarted],
        ),
        (
            vec![
                connected("direct"),
                status(Suspect, "direct", Some(2)),
                anew.clone(),
            ],
            vec![restarted],
        ),
        (
            vec![anew.clone(), outage.clone(), anew.clone()],
            vec!["connected again directly after 10 s", restarted],
        ),
        (
            vec![
                connected("direct"),
                outage.clone(),
                given_up.clone(),
                given_up.clone(),
            ],
            vec!["connected again directly after 10 s", forgotten],
        ),
        (
            vec![anew, outage, given_up],
            vec!["connected again directly after 10 s", forgotten],
        ),
    ] {
        assert_eq!(told(&statuses, true), lines);
    }
}

#[test]
fn json_reports_states_and_paths_but_not_figures() {
    let first = connected("direct");
    let mut second = first.clone();
    second.round_trip = Some(Duration::from_millis(90));
    second.connections = 9;
    assert!(is_news(None, &first));
    assert!(!is_news(Some(&first), &second));
    assert!(is_news(Some(&first), &connected("ssh")));
    let lost = |lost| Status {
        lost,
        ..connected("direct")
    };
    assert!(is_news(Some(&first), &lost(Some(Loss::SessionGivenUp))));
    assert!(!is_news(Some(&lost(Some(Loss::SessionGivenUp))), &first));
    assert!(is_news(Some(&first), &status(State::Suspect, "direct", Some(2))));
}

#[test]
fn remote_names_cannot_contain_escape_sequences() {
    let mut status = connected("through \x1b[31mgw\n");
    status.host = "g\x07pu\x1b]0;x\x07".to_owned();
    let cleaned = status.cleaned();
    assert_eq!(cleaned.host, "gpu");
    assert_eq!(cleaned.path.as_deref(), Some("through gw"));
}
