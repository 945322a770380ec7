//! Output of `status`: lines for people and for `grep`.

use super::text::clean;
use crate::status::{Found, Snapshot};

pub(super) fn list(found: &[Found]) -> Vec<String> {
    let longest = found.iter().map(|one| one.session.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for Found { session, answer } in found {
        let text = match answer {
            Ok(snapshot) => state(snapshot),
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
    for gpu in &snapshot.gpus {
        line("gpu", gpu);
    }
    for port in ports(snapshot) {
        line("port", &port);
    }
    line("process", &snapshot.pid.to_string());
    lines
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
                "  gpu        NVIDIA H100",
                "  port       127.0.0.1:8888 -> port 8888 there",
                "  process    4242",
            ]
        );
    }
}
