//! Decides how the session stays connected: when to search for another connection, when to start ssh, which connection
//! carries the session, and when it is over. Sans-I/O: the caller reports events with the time and carries out the
//! actions.
//!
//! ```text
//! Connected   a connection works               silent, gone -> Suspect     woke, network changed -> Replacing
//!                                              fenced -> Moving            lost -> Down
//! Replacing   it works; another one is made    installed, ssh failed -> Connected
//! Moving      the agent moved the session      installed -> Connected      late -> Down
//! Suspect     nothing comes through it         heard, installed -> Connected
//! Down        there is none                    installed -> Connected
//! Ended       for an EndReason
//! ```
//!
//! - A better connection is made before the one that works is closed: the agent moves the session, then
//!   [`Action::Install`], then [`Action::Close`].
//! - UDP is searched at once and for as long as it takes. ssh takes part after a while, in the background, its starts
//!   15 s apart; sooner only when the user asked or this machine woke. It may ask on the terminal only after the user
//!   pressed Enter while a login was needed.
//! - A message that anybody may have forged neither closes a UDP connection nor ends the session.
//! - The session ends only for an [`EndReason`]. The loss of the agent is none: another one is found. Another machine that
//!   answers in the host's place is none either: the session waits for its own, and says so once.

mod action;
mod context;
mod event;
mod phase;
mod policy;
mod recovery;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

pub(crate) use self::{
    action::{Action, EndReason, Scope},
    event::{Candidate, ConnectionId, Continuity, DetachReason, Event, Paths, Refusal},
};
use self::{
    context::Context,
    phase::{Connection, Outage, Phase},
    policy::{MOVE, SSH_AFTER, SSH_AFTER_CHANGE},
    recovery::Recovery,
};
use crate::{
    connection::paths::Rank,
    error::Failure,
    status::{Loss, State},
};

/// Decides how a session stays connected.
#[derive(Debug)]
pub(crate) struct Supervisor {
    phase: Phase,
    context: Context,
}

impl Supervisor {
    /// For a session whose first connection was just made; the caller reports that as [`Event::Searched`] at once.
    pub(crate) fn new(paths: Paths, now: Instant) -> Self {
        Self {
            phase: Phase::Moving {
                until: now + MOVE,
                recovery: None,
            },
            context: Context::new(paths, now),
        }
    }

    /// What is to be done about an event, in order. `now` never goes back.
    pub(crate) fn on(&mut self, event: Event, now: Instant) -> Vec<Action> {
        self.context.now = now;
        if !matches!(self.phase, Phase::Ended) {
            self.handle(event);
        }
        self.context.take_actions()
    }

    /// When [`Event::Deadline`] is to be told, if nothing else happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.phase.deadline()
    }

    /// What the user sees.
    pub(crate) fn state(&self, now: Instant) -> State {
        self.phase.state(now)
    }

    /// How long nothing has come through.
    pub(crate) fn outage(&self, now: Instant) -> Option<Duration> {
        self.phase.outage().map(|outage| outage.lasted(now))
    }

    /// Why open streams were reset in this outage, or in the last one.
    pub(crate) fn loss(&self) -> Option<Loss> {
        self.context.loss
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Detached(id, reason) => self.detached(id, reason),
            Event::Silent(id) => self.silent(id),
            Event::Heard(id) => self.heard(id),
            Event::Gone(id) => self.gone(id),
            Event::Searched(searched) => {
                self.context.searched();
                self.tried(searched);
            }
            Event::PipeTried(tried) => {
                if let Some(recovery) = self.phase.recovery() {
                    recovery.pipe_tried();
                }
                self.tried(tried);
            }
            Event::Installed(candidate, continuity) => self.installed(candidate, continuity),
            Event::NotInstalled => self.search_again(),
            Event::StreamsReset(loss) => self.context.loss = Some(loss),
            Event::Bootstrapped { paths, has_pipe } => {
                if let Some(recovery) = self.phase.recovery() {
                    recovery.bootstrapped(&mut self.context, paths, has_pipe);
                }
            }
            Event::BootstrapFailed(failure) => self.bootstrap_failed(&failure),
            Event::UserAsked => self.user_asked(),
            Event::Woke => {
                self.context.pace.skip();
                self.replace();
            }
            Event::NetworkChanged => self.replace(),
            Event::StatusAsked => self.status_asked(),
            Event::Deadline => self.deadline_passed(),
        }
    }

    /// The connection, if it is the one that carries the session.
    fn current(&self, id: ConnectionId) -> Option<Connection> {
        self.phase.connection().filter(|connection| connection.id == id)
    }

    fn detached(&mut self, id: ConnectionId, reason: DetachReason) {
        let Some(connection) = self.current(id) else {
            return;
        };
        self.context.act(Action::Close(id));
        if reason == DetachReason::Fenced && self.has_connection_under_way() {
            return self.await_move();
        }
        self.context.count_life(connection.since);
        match reason {
            DetachReason::Superseded => return self.end(EndReason::Superseded),
            DetachReason::AgentEnding => self.context.act(Action::ResetStreams(Loss::AgentRestarted)),
            DetachReason::GivenUp => self.context.act(Action::ResetStreams(Loss::SessionGivenUp)),
            DetachReason::Fenced | DetachReason::Reset | DetachReason::Lost => {}
        }
        let ssh_after = match reason {
            // Another process answers for it, or is to be started.
            DetachReason::AgentEnding | DetachReason::GivenUp | DetachReason::Reset => Duration::ZERO,
            DetachReason::Fenced | DetachReason::Superseded | DetachReason::Lost => SSH_AFTER,
        };
        self.begin_outage(None, ssh_after);
    }

    /// Whether this client may just have made a connection.
    fn has_connection_under_way(&mut self) -> bool {
        self.context.is_searching()
            || self
                .phase
                .recovery()
                .is_some_and(|recovery| recovery.tries_pipe())
    }

    /// The agent has moved the session to a connection that was just made: its answer is on the way.
    fn await_move(&mut self) {
        let (since, recovery) = self.take_phase().into_effort();
        self.phase = match (since, recovery) {
            (Some(since), Some(recovery)) => Phase::Down(Outage { since, recovery }),
            (_, recovery) => Phase::Moving {
                until: self.context.now + MOVE,
                recovery,
            },
        };
    }

    fn silent(&mut self, id: ConnectionId) {
        if let Some(connection) = self.current(id) {
            self.begin_outage(Some(connection), SSH_AFTER);
        }
    }

    fn heard(&mut self, id: ConnectionId) {
        if let Some(connection) = self.current(id)
            && self.phase.outage().is_some()
        {
            self.settle(connection);
        }
    }

    fn gone(&mut self, id: ConnectionId) {
        let Some(connection) = self.current(id) else {
            return;
        };
        if connection.rank < Rank::Ssh {
            // What says so may be forged: until another connection is found, this one stays.
            self.begin_outage(Some(connection), Duration::ZERO);
        } else {
            self.context.act(Action::Close(id));
            self.begin_outage(None, Duration::ZERO);
        }
    }

    /// Nothing comes through: any connection is searched. ssh takes part in `ssh_after`.
    fn begin_outage(&mut self, connection: Option<Connection>, ssh_after: Duration) {
        let context = &mut self.context;
        let (since, recovery) = std::mem::replace(&mut self.phase, Phase::Ended).into_effort();
        if since.is_none() {
            context.loss = None;
        }
        let recovery = match recovery {
            Some(mut recovery) => {
                recovery.hasten(context, ssh_after);
                if !context.is_searching() {
                    context.search(Scope::Any, context.pause());
                }
                recovery
            }
            None => Recovery::begin(context, ssh_after),
        };
        let outage = Outage {
            since: since.unwrap_or(context.now),
            recovery,
        };
        self.phase = match connection {
            Some(connection) => Phase::Suspect(connection, outage),
            None => Phase::Down(outage),
        };
    }

    /// A search or an attempt over the ssh channel ended.
    fn tried(&mut self, tried: Result<Candidate, Refusal>) {
        let refusal = match tried {
            Ok(candidate) => return self.context.act(Action::Install(candidate.id)),
            Err(refusal) => refusal,
        };
        match self.phase.recovery() {
            Some(recovery) => {
                if let Some(version) = recovery.refused(&mut self.context, refusal) {
                    self.end(EndReason::VersionDiffers(version));
                }
            }
            None => self.search_again(),
        }
    }

    /// The session goes on with this connection.
    fn installed(&mut self, candidate: Candidate, continuity: Continuity) {
        if let Some(before) = self.phase.connection() {
            self.context.act(Action::Close(before.id));
        }
        if let Continuity::Broken(loss) = continuity {
            self.context.loss = Some(loss);
            self.context.act(Action::RestartWorkload);
        }
        self.context.act(Action::SaveTicket);
        self.settle(Connection {
            id: candidate.id,
            rank: candidate.rank,
            since: self.context.now,
        });
    }

    /// The connection works: at most a better one is searched.
    fn settle(&mut self, connection: Connection) {
        let (_, recovery) = self.take_phase().into_effort();
        if let Some(recovery) = recovery {
            recovery.stop(&mut self.context);
        }
        self.phase = Phase::Connected(connection);
        let better = Scope::BetterThan(connection.rank);
        self.context.search(better, Duration::ZERO);
    }

    /// A search led to nothing: the one begins that belongs to the phase.
    fn search_again(&mut self) {
        let scope = match &self.phase {
            Phase::Connected(connection) => Scope::BetterThan(connection.rank),
            Phase::Replacing(..) | Phase::Suspect(..) | Phase::Down(_) => Scope::Any,
            Phase::Moving { .. } | Phase::Ended => return,
        };
        if !self.context.is_searching() {
            self.context.search(scope, Duration::ZERO);
        }
    }

    fn bootstrap_failed(&mut self, failure: &Failure) {
        if let Phase::Replacing(connection, recovery) = &mut self.phase {
            // The connection works: it was not needed after all.
            recovery.bootstrap_ended(&self.context);
            let connection = *connection;
            return self.settle(connection);
        }
        if let Some(recovery) = self.phase.recovery() {
            recovery.bootstrap_failed(&mut self.context, failure);
        }
    }

    fn user_asked(&mut self) {
        let (Phase::Suspect(_, outage) | Phase::Down(outage)) = &mut self.phase else {
            return;
        };
        if self.context.is_new_wish() {
            outage.recovery.ask(&mut self.context);
        }
    }

    /// Another process asked: ssh is started as soon as its pace allows it.
    fn status_asked(&mut self) {
        if let Phase::Suspect(_, outage) | Phase::Down(outage) = &mut self.phase {
            outage.recovery.hasten(&self.context, Duration::ZERO);
        }
    }

    /// This machine woke or changed its network: another connection is searched, whether or not this one works.
    fn replace(&mut self) {
        if let Some(recovery) = self.phase.recovery() {
            return recovery.restart(&mut self.context);
        }
        let recovery = Recovery::begin(&mut self.context, SSH_AFTER_CHANGE);
        self.phase = match self.take_phase() {
            Phase::Connected(connection) => Phase::Replacing(connection, recovery),
            Phase::Moving { until, .. } => Phase::Moving {
                until,
                recovery: Some(recovery),
            },
            phase => phase,
        };
    }

    fn deadline_passed(&mut self) {
        if let Some(recovery) = self.phase.recovery() {
            recovery.start_due(&mut self.context);
        }
        if let Phase::Moving { until, .. } = self.phase
            && until <= self.context.now
        {
            self.begin_outage(None, SSH_AFTER);
        }
    }

    fn end(&mut self, reason: EndReason) {
        self.phase = Phase::Ended;
        self.context.act(Action::End(reason));
    }

    fn take_phase(&mut self) -> Phase {
        std::mem::replace(&mut self.phase, Phase::Ended)
    }
}
