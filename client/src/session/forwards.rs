//! The ports that a connection brings here: Jupyter's and those of `-L`.

use std::{convert::Infallible, sync::Arc};

use jq_common::protocol::{
    stream::ResetCode,
    target::Target,
    workload::{JupyterInfo, Ready},
};
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::workload::older_agent;
use crate::{
    error::{Failure, Kind},
    forward::{listener::Listener, spec::Shown},
    output::Printer,
    session::core::Session,
    settings::ConnectSettings,
    state::{Remembered, SessionFile},
};

/// Jupyter's own default.
const JUPYTER: u16 = 8888;

/// Listeners that stand, and what their connections reach.
pub(crate) struct Ports {
    jupyter: Option<u16>,
    bound: Vec<(Listener, Target)>,
}

impl Ports {
    /// Binds them all, each where it was last time if it can be, and remembers where.
    pub(crate) async fn bind(
        settings: &ConnectSettings,
        ready: &Ready,
        file: &SessionFile,
        printer: &Printer,
    ) -> Result<Self, Failure> {
        let before = file.load();
        let mut after = before.clone();
        let mut ports = Self {
            jupyter: None,
            bound: Vec::new(),
        };
        // Those with a number of the user's own come first: Jupyter can take any other.
        for forward in &settings.forwards {
            let key = forward.local.to_string();
            let kept = before.moved_ports.get(&key).copied();
            let wanted = kept.unwrap_or(forward.local);
            let listener = bind(wanted).await?;
            let (port, to) = (listener.port(), Shown(&forward.target));
            if port != wanted {
                printer.warning(&format!("port {wanted} is taken here; {to} is on {port} instead"));
            } else if kept.is_some() {
                printer.note(&format!(
                    "{to} is on {port}, where it went when port {key} was taken"
                ));
            }
            if kept.is_none() && port != forward.local {
                after.moved_ports.insert(key, port);
            }
            ports.bound.push((listener, forward.target.clone()));
        }
        if let Some(jupyter) = &ready.jupyter {
            let listener = bind_jupyter(settings.port, &before, &mut after, printer).await?;
            ports.jupyter = Some(listener.port());
            ports.bound.push((listener, Target::workload(jupyter.port)));
        }
        if after != before
            && let Err(error) = file.save(&after)
        {
            printer.note(&format!(
                "the ports of this session will not be remembered: {error}"
            ));
        }
        Ok(ports)
    }

    /// The page to open.
    pub(crate) fn url(&self, ready: &Ready) -> Option<String> {
        let JupyterInfo { token, path, .. } = ready.jupyter.as_ref()?;
        let port = self.jupyter?;
        Some(format!(
            "http://127.0.0.1:{port}{}?token={}",
            plain(path, "/"),
            plain(token, "")
        ))
    }

    /// Port and target of each `-L`.
    pub(crate) fn shown(&self) -> Vec<(u16, String)> {
        let others = self
            .bound
            .iter()
            .filter(|(listener, _)| Some(listener.port()) != self.jupyter);
        others
            .map(|(listener, target)| (listener.port(), Shown(target).to_string()))
            .collect()
    }

    /// Carries what connects, for ever. Dropped, it closes the listeners and resets what is open.
    pub(crate) async fn serve(self, session: &Arc<Session>, host: &str, printer: &Printer) -> Infallible {
        let carried = TaskTracker::new();
        let closed = CancellationToken::new();
        let _close = closed.clone().drop_guard();
        let mut listeners = JoinSet::new();
        for (listener, target) in self.bound {
            let printer = printer.clone();
            let name = format!("127.0.0.1:{} -> {}", listener.port(), Shown(&target));
            let host = host.to_owned();
            let note = move |code| {
                if let Some(reason) = explain(code, &host) {
                    printer.note(&format!("{name}: {reason}"));
                }
            };
            listeners.spawn(listener.serve(session.clone(), target, carried.clone(), closed.clone(), note));
        }
        // A listener ends only by a fault of this program; the others go on.
        while listeners.join_next().await.is_some() {}
        std::future::pending().await
    }
}

/// What a reset forward means, for a note to the user. None for an ordinary end.
fn explain(code: ResetCode, host: &str) -> Option<String> {
    let reason = match code {
        ResetCode::Refused => "nothing listens there",
        ResetCode::Unreachable => "the host cannot reach it",
        ResetCode::TimedOut => "it does not answer",
        ResetCode::TooMany => "too many connections are open",
        ResetCode::NoWorkload => "the container does not run",
        ResetCode::Unsupported => return Some(older_agent(host)),
        _ => return None,
    };
    Some(reason.to_owned())
}

async fn bind(wanted: u16) -> Result<Listener, Failure> {
    Listener::bind(wanted).await.map_err(|error| {
        let what = format!("cannot listen on port {wanted} or any of the next hundred");
        let failure = Failure::new(Kind::Local, what).because(&error);
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                failure.hint("ports below 1024 are the system's; take a higher one")
            }
            _ => failure.hint("name another port"),
        }
    })
}

/// Jupyter's listener: at the port named, else where it was last time, else at Jupyter's own.
async fn bind_jupyter(
    named: Option<u16>,
    before: &Remembered,
    after: &mut Remembered,
    printer: &Printer,
) -> Result<Listener, Failure> {
    let wanted = named.or(before.jupyter_port).unwrap_or(JUPYTER);
    let listener = bind(wanted).await?;
    if listener.port() != wanted {
        printer.warning(&format!(
            "port {wanted} is taken here; Jupyter is on {} instead",
            listener.port()
        ));
    }
    // The remembered port stays the session's even when something else has it today.
    if before.jupyter_port.is_none() || named.is_some() {
        after.jupyter_port = Some(listener.port());
    }
    Ok(listener)
}

/// `text` where all of it is made of characters that mean nothing to a URL or a terminal, else `instead`.
fn plain<'a>(text: &'a str, instead: &'a str) -> &'a str {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.');
    if text.bytes().all(harmless) { text } else { instead }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_told_in_words_of_its_own_and_an_ordinary_end_in_none() {
        let told = [
            ResetCode::Refused,
            ResetCode::Unreachable,
            ResetCode::TimedOut,
            ResetCode::TooMany,
            ResetCode::NoWorkload,
            ResetCode::Unsupported,
        ]
        .map(|code| explain(code, "gpu").unwrap());
        assert_eq!(std::collections::HashSet::from(told.clone()).len(), told.len());
        assert!(explain(ResetCode::TooMany, "gpu").unwrap().contains("too many"));
        assert_eq!(
            explain(ResetCode::Unsupported, "gpu").unwrap(),
            "the agent on gpu is older than this command: end the other sessions there and connect again"
        );
        assert_eq!(explain(ResetCode::ConnectionReset, "gpu"), None);
    }

    #[test]
    fn only_a_path_of_ours_gets_into_the_url() {
        let ready = |token: &str, path: &str| Ready {
            engine: String::new(),
            container: None,
            jupyter: Some(JupyterInfo {
                port: 8888,
                token: token.to_owned(),
                path: path.to_owned(),
                was_running: false,
            }),
            gpus: Vec::new(),
        };
        let ports = Ports {
            jupyter: Some(8890),
            bound: Vec::new(),
        };
        assert_eq!(
            ports.url(&ready("ab12", "/lab")).unwrap(),
            "http://127.0.0.1:8890/lab?token=ab12"
        );
        assert_eq!(
            ports.url(&ready("ab12", "@evil/")).unwrap(),
            "http://127.0.0.1:8890/?token=ab12"
        );
        assert_eq!(
            ports.url(&ready("a&b\n", "/lab")).unwrap(),
            "http://127.0.0.1:8890/lab?token="
        );
    }
}
