//! The effort to find any connection: the search over UDP, and ssh at its own pace.

use std::time::{Duration, Instant};

use super::{
    action::{Action, Scope},
    context::Context,
    event::{Paths, Refusal},
    policy::{HANGS, LOGIN_AGAIN, PIPE_HEAD_START, REFUSED_AGAIN, SSH_AFTER_CHANGE},
};
use crate::{
    connection::{backoff::Attempts, bootstrap::Interaction},
    error::{Failure, Kind},
};

/// The effort to find any connection.
#[derive(Debug)]
pub(super) struct Recovery {
    ssh: Ssh,
    /// A connection over the ssh channel is being tried.
    tries_pipe: bool,
    /// The paths that are tried are those that ssh told of in this effort.
    pub(super) told_by_ssh: bool,
}

/// Where ssh stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ssh {
    /// It starts in the background at this time.
    Due(Instant),
    /// It needs the user, and is tried without them at this time.
    LoginNeeded(Instant),
    /// The user asked for it, and it starts at this time.
    Asked(Attempt, Instant),
    /// It runs since this time.
    Running(Attempt, Instant),
}

/// How ssh runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// Without the user.
    Background,
    /// Without the user, though it needed them the last time.
    WithoutLogin,
    /// The user wanted to log in.
    Attended,
}

impl Recovery {
    /// Searches at once, and over ssh after a while.
    pub(super) fn begin(context: &mut Context, ssh_after: Duration) -> Self {
        context.search(Scope::Any, context.pause());
        Self {
            ssh: Ssh::Due(context.ssh_at(ssh_after)),
            tries_pipe: false,
            told_by_ssh: false,
        }
    }

    /// Ends the effort, but for the search.
    pub(super) fn stop(mut self, context: &mut Context) {
        if let Ssh::Running(attempt, _) = self.ssh {
            context.act(Action::StopBootstrap);
            if attempt == Attempt::Attended {
                context.act(Action::DropSteps);
            }
        }
        self.stop_pipe(context);
    }

    /// Only the user can help, as far as is known.
    pub(super) fn needs_login(&self) -> bool {
        matches!(
            self.ssh,
            Ssh::LoginNeeded(_)
                | Ssh::Asked(Attempt::Attended, _)
                | Ssh::Running(Attempt::WithoutLogin | Attempt::Attended, _)
        )
    }

    /// When ssh is to start.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.ssh {
            Ssh::Due(at) | Ssh::LoginNeeded(at) | Ssh::Asked(_, at) => Some(at),
            Ssh::Running(..) => None,
        }
    }

    /// Whether a connection may be made at any moment.
    pub(super) fn tries_pipe(&self) -> bool {
        self.tries_pipe
    }

    /// Has ssh start no later than in `after`, if its pace allows it, and without the user if it can.
    pub(super) fn hasten(&mut self, context: &Context, after: Duration) {
        if let Ssh::Due(at) = &mut self.ssh {
            *at = context.ssh_at(after).min(*at);
        }
    }

    /// Starts ssh if it is time.
    pub(super) fn start_due(&mut self, context: &mut Context) {
        match self.ssh {
            Ssh::Due(at) if at <= context.now => self.start(context, Attempt::Background),
            Ssh::LoginNeeded(at) if at <= context.now => self.start(context, Attempt::WithoutLogin),
            Ssh::Asked(attempt, at) if at <= context.now => {
                context.asked_ssh();
                self.start(context, attempt);
            }
            Ssh::Due(_) | Ssh::LoginNeeded(_) | Ssh::Asked(..) | Ssh::Running(..) => {}
        }
    }

    fn start(&mut self, context: &mut Context, attempt: Attempt) {
        context.pace.start(context.now);
        context.act(Action::Bootstrap(match attempt {
            Attempt::Background | Attempt::WithoutLogin => Interaction::Background,
            Attempt::Attended => Interaction::Attended,
        }));
        self.ssh = Ssh::Running(attempt, context.now);
    }

    /// The user wants the connection back: what is not under way is tried at once, though not more often than ssh can bear.
    pub(super) fn ask(&mut self, context: &mut Context) {
        let needs_login = self.needs_login();
        let is_under_way = match self.ssh {
            Ssh::Running(Attempt::Attended, _) => true,
            // It may be about to succeed: another one would begin where it began.
            Ssh::Running(Attempt::Background, since) => context.now.saturating_duration_since(since) < HANGS,
            _ => false,
        };
        if !is_under_way {
            self.stop_what_hangs(context);
        }
        context.search(Scope::Any, Duration::ZERO);
        if is_under_way {
            return;
        }
        let attempt = if needs_login {
            Attempt::Attended
        } else {
            Attempt::Background
        };
        let at = match self.ssh {
            Ssh::Due(due) => due.min(context.asked_ssh_at()),
            _ => context.asked_ssh_at(),
        };
        self.ssh = Ssh::Asked(attempt, at);
        self.start_due(context);
    }

    /// This machine woke or changed its network: the effort begins anew. What needed the user on another network may not
    /// on this one.
    pub(super) fn restart(&mut self, context: &mut Context) {
        self.stop_what_hangs(context);
        context.search(Scope::Any, context.pause());
        if !matches!(self.ssh, Ssh::Running(Attempt::Attended, _)) {
            self.ssh = Ssh::Due(context.ssh_at(SSH_AFTER_CHANGE));
        }
    }

    /// Stops what goes by the old network or hangs; not a login, in whose middle the user is.
    fn stop_what_hangs(&mut self, context: &mut Context) {
        match self.ssh {
            Ssh::Running(Attempt::Attended, _) => return,
            Ssh::Running(..) => context.act(Action::StopBootstrap),
            Ssh::Due(_) | Ssh::LoginNeeded(_) | Ssh::Asked(..) => {}
        }
        self.stop_pipe(context);
    }

    fn stop_pipe(&mut self, context: &mut Context) {
        if std::mem::take(&mut self.tries_pipe) {
            context.act(Action::StopPipe);
        }
    }

    /// ssh has reached the agent: what it told is tried.
    pub(super) fn bootstrapped(&mut self, context: &mut Context, paths: Paths, has_pipe: bool) {
        let Ssh::Running(..) = self.ssh else { return };
        context.pace.start(context.now);
        context.paths = paths;
        self.told_by_ssh = true;
        self.ssh = Ssh::Due(context.ssh_at(Attempts::SSH));
        context.search(Scope::Any, Duration::ZERO);
        self.stop_pipe(context);
        if has_pipe {
            context.act(Action::TryPipe(PIPE_HEAD_START));
            self.tries_pipe = true;
        }
    }

    /// ssh has not reached the agent, and is tried again later.
    pub(super) fn bootstrap_failed(&mut self, context: &mut Context, failure: &Failure) {
        let Ssh::Running(attempt, _) = self.ssh else {
            return;
        };
        if attempt == Attempt::Attended {
            context.act(Action::DropSteps);
        }
        if failure.needs_user() {
            self.ssh = Ssh::LoginNeeded(context.ssh_at(LOGIN_AGAIN));
            return;
        }
        self.ssh = Ssh::Due(context.ssh_at(Attempts::SSH));
        if !is_expected(failure.kind) {
            context.note(failure.to_string());
        }
    }

    /// ssh has not reached the agent, and was not needed after all.
    pub(super) fn bootstrap_ended(&mut self, context: &Context) {
        self.ssh = Ssh::Due(context.ssh_at(Attempts::SSH));
    }

    /// The attempt over the ssh channel ended by itself.
    pub(super) fn pipe_tried(&mut self) {
        self.tries_pipe = false;
    }

    /// Whoever answers does not take this client: says why the session ends for that. Who says so has not shown who it is,
    /// and may be anybody at a port that was the agent's; it is believed of an agent that ssh has just told of.
    pub(super) fn refused(&mut self, context: &mut Context, refusal: Refusal) -> Option<String> {
        if self.told_by_ssh && refusal.version.is_some() {
            return refusal.version;
        }
        if !context.is_searching() {
            context.search(Scope::Any, REFUSED_AGAIN);
        }
        // What is known is of no use for now. ssh may know more.
        self.hasten(context, Duration::ZERO);
        None
    }
}

/// A failure of ssh that comes of the outage itself.
fn is_expected(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Unreachable | Kind::UnknownHost | Kind::ConnectionLost | Kind::Interrupted
    )
}
