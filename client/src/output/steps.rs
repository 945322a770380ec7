//! Steps at hand, several at once on several hosts, and the one line of the terminal that shows them.

use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use jq_common::protocol::control::{Progress, Unit};

/// How often a step that takes long says so where no line can be redrawn.
const REMINDER: Duration = Duration::from_secs(10);

/// How often the redrawn line turns.
const TICK: Duration = Duration::from_millis(100);

/// A step that is done.
pub(super) struct Done {
    pub(super) host: String,
    pub(super) text: String,
    pub(super) took: Duration,
}

struct Step {
    host: String,
    text: String,
    /// How far it has come, as it is shown behind the text.
    amount: String,
    began: Instant,
}

impl Step {
    fn shown(&self) -> String {
        format!("{}: {} {}", self.host, self.text, self.amount)
    }
}

/// The steps at hand.
pub(super) struct Steps {
    open: Vec<Step>,
    draws: bool,
    hidden: bool,
    line: Option<ProgressBar>,
    reminded: Instant,
}

impl Steps {
    pub(super) fn new(draws: bool) -> Self {
        Self {
            open: Vec::new(),
            draws,
            hidden: false,
            line: None,
            reminded: Instant::now(),
        }
    }

    /// Begins a step on `host`, which ends that host's last one.
    pub(super) fn begin(&mut self, host: &str, text: &str) -> Option<Done> {
        let done = self.end(host);
        self.open.push(Step {
            host: host.to_owned(),
            text: text.to_owned(),
            amount: String::new(),
            began: Instant::now(),
        });
        self.reminded = Instant::now();
        self.draw();
        done
    }

    /// Ends the step on `host`.
    pub(super) fn end(&mut self, host: &str) -> Option<Done> {
        let at = self.open.iter().position(|step| step.host == host)?;
        let step = self.open.remove(at);
        self.draw();
        Some(Done {
            host: step.host,
            text: step.text,
            took: step.began.elapsed(),
        })
    }

    /// Ends all of them, in the order they began.
    pub(super) fn end_all(&mut self) -> Vec<Done> {
        let hosts: Vec<_> = self.open.iter().map(|step| step.host.clone()).collect();
        hosts.iter().filter_map(|host| self.end(host)).collect()
    }

    /// Forgets them.
    pub(super) fn abandon(&mut self) {
        self.open.clear();
        self.draw();
    }

    /// While hidden, nothing is drawn: someone else is writing to the terminal.
    pub(super) fn hide(&mut self, hidden: bool) {
        self.hidden = hidden;
        self.draw();
    }

    /// Whether someone else may be writing to the terminal.
    pub(super) fn is_hidden(&self) -> bool {
        self.draws && self.hidden
    }

    /// Runs `write` with the redrawn line out of its way.
    pub(super) fn above(&self, write: impl FnOnce()) {
        match &self.line {
            Some(line) => line.suspend(write),
            None => write(),
        }
    }

    /// Notes progress of the step on `host`. Returns a line to print where none can be redrawn, now and then.
    pub(super) fn progress(&mut self, host: &str, progress: &Progress, detail: &str) -> Option<String> {
        let step = self.open.iter_mut().find(|step| step.host == host)?;
        step.amount = amount(progress, detail);
        let shown = step.shown();
        if self.draws {
            self.draw();
            return None;
        }
        if self.reminded.elapsed() < REMINDER {
            return None;
        }
        self.reminded = Instant::now();
        Some(format!("  {shown}"))
    }

    fn draw(&mut self) {
        if !self.draws {
            return;
        }
        let Some(step) = self.open.last().filter(|_| !self.hidden) else {
            if let Some(line) = self.line.take() {
                line.finish_and_clear();
            }
            return;
        };
        let line = self.line.get_or_insert_with(|| {
            let line = ProgressBar::new_spinner();
            // The template is a constant; a mistake in it shows as the default style.
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                line.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
            }
            line.enable_steady_tick(TICK);
            line
        });
        line.set_message(step.shown());
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.abandon();
    }
}

fn amount(progress: &Progress, detail: &str) -> String {
    let count = |n| match progress.unit {
        Unit::Bytes => HumanBytes(n).to_string(),
        Unit::Items => n.to_string(),
    };
    let mut text = match progress.total {
        Some(total) if total > 0 => {
            let percent = progress.done.min(total) * 100 / total;
            format!("[{}] {percent}% of {}", bar(percent), count(total))
        }
        _ if progress.done > 0 => count(progress.done),
        _ => String::new(),
    };
    if !detail.is_empty() {
        text.push_str("  ");
        text.push_str(detail);
    }
    text
}

fn bar(percent: u64) -> String {
    let filled = usize::try_from(percent / 5).unwrap_or(0).min(20);
    format!("{}{}", "█".repeat(filled), "░".repeat(20 - filled))
}
