//! Keeps a session connected: reports events to the [supervisor](super::supervisor), carries out its actions, and publishes
//! the status of the connection.

mod carriers;
mod publisher;
mod tasks;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

use self::{
    carriers::Carriers,
    publisher::Publisher,
    tasks::{Ended, Tasks},
};
use super::{
    bootstrap::{Bootstrapper, Reached},
    establish::{self, Found},
    interaction::Interaction,
    paths::Path,
    race::{KnownAgent, SearchError, Searcher},
    resume_ticket::TicketStore,
    supervisor::{Action, EndReason, Event, PipeFailure, Supervisor},
    wakeup::{Trigger, Triggers},
};
use crate::{
    error::{Failure, Kind},
    status::Status,
};

/// The connection of a session, for as long as the session lives.
pub(crate) struct SupervisedConnection {
    host: String,
    supervisor: Supervisor,
    searcher: Searcher,
    bootstrapper: Arc<Bootstrapper>,
    known: KnownAgent,
    tickets: TicketStore,
    triggers: Triggers,
    carriers: Carriers,
    tasks: Tasks,
    publisher: Publisher,
    workload_gone: Arc<Notify>,
    poke: Arc<Notify>,
}

impl SupervisedConnection {
    /// Takes over a session whose first connection was just made.
    pub(crate) fn new(
        host: String,
        found: Found,
        bootstrapper: Arc<Bootstrapper>,
        tickets: TicketStore,
        triggers: Triggers,
    ) -> Self {
        let Found {
            searcher,
            known,
            carried,
            ssh,
        } = found;
        let mut carriers = Carriers::new(searcher.session.clone());
        let first = carriers.offer(carried, ssh);
        let mut connection = Self {
            supervisor: Supervisor::new(known.ranks(), Instant::now().into_std()),
            publisher: Publisher::new(host.clone()),
            host,
            searcher,
            bootstrapper,
            known,
            tickets,
            triggers,
            carriers,
            tasks: Tasks::default(),
            workload_gone: Arc::default(),
            poke: Arc::default(),
        };
        connection.watch_paths();
        // The first connection cannot end the session.
        let _ = connection.handle(Event::Searched(Some(first)));
        connection.publish(None);
        connection
    }

    /// The status of the connection, updated on every change and once a second.
    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.publisher.subscribe()
    }

    /// Notified when the session has lost its agent and found another one, on which the workload must be started.
    pub(crate) fn workload_gone(&self) -> Arc<Notify> {
        self.workload_gone.clone()
    }

    /// The ticket for the next run, to be dropped when this run shows that a fresh login is needed.
    pub(crate) fn tickets(&self) -> TicketStore {
        self.tickets.clone()
    }

    /// To be notified when another process queries the status: a disconnected session then retries.
    pub(crate) fn poke(&self) -> Arc<Notify> {
        self.poke.clone()
    }

    /// Keeps the session connected. Returns why the session ended.
    pub(crate) async fn run(&mut self) -> Failure {
        loop {
            let event = self.next().await;
            let outage = self.outage();
            if let Some(event) = event
                && let Err(reason) = self.handle(event)
            {
                return self.failure(reason);
            }
            self.publish(outage);
        }
    }

    /// Tells the agent that the session has ended, and ends it on this side.
    pub(crate) async fn leave(self) {
        self.carriers.leave().await;
        self.searcher.session.end().await;
    }

    /// Waits for the next event. None: only the figures of the status are new.
    async fn next(&mut self) -> Option<Event> {
        let deadline = self.supervisor.deadline().map(Instant::from_std);
        tokio::select! {
            event = self.carriers.next() => Some(event),
            ended = self.tasks.next() => Some(self.task_ended(ended)),
            trigger = self.triggers.next() => Some(event_of(trigger)),
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => Some(Event::Deadline),
            () = self.poke.notified() => Some(Event::StatusAsked),
            () = self.publisher.tick() => {
                self.publisher.measure(&self.searcher.session);
                None
            }
        }
    }

    /// Reports the event to the supervisor, carries out its actions, and reports their immediate results.
    fn handle(&mut self, event: Event) -> Result<(), EndReason> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            tracing::info!(?event);
            for action in self.supervisor.on(event, Instant::now().into_std()) {
                tracing::debug!(?action);
                events.extend(self.perform(action)?);
            }
        }
        Ok(())
    }

    /// Carries out an action, and gives its result if that is known at once.
    fn perform(&mut self, action: Action) -> Result<Option<Event>, EndReason> {
        match action {
            Action::Search(pause) => {
                self.tasks
                    .search(self.searcher.clone(), self.known.paths.clone(), pause);
            }
            Action::Improve(rank) => {
                self.tasks
                    .improve(self.searcher.clone(), self.known.better_than(rank), rank);
            }
            Action::StopSearch => self.tasks.stop_search(),
            Action::Bootstrap(interaction) => self.bootstrap(interaction),
            Action::StopBootstrap => self.tasks.stop_bootstrap(),
            Action::TryPipe(head_start) => self.tasks.try_pipe(self.searcher.clone(), head_start),
            Action::StopPipe => self.tasks.stop_pipe(),
            Action::Install(id) => {
                let installed = self.carriers.install(id);
                self.searcher.round_trip = self.carriers.round_trip().unwrap_or(self.searcher.round_trip);
                return Ok(Some(installed));
            }
            Action::Close(id) => self.carriers.close(id),
            Action::ResetStreams(loss) => {
                let reset = self.searcher.session.lose();
                return Ok((reset > 0).then_some(Event::StreamsReset(loss)));
            }
            Action::RestartWorkload => self.workload_gone.notify_one(),
            Action::SaveTicket => self.tickets.save(&self.searcher.identity, &self.known),
            Action::Note(words) => self.bootstrapper.reporter().note(&words),
            Action::DropSteps => self.bootstrapper.reporter().abandon(),
            Action::End(reason) => return Err(reason),
        }
        Ok(None)
    }

    fn bootstrap(&mut self, interaction: Interaction) {
        let keys = self.triggers.keys();
        let machine = self.known.machine.clone();
        self.tasks
            .bootstrap(self.bootstrapper.clone(), interaction, machine, keys);
    }

    /// The event for a task that has ended.
    fn task_ended(&mut self, ended: Ended) -> Event {
        match ended {
            Ended::Search(Ok(carried)) => Event::Searched(Some(self.carriers.offer(carried, None))),
            Ended::Search(Err(failed)) => {
                for (path, error) in failed {
                    tracing::info!(%path, %error, "refused");
                }
                Event::Searched(None)
            }
            Ended::Pipe(Ok((carried, ssh))) => Event::PipeTried(Ok(self.carriers.offer(carried, Some(ssh)))),
            Ended::Pipe(Err(error)) => Event::PipeTried(Err(pipe_failure(&error))),
            Ended::Bootstrap(Ok(reached)) => self.bootstrapped(reached),
            Ended::Bootstrap(Err(failure)) => Event::BootstrapFailed(failure),
        }
    }

    /// Takes over what the bootstrap has learned.
    fn bootstrapped(&mut self, reached: Reached) -> Event {
        self.known.renew(KnownAgent::from(&reached));
        self.searcher.agent = self.known.agent;
        self.watch_paths();
        let has_pipe = reached.pipe.is_some();
        self.tasks.keep_pipe(reached);
        Event::Bootstrapped {
            paths: self.known.ranks(),
            has_pipe,
        }
    }

    fn watch_paths(&self) {
        self.triggers
            .set_peers(self.known.paths.iter().filter_map(Path::address).collect());
    }

    fn outage(&self) -> Option<Duration> {
        self.supervisor.outage(Instant::now().into_std())
    }

    /// Publishes the status. `outage` is the length of an outage that the last event may have ended.
    fn publish(&self, outage: Option<Duration>) {
        let session = &self.searcher.session;
        self.publisher
            .publish(&self.supervisor, &self.carriers, session, outage);
    }

    fn failure(&self, reason: EndReason) -> Failure {
        match reason {
            EndReason::Superseded => Failure::new(
                Kind::ConnectionLost,
                "another jq-client has taken this session over",
            )
            .on(&self.host)
            .hint("give this one another name with --name to have both"),
            EndReason::VersionDiffers(why) => establish::version(&self.host).because(why),
        }
    }
}

fn event_of(trigger: Trigger) -> Event {
    match trigger {
        Trigger::UserAsked => Event::UserAsked,
        Trigger::Woke { suspended } => Event::Woke { suspended },
        Trigger::NetworkChanged => Event::NetworkChanged,
    }
}

fn pipe_failure(error: &SearchError) -> PipeFailure {
    tracing::info!(%error, "the ssh channel does not work");
    PipeFailure {
        version: error.is_version().then(|| format!("{}: {error}", Path::Ssh)),
    }
}
