//! Prints events as lines for people or as JSON for programs.

use std::{
    io::{self, IsTerminal},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jq_common::{protocol::workload::Progress, text::one_line};

use super::{
    json,
    line::{Content, Line},
    sessions,
    status_line::{Look, is_news, lasting},
    steps::{self, Steps},
    summary::summary,
    text::clean,
    writer::{is_full, print, say},
};
use crate::{
    error::Failure,
    reporter::{Event, Reporter},
    status::{Found, Opened, Snapshot, Status},
};

/// Limit of lines for the cause of a failure, for example the end of a container's log.
const MOST_LINES: usize = 20;

/// Capabilities of standard error.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terminal {
    /// It is a terminal that can redraw a line.
    pub(crate) draws: bool,
    /// It shows colours.
    pub(crate) colours: bool,
}

/// Prints to standard output and standard error. Cheap to clone; clones share the terminal.
#[derive(Clone)]
pub struct Printer(Arc<Mutex<Inner>>);

struct Inner {
    json: bool,
    colours: bool,
    /// Whether keys can be read: standard input is a terminal.
    hears: bool,
    steps: Steps,
    /// The last status, once the session is open.
    status: Option<Status>,
    line: Line,
    /// Lines that were not printed because too many wait for the terminal.
    left_out: usize,
}

impl Printer {
    /// A printer for `terminal`, or for JSON lines.
    #[must_use]
    pub fn new(terminal: Terminal, json: bool) -> Self {
        Self::with(json, terminal.colours, terminal.draws && !json)
    }

    /// A printer for use before the terminal is known.
    #[must_use]
    pub fn plain(json: bool) -> Self {
        Self::with(json, false, false)
    }

    fn with(json: bool, colours: bool, draws: bool) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            json,
            colours,
            hears: io::stdin().is_terminal(),
            steps: Steps::new(),
            status: None,
            line: Line::new(draws),
            left_out: 0,
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step on `host` begins; the previous one on that host is complete.
    pub(crate) fn begin(&self, host: &str, text: &str) {
        let text = clean(text);
        let inner = &mut *self.inner();
        let done = inner.steps.begin(host, &text);
        inner.step_done(done);
        inner.redraw();
        if inner.json {
            inner.optional(|_| json::step(&text, host));
        }
    }

    /// The current step on `host` is complete.
    pub(crate) fn end(&self, host: &str) {
        let inner = &mut *self.inner();
        let done = inner.steps.end(host);
        inner.step_done(done);
        inner.redraw();
    }

    /// Progress of the current step on `host`.
    pub(crate) fn progressed(&self, host: &str, progress: &Progress) {
        let inner = &mut *self.inner();
        let detail = one_line(&progress.detail, 60);
        let line = inner.steps.progress(host, progress, &detail);
        inner.redraw();
        if inner.json {
            inner.optional(|_| json::progress(progress, host, &detail));
        } else if let Some(line) = line.filter(|_| !inner.line.draws() && inner.status.is_none()) {
            inner.optional(|_| say(&line));
        }
    }

    /// Prints a note.
    pub(crate) fn note(&self, text: &str) {
        let text = clean(text);
        self.inner().optional(|inner| inner.note(&text));
    }

    /// Prints a warning.
    pub(crate) fn warning(&self, text: &str) {
        let text = clean(text);
        self.inner().optional(|inner| {
            if inner.json {
                json::message("warning", &text);
            } else {
                let word = inner.colour("33;1", "warning:");
                inner.say_above(&format!("{word} {text}"));
            }
        });
    }

    /// All steps are complete.
    pub(crate) fn settle(&self) {
        let inner = &mut *self.inner();
        let done = inner.steps.end_all();
        for step in done {
            inner.step_done(Some(step));
        }
        inner.redraw();
    }

    /// Removes steps from the terminal that will not be completed.
    pub(crate) fn abandon(&self) {
        let inner = &mut *self.inner();
        inner.steps.abandon();
        inner.redraw();
    }

    /// The session is open: prints its summary, and the URL to standard output.
    pub(crate) fn opened(&self, opened: &Opened) {
        self.settle();
        let inner = self.inner();
        if inner.json {
            json::ready(opened);
            return;
        }
        for line in summary(opened) {
            say(&line);
        }
        if let Some(url) = &opened.url {
            print(url);
        }
        say("Ctrl-C disconnects; what runs on the host keeps running.");
    }

    /// The user disconnected.
    pub fn closed(&self, target: &str) {
        self.clear_status();
        let inner = self.inner();
        if inner.json {
            json::message("closed", target);
        } else {
            say(&format!(
                "Disconnected from {}. The same command connects again.",
                clean(target)
            ));
        }
    }

    /// Updates the status. To be called on every change, and once a second for the figures.
    ///
    /// Draws nothing while ssh may be asking the user ([`Event::Prompting`]).
    pub(crate) fn status(&self, status: &Status) {
        let mut next = status.cleaned();
        let inner = &mut *self.inner();
        let previous = inner.status.take();
        if let Some(previous) = &previous {
            next.complete(previous);
        }
        if inner.json {
            if is_news(previous.as_ref(), &next) {
                json::state(&next);
            }
        } else {
            for line in lasting(previous.as_ref(), &next, inner.line.draws()) {
                inner.say_above(&line);
            }
        }
        inner.status = Some(next);
        inner.redraw();
    }

    /// The session ends: removes the status line and open steps.
    pub fn clear_status(&self) {
        let inner = &mut *self.inner();
        inner.status = None;
        inner.steps.abandon();
        inner.redraw();
    }

    /// Prints the sessions of this machine and their ports.
    pub(crate) fn sessions(&self, found: &[Found]) {
        if self.inner().json {
            for one in found {
                match &one.answer {
                    Ok(snapshot) => json::session(snapshot),
                    Err(error) => json::silent_session(&one.session, error.pid()),
                }
            }
            return;
        }
        if found.is_empty() {
            say("No session runs on this machine; `jq-client connect HOST` starts one.");
        }
        for line in sessions::list(found) {
            print(&line);
        }
    }

    /// Prints one session in detail.
    pub(crate) fn session(&self, snapshot: &Snapshot) {
        if self.inner().json {
            return json::session(snapshot);
        }
        for line in sessions::details(snapshot) {
            print(&line);
        }
    }

    /// Prints a failure.
    pub fn failure(&self, failure: &Failure) {
        self.clear_status();
        let inner = self.inner();
        if inner.json {
            json::failure(failure);
            return;
        }
        let mut lines = failure
            .to_string()
            .lines()
            .map(clean)
            .collect::<Vec<_>>()
            .into_iter();
        say(&format!(
            "{} {}",
            inner.colour("31;1", "error:"),
            lines.next().unwrap_or_default()
        ));
        for line in lines.take(MOST_LINES) {
            say(&format!("    {line}"));
        }
        for line in failure.hint.lines().map(clean) {
            say(&format!("  {line}"));
        }
    }
}

impl Reporter for Printer {
    fn report(&self, event: Event<'_>) {
        match event {
            Event::Step { host, text } => self.begin(host, text),
            Event::Progress { host, progress } => self.progressed(host, progress),
            Event::Done { host } => self.end(host),
            Event::Abandoned => self.abandon(),
            Event::Note(text) => self.note(text),
            Event::Warning(text) => self.warning(text),
            Event::Prompting(may_ask) => self.inner().line.cover(may_ask),
            Event::Status(status) => self.status(status),
        }
    }
}

impl Inner {
    /// Prints something that another machine can bring about as often as it likes, unless too much waits to be read.
    fn optional(&mut self, print: impl FnOnce(&Self)) {
        if is_full() {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        match std::mem::take(&mut self.left_out) {
            0 => {}
            count => self.note(&format!(
                "{count} lines were left out, because nothing was read here"
            )),
        }
        print(self);
    }

    fn note(&self, text: &str) {
        if self.json {
            json::message("note", text);
        } else {
            self.say_above(&format!("  {text}"));
        }
    }

    fn step_done(&mut self, done: Option<steps::Done>) {
        if let Some(done) = done {
            self.optional(|inner| inner.print_step(&done));
        }
    }

    fn print_step(&self, done: &steps::Done) {
        if self.json {
            json::step_done(&done.text, &done.host, done.took);
            return;
        }
        // Once the session is open, steps appear in the status line only: reconnecting may go on for hours.
        if self.status.is_some() {
            return;
        }
        let mark = self.colour("32", "✓");
        let text = format!("{}: {}", done.host, done.text);
        let line = format!("{mark} {text:<62} {:>6.1} s", done.took.as_secs_f64());
        self.line.above(|| say(&line));
    }

    /// Prints one line above the redrawn line.
    fn say_above(&self, line: &str) {
        // The cursor may be behind a question of ssh.
        let start = if self.line.is_covered() { "\n" } else { "" };
        self.line.above(|| say(&format!("{start}{line}")));
    }

    fn redraw(&mut self) {
        let content = match (&self.status, self.steps.shown()) {
            (Some(status), _) => {
                let doing = self.steps.named();
                let look = Look {
                    colours: self.colours,
                    hears: self.hears,
                    width: self.line.width(),
                };
                let shown = status.drawn(doing.as_deref(), look);
                shown.map_or(Content::Nothing, Content::Still)
            }
            (None, Some(step)) => Content::Turning(step),
            (None, None) => Content::Nothing,
        };
        self.line.show(content);
    }

    fn colour(&self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::writer;

    #[test]
    fn what_another_machine_prints_without_end_waits_in_bounded_memory() {
        for json in [false, true] {
            let printer = Printer::plain(json);
            writer::flush();
            let full = writer::pretend_full();
            let before = writer::queued();
            for _ in 0..1000 {
                printer.note("more");
                printer.warning("more");
                printer.begin("gpu", "more");
                printer.end("gpu");
            }
            assert!(writer::queued() <= before, "nothing more waits");
            assert!(printer.inner().left_out >= 4000 - 1000);
            drop(full);
            printer.note("after");
            assert_eq!(printer.inner().left_out, 0, "what was left out is told");
        }
    }
}
