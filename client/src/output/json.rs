//! `--json`: one object a line on standard output, each with the version of this format.

use std::time::Duration;

use jq_common::{
    protocol::workload::{Origin, Progress, Unit},
    text::one_line,
};
use serde_json::{Value, json};

use super::{LINE, Opened, print, words};
use crate::{
    error::Failure,
    status::{Loss, Snapshot, State, Status},
};

/// Rises when a field changes its meaning or goes; new fields leave it.
const VERSION: u32 = 1;

fn emit(event: &str, mut value: Value) {
    value["v"] = VERSION.into();
    value["event"] = event.into();
    print(&value.to_string());
}

pub(super) fn step(text: &str, host: &str) {
    emit("step", json!({ "text": text, "host": host }));
}

pub(super) fn step_done(text: &str, host: &str, took: Duration) {
    emit(
        "step_done",
        json!({ "text": text, "host": host, "seconds": took.as_secs_f64() }),
    );
}

pub(super) fn progress(progress: &Progress, host: &str, detail: &str) {
    let unit = match progress.unit {
        Unit::Bytes => "bytes",
        Unit::Items => "items",
    };
    emit(
        "progress",
        json!({ "done": progress.done, "total": progress.total, "unit": unit, "host": host, "detail": detail }),
    );
}

pub(super) fn message(event: &str, text: &str) {
    emit(event, json!({ "text": text }));
}

pub(super) fn ready(opened: &Opened<'_>) {
    let container = opened.ready.container.as_ref().map(|container| {
        let origin = match container.origin {
            Origin::Created => "created",
            Origin::Started => "started",
            Origin::Found => "found",
        };
        let text = |text: &str| one_line(text, LINE);
        json!({ "id": text(&container.id), "name": text(&container.name), "image": text(&container.image), "origin": origin })
    });
    let forwards: Vec<_> = opened
        .forwards
        .iter()
        .map(|(port, target)| json!({ "port": port, "target": one_line(target, LINE) }))
        .collect();
    let gpus: Vec<_> = opened.ready.gpus.iter().map(|gpu| one_line(gpu, LINE)).collect();
    emit(
        "ready",
        json!({
            "url": opened.url,
            "engine": one_line(&opened.ready.engine, LINE),
            "container": container,
            "jupyter_was_running": opened.ready.jupyter.as_ref().map(|jupyter| jupyter.was_running),
            "gpus": gpus,
            "path": opened.path,
            "round_trip_ms": opened.round_trip_ms,
            "forwards": forwards,
        }),
    );
}

pub(super) fn failure(failure: &Failure) {
    let text = |text: &str| {
        text.lines()
            .map(|line| one_line(line, LINE))
            .collect::<Vec<_>>()
            .join("\n")
    };
    emit(
        "failure",
        json!({
            "kind": failure.kind.name(),
            "what": text(&failure.what),
            "host": failure.host.as_deref().map(text),
            "why": text(&failure.why),
            "hint": text(&failure.hint),
        }),
    );
}

pub(super) fn state(status: &Status) {
    emit("state", of_status(status));
}

pub(super) fn session(snapshot: &Snapshot) {
    let text = |text: &str| one_line(text, LINE);
    let mut value = of_status(&snapshot.status);
    value["session"] = text(&snapshot.session).into();
    value["target"] = text(&snapshot.target).into();
    value["pid"] = snapshot.pid.into();
    value["down_per_s"] = snapshot.status.down_per_s.into();
    value["up_per_s"] = snapshot.status.up_per_s.into();
    value["connections"] = snapshot.status.connections.into();
    value["url"] = snapshot.url.as_deref().map(text).into();
    value["engine"] = text(&snapshot.engine).into();
    value["container"] = snapshot.container.as_deref().map(text).into();
    value["workload"] = snapshot.workload.as_ref().map_or(Value::Null, |workload| {
        json!({
            "state": words::workload(workload.state),
            "engine": text(&workload.engine),
            "container": workload.container.as_deref().map(text),
        })
    });
    value["gpus"] = snapshot.gpus.iter().map(|gpu| text(gpu)).collect();
    value["forwards"] = snapshot
        .ports
        .iter()
        .map(|port| json!({ "port": port.local, "target": text(&port.target) }))
        .collect();
    emit("session", value);
}

pub(super) fn silent_session(session: &str, pid: Option<i32>) {
    emit(
        "session",
        json!({ "session": one_line(session, LINE), "pid": pid, "state": "not_answering" }),
    );
}

fn of_status(status: &Status) -> Value {
    let state = match status.state {
        State::Connected => "connected",
        State::Suspect => "suspect",
        State::Reconnecting => "reconnecting",
        State::LoginNeeded => "login_needed",
        State::Lost => "lost",
    };
    let lost = status.lost.map(|loss| match loss {
        Loss::AgentRestarted => "agent_restarted",
        Loss::SessionGivenUp => "session_given_up",
    });
    // To a tenth of a millisecond, to a tenth of a second: what is measured is no better.
    let tenths = |number: f64| (number * 10.0).round() / 10.0;
    json!({
        "state": state,
        "path": status.path.as_deref().map(|path| one_line(path, LINE)),
        "rtt_ms": status.round_trip.map(|time| tenths(time.as_secs_f64() * 1000.0)),
        "outage_s": status.outage.map(|time| tenths(time.as_secs_f64())),
        "lost_something": lost.is_some(),
        "lost": lost,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_told_that_something_was_lost_and_why() {
        let mut status = Status {
            host: "gpu".to_owned(),
            state: State::Connected,
            path: None,
            round_trip: None,
            down_per_s: 0,
            up_per_s: 0,
            connections: 0,
            outage: None,
            lost: None,
        };
        for (lost, something, why) in [
            (None, false, Value::Null),
            (Some(Loss::AgentRestarted), true, "agent_restarted".into()),
            (Some(Loss::SessionGivenUp), true, "session_given_up".into()),
        ] {
            status.lost = lost;
            let told = of_status(&status);
            assert_eq!(told["lost_something"], something);
            assert_eq!(told["lost"], why);
        }
    }
}
