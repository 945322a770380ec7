//! Collects what one ssh says: its log, and what is written to its standard error. Both are kept for diagnosis; lines that
//! are no error are reported as notes.

use std::{
    collections::VecDeque,
    os::fd::OwnedFd,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jq_common::text;
use rustix::{fs, pty};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::unix::pipe,
    task::JoinSet,
    time::{timeout, timeout_at},
};

use super::{
    log::{Log, Stage},
    notes::{Notes, Origin},
};

/// Number of newest lines of standard error that are kept.
const LINES: usize = 64;

/// Limit of a line in characters.
const LINE: usize = 300;

/// What ssh itself says while a host asks questions.
const WRONG: &str = "Permission denied, please try again.";

/// Limit of what a host may print before its login is done, in bytes.
const BANNERS: usize = 1 << 20;

/// What one ssh has said so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    /// Its log.
    pub(super) log: Log,
    /// Newest lines of standard error, each safe to print: the host's once it was [heard](Stage::Heard), and before that
    /// those of programs on this machine, such as a ProxyCommand.
    pub(super) said: VecDeque<String>,
    bytes: usize,
}

impl Words {
    /// Whether the host prints without end before the login is done.
    pub(super) fn are_endless(&self) -> bool {
        self.bytes > BANNERS && self.log.stage() < Stage::LoggedIn
    }

    /// The same with another log.
    pub(super) fn with_log(self, log: Log) -> Self {
        Self { log, ..self }
    }

    fn say(&mut self, line: String) {
        self.said.push_back(line);
        if self.said.len() > LINES {
            self.said.pop_front();
        }
    }
}

/// Collects the words of one process until it closes both.
pub(super) struct Collected {
    words: Arc<Mutex<Words>>,
    reading: JoinSet<()>,
}

/// Where a line comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Log,
    Stderr,
}

impl Collected {
    /// Collects from standard error, and from the log where there is one, and reports lines as `notes` that are not the
    /// error message of a process that ends.
    pub(super) fn start(
        stderr: impl AsyncRead + Send + Unpin + 'static,
        log: Option<impl AsyncRead + Send + Unpin + 'static>,
        notes: &Notes,
    ) -> Self {
        let words = Arc::<Mutex<Words>>::default();
        let mut reading = JoinSet::new();
        reading.spawn(collect(stderr, Source::Stderr, words.clone(), notes.clone()));
        if let Some(log) = log {
            reading.spawn(collect(log, Source::Log, words.clone(), notes.clone()));
        }
        Self { words, reading }
    }

    /// What was said so far.
    pub(super) fn words(&self) -> Words {
        lock(&self.words).clone()
    }

    /// Whether the host prints without end before the login is done.
    pub(super) fn are_endless(&self) -> bool {
        lock(&self.words).are_endless()
    }

    /// Waits until both are closed, at most for `limit`.
    pub(super) async fn settle(&mut self, limit: Duration) {
        let all = async { while self.reading.join_next().await.is_some() {} };
        let _ = timeout(limit, all).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn collect(
    mut from: impl AsyncRead + Unpin,
    source: Source,
    words: Arc<Mutex<Words>>,
    mut notes: Notes,
) {
    let mut line = Vec::new();
    let mut piece = [0; 1024];
    loop {
        notes.show_due(|| lock(&words).log.stage() >= Stage::Heard);
        let read = match notes.due(!line.is_empty()) {
            None => from.read(&mut piece).await,
            Some(due) => match timeout_at(due, from.read(&mut piece)).await {
                Ok(read) => read,
                Err(_) => {
                    // A question or a request without a line break.
                    if notes.is_settled() {
                        take(&mut line, source, &words, &mut notes);
                    }
                    continue;
                }
            },
        };
        // The master of a pseudo-terminal reports an error where a pipe reports EOF.
        let Ok(count @ 1..) = read else { break };
        notes.heard_now();
        if source == Source::Stderr {
            let mut words = lock(&words);
            words.bytes = words.bytes.saturating_add(count);
        }
        for &byte in &piece[..count] {
            if byte == b'\n' {
                take(&mut line, source, &words, &mut notes);
            } else if line.len() < LINE * 4 {
                line.push(byte);
            }
        }
    }
    take(&mut line, source, &words, &mut notes);
}

/// Takes a line, which is empty afterwards.
fn take(line: &mut Vec<u8>, source: Source, words: &Mutex<Words>, notes: &mut Notes) {
    let text = String::from_utf8_lossy(line).trim_end_matches('\r').to_owned();
    line.clear();
    match source {
        Source::Log => {
            let mut words = lock(words);
            let stage = words.log.stage();
            let Some(message) = words.log.push(&text) else {
                return;
            };
            let origin = if stage == Stage::Asking && message != WRONG {
                Origin::Host
            } else {
                Origin::Ssh
            };
            if !is_of_a_later_hop(&message) {
                notes.add(origin, message);
            }
        }
        Source::Stderr => {
            let text = text::one_line(&text, LINE);
            if !text.trim().is_empty() {
                lock(words).say(text.clone());
                // A ProxyCommand may be an ssh of the user's, with the user's LogLevel.
                if !is_debug(&text) {
                    notes.add(Origin::Stderr, text);
                }
            }
        }
    }
}

fn is_debug(line: &str) -> bool {
    ["debug1: ", "debug2: ", "debug3: "]
        .iter()
        .any(|mark| line.starts_with(mark))
}

/// Messages about the connection to the next host: that host's own failure is clearer.
fn is_of_a_later_hop(message: &str) -> bool {
    message.starts_with("channel ") && message.contains(": open failed: ")
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
    use crate::reporter::{Event, Reporter};

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Reporter for Heard {
        fn report(&self, event: Event<'_>) {
            if let Event::Note(text) = event {
                self.0.lock().unwrap().push(text.to_owned());
            }
        }
    }

    /// How long a line waits before it is a note, and more.
    const LONG: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_error_message_is_kept_and_only_earlier_lines_are_reported() {
        let heard = Arc::new(Heard::default());
        let (mut log, its_log) = tokio::io::duplex(1024);
        let (mut theirs, ours) = tokio::io::duplex(1024);
        let notes = Notes::new(heard.clone(), "gpu", false);
        let mut collected = Collected::start(ours, Some(its_log), &notes);
        log.write_all(b"debug1: Remote protocol version 2.0\r\nWarning: added\r\n")
            .await
            .unwrap();
        theirs.write_all(b"a banner\r\n\r\n\x1b[31mred").await.unwrap();
        tokio::time::sleep(LONG).await;
        log.write_all(b"channel 2: open failed: x\nPermission denied.\r\n")
            .await
            .unwrap();
        drop((theirs, log));
        collected.settle(Duration::from_secs(1)).await;
        let mut noted = heard.0.lock().unwrap().clone();
        noted.sort();
        assert_eq!(
            noted,
            ["gpu says: a banner", "gpu says: red", "gpu: Warning: added"]
        );
        let words = collected.words();
        assert_eq!(words.said, ["a banner", "red"]);
        assert_eq!(words.log.last(), Some("Permission denied."));
    }

    #[tokio::test(start_paused = true)]
    async fn endless_output_is_truncated_and_noticed() {
        let (mut theirs, ours) = tokio::io::duplex(4096);
        let mut collected = Collected::start(ours, None::<tokio::io::Empty>, &Notes::none());
        assert!(!collected.are_endless());
        for _ in 0..1100 {
            theirs.write_all(&[b'x'; 999]).await.unwrap();
            theirs.write_all(b"\n").await.unwrap();
        }
        drop(theirs);
        collected.settle(Duration::from_secs(1)).await;
        assert!(collected.are_endless());
        let words = collected.words();
        assert_eq!(words.said.len(), LINES);
        assert!(words.said.iter().all(|line| line.chars().count() <= LINE + 1));
    }

    #[tokio::test]
    async fn a_process_given_the_terminal_sees_one() {
        let (theirs, ours) = terminal().unwrap();
        let mut child = Command::new("/bin/sh")
            .args(["-c", "[ -t 2 ] && echo touch your key >&2"])
            .stderr(theirs)
            .spawn()
            .unwrap();
        let mut collected = Collected::start(ours, None::<tokio::io::Empty>, &Notes::none());
        collected.settle(Duration::from_secs(5)).await;
        child.wait().unwrap();
        assert_eq!(collected.words().said, ["touch your key"]);
    }
}
