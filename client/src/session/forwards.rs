//! The forwarded ports of a running session, as an actor: ports are added, removed and listed by messages while
//! connections are open.

use std::{
    collections::HashSet,
    convert::Infallible,
    io,
    sync::{Arc, Mutex},
};

use jq_common::protocol::{stream::ResetCode, target::Target};
use tokio::{
    net::TcpStream,
    select,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    error::Failure,
    forward::{
        listener::Listener,
        spec::{Forward, Shown},
    },
    reporter::Reporter,
    resumable_session::Session,
    status::Port,
};

/// Limit of forwarded ports per session. Each needs two descriptors.
const MOST: usize = 1024;

/// Capacity of the request queue; senders of further requests wait.
const WAITING: usize = 16;

/// Why a request was refused. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    /// Neither the requested port nor one of the next hundred can be bound.
    #[error("cannot listen on port {port} or any of the next hundred: {source}")]
    Bind {
        /// The requested port.
        port: u16,
        /// The error for the last of them.
        source: io::Error,
    },
    /// The limit is reached.
    #[error("the limit of {0} forwarded ports is reached")]
    TooMany(usize),
    /// No forward listens on this local port.
    #[error("port {0} is not forwarded")]
    NotForwarded(u16),
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
}

enum Request {
    Add(Forward, oneshot::Sender<Result<u16, ForwardError>>),
    Remove(u16, oneshot::Sender<Result<(), ForwardError>>),
}

/// Sends requests to the actor. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Forwards {
    requests: mpsc::Sender<Request>,
    list: watch::Receiver<Vec<Port>>,
}

impl Forwards {
    /// Listens on `forward.local`, or on the next free port, and forwards connections. Returns the port.
    ///
    /// # Errors
    /// [`ForwardError::Bind`], [`ForwardError::TooMany`], or [`ForwardError::Ended`].
    pub(crate) async fn add(&self, forward: Forward) -> Result<u16, ForwardError> {
        self.ask(|answer| Request::Add(forward, answer)).await
    }

    /// Stops listening on the local port `port`, and resets the connections that came through it.
    ///
    /// # Errors
    /// [`ForwardError::NotForwarded`] or [`ForwardError::Ended`].
    pub(crate) async fn remove(&self, port: u16) -> Result<(), ForwardError> {
        self.ask(|answer| Request::Remove(port, answer)).await
    }

    /// The forwarded ports in the order in which they were added, now and after each change.
    #[must_use]
    pub(crate) fn list(&self) -> watch::Receiver<Vec<Port>> {
        self.list.clone()
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, ForwardError>>) -> Request,
    ) -> Result<T, ForwardError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.requests.send(request(answer)).await;
        sent.map_err(|_| ForwardError::Ended)?;
        answered.await.map_err(|_| ForwardError::Ended)?
    }
}

/// Owns the listeners and their connections. Dropping it closes the listeners and resets the connections.
pub(crate) struct ForwardActor {
    session: Arc<Session>,
    /// The host, as the user writes it.
    host: String,
    reporter: Arc<dyn Reporter>,
    requests: mpsc::Receiver<Request>,
    list: watch::Sender<Vec<Port>>,
    active: Vec<Active>,
    most: usize,
}

/// One forwarded port.
struct Active {
    port: Port,
    closed: CancellationToken,
    /// The task that accepts and owns the connections.
    accepting: JoinSet<()>,
}

impl ForwardActor {
    /// The actor of `session` and a handle to it. `host` is the host as the user writes it. Each cause of failed
    /// connections is reported once per port.
    #[must_use]
    pub(crate) fn new(session: Arc<Session>, host: String, reporter: Arc<dyn Reporter>) -> (Self, Forwards) {
        let (sender, requests) = mpsc::channel(WAITING);
        let (list, listed) = watch::channel(Vec::new());
        let actor = Self {
            session,
            host,
            reporter,
            requests,
            list,
            active: Vec::new(),
            most: MOST,
        };
        let forwards = Forwards {
            requests: sender,
            list: listed,
        };
        (actor, forwards)
    }

    /// Serves requests while it is polled. Forwarding runs in tasks of its own.
    pub(crate) async fn run(mut self) -> Infallible {
        while let Some(request) = self.requests.recv().await {
            // The sender may be gone.
            match request {
                Request::Add(forward, answer) => drop(answer.send(self.add(forward).await)),
                Request::Remove(port, answer) => drop(answer.send(self.remove(port).await)),
            }
        }
        std::future::pending().await
    }

    async fn add(&mut self, forward: Forward) -> Result<u16, ForwardError> {
        if self.active.len() >= self.most {
            return Err(ForwardError::TooMany(self.most));
        }
        let listener = Listener::bind(forward.local)
            .await
            .map_err(|source| ForwardError::Bind {
                port: forward.local,
                source,
            })?;
        let port = listener.port();
        let closed = CancellationToken::new();
        let shown = Shown(&forward.target).to_string();
        let connections = Connections {
            name: format!("127.0.0.1:{port} -> {shown}"),
            target: forward.target,
            host: self.host.clone(),
            session: self.session.clone(),
            reporter: self.reporter.clone(),
            reported: Mutex::default(),
        };
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::new(connections), closed.clone()));
        self.active.push(Active {
            port: Port {
                local: port,
                target: shown,
            },
            closed,
            accepting,
        });
        self.publish();
        Ok(port)
    }

    async fn remove(&mut self, port: u16) -> Result<(), ForwardError> {
        let place = self.active.iter().position(|active| active.port.local == port);
        let mut active = self.active.remove(place.ok_or(ForwardError::NotForwarded(port))?);
        active.closed.cancel();
        // Returns when the port is free and the connections are reset.
        active.accepting.join_next().await;
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        let ports = self.active.iter().map(|active| active.port.clone());
        self.list.send_replace(ports.collect());
    }
}

/// Accepts connections until `closed`; then closes the listener and resets the connections.
async fn accept(listener: Listener, connections: Arc<Connections>, closed: CancellationToken) {
    let mut open = JoinSet::new();
    loop {
        select! {
            () = closed.cancelled() => break,
            tcp = listener.accept() => {
                open.spawn(connections.clone().proxy(tcp));
            }
            Some(_) = open.join_next() => {}
        }
    }
    drop(listener);
    open.shutdown().await;
}

/// Shared state of the connections of one forwarded port.
struct Connections {
    name: String,
    target: Target,
    host: String,
    session: Arc<Session>,
    reporter: Arc<dyn Reporter>,
    /// Causes that were reported.
    reported: Mutex<HashSet<String>>,
}

impl Connections {
    async fn proxy(self: Arc<Self>, tcp: TcpStream) {
        let Err(code) = self.session.proxy(tcp, self.target.clone()).await else {
            return;
        };
        tracing::debug!(?code, "forward reset");
        if let Some(reason) = explain(code, &self.host)
            && self
                .reported
                .lock()
                .is_ok_and(|mut reported| reported.insert(reason.clone()))
        {
            self.reporter.note(&format!("{}: {reason}", self.name));
        }
    }
}

/// The cause for the user; none for an ordinary end.
fn explain(code: ResetCode, host: &str) -> Option<String> {
    let reason = match code {
        ResetCode::Refused => "nothing listens there",
        ResetCode::Unreachable => "the host cannot reach it",
        ResetCode::TimedOut => "it does not answer",
        ResetCode::TooMany => "too many connections are open",
        ResetCode::NoWorkload => "the container does not run",
        ResetCode::Unsupported => {
            let Failure { what, hint, .. } = Failure::older_agent(host);
            return Some(format!("{what}: {hint}"));
        }
        _ => return None,
    };
    Some(reason.to_owned())
}

#[cfg(test)]
mod tests;
