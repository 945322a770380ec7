//! Collects standard error of ssh and of shells: kept for diagnosis, and reported as notes if it is no error.

use std::{
    collections::VecDeque,
    os::fd::OwnedFd,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jq_common::text;
use rustix::{fs, pty};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::unix::pipe,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use crate::reporter::Reporter;

/// Number of newest lines that are kept.
const LINES: usize = 64;

/// Limit of a line in characters.
const LINE: usize = 300;

/// ssh exits right after an error message: a line that is older than this while ssh runs is a note, not an error.
const SETTLES: Duration = Duration::from_millis(300);

/// Collects the lines of one process until it closes standard error.
pub(super) struct Collected {
    lines: Lines,
    reading: JoinSet<()>,
}

/// The lines so far; readable while more are collected.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Mutex<VecDeque<String>>>);

impl Lines {
    /// The kept lines, the oldest first, each safe to print.
    pub(super) fn all(&self) -> Vec<String> {
        self.lock().iter().cloned().collect()
    }

    fn add(&self, line: String) {
        let mut lines = self.lock();
        lines.push_back(line);
        if lines.len() > LINES {
            lines.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collected {
    /// Collects from `source`, and reports lines to `reporter` that are not the error message of a process that ends.
    pub(super) fn start(
        source: impl AsyncRead + Send + Unpin + 'static,
        reporter: Option<Arc<dyn Reporter>>,
    ) -> Self {
        let lines = Lines::default();
        let mut reading = JoinSet::new();
        reading.spawn(collect(source, lines.clone(), reporter));
        Self { lines, reading }
    }

    /// A view of the lines.
    pub(super) fn lines(&self) -> Lines {
        self.lines.clone()
    }

    /// Waits until standard error is closed, at most for `limit`.
    pub(super) async fn settle(&mut self, limit: Duration) {
        let _ = timeout(limit, self.reading.join_next()).await;
    }
}

async fn collect(mut source: impl AsyncRead + Unpin, lines: Lines, reporter: Option<Arc<dyn Reporter>>) {
    let mut undecided = Undecided {
        reporter,
        waiting: Vec::new(),
        due: Instant::now(),
    };
    let mut line = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let read = if undecided.waiting.is_empty() && line.is_empty() {
            source.read(&mut piece).await
        } else {
            match timeout_at(undecided.due, source.read(&mut piece)).await {
                Ok(read) => read,
                Err(_) => {
                    undecided.take(&mut line, &lines);
                    undecided.show();
                    continue;
                }
            }
        };
        // The master of a pseudo-terminal reports an error where a pipe reports EOF.
        let Ok(count @ 1..) = read else { break };
        undecided.due = Instant::now() + SETTLES;
        for &byte in &piece[..count] {
            if byte == b'\n' {
                undecided.take(&mut line, &lines);
            } else if line.len() < LINE * 4 {
                line.push(byte);
            }
        }
    }
    undecided.take(&mut line, &lines);
}

/// Lines that may turn out to be the error message of a process that ends.
struct Undecided {
    reporter: Option<Arc<dyn Reporter>>,
    waiting: Vec<String>,
    due: Instant,
}

impl Undecided {
    fn take(&mut self, line: &mut Vec<u8>, lines: &Lines) {
        let text = text::one_line(String::from_utf8_lossy(line).trim_end_matches('\r'), LINE);
        line.clear();
        if text.trim().is_empty() {
            return;
        }
        if self.reporter.is_some() && !is_of_a_later_hop(&text) {
            self.waiting.push(text.clone());
        }
        lines.add(text);
    }

    fn show(&mut self) {
        let Some(reporter) = &self.reporter else { return };
        for line in self.waiting.drain(..) {
            reporter.note(&line);
        }
    }
}

/// Messages about the connection to the next host: that host's own failure is clearer.
fn is_of_a_later_hop(line: &str) -> bool {
    line.starts_with("channel ") && line.contains(": open failed: ")
}

/// A pseudo-terminal for ssh's standard error, and its master: some messages, such as that a security key waits for a
/// touch, ssh writes to a terminal only.
pub(super) fn terminal() -> std::io::Result<(Stdio, pipe::Receiver)> {
    let ours = pty::openpt(pty::OpenptFlags::RDWR | pty::OpenptFlags::NOCTTY | pty::OpenptFlags::CLOEXEC)?;
    pty::grantpt(&ours)?;
    pty::unlockpt(&ours)?;
    let path = pty::ptsname(&ours, Vec::new())?;
    let flags = fs::OFlags::RDWR | fs::OFlags::NOCTTY | fs::OFlags::CLOEXEC;
    let theirs = fs::open(path.as_c_str(), flags, fs::Mode::empty())?;
    let ours: OwnedFd = ours;
    fs::fcntl_setfl(&ours, fs::fcntl_getfl(&ours)? | fs::OFlags::NONBLOCK)?;
    // It is not a pipe, but tokio only needs a readable descriptor.
    Ok((theirs.into(), pipe::Receiver::from_owned_fd_unchecked(ours)?))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use tokio::io::AsyncWriteExt;

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
    async fn an_error_message_is_kept_and_only_earlier_lines_are_reported() {
        let heard = Arc::new(Heard::default());
        let (mut theirs, ours) = tokio::io::duplex(1024);
        let mut collected = Collected::start(ours, Some(heard.clone()));
        theirs.write_all(b"a banner\r\n\r\n\x1b[31mred").await.unwrap();
        tokio::time::sleep(SETTLES * 2).await;
        theirs
            .write_all(b"channel 2: open failed: x\nPermission denied.\r\n")
            .await
            .unwrap();
        drop(theirs);
        collected.settle(Duration::from_secs(1)).await;
        assert_eq!(*heard.0.lock().unwrap(), ["a banner", "red"]);
        let all = collected.lines().all();
        assert_eq!(
            all,
            [
                "a banner",
                "red",
                "channel 2: open failed: x",
                "Permission denied."
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn endless_output_is_truncated() {
        let (mut theirs, ours) = tokio::io::duplex(4096);
        let mut collected = Collected::start(ours, None);
        for _ in 0..1000 {
            theirs.write_all(&[b'x'; 1000]).await.unwrap();
            theirs.write_all(b"\n").await.unwrap();
        }
        drop(theirs);
        collected.settle(Duration::from_secs(1)).await;
        let all = collected.lines().all();
        assert_eq!(all.len(), LINES);
        assert!(all.iter().all(|line| line.chars().count() <= LINE + 1));
    }

    #[tokio::test]
    async fn a_process_given_the_terminal_sees_one() {
        let (theirs, ours) = terminal().unwrap();
        let mut child = Command::new("/bin/sh")
            .args(["-c", "[ -t 2 ] && echo touch your key >&2"])
            .stderr(theirs)
            .spawn()
            .unwrap();
        let mut collected = Collected::start(ours, None);
        collected.settle(Duration::from_secs(5)).await;
        child.wait().unwrap();
        assert_eq!(collected.lines().all(), ["touch your key"]);
    }
}
