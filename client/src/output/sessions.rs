//! Output of `status`: lines for people and for `grep`.

use jq_common::protocol::topics::WorkloadState;

use super::{text::clean, words};
use crate::status::{Found, Snapshot};

pub(super) fn list(found: &[Found]) -> Vec<String> {
    let longest = found.iter().map(|one| one.session.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for Found { session, answer } in found {
        let text = match answer {
            Ok(snapshot) => match unusual(snapshot) {
                Some(workload) => format!("{} · workload {workload}", state(snapshot)),
                None => state(snapshot),
            },
            Err(error) => error.to_string(),
        };
        lines.push(clean(&format!("{session:<longest$}  {text}")));
        let ports = answer.iter().flat_map(ports);
        lines.extend(ports.map(|port| format!("{:longest$}    {port}", "")));
    }
    lines
}

pub(super) fn details(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = vec![clean(&snapshot.session)];
    let mut line = |name: &str, text: &str| lines.push(format!("  {name:<11}{}", clean(text)));
    line("host", &snapshot.target);
    line("connection", &state(snapshot));
    if let Some(url) = &snapshot.url {
        line("page", url);
    }
    if let Some(container) = &snapshot.container {
        line("container", container);
    }
    line("engine", &snapshot.engine);
    if let Some(workload) = workload(snapshot) {
        line("workload", &workload);
    }
    for gpu in &snapshot.gpus {
        line("gpu", gpu);
    }
    for port in ports(snapshot) {
        line("port", &port);
    }
    line("process", &snapshot.pid.to_string());
    lines
}

/// The workload, unless it is running.
fn unusual(snapshot: &Snapshot) -> Option<String> {
    let state = snapshot.workload.as_ref().map(|workload| workload.state);
    let is_running = state == Some(WorkloadState::Running) && snapshot.workload_failure.is_none();
    workload(snapshot).filter(|_| !is_running)
}

/// State of the workload, or why it is not running.
fn workload(snapshot: &Snapshot) -> Option<String> {
    if let Some(failure) = &snapshot.workload_failure {
        return Some(format!("not running, trying again: {failure}"));
    }
    let workload = snapshot.workload.as_ref()?;
    Some(words::workload(workload.state).to_owned())
}

fn state(snapshot: &Snapshot) -> String {
    snapshot.status.cleaned().parts().join(" · ")
}

fn ports(snapshot: &Snapshot) -> impl Iterator<Item = String> {
    let ports = snapshot.ports.iter();
    ports.map(|port| format!("127.0.0.1:{} -> {}", port.local, clean(&port.target)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jq_common::protocol::topics::WorkloadStatus;

    use super::*;
    use crate::status::{AskError, Port, State, Status};

    fn snapshot(session: &str, state: State) -> Snapshot {
        Snapshot {
            session: session.to_owned(),
            target: format!("ann@{session}"),
            pid: 4242,
            status: Status {
                host: format!("ann@{session}"),
                state,
                logging_in: false,
                path: Some("through gw".to_owned()),
                round_trip: Some(Duration::from_millis(43)),
                down_per_s: 0,
                up_per_s: 0,
                connections: 2,
                outage: Some(Duration::from_secs(34)),
                lost: None,
            },
            ports: vec![Port {
                local: 8888,
                target: "port 8888 \x1b[31mthere".to_owned(),
            }],
            engine: "Docker 27".to_owned(),
            container: Some("jq-ann-gpu".to_owned()),
            gpus: vec!["NVIDIA H100".to_owned()],
            workload: Some(WorkloadStatus {
                state: WorkloadState::Running,
                engine: "Docker 27".to_owned(),
                container: Some("jq-ann-gpu".to_owned()),
                ..WorkloadStatus::default()
            }),
            workload_failure: None,
            url: Some("http://127.0.0.1:8888/lab".to_owned()),
        }
    }

    #[test]
    fn a_list_has_a_line_for_each_session_and_each_port() {
        let found = [
            Found {
                session: "gpu".to_owned(),
                answer: Ok(snapshot("gpu", State::Connected)),
            },
            Found {
                session: "a100-2".to_owned(),
                answer: Ok(snapshot("a100-2", State::Reconnecting)),
            },
            Found {
                session: "old".to_owned(),
                answer: Err(AskError::Silent { pid: Some(77) }),
            },
        ];
        assert_eq!(
            list(&found),
            [
                "gpu     connected through gw · 43 ms · ↓ 0 B/s ↑ 0 B/s · 2 connections",
                "          127.0.0.1:8888 -> port 8888 there",
                "a100-2  reconnecting to ann@a100-2 · 34 s",
                "          127.0.0.1:8888 -> port 8888 there",
                "old     process 77 does not answer; if it was stopped by Ctrl-Z, `fg` resumes it",
            ]
        );
    }

    #[test]
    fn the_list_shows_a_workload_that_is_not_simply_running() {
        let mut restoring = snapshot("gpu", State::Connected);
        if let Some(workload) = &mut restoring.workload {
            workload.state = WorkloadState::Restoring;
        }
        let mut silent = snapshot("old", State::Connected);
        silent.workload = None;
        let mut failed = snapshot("lab", State::Connected);
        failed.workload_failure = Some("lab: Docker\x1b[31m does not run".to_owned());
        let found = [("gpu", restoring), ("old", silent), ("lab", failed)].map(|(session, snapshot)| Found {
            session: session.to_owned(),
            answer: Ok(snapshot),
        });
        let lines = list(&found);
        assert!(
            lines[0].ends_with(" · 2 connections · workload restoring"),
            "{}",
            lines[0]
        );
        assert!(lines[2].ends_with(" · 2 connections"), "{}", lines[2]);
        assert!(
            lines[4].ends_with(" · workload not running, trying again: lab: Docker does not run"),
            "{}",
            lines[4]
        );
    }

    #[test]
    fn one_session_is_shown_in_detail() {
        assert_eq!(
            details(&snapshot("gpu", State::Connected)),
            [
                "gpu",
                "  host       ann@gpu",
                "  connection connected through gw · 43 ms · ↓ 0 B/s ↑ 0 B/s · 2 connections",
                "  page       http://127.0.0.1:8888/lab",
                "  container  jq-ann-gpu",
                "  engine     Docker 27",
                "  workload   running",
                "  gpu        NVIDIA H100",
                "  port       127.0.0.1:8888 -> port 8888 there",
                "  process    4242",
            ]
        );
    }
}
