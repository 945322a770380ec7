//! A program in a pseudo terminal: its output, and typed input.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, ExitStatus},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::{eventually, eventually_some, lab::Host, panics};

/// Time limit for the program to end.
const END: Duration = Duration::from_secs(30);

/// The size of the terminal.
const SIZE: Winsize = Winsize {
    ws_row: 40,
    ws_col: 120,
    ws_xpixel: 0,
    ws_ypixel: 0,
};

/// A terminal and the program in it. Dropping it kills the program, and fails the test if the program panicked.
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    /// The end of the last match of [`Self::shows`], in bytes of [`Self::text`].
    seen: usize,
}

impl Terminal {
    /// Runs a program on a host of the lab, as its user, in a new terminal.
    ///
    /// # Errors
    /// When the terminal cannot be created, or the program cannot be started.
    pub fn open(host: &Host, words: &[&str]) -> Result<Self> {
        let (ours, theirs) = pair().context("cannot create a terminal")?;
        // A terminal belongs to a session (credentials(7)); setsid creates one.
        let mut command = host.command("setsid");
        command.arg("--ctty").args(words);
        command
            .stdin(theirs.try_clone()?)
            .stdout(theirs.try_clone()?)
            .stderr(theirs);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {words:?}"))?;
        // The command holds the other end. It is dropped here, so that the end of the program can be detected.
        drop(command);
        let (keyboard, mut output) = (File::from(ours.try_clone()?), File::from(ours));
        let screen = Arc::<Mutex<Vec<u8>>>::default();
        let shown = screen.clone();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            // When all other ends are closed, reading returns an error instead of an end (pty(7)).
            while let Ok(length @ 1..) = output.read(&mut piece) {
                shown
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(&piece[..length]);
            }
        });
        Ok(Self {
            child,
            keyboard,
            screen,
            seen: 0,
        })
    }

    /// Types `text`; `\n` is Enter, `\x03` is Ctrl-C.
    ///
    /// # Errors
    /// When the terminal is closed.
    pub fn types(&mut self, text: &str) -> Result<()> {
        self.keyboard
            .write_all(text.as_bytes())
            .context("the terminal is closed")
    }

    /// Waits until `text` appears after the previous match.
    ///
    /// # Errors
    /// When it does not appear in time. The error has the whole output.
    pub fn shows(&mut self, text: &str, within: Duration) -> Result<()> {
        let mut end = None;
        eventually(&format!("`{text}` on the terminal"), within, || {
            let all = self.text();
            end = all[self.seen..].find(text).map(|at| self.seen + at + text.len());
            end.is_some()
        })
        .with_context(|| format!("the terminal shows:\n{}", self.text()))?;
        self.seen = end.unwrap_or(self.seen);
        Ok(())
    }

    /// The whole output without control sequences. It contains every version of a line that was redrawn.
    #[must_use]
    pub fn text(&self) -> String {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        plain(&screen)
    }

    /// Waits until the program has ended.
    ///
    /// # Errors
    /// When it does not end in time. The error has the whole output.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let child = &mut self.child;
        let ended = eventually_some("the program to end", END, || Ok(child.try_wait()?));
        ended.with_context(|| format!("the terminal shows:\n{}", self.text()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Fails only if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let panics = panics::in_text(&self.text());
        // A test that has failed already has its own message.
        assert!(
            panics.is_empty() || thread::panicking(),
            "the program panicked:\n{}",
            panics.join("\n")
        );
    }
}

/// The two ends of a new terminal: the user's and the program's.
fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let path = ptsname(&ours, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs = rustix::fs::open(path.as_c_str(), flags, Mode::empty())?;
    tcsetwinsize(&theirs, SIZE)?;
    Ok((ours, theirs))
}

/// The text in a terminal's output, without ECMA-48 control sequences and control strings. An incomplete sequence at the end
/// is also left out, so that further output never changes the text that was returned before.
fn plain(sent: &[u8]) -> String {
    let mut text = Vec::with_capacity(sent.len());
    let mut rest = sent;
    while let [first, behind @ ..] = rest {
        let length = match (first, behind) {
            (0x1b, [b'[', sequence @ ..]) => ends(sequence, |byte| (0x40..=0x7e).contains(&byte)),
            (0x1b, [b']' | b'P' | b'X' | b'^' | b'_', string @ ..]) => {
                ends(string, |byte| matches!(byte, 0x07 | b'\\'))
            }
            (0x1b, []) => None,
            (0x1b, [..]) => Some(0),
            _ => {
                text.push(*first);
                rest = behind;
                continue;
            }
        };
        let Some(length) = length else { break };
        rest = &behind[1 + length..];
    }
    let whole = match std::str::from_utf8(&text) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => text.len(),
    };
    String::from_utf8_lossy(&text[..whole]).into_owned()
}

fn ends(sequence: &[u8], is_last: impl Fn(u8) -> bool) -> Option<usize> {
    sequence
        .iter()
        .position(|&byte| is_last(byte))
        .map(|last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn control_sequences_are_left_out_and_an_incomplete_one_at_the_end_too() {
        let sent = "\r\x1b[J  \x1b[31m○\x1b[0m lost · 3 s\x1b]0;title\x07\x1b7!\r\n".as_bytes();
        let whole = plain(sent);
        assert_eq!(whole, "\r  ○ lost · 3 s!\r\n");
        for cut in 0..sent.len() {
            assert!(whole.starts_with(&plain(&sent[..cut])), "{cut}");
        }
    }
}
