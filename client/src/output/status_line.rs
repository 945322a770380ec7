//! Texts for the status of a connection: the redrawn status line, and the lines that stay.

use std::time::Duration;

use jq_common::text::one_line;

use super::words;
use crate::status::{Loss, State, Status};

/// Shorter outages are not reported.
const WORTH_TELLING: Duration = Duration::from_secs(3);

/// Limit for the name of a host or path, in characters.
const NAME: usize = 60;

/// Properties of the terminal.
#[derive(Clone, Copy)]
pub(super) struct Look {
    pub(super) colours: bool,
    /// Whether keys can be read.
    pub(super) hears: bool,
    /// Characters per line.
    pub(super) width: usize,
}

impl Loss {
    fn told(self, host: &str) -> String {
        match self {
            Self::AgentRestarted => {
                format!("the agent on {host} was restarted: open connections were reset, new ones work")
            }
            Self::SessionGivenUp => format!(
                "the agent on {host} had discarded this session: open connections were reset, new ones work \
                 (--linger sets how long it waits)"
            ),
        }
    }
}

impl Status {
    /// The status line; none for [`State::Lost`], which a failure reports. `doing` is the current step of reconnecting.
    pub(super) fn drawn(&self, doing: Option<&str>, look: Look) -> Option<String> {
        let (mark, colour) = match self.state {
            State::Connected => ("●", "32"),
            State::Suspect => ("◐", "33"),
            State::Reconnecting | State::LoginNeeded => ("○", "31"),
            State::Lost => return None,
        };
        let mut parts = self.parts();
        match (self.state, doing) {
            (State::Reconnecting, Some(doing)) => parts.push(doing.to_owned()),
            (State::Reconnecting, None) if look.hears => parts.push("Enter tries now".to_owned()),
            (State::LoginNeeded, _) if self.logging_in => {
                parts.push(doing.unwrap_or("logging in").to_owned());
            }
            (State::LoginNeeded, _) if look.hears => parts.push("Enter logs in".to_owned()),
            _ => {}
        }
        let text = fitted(parts, look.width.saturating_sub(MARGIN));
        Some(if look.colours {
            format!("  \x1b[{colour}m{mark}\x1b[0m {text}")
        } else {
            format!("  {mark} {text}")
        })
    }

    /// Parts of the text, the most important first.
    pub(super) fn parts(&self) -> Vec<String> {
        let host = &self.host;
        let mut parts = vec![match (self.state, &self.path) {
            (State::Connected, Some(path)) => format!("connected {}", by(path)),
            (State::Connected, None) => "connected".to_owned(),
            (State::Suspect, _) => format!("{host} does not answer"),
            (State::Reconnecting, _) => format!("reconnecting to {host}"),
            (State::LoginNeeded, _) => format!("login needed for {host}"),
            (State::Lost, _) => format!("lost {host}"),
        }];
        if self.state == State::Connected {
            parts.extend(self.round_trip.map(words::round_trip));
            let (down, up) = (words::rate(self.down_per_s), words::rate(self.up_per_s));
            parts.push(format!("↓ {down} ↑ {up}"));
            parts.push(match self.connections {
                0 => "no connections".to_owned(),
                1 => "1 connection".to_owned(),
                n => format!("{n} connections"),
            });
        } else {
            parts.extend(self.outage.map(words::lasting));
        }
        parts
    }

    /// A copy without control characters.
    pub(super) fn cleaned(&self) -> Self {
        Self {
            host: one_line(&self.host, NAME),
            path: self.path.as_deref().map(|path| one_line(path, NAME)),
            ..self.clone()
        }
    }

    /// Fills in the last path, and the length of an outage that has just ended.
    pub(super) fn complete(&mut self, previous: &Self) {
        if self.path.is_none() {
            self.path.clone_from(&previous.path);
        }
        if self.state == State::Connected && previous.state != State::Connected {
            self.outage = self.outage.or(previous.outage);
        }
    }

    /// Whether it is an outage that the user should be told about.
    fn is_worth_telling(&self) -> bool {
        match self.state {
            State::Connected | State::Lost => false,
            State::Suspect => self.outage.is_some_and(|outage| outage >= WORTH_TELLING),
            State::Reconnecting | State::LoginNeeded => true,
        }
    }
}

/// Columns before the text of the status line: two spaces, the mark and a space.
const MARGIN: usize = 4;

/// Lines for a change of status that stay on the terminal, or in a log if nothing is drawn.
pub(super) fn lasting(previous: Option<&Status>, next: &Status, draws: bool) -> Vec<String> {
    let Some(previous) = previous else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    let host = &next.host;
    if !draws && next.state != State::Connected {
        let long = |status: &Status| {
            status.state != State::Connected && status.outage.is_some_and(|outage| outage >= WORTH_TELLING)
        };
        if long(next) && !long(previous) {
            lines.push(format!("no answer from {host}, trying again"));
        }
        if next.state == State::LoginNeeded && previous.state != State::LoginNeeded {
            lines.push(format!("login needed for {host}"));
        }
    }
    if next.state != State::Connected {
        return lines;
    }
    let lost = next
        .lost
        .filter(|_| previous.lost.is_none() || previous.state != State::Connected);
    let path = next.path.as_deref().unwrap_or_default();
    let outage = match previous.state {
        State::Connected => None,
        _ => next.outage,
    };
    if previous.is_worth_telling() || outage.is_some_and(|outage| outage >= WORTH_TELLING) {
        let way = by(path);
        let way = if way.is_empty() { way } else { format!(" {way}") };
        let after = outage.map_or_else(String::new, |outage| format!(" after {}", words::lasting(outage)));
        let kept = if lost.is_some() { "" } else { "; nothing was lost" };
        lines.push(format!("connected again{way}{after}{kept}"));
    } else if let Some(before) = previous.path.as_deref()
        && before != path
    {
        lines.push(format!("now {} (before: {})", named(path), named(before)));
    }
    lines.extend(lost.map(|loss| loss.told(host)));
    lines
}

/// Whether `--json` reports the change: not for figures alone.
pub(super) fn is_news(previous: Option<&Status>, next: &Status) -> bool {
    previous.is_none_or(|previous| {
        previous.state != next.state
            || previous.path != next.path
            || (next.lost.is_some() && next.lost != previous.lost)
    })
}

/// A path as the continuation of `connected`.
fn by(path: &str) -> String {
    match path {
        "direct" => "directly".to_owned(),
        _ => named(path).to_owned(),
    }
}

/// The name of a path.
fn named(path: &str) -> &str {
    if path == "ssh" { "over ssh" } else { path }
}

/// As many parts as fit into `width` characters, at least the first, which is truncated if necessary.
fn fitted(parts: Vec<String>, width: usize) -> String {
    let mut parts = parts.into_iter();
    let mut line = parts.next().unwrap_or_default();
    if line.chars().count() > width {
        return one_line(&line, width.saturating_sub(1));
    }
    for part in parts {
        let longer = format!("{line} · {part}");
        if longer.chars().count() > width {
            break;
        }
        line = longer;
    }
    line
}

#[cfg(test)]
mod tests;
