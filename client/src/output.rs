//! The only printing. Progress and prose go to standard error, data to standard output; nothing from a remote machine
//! passes without being sanitised here.

mod echo;
mod json;
mod line;
mod sessions;
mod status;
mod steps;
mod words;
mod writer;

use std::{
    io::{self, IsTerminal},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jq_common::{
    protocol::workload::{Progress, Ready, Unit},
    text::one_line,
};

pub use self::sessions::Found;
use self::{
    line::{Content, Line},
    status::Look,
    steps::Steps,
};
use crate::{error::Failure, reporter::Reporter, settings::Environment, status::Status};

/// Longest text of one line that came from elsewhere, in characters.
const LINE: usize = 1000;

/// Most further lines of a reason that are shown: the end of a container's log, each path that failed.
const MOST_LINES: usize = 20;

/// What a connection brought, for the user.
pub struct Opened<'a> {
    /// Where the page is; none without Jupyter.
    pub url: Option<String>,
    /// What the agent says of the workload.
    pub ready: &'a Ready,
    /// The way that packets take.
    pub path: String,
    /// Its round-trip time in milliseconds.
    pub round_trip_ms: f64,
    /// Local port and target of each `-L`.
    pub forwards: Vec<(u16, String)>,
}

/// Prints. Cheap to clone; all clones share one terminal.
#[derive(Clone)]
pub struct Printer(Arc<Mutex<Inner>>);

struct Inner {
    json: bool,
    colours: bool,
    /// Keys are heard.
    hears: bool,
    steps: Steps,
    /// How the connection is, once it stands.
    status: Option<Status>,
    line: Line,
}

impl Printer {
    /// A printer for this terminal, or of JSON lines.
    #[must_use]
    pub fn new(environment: &Environment, json: bool) -> Self {
        Self::with(json, environment.colours, environment.draws && !json)
    }

    /// A printer for when nothing is known of the terminal.
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
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step on `host` has begun; its last one is done.
    pub fn begin(&self, host: &str, text: &str) {
        let text = one_line(text, LINE);
        let inner = &mut *self.inner();
        let done = inner.steps.begin(host, &text);
        inner.step_done(done);
        inner.redraw();
        if inner.json {
            json::step(&text, host);
        }
    }

    /// The last step on `host` is done.
    pub fn end(&self, host: &str) {
        let inner = &mut *self.inner();
        let done = inner.steps.end(host);
        inner.step_done(done);
        inner.redraw();
    }

    /// How far the step on `host` has come.
    pub fn progressed(&self, host: &str, progress: &Progress) {
        let inner = &mut *self.inner();
        let detail = one_line(&progress.detail, 60);
        let line = inner.steps.progress(host, progress, &detail);
        inner.redraw();
        if inner.json {
            json::progress(progress, host, &detail);
        } else if let Some(line) = line.filter(|_| !inner.line.draws() && inner.status.is_none()) {
            say(&line);
        }
    }

    /// Something worth knowing.
    pub fn note(&self, text: &str) {
        let text = one_line(text, LINE);
        let inner = &mut *self.inner();
        if inner.json {
            json::message("note", &text);
        } else {
            inner.say_above(&format!("  {text}"));
        }
    }

    /// Something that the user would not expect.
    pub fn warning(&self, text: &str) {
        let text = one_line(text, LINE);
        let inner = &mut *self.inner();
        if inner.json {
            json::message("warning", &text);
        } else {
            let word = inner.colour("33;1", "warning:");
            inner.say_above(&format!("{word} {text}"));
        }
    }

    /// All steps are done: the terminal is as it was, whatever comes next.
    pub fn settle(&self) {
        let inner = &mut *self.inner();
        let done = inner.steps.end_all();
        for step in done {
            inner.step_done(Some(step));
        }
        inner.redraw();
    }

    /// Steps that will never be done are dropped from the terminal.
    pub fn abandon(&self) {
        let inner = &mut *self.inner();
        inner.steps.abandon();
        inner.redraw();
    }

    /// The connection stands.
    pub fn opened(&self, opened: &Opened<'_>) {
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
        say("Ctrl-C disconnects; what runs on the host goes on.");
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
                one_line(target, LINE)
            ));
        }
    }

    /// What failed, where, why, and what to do.
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
            .map(|line| one_line(line, LINE))
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
        for line in failure.hint.lines().map(|line| one_line(line, LINE)) {
            say(&format!("  {line}"));
        }
    }
}

impl Reporter for Printer {
    fn step(&self, host: &str, text: &str) {
        self.begin(host, text);
    }

    fn done(&self, host: &str) {
        self.end(host);
    }

    fn progress(&self, host: &str, done: u64, total: u64) {
        let progress = Progress {
            done,
            total: Some(total),
            unit: Unit::Bytes,
            detail: String::new(),
        };
        self.progressed(host, &progress);
    }

    fn notice(&self, text: &str) {
        self.note(text);
    }

    fn prompting(&self, may_ask: bool) {
        self.inner().line.cover(may_ask);
    }
}

impl Inner {
    fn step_done(&self, done: Option<steps::Done>) {
        let Some(done) = done else { return };
        if self.json {
            json::step_done(&done.text, &done.host, done.took);
            return;
        }
        // Once the connection has stood, the line tells of steps; ssh may be tried again for hours.
        if self.status.is_some() {
            return;
        }
        let mark = self.colour("32", "✓");
        let text = format!("{}: {}", done.host, done.text);
        let line = format!("{mark} {text:<62} {:>6.1} s", done.took.as_secs_f64());
        self.line.above(|| say(&line));
    }

    /// One line above the redrawn one.
    fn say_above(&self, line: &str) {
        // ssh's question may stand on the line, waiting for an answer.
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

fn summary(opened: &Opened<'_>) -> Vec<String> {
    let ready = opened.ready;
    let mut lines = vec![String::new()];
    let mut line = |name: &str, text: String| lines.push(format!("  {name:<11}{}", one_line(&text, LINE)));
    line(
        "connection",
        format!("{}, {:.0} ms", opened.path, opened.round_trip_ms),
    );
    match &ready.container {
        Some(container) => line("container", format!("{} ({})", container.name, ready.engine)),
        None => line("engine", ready.engine.clone()),
    }
    for gpu in &ready.gpus {
        line("gpu", gpu.clone());
    }
    for (port, target) in &opened.forwards {
        line("port", format!("127.0.0.1:{port} -> {target}"));
    }
    lines.push(String::new());
    lines
}

/// One line on standard error.
fn say(line: &str) {
    writer::error(format!("{line}\n"));
}

/// One line on standard output.
fn print(line: &str) {
    writer::output(format!("{line}\n"));
}

/// Where a log goes: to standard error, without waiting for it.
#[must_use]
pub fn log() -> impl io::Write {
    writer::Log
}

/// Returns when all that was printed has been written: before this process ends.
pub fn flush() {
    writer::flush();
}
