//! The effort to find any connection: the search over UDP, and ssh at its own pace.

use std::time::{Duration, Instant};

use super::{
    action::Action,
    context::Context,
    event::Paths,
    policy::{
        BACKGROUND_LIMIT, LOGIN_AGAIN, LOGIN_GRACE, LOGIN_LIMIT, PIPE_HEAD_START, REFUSED_AGAIN,
        SSH_AFTER_CHANGE,
    },
};
use crate::{
    connection::{backoff::Attempts, interaction::Interaction},
    error::{Failure, Kind},
};

/// The effort to find any connection.
#[derive(Debug)]
pub(super) struct Recovery {
    attempt: Attempt,
    stage: Stage,
    /// The next start of ssh is one that was asked for.
    is_asked: bool,
    /// An attempt over the ssh channel is under way.
    tries_pipe: bool,
}

/// How ssh runs, or will run next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// Without the user.
    Background,
    /// Without the user, although the last attempt needed them.
    WithoutLogin,
    /// The user has asked to log in.
    Attended,
}

/// Whether ssh runs.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// It starts at this time.
    Due(Instant),
    /// It is stopped at this time.
    Running {
        until: Instant,
        /// It was started before a resume or a change of networks.
        is_stale: bool,
    },
}

impl Recovery {
    /// Searches at once, and starts ssh after a while.
    pub(super) fn begin(context: &mut Context, ssh_after: Duration) -> Self {
        context.search(context.pause());
        Self {
            attempt: Attempt::Background,
            stage: Stage::Due(context.ssh_at(ssh_after)),
            is_asked: false,
            tries_pipe: false,
        }
    }

    /// Ends everything but the search.
    pub(super) fn stop(mut self, context: &mut Context) {
        if let Stage::Running { .. } = self.stage {
            context.act(Action::StopBootstrap);
            self.release_terminal(context);
        }
        self.stop_pipe(context);
    }

    /// Whether only the user can help, as far as is known.
    pub(super) fn needs_login(&self) -> bool {
        self.attempt != Attempt::Background
    }

    /// Whether the user logs in now, or will at the next start of ssh.
    pub(super) fn is_logging_in(&self) -> bool {
        self.attempt == Attempt::Attended
    }

    /// Time at which ssh is started or stopped.
    pub(super) fn deadline(&self) -> Instant {
        match self.stage {
            Stage::Due(at) | Stage::Running { until: at, .. } => at,
        }
    }

    /// Whether an attempt over the ssh channel is under way.
    pub(super) fn tries_pipe(&self) -> bool {
        self.tries_pipe
    }

    /// Starts ssh in `after` at the latest, if its pace allows it, and if it may do without the user.
    pub(super) fn hasten(&mut self, context: &Context, after: Duration) {
        if let Stage::Due(at) = &mut self.stage
            && self.attempt == Attempt::Background
        {
            *at = context.ssh_at(after).min(*at);
        }
    }

    /// Starts ssh if it is time, or stops one that has taken too long. Gives the failure if that ended the attempt.
    pub(super) fn on_deadline(&mut self, context: &mut Context) -> Option<Failure> {
        if self.deadline() > context.now {
            return None;
        }
        if let Stage::Running { is_stale, .. } = self.stage {
            context.act(Action::StopBootstrap);
            if !is_stale || self.attempt == Attempt::Attended {
                return Some(self.timed_out(context));
            }
        }
        self.start(context);
        None
    }

    fn timed_out(&self, context: &mut Context) -> Failure {
        let (kind, what) = match self.attempt {
            Attempt::Attended => (Kind::LoginRefused, "the login was not completed in time"),
            Attempt::WithoutLogin => (Kind::LoginRefused, "ssh did not end in time"),
            Attempt::Background => (Kind::Unreachable, "ssh did not end in time"),
        };
        context.note(format!("{what}, and was stopped"));
        Failure::new(kind, what)
    }

    fn start(&mut self, context: &mut Context) {
        context.pace.start(context.now);
        if std::mem::take(&mut self.is_asked) {
            context.asked_pace.start(context.now);
        }
        let (interaction, limit) = match self.attempt {
            Attempt::Background | Attempt::WithoutLogin => (Interaction::Background, BACKGROUND_LIMIT),
            Attempt::Attended => (Interaction::Attended, LOGIN_LIMIT),
        };
        context.act(Action::Bootstrap(interaction));
        self.stage = Stage::Running {
            until: context.now + limit,
            is_stale: false,
        };
    }

    /// The user wants the connection back: searches at once, and has ssh ask for a login if it needs one.
    pub(super) fn ask(&mut self, context: &mut Context) {
        let attempt = if self.needs_login() {
            Attempt::Attended
        } else {
            Attempt::Background
        };
        context.search(Duration::ZERO);
        self.run_soon(context, attempt);
    }

    /// As [`Self::ask`], but by another process, which cannot answer ssh's questions.
    pub(super) fn ask_without_login(&mut self, context: &mut Context) {
        context.search(Duration::ZERO);
        if !self.needs_login() {
            self.run_soon(context, Attempt::Background);
        }
    }

    /// Starts ssh at once, or as soon as it may be asked for again. One that runs stays, unless it may hang or cannot ask.
    fn run_soon(&mut self, context: &mut Context, attempt: Attempt) {
        let mut at = context.ssh_asked_at();
        match self.stage {
            Stage::Due(due) => at = at.min(due),
            Stage::Running { .. } if self.attempt == Attempt::Attended => return,
            Stage::Running { .. } if self.attempt == attempt && context.is_ssh_recent() => return,
            Stage::Running { .. } => context.act(Action::StopBootstrap),
        }
        self.due(attempt, at);
        self.is_asked = true;
        if at <= context.now {
            self.start(context);
        }
    }

    /// This machine resumed or changed its network: begins anew. What needed the user on the old network may work without
    /// them on this one. An ssh that runs gets the time until the next one may start; a login gets a while to be completed.
    pub(super) fn restart(&mut self, context: &mut Context) {
        context.search(context.pause());
        let next = context.ssh_at(SSH_AFTER_CHANGE);
        match (self.attempt, &mut self.stage) {
            (Attempt::Attended, Stage::Due(_)) => {}
            (Attempt::Attended, Stage::Running { until, is_stale }) => {
                *until = (*until).min(context.now + LOGIN_GRACE);
                *is_stale = true;
            }
            (_, Stage::Due(at)) => *at = (*at).min(next),
            (_, Stage::Running { until, is_stale }) => {
                *until = (*until).min(next);
                *is_stale = true;
            }
        }
        if self.attempt == Attempt::WithoutLogin {
            self.attempt = Attempt::Background;
        }
    }

    fn stop_pipe(&mut self, context: &mut Context) {
        if std::mem::take(&mut self.tries_pipe) {
            context.act(Action::StopPipe);
        }
    }

    /// An attended login has ended: the terminal is this process's again.
    fn release_terminal(&self, context: &mut Context) {
        if self.attempt == Attempt::Attended {
            context.act(Action::DropSteps);
            context.forget_key();
        }
    }

    fn due(&mut self, attempt: Attempt, at: Instant) {
        self.attempt = attempt;
        self.stage = Stage::Due(at);
    }

    /// ssh has reached the agent: tries the paths that it reported.
    pub(super) fn bootstrapped(&mut self, context: &mut Context, paths: Paths, has_pipe: bool) {
        let Stage::Running { .. } = self.stage else { return };
        context.pace.start(context.now);
        context.paths = paths;
        self.due(Attempt::Background, context.ssh_at(Attempts::SSH));
        context.search(Duration::ZERO);
        self.stop_pipe(context);
        if has_pipe {
            context.act(Action::TryPipe(PIPE_HEAD_START));
            self.tries_pipe = true;
        }
    }

    /// ssh has not reached the agent, and is tried again later.
    pub(super) fn bootstrap_failed(&mut self, context: &mut Context, failure: &Failure) {
        let Stage::Running { .. } = self.stage else { return };
        self.release_terminal(context);
        if failure.needs_user() {
            return self.due(Attempt::WithoutLogin, context.ssh_at(LOGIN_AGAIN));
        }
        self.due(Attempt::Background, context.ssh_at(Attempts::SSH));
        if !failure.is_another_machine() {
            context.note_failure(failure);
        }
    }

    /// ssh has not reached the agent, and was not needed after all.
    pub(super) fn bootstrap_ended(&mut self, context: &Context) {
        self.due(Attempt::Background, context.ssh_at(Attempts::SSH));
    }

    /// The attempt over the ssh channel has ended.
    pub(super) fn pipe_tried(&mut self) {
        self.tries_pipe = false;
    }

    /// Every known path was refused: by the agent, or by anybody who forges a refusal. ssh may know other paths.
    pub(super) fn refused(&mut self, context: &mut Context) {
        if !context.is_searching() {
            context.search(REFUSED_AGAIN);
        }
        self.hasten(context, Duration::ZERO);
    }
}
