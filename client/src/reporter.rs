//! The seam between the rooms that do the work and the printer.

use jq_common::protocol::workload::{Progress, Unit};

use crate::status::Status;

/// Something to show to the user. Texts may come from another machine and contain control characters: the receiver
/// sanitises them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Event<'a> {
    /// A step began on `host`. It ends when the next one on that host begins, or with [`Event::Done`].
    Step {
        /// The host's name, as the user writes it.
        host: &'a str,
        /// What is being done, without a subject: `starting the agent`.
        text: &'a str,
    },
    /// How far the step on `host` has come.
    Progress {
        /// The host's name.
        host: &'a str,
        /// How far.
        progress: &'a Progress,
    },
    /// The step on `host` is complete.
    Done {
        /// The host's name.
        host: &'a str,
    },
    /// The open steps will never be completed.
    Abandoned,
    /// Worth knowing, and no error: a banner of ssh's, a path that is missing. One line.
    Note(&'a str),
    /// Something that the user does not expect. One line.
    Warning(&'a str),
    /// From `true` to the next `false`, ssh may ask the user something on the terminal: nothing may be drawn there.
    Prompting(bool),
    /// Status of an open session: on every change, and once a second for its figures.
    Status(&'a Status),
}

/// Receives events for the user.
pub(crate) trait Reporter: Send + Sync {
    /// Shows `event`. Must not block.
    fn report(&self, event: Event<'_>);
}

/// Shows nothing: for work in the background.
pub(crate) struct Silent;

impl Reporter for Silent {
    fn report(&self, _: Event<'_>) {}
}

impl dyn Reporter + '_ {
    /// Reports [`Event::Step`].
    pub(crate) fn step(&self, host: &str, text: &str) {
        self.report(Event::Step { host, text });
    }

    /// Reports [`Event::Done`].
    pub(crate) fn done(&self, host: &str) {
        self.report(Event::Done { host });
    }

    /// Reports [`Event::Progress`]: `done` of `total` bytes.
    pub(crate) fn bytes(&self, host: &str, done: u64, total: u64) {
        let progress = Progress {
            done,
            total: Some(total),
            unit: Unit::Bytes,
            detail: String::new(),
        };
        self.report(Event::Progress {
            host,
            progress: &progress,
        });
    }

    /// Reports [`Event::Note`].
    pub(crate) fn note(&self, text: &str) {
        self.report(Event::Note(text));
    }

    /// Reports [`Event::Warning`].
    pub(crate) fn warning(&self, text: &str) {
        self.report(Event::Warning(text));
    }

    /// Reports [`Event::Abandoned`].
    pub(crate) fn abandon(&self) {
        self.report(Event::Abandoned);
    }

    /// Reports [`Event::Status`].
    pub(crate) fn status(&self, status: &Status) {
        self.report(Event::Status(status));
    }

    /// Reports [`Event::Prompting`].
    pub(crate) fn prompting(&self, may_ask: bool) {
        self.report(Event::Prompting(may_ask));
    }
}
