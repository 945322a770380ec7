//! Lines that one ssh prints, reported to the user once it is clear that they are not the error message with which it ends.
//! What a host says is shown as the host's.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::reporter::Reporter;

/// ssh exits right after an error message: a line that is older than this while ssh runs is a note, not an error.
const SETTLES: Duration = Duration::from_millis(300);

/// Limit of lines that wait.
const WAITING: usize = 32;

/// Limit of lines that are shown of one ssh.
const SHOWN: usize = 100;

/// How ssh asks for the touch of a security key, on standard error.
const TOUCH: &str = "Confirm user presence";

/// Who a line is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// ssh itself.
    Ssh,
    /// The host, in its own words.
    Host,
    /// Standard error: programs of this machine until the host was heard, then the host's banner.
    Stderr,
}

/// The notes of one ssh. A clone shares only the number of lines that were shown.
pub(super) struct Notes {
    reporter: Option<Arc<dyn Reporter>>,
    host: String,
    is_quiet: bool,
    waiting: VecDeque<(Instant, Origin, String)>,
    last: Instant,
    shown: Arc<AtomicUsize>,
}

impl Clone for Notes {
    fn clone(&self) -> Self {
        Self {
            reporter: self.reporter.clone(),
            host: self.host.clone(),
            is_quiet: self.is_quiet,
            waiting: VecDeque::new(),
            last: self.last,
            shown: self.shown.clone(),
        }
    }
}

impl Notes {
    /// Notes of the ssh that connects to `host`. Quiet: only what programs of this machine print.
    pub(super) fn new(reporter: Arc<dyn Reporter>, host: &str, is_quiet: bool) -> Self {
        Self {
            reporter: Some(reporter),
            host: host.to_owned(),
            is_quiet,
            ..Self::none()
        }
    }

    /// Nothing is reported.
    pub(super) fn none() -> Self {
        Self {
            reporter: None,
            host: String::new(),
            is_quiet: false,
            waiting: VecDeque::new(),
            last: Instant::now(),
            shown: Arc::default(),
        }
    }

    /// Something was read just now.
    pub(super) fn heard_now(&mut self) {
        self.last = Instant::now();
    }

    /// Whether nothing was read for a while.
    pub(super) fn is_settled(&self) -> bool {
        self.last + SETTLES <= Instant::now()
    }

    /// Adds a line that was just read, or whose end has not come. Too many that wait are left out.
    pub(super) fn add(&mut self, origin: Origin, text: String) {
        if self.reporter.is_some() && self.waiting.len() < WAITING {
            self.waiting.push_back((self.last, origin, text));
        }
    }

    /// When the next line is to be shown, or part of a line to be taken as a whole. None: nothing waits.
    pub(super) fn due(&self, has_part: bool) -> Option<Instant> {
        let part = has_part.then_some(self.last);
        let first = self.waiting.front().map(|(since, ..)| *since);
        part.into_iter().chain(first).min().map(|since| since + SETTLES)
    }

    /// Shows the lines that are old enough. `is_heard`: whether the host has been heard.
    pub(super) fn show_due(&mut self, is_heard: impl Fn() -> bool) {
        let now = Instant::now();
        while let Some((since, ..)) = self.waiting.front()
            && *since + SETTLES <= now
            && let Some((_, origin, text)) = self.waiting.pop_front()
        {
            self.show(origin, &text, is_heard());
        }
    }

    fn show(&self, origin: Origin, text: &str, is_heard: bool) {
        let Some(reporter) = &self.reporter else { return };
        let origin = match origin {
            Origin::Stderr if is_heard && !text.starts_with(TOUCH) => Origin::Host,
            other => other,
        };
        let host = &self.host;
        let line = match origin {
            Origin::Ssh | Origin::Host if self.is_quiet => return,
            Origin::Ssh => format!("{host}: {text}"),
            Origin::Host => format!("{host} says: {text}"),
            Origin::Stderr => text.to_owned(),
        };
        match self.shown.fetch_add(1, Ordering::Relaxed) {
            0..SHOWN => reporter.note(&line),
            SHOWN => reporter.note(&format!("{host}: it prints more, which is left out")),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::reporter::Event;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Reporter for Heard {
        fn report(&self, event: Event<'_>) {
            if let Event::Note(text) = event {
                self.0.lock().unwrap().push(text.to_owned());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hosts_words_are_shown_as_the_hosts() {
        for (is_quiet, is_heard, shown) in [
            (false, false, &["gpu: own", "gpu says: theirs", "a proxy's"][..]),
            (
                false,
                true,
                &["gpu: own", "gpu says: theirs", "gpu says: a proxy's"],
            ),
            (true, false, &["a proxy's"]),
            (true, true, &[]),
        ] {
            let heard = Arc::new(Heard::default());
            let mut notes = Notes::new(heard.clone(), "gpu", is_quiet);
            notes.heard_now();
            notes.add(Origin::Ssh, "own".to_owned());
            notes.add(Origin::Host, "theirs".to_owned());
            notes.add(Origin::Stderr, "a proxy's".to_owned());
            notes.show_due(|| is_heard);
            assert!(heard.0.lock().unwrap().is_empty(), "ssh may be about to end");
            tokio::time::sleep(SETTLES).await;
            notes.show_due(|| is_heard);
            assert_eq!(*heard.0.lock().unwrap(), shown);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn endless_lines_take_bounded_memory_and_are_not_all_shown() {
        let heard = Arc::new(Heard::default());
        let mut notes = Notes::new(heard.clone(), "gpu", false);
        for _ in 0..20 {
            notes.heard_now();
            for _ in 0..1000 {
                notes.add(Origin::Host, "more".to_owned());
            }
            assert!(notes.waiting.len() <= WAITING);
            tokio::time::sleep(SETTLES).await;
            notes.show_due(|| true);
        }
        let heard = heard.0.lock().unwrap();
        assert_eq!(heard.len(), SHOWN + 1);
        assert!(heard[SHOWN].contains("left out"));
    }
}
