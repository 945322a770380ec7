//! Jupyter beside the own command of a container: one that this session has started there, or a new one.
//!
//! The token is sent only to what was started and recorded here, never to a listener that was found.

use std::{io, sync::Arc};

use jq_common::protocol::workload::{Failure, FailureKind, JupyterInfo};

use super::Run;
use crate::{
    engine::{ContainerState, EngineError, Exec, Exit},
    failure::fail,
    log_tail::Tail,
    session_store::{BesideRecord, fresh_token},
    workload::{
        RunningWorkload,
        container::host_network::{self, HostNetwork, Place, Started},
        failure,
        jupyter::{
            self, Listen, START, Start, causes,
            probe::{Listener, probe},
            readiness::{self, Outcome},
        },
    },
};

/// Last lines of its output by which a wait tells whether it goes on.
const LAST_LINES: usize = 8;

/// Lines of its output that are kept of what failed.
const KEPT_LINES: usize = 1000;

impl Run<'_> {
    /// Uses or starts Jupyter beside the container's own command.
    pub(super) async fn beside(
        &self,
        workload: Arc<dyn RunningWorkload>,
        container: &ContainerState,
    ) -> Result<(Arc<dyn RunningWorkload>, JupyterInfo), Failure> {
        let before = self.recorded(&*workload, container).await;
        if let Some(record) = &before
            && record.started_at == container.started_at
        {
            let way = self.way(workload.clone(), record);
            if probe(&*way, record.port, &record.token).await == Listener::Ours {
                let info = jupyter::info(self.spec.jupyter, record.port, &record.token, true);
                return Ok((way, info));
            }
        }
        self.forget_gone().await;
        self.start_beside(workload, container, before).await
    }

    /// The Jupyter that this session has started in the container: by its record, or, of a build before records, by the
    /// token that the session had then.
    async fn recorded(
        &self,
        workload: &dyn RunningWorkload,
        container: &ContainerState,
    ) -> Option<BesideRecord> {
        let session = &self.spec.session;
        if let Some(record) = self.store.beside(session, &container.id).await {
            return Some(record);
        }
        let token = self.store.token_of_before(session).await?;
        if host_network::is_shared(&*self.engine, &container.id).await {
            // Whoever listens there may be another user of the host.
            return None;
        }
        for port in jupyter::PORT..jupyter::PORT + jupyter::PORTS {
            if probe(workload, port, &token).await == Listener::Ours {
                let record = self.beside_record(container, port, token);
                // Without the record it is found in the same way next time.
                let _ = self.store.set_beside(session, &record).await;
                return Some(record);
            }
        }
        None
    }

    fn beside_record(&self, container: &ContainerState, port: u16, token: String) -> BesideRecord {
        BesideRecord {
            container: container.id.clone(),
            started_at: container.started_at.clone(),
            port,
            folder: String::new(),
            python: String::new(),
            token,
        }
    }

    /// The way to a Jupyter that was started before.
    fn way(&self, workload: Arc<dyn RunningWorkload>, record: &BesideRecord) -> Arc<dyn RunningWorkload> {
        if record.port != jupyter::SOCKET_PORT {
            return workload;
        }
        let place = Place {
            folder: record.folder.clone(),
            python: record.python.clone(),
        };
        let (engine, started) = (self.engine.clone(), Started::Before(place));
        Arc::new(HostNetwork::new(engine, &record.container, workload, started))
    }

    /// Forgets what was started in containers that are gone.
    async fn forget_gone(&self) {
        for id in self.store.all_beside(&self.spec.session).await {
            if matches!(self.engine.container(&id).await, Ok(None)) {
                self.store.forget_beside(&self.spec.session, &id).await;
            }
        }
    }

    /// A port of the container that nothing listens on: this one if possible. Whatever accepts a connection has its port,
    /// whether it speaks HTTP or not.
    async fn free_port(&self, workload: &dyn RunningWorkload, wanted: Option<u16>) -> Result<u16, Failure> {
        let ports = jupyter::PORT..jupyter::PORT + jupyter::PORTS;
        for port in wanted.into_iter().chain(ports) {
            match workload.dial(port).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(port),
                Ok(_) | Err(_) => {}
            }
        }
        Err(fail(
            FailureKind::StartFailed,
            format!("no port is free for {}", jupyter::name(self.spec.jupyter)),
            format!(
                "something listens on each of {} to {} in the container",
                jupyter::PORT,
                jupyter::PORT + jupyter::PORTS - 1
            ),
            "stop one of them, or use `--jupyter none` and forward the port with `-L`",
        ))
    }

    /// Starts Jupyter in the container: with the token and the port that it had in an earlier run of the container, so that
    /// open pages go on.
    async fn start_beside(
        &self,
        workload: Arc<dyn RunningWorkload>,
        container: &ContainerState,
        before: Option<BesideRecord>,
    ) -> Result<(Arc<dyn RunningWorkload>, JupyterInfo), Failure> {
        let kind = self.spec.jupyter;
        self.events
            .step(format!("starting {} in {}", jupyter::name(kind), container.name))
            .await;
        let (token, wanted) = match before {
            Some(record) => (record.token, Some(record.port)),
            None => (fresh_token().map_err(|error| failure::state(&error))?, None),
        };
        let output = Tail::default();
        let (record, way) = if host_network::is_shared(&*self.engine, &container.id).await {
            let (engine, started) = (self.engine.clone(), Started::Reports(output.clone()));
            let way = Arc::new(HostNetwork::new(engine, &container.id, workload, started));
            let record = self.beside_record(container, jupyter::SOCKET_PORT, token);
            self.run_beside(&*way, container, &record, &output).await?;
            let place = way.place();
            let (folder, python) = place
                .map(|place| (place.folder, place.python))
                .unwrap_or_default();
            let record = BesideRecord {
                folder,
                python,
                ..record
            };
            (record, way as Arc<dyn RunningWorkload>)
        } else {
            let wanted = wanted.filter(|port| *port != jupyter::SOCKET_PORT);
            let port = self.free_port(&*workload, wanted).await?;
            let record = self.beside_record(container, port, token);
            // Without a record no later connect could find it.
            let kept = self.store.set_beside(&self.spec.session, &record).await;
            kept.map_err(|error| failure::state(&error))?;
            self.run_beside(&*workload, container, &record, &output).await?;
            (record, workload)
        };
        let kept = self.store.set_beside(&self.spec.session, &record).await;
        kept.map_err(|error| failure::state(&error))?;
        let info = jupyter::info(kind, record.port, &record.token, false);
        Ok((way, info))
    }

    async fn run_beside(
        &self,
        way: &dyn RunningWorkload,
        container: &ContainerState,
        record: &BesideRecord,
        output: &Tail,
    ) -> Result<(), Failure> {
        let kind = self.spec.jupyter;
        let command = self.command_beside(container, record);
        let last_lines = || async { output.last(LAST_LINES) };
        let running = async {
            // Either may end first: the container, or the command whose output is read.
            tokio::select! {
                code = self.engine.exec(&container.id, &command, output) => {
                    code.map(|code| Exit { code, ..Exit::default() })
                }
                exit = self.engine.exited(&container.id) => exit,
            }
        };
        let outcome = readiness::wait(way, record.port, &record.token, running, last_lines, self.events);
        let outcome = outcome.await;
        if matches!(outcome, Outcome::Ready) {
            return Ok(());
        }
        let output = self.keep(output.last(KEPT_LINES)).await;
        Err(match outcome {
            Outcome::Ready => return Ok(()),
            Outcome::OtherToken => causes::other_token(kind, &output),
            Outcome::NotReady(found) => causes::not_ready(kind, &found, &output),
            Outcome::Ended(Ok(exit)) => self.failure(kind, container, &exit, &output).await,
            Outcome::Ended(Err(EngineError::CommandMissing(why))) => {
                causes::missing(kind, &container.image, &why)
            }
            Outcome::Ended(Err(error)) => failure::engine("cannot run Jupyter in the container", &error),
        })
    }

    /// The command that starts Jupyter. All that it needs comes with it, so that nothing has to be put into the container,
    /// where a mount might lie over it; the token comes on its standard input.
    fn command_beside(&self, container: &ContainerState, record: &BesideRecord) -> Exec {
        let root = self
            .spec
            .workdir
            .clone()
            .or_else(|| (!container.workdir.is_empty()).then(|| container.workdir.clone()));
        let start = Start {
            kind: self.spec.jupyter,
            listen: match record.port {
                jupyter::SOCKET_PORT => Listen::PrivateSocket,
                port => Listen::Port(port),
            },
            root: root.as_deref(),
            name: &self.spec.session,
            token: None,
            report: None,
        };
        let shell = ["/bin/sh", "-c", START, "jq"].map(str::to_owned);
        Exec {
            command: shell
                .into_iter()
                .chain(start.arguments().unwrap_or_default())
                .collect(),
            env: Vec::new(),
            workdir: root,
            input: Some(format!("{}\n", record.token).into()),
        }
    }
}
