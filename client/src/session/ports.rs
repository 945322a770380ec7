//! Opens the forwarded ports of a session, on the same local ports as in the last run if possible.

use std::io;

use jq_common::protocol::{
    target::Target,
    workload::{JupyterInfo, Ready},
};

use super::forwards::{ForwardError, Forwards};
use crate::{
    error::{Failure, Kind},
    forward::spec::{Forward, Shown},
    reporter::Reporter,
    state::{PortsFile, RememberedPorts},
};

/// Default port of Jupyter.
const JUPYTER: u16 = 8888;

/// The ports that the user asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct PortPlan {
    /// Forwards of `-L`.
    pub(crate) forwards: Vec<Forward>,
    /// Local port of Jupyter, if given.
    pub(crate) jupyter: Option<u16>,
}

/// The ports that were opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Opened {
    /// Local port of Jupyter, if the workload has Jupyter.
    pub(super) jupyter: Option<u16>,
    /// All local ports.
    all: Vec<u16>,
}

/// Forwards the ports of `plan` and Jupyter's port, and saves the local ports in `file`.
///
/// # Errors
/// When a port cannot be bound. Then nothing is forwarded and nothing is saved.
pub(super) async fn open(
    plan: &PortPlan,
    ready: &Ready,
    file: &PortsFile,
    forwards: &Forwards,
    reporter: &dyn Reporter,
) -> Result<Opened, Failure> {
    let before = file.load();
    let mut opening = Opening {
        before: &before,
        after: before.clone(),
        opened: Opened::default(),
        forwards,
        reporter,
    };
    if let Err(failure) = opening.all(plan, ready).await {
        for port in opening.opened.all {
            let _ = forwards.remove(port).await;
        }
        return Err(failure);
    }
    if opening.after != before
        && let Err(error) = file.save(&opening.after)
    {
        reporter.note(&format!(
            "the ports of this session cannot be saved for the next run: {error}"
        ));
    }
    Ok(opening.opened)
}

struct Opening<'a> {
    before: &'a RememberedPorts,
    after: RememberedPorts,
    opened: Opened,
    forwards: &'a Forwards,
    reporter: &'a dyn Reporter,
}

impl Opening<'_> {
    async fn all(&mut self, plan: &PortPlan, ready: &Ready) -> Result<(), Failure> {
        // Ports that the user chose come first: Jupyter can use any other port.
        for forward in &plan.forwards {
            self.forward(forward).await?;
        }
        if let Some(jupyter) = &ready.jupyter {
            self.jupyter(plan.jupyter, jupyter).await?;
        }
        Ok(())
    }

    /// Forwards one port of `-L`: at the port of the last run, else at the requested one.
    async fn forward(&mut self, forward: &Forward) -> Result<(), Failure> {
        let key = forward.local.to_string();
        let kept = self.before.moved_ports.get(&key).copied();
        let wanted = kept.unwrap_or(forward.local);
        let port = self.add(wanted, forward.target.clone()).await?;
        let to = Shown(&forward.target);
        if port != wanted {
            self.reporter.warning(&format!(
                "local port {wanted} is in use; {to} is on {port} instead"
            ));
        } else if kept.is_some() {
            self.reporter.note(&format!(
                "{to} is on {port}, as in the last run, when port {key} was in use"
            ));
        }
        if kept.is_none() && port != forward.local {
            self.after.moved_ports.insert(key, port);
        }
        Ok(())
    }

    /// Forwards Jupyter's port: at the requested port, else at that of the last run, else at the default.
    async fn jupyter(&mut self, named: Option<u16>, jupyter: &JupyterInfo) -> Result<(), Failure> {
        let wanted = named.or(self.before.jupyter_port).unwrap_or(JUPYTER);
        let port = self.add(wanted, Target::workload(jupyter.port)).await?;
        if port != wanted {
            self.reporter.warning(&format!(
                "local port {wanted} is in use; Jupyter is on {port} instead"
            ));
        }
        // If the saved port is taken today, it stays saved for the next run.
        if self.before.jupyter_port.is_none() || named.is_some() {
            self.after.jupyter_port = Some(port);
        }
        self.opened.jupyter = Some(port);
        Ok(())
    }

    async fn add(&mut self, local: u16, target: Target) -> Result<u16, Failure> {
        let added = self.forwards.add(Forward { local, target }).await;
        let port = added.map_err(|error| failure(&error))?;
        self.opened.all.push(port);
        Ok(port)
    }
}

fn failure(error: &ForwardError) -> Failure {
    let ForwardError::Bind { port, source } = error else {
        return Failure::new(Kind::Local, "cannot forward a port").because(error);
    };
    let what = format!("cannot listen on port {port} or any of the next hundred");
    let failure = Failure::new(Kind::Local, what).because(source);
    if source.kind() == io::ErrorKind::PermissionDenied {
        failure.hint("ports below 1024 are reserved; use a higher one")
    } else {
        failure.hint("use another port")
    }
}

/// URL of Jupyter at the local port `port`.
pub(super) fn page(port: u16, jupyter: &JupyterInfo) -> String {
    let JupyterInfo { token, path, .. } = jupyter;
    format!(
        "http://127.0.0.1:{port}{}?token={}",
        plain(path, "/"),
        plain(token, "")
    )
}

/// `text` if it contains only characters without a meaning to URLs and terminals, else `instead`.
fn plain<'a>(text: &'a str, instead: &'a str) -> &'a str {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.');
    if text.bytes().all(harmless) { text } else { instead }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc, time::Duration};

    use tokio::{net::TcpListener, task::JoinSet};

    use super::*;
    use crate::{
        reporter::Silent, resumable_session::Session, session::forwards::ForwardActor, state::Folders,
    };

    fn jupyter(token: &str, path: &str) -> JupyterInfo {
        JupyterInfo {
            port: 8888,
            token: token.to_owned(),
            path: path.to_owned(),
            was_running: false,
        }
    }

    #[test]
    fn only_a_safe_path_and_token_get_into_the_url() {
        for (token, path, url) in [
            ("ab12", "/lab", "http://127.0.0.1:8890/lab?token=ab12"),
            ("ab12", "@evil/", "http://127.0.0.1:8890/?token=ab12"),
            ("a&b\n", "/lab", "http://127.0.0.1:8890/lab?token="),
        ] {
            assert_eq!(page(8890, &jupyter(token, path)), url);
        }
    }

    /// Opens and closes the ports of `plan` for a session that saves its ports in `file`.
    async fn opened(plan: &PortPlan, file: &PortsFile) -> Result<Opened, Failure> {
        let session = Session::new(Duration::from_secs(60), false).unwrap();
        let (actor, forwards) = ForwardActor::new(session, "gpu".to_owned(), Arc::new(Silent));
        let mut running: JoinSet<Infallible> = JoinSet::new();
        running.spawn(actor.run());
        let ready = Ready {
            engine: String::new(),
            container: None,
            jupyter: Some(jupyter("ab12", "/lab")),
            gpus: Vec::new(),
        };
        let opened = open(plan, &ready, file, &forwards, &Silent).await;
        if opened.is_err() {
            assert!(forwards.list().borrow().is_empty());
        }
        for port in opened.iter().flat_map(|opened| &opened.all) {
            forwards.remove(*port).await.unwrap();
        }
        opened
    }

    fn folders(below: &std::path::Path) -> Folders {
        Folders {
            state: below.to_owned(),
            runtime: below.to_owned(),
        }
    }

    /// A port that was free a moment ago.
    async fn free() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    }

    fn plan(local: u16, jupyter: u16) -> PortPlan {
        let target = Target::workload(6006);
        PortPlan {
            forwards: vec![Forward { local, target }],
            jupyter: Some(jupyter),
        }
    }

    #[tokio::test]
    async fn a_forward_that_moved_once_has_the_same_port_in_the_next_run() {
        let state = tempfile::tempdir().unwrap();
        let file = PortsFile::new(&folders(state.path()), "gpu");
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let plan = plan(taken.local_addr().unwrap().port(), free().await);
        let first = opened(&plan, &file).await.unwrap();
        drop(taken);
        assert_eq!(opened(&plan, &file).await.unwrap(), first);
        assert_ne!(first.all[0], plan.forwards[0].local);
        assert_eq!(first.jupyter, plan.jupyter);
    }

    #[tokio::test]
    async fn if_one_port_cannot_be_opened_none_is_opened_and_none_is_saved() {
        let state = tempfile::tempdir().unwrap();
        let file = PortsFile::new(&folders(state.path()), "gpu");
        let _last = TcpListener::bind(("127.0.0.1", u16::MAX)).await;
        let failure = opened(&plan(free().await, u16::MAX), &file).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Local);
        assert_eq!(file.load(), RememberedPorts::default());
    }
}
