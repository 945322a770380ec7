//! Current steps, one per host.

use std::time::{Duration, Instant};

use indicatif::HumanBytes;
use jq_common::protocol::workload::{Progress, Unit};

/// Interval of progress lines for a long step where no line can be redrawn.
const REMINDER: Duration = Duration::from_secs(10);

/// A completed step.
pub(super) struct Done {
    pub(super) host: String,
    pub(super) text: String,
    pub(super) took: Duration,
}

struct Step {
    host: String,
    text: String,
    /// Progress, as shown after the text.
    amount: String,
    began: Instant,
}

impl Step {
    fn shown(&self) -> String {
        format!("{}: {} {}", self.host, self.text, self.amount)
    }
}

/// The current steps.
pub(super) struct Steps {
    open: Vec<Step>,
    reminded: Instant,
}

impl Steps {
    pub(super) fn new() -> Self {
        Self {
            open: Vec::new(),
            reminded: Instant::now(),
        }
    }

    /// Begins a step on `host` and completes the previous one.
    pub(super) fn begin(&mut self, host: &str, text: &str) -> Option<Done> {
        let done = self.end(host);
        self.open.push(Step {
            host: host.to_owned(),
            text: text.to_owned(),
            amount: String::new(),
            began: Instant::now(),
        });
        self.reminded = Instant::now();
        done
    }

    /// Completes the step on `host`.
    pub(super) fn end(&mut self, host: &str) -> Option<Done> {
        let at = self.open.iter().position(|step| step.host == host)?;
        let step = self.open.remove(at);
        Some(Done {
            host: step.host,
            text: step.text,
            took: step.began.elapsed(),
        })
    }

    /// Completes all steps in the order in which they began.
    pub(super) fn end_all(&mut self) -> Vec<Done> {
        let hosts: Vec<_> = self.open.iter().map(|step| step.host.clone()).collect();
        hosts.iter().filter_map(|host| self.end(host)).collect()
    }

    /// Drops all steps.
    pub(super) fn abandon(&mut self) {
        self.open.clear();
    }

    /// Text of the newest step with its progress.
    pub(super) fn shown(&self) -> Option<String> {
        self.open.last().map(Step::shown)
    }

    /// Text of the newest step without its progress.
    pub(super) fn named(&self) -> Option<String> {
        self.open
            .last()
            .map(|step| format!("{}: {}", step.host, step.text))
    }

    /// Records progress of the step on `host`. Returns, once per [`REMINDER`], a line to print where none can be redrawn.
    pub(super) fn progress(&mut self, host: &str, progress: &Progress, detail: &str) -> Option<String> {
        let step = self.open.iter_mut().find(|step| step.host == host)?;
        step.amount = amount(progress, detail);
        if self.reminded.elapsed() < REMINDER {
            return None;
        }
        self.reminded = Instant::now();
        Some(format!("  {}", step.shown()))
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
