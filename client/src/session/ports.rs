//! Which local port each forward gets when a session begins: the same as last time where that is possible.

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

/// Jupyter's own default.
const JUPYTER: u16 = 8888;

/// What the user asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct PortPlan {
    /// The forwards of `-L`.
    pub(crate) forwards: Vec<Forward>,
    /// Local port of Jupyter, where the user named one.
    pub(crate) jupyter: Option<u16>,
}

/// The ports that were opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Opened {
    /// Local port of Jupyter, where the workload has one.
    pub(super) jupyter: Option<u16>,
    /// All of them.
    all: Vec<u16>,
}

/// Forwards the ports of `plan` and Jupyter's, and remembers in `file` which local ports they got.
///
/// # Errors
/// When a port cannot be bound. Nothing is forwarded and nothing is remembered then.
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
            "the ports of this session will not be remembered: {error}"
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
        // Those with a number that the user chose come first: Jupyter can take any other.
        for forward in &plan.forwards {
            self.forward(forward).await?;
        }
        if let Some(jupyter) = &ready.jupyter {
            self.jupyter(plan.jupyter, jupyter).await?;
        }
        Ok(())
    }

    /// At the port where it went last time, else at the one that the user named.
    async fn forward(&mut self, forward: &Forward) -> Result<(), Failure> {
        let key = forward.local.to_string();
        let kept = self.before.moved_ports.get(&key).copied();
        let wanted = kept.unwrap_or(forward.local);
        let port = self.add(wanted, forward.target.clone()).await?;
        let to = Shown(&forward.target);
        if port != wanted {
            self.reporter
                .warning(&format!("port {wanted} is taken here; {to} is on {port} instead"));
        } else if kept.is_some() {
            self.reporter.note(&format!(
                "{to} is on {port}, where it went when port {key} was taken"
            ));
        }
        if kept.is_none() && port != forward.local {
            self.after.moved_ports.insert(key, port);
        }
        Ok(())
    }

    /// At the port that the user named, else where it was last time, else at Jupyter's own.
    async fn jupyter(&mut self, named: Option<u16>, jupyter: &JupyterInfo) -> Result<(), Failure> {
        let wanted = named.or(self.before.jupyter_port).unwrap_or(JUPYTER);
        let port = self.add(wanted, Target::workload(jupyter.port)).await?;
        if port != wanted {
            self.reporter.warning(&format!(
                "port {wanted} is taken here; Jupyter is on {port} instead"
            ));
        }
        // The remembered port stays the session's even when something else has it today.
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
        failure.hint("ports below 1024 are the system's; take a higher one")
    } else {
        failure.hint("name another port")
    }
}

/// Jupyter's page, behind the local port `port`.
pub(super) fn page(port: u16, jupyter: &JupyterInfo) -> String {
    let JupyterInfo { token, path, .. } = jupyter;
    format!(
        "http://127.0.0.1:{port}{}?token={}",
        plain(path, "/"),
        plain(token, "")
    )
}

/// `text` where all of it is made of characters that mean nothing to a URL or a terminal, else `instead`.
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
        reporter::Silent,
        session::{core::Session, forwards::ForwardActor},
        state::Folders,
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
    fn only_a_path_of_ours_gets_into_the_url() {
        for (token, path, url) in [
            ("ab12", "/lab", "http://127.0.0.1:8890/lab?token=ab12"),
            ("ab12", "@evil/", "http://127.0.0.1:8890/?token=ab12"),
            ("a&b\n", "/lab", "http://127.0.0.1:8890/lab?token="),
        ] {
            assert_eq!(page(8890, &jupyter(token, path)), url);
        }
    }

    /// Opens `plan` for a session whose memory is in `file`, and closes it again. Returns the ports.
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
    async fn a_forward_that_moved_once_is_at_the_same_port_the_next_time() {
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
    async fn when_one_port_cannot_be_had_none_is_opened_and_none_is_remembered() {
        let state = tempfile::tempdir().unwrap();
        let file = PortsFile::new(&folders(state.path()), "gpu");
        let _last = TcpListener::bind(("127.0.0.1", u16::MAX)).await;
        let failure = opened(&plan(free().await, u16::MAX), &file).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Local);
        assert_eq!(file.load(), RememberedPorts::default());
    }
}
