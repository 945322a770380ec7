//! `--json`: one object per line on standard output, each with the version of this format.

use std::time::Duration;

use jq_common::protocol::workload::{Origin, Progress, Unit};
use serde_json::{Value, json};

use super::{
    text::{clean, clean_lines},
    words::{self, milliseconds},
    writer::print,
};
use crate::{
    error::Failure,
    status::{Loss, Opened, Port, Snapshot, State, Status},
};

/// Increases when a field is removed or changes its meaning, not when one is added.
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

pub(super) fn ready(opened: &Opened) {
    let container = opened.ready.container.as_ref().map(|container| {
        let origin = match container.origin {
            Origin::Created => "created",
            Origin::Started => "started",
            Origin::Found => "found",
        };
        json!({ "id": clean(&container.id), "name": clean(&container.name), "image": clean(&container.image), "origin": origin })
    });
    let forwards: Vec<_> = opened.ports.iter().map(forward).collect();
    let gpus: Vec<_> = opened.ready.gpus.iter().map(|gpu| clean(gpu)).collect();
    emit(
        "ready",
        json!({
            "url": opened.url,
            "engine": clean(&opened.ready.engine),
            "container": container,
            "jupyter_was_running": opened.ready.jupyter.as_ref().map(|jupyter| jupyter.was_running),
            "gpus": gpus,
            "path": opened.path,
            "round_trip_ms": milliseconds(opened.round_trip),
            "forwards": forwards,
        }),
    );
}

pub(super) fn failure(failure: &Failure) {
    emit(
        "failure",
        json!({
            "kind": failure.kind.name(),
            "what": clean_lines(&failure.what),
            "host": failure.host.as_deref().map(clean_lines),
            "why": clean_lines(&failure.why),
            "hint": clean_lines(&failure.hint),
        }),
    );
}

pub(super) fn state(status: &Status) {
    emit("state", of_status(status));
}

pub(super) fn session(snapshot: &Snapshot) {
    let mut value = of_status(&snapshot.status);
    value["session"] = clean(&snapshot.session).into();
    value["target"] = clean(&snapshot.target).into();
    value["pid"] = snapshot.pid.into();
    value["down_per_s"] = snapshot.status.down_per_s.into();
    value["up_per_s"] = snapshot.status.up_per_s.into();
    value["connections"] = snapshot.status.connections.into();
    value["url"] = snapshot.url.as_deref().map(clean).into();
    value["engine"] = clean(&snapshot.engine).into();
    value["container"] = snapshot.container.as_deref().map(clean).into();
    value["workload"] = snapshot.workload.as_ref().map_or(Value::Null, |workload| {
        json!({
            "state": words::workload(workload.state),
            "engine": clean(&workload.engine),
            "container": workload.container.as_deref().map(clean),
        })
    });
    value["workload_failure"] = snapshot.workload_failure.as_deref().map(clean).into();
    value["gpus"] = snapshot.gpus.iter().map(|gpu| clean(gpu)).collect();
    value["forwards"] = snapshot.ports.iter().map(forward).collect();
    emit("session", value);
}

pub(super) fn silent_session(session: &str, pid: Option<i32>) {
    emit(
        "session",
        json!({ "session": clean(session), "pid": pid, "state": "not_answering" }),
    );
}

fn forward(port: &Port) -> Value {
    json!({ "port": port.local, "target": clean(&port.target) })
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
    // The measurements are not more precise than a tenth.
    let tenths = |number: f64| (number * 10.0).round() / 10.0;
    json!({
        "state": state,
        "path": status.path.as_deref().map(clean),
        "rtt_ms": status.round_trip.map(|time| tenths(milliseconds(time))),
        "outage_s": status.outage.map(|time| tenths(time.as_secs_f64())),
        "lost_something": lost.is_some(),
        "lost": lost,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_reports_that_connections_were_reset_and_why() {
        let mut status = Status {
            host: "gpu".to_owned(),
            state: State::Connected,
            logging_in: false,
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
