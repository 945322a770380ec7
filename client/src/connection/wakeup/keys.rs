//! Reads Enter from the controlling terminal.
//!
//! The kernel stops a background process that reads from its terminal (SIGTTIN, termio(7)), so this reads only in the
//! foreground. It opens the terminal anew: making standard input non-blocking would affect the shell and every other process
//! that shares the open file.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    process::getpgrp,
    termios::{isatty, tcgetpgrp},
};
use tokio::{io::unix::AsyncFd, sync::watch};

use super::descriptor::readable;

/// Controls whether the terminal is read. To be paused while another program, such as ssh, asks the user there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys(Arc<watch::Sender<usize>>);

impl Keys {
    /// Stops reading until the result is dropped. Several pauses may overlap.
    #[must_use]
    pub(crate) fn pause(&self) -> Paused {
        self.0.send_modify(|pauses| *pauses += 1);
        Paused(self.0.clone())
    }

    fn are_paused(&self) -> bool {
        *self.0.borrow() > 0
    }

    async fn resumed(&self) {
        // Never fails, because the sender is alive.
        let _ = self.0.subscribe().wait_for(|pauses| *pauses == 0).await;
    }
}

/// A pause: while it lives, the terminal is not read.
#[derive(Debug)]
pub(crate) struct Paused(Arc<watch::Sender<usize>>);

impl Drop for Paused {
    fn drop(&mut self) {
        self.0.send_modify(|pauses| *pauses -= 1);
    }
}

/// Lines of a terminal, as far as they are meant for this process.
pub(super) struct Terminal {
    tty: AsyncFd<OwnedFd>,
    keys: Keys,
    is_ours: fn(&OwnedFd) -> bool,
}

impl Terminal {
    /// The terminal of standard input. None if it is not the controlling terminal, or cannot be opened again.
    pub(super) fn of_the_user(keys: Keys) -> Option<Self> {
        let stdin = io::stdin();
        if !isatty(&stdin) {
            return None;
        }
        Self::open(&path(stdin.as_fd())?, keys, is_in_foreground)
            .inspect_err(|error| tracing::debug!(%error, "no keys"))
            .ok()
    }

    fn open(path: &std::ffi::CStr, keys: Keys, is_ours: fn(&OwnedFd) -> bool) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let tty = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self {
            tty: readable(tty)?,
            keys,
            is_ours,
        })
    }

    /// Waits for a line; false when the terminal is closed. Does not read in the background, nor during a pause.
    pub(super) async fn line(&mut self) -> bool {
        let mut line = [0; 256];
        let mut ends = 0;
        loop {
            let Ok(mut ready) = self.tty.readable().await else {
                return false;
            };
            // This readiness does not go away: waiting again would spin.
            if ready.ready().is_read_closed() {
                return false;
            }
            // Pause and foreground are checked right before each read: only a job control shell that moves this process to
            // the background in between could interfere.
            if self.keys.are_paused() {
                // A line that is still unread after the pause is for this process.
                drop(ready);
                self.keys.resumed().await;
                continue;
            }
            if !(self.is_ours)(self.tty.get_ref()) {
                ready.clear_ready();
                continue;
            }
            match rustix::io::read(self.tty.get_ref(), &mut line) {
                // Ctrl-D, which a line may follow. With some terminal settings every empty read looks like this.
                Ok(0) if ends == 0 => ends += 1,
                Ok(0) | Err(Errno::AGAIN | Errno::IO) => ready.clear_ready(),
                Ok(_) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

fn is_in_foreground(tty: &OwnedFd) -> bool {
    tcgetpgrp(tty).is_ok_and(|group| group == getpgrp())
}

/// /dev/tty can be opened by every user; by its own name a terminal can be opened only by its owner, who is another user
/// after `su`.
#[cfg(not(target_os = "macos"))]
fn path(stdin: std::os::fd::BorrowedFd<'_>) -> Option<std::ffi::CString> {
    // Fails if standard input is not the controlling terminal.
    tcgetpgrp(stdin).ok().map(|_| c"/dev/tty".into())
}

/// kqueue(2) does not support /dev/tty.
#[cfg(target_os = "macos")]
fn path(stdin: std::os::fd::BorrowedFd<'_>) -> Option<std::ffi::CString> {
    rustix::termios::ttyname(stdin, Vec::new()).ok()
}

#[cfg(test)]
mod tests {
    use std::{ffi::CString, time::Duration};

    use futures_util::FutureExt;
    use rustix::{
        io::{FdFlags, fcntl_setfd},
        pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    };
    use tokio::{io::Interest, time::timeout};

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// Master of a pseudo-terminal, and path of its slave.
    fn terminal() -> (OwnedFd, CString) {
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        fcntl_setfd(&user, FdFlags::CLOEXEC).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let path = ptsname(&user, Vec::new()).unwrap();
        (user, path)
    }

    fn types(user: &OwnedFd, text: &str) {
        assert_eq!(rustix::io::write(user, text.as_bytes()), Ok(text.len()));
    }

    /// Another program at the same terminal, such as ssh or the shell.
    fn other(path: &CString) -> OwnedFd {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::open(path.as_c_str(), flags, Mode::empty()).unwrap()
    }

    async fn reads(fd: OwnedFd) -> String {
        let fd = readable(fd).unwrap();
        let mut line = [0; 256];
        let read = fd.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut line)?));
        let len = timeout(SOON, read).await.unwrap().unwrap();
        String::from_utf8(line[..len].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn enter_is_read_each_time_and_an_incomplete_line_is_not() {
        let (user, path) = terminal();
        let mut keys = Terminal::open(&path, Keys::default(), |_| true).unwrap();
        for _ in 0..3 {
            types(&user, "half a line");
            assert_eq!(timeout(Duration::from_millis(50), keys.line()).await.ok(), None);
            types(&user, "\n");
            assert!(timeout(SOON, keys.line()).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_line_that_ssh_did_not_read_is_read_when_the_pause_ends() {
        let (user, path) = terminal();
        let keys = Keys::default();
        let mut ours = Terminal::open(&path, keys.clone(), |_| true).unwrap();
        let paused = keys.pause();
        types(&user, "\n");
        assert_eq!(timeout(Duration::from_millis(50), ours.line()).await.ok(), None);
        drop(paused);
        assert!(timeout(SOON, ours.line()).await.unwrap());
    }

    #[tokio::test]
    async fn an_answer_to_ssh_reaches_ssh_while_the_keys_are_paused() {
        let (user, path) = terminal();
        let keys = Keys::default();
        let mut ours = Terminal::open(&path, keys.clone(), |_| true).unwrap();
        let (paused, again) = (keys.pause(), keys.pause());
        drop(again);
        types(&user, "yes\n");
        tokio::select! {
            _ = ours.line() => panic!("swallowed"),
            answer = reads(other(&path)) => assert_eq!(answer, "yes\n"),
        }
        drop(paused);
        types(&user, "\n");
        assert!(timeout(SOON, ours.line()).await.unwrap());
    }

    #[tokio::test]
    async fn in_the_background_lines_are_left_to_the_shell() {
        let (user, path) = terminal();
        let mut ours = Terminal::open(&path, Keys::default(), |_| false).unwrap();
        types(&user, "ls\n");
        tokio::select! {
            _ = ours.line() => panic!("swallowed"),
            command = reads(other(&path)) => assert_eq!(command, "ls\n"),
        }
    }

    #[tokio::test]
    async fn a_terminal_of_another_session_counts_as_the_background() {
        let (_user, path) = terminal();
        assert!(!is_in_foreground(&other(&path)));
    }

    #[tokio::test]
    async fn ctrl_d_does_not_end_the_terminal() {
        let (user, path) = terminal();
        let mut ours = Terminal::open(&path, Keys::default(), |_| true).unwrap();
        types(&user, "\x04");
        assert_eq!(ours.line().now_or_never(), None);
        types(&user, "\n");
        assert!(timeout(SOON, ours.line()).await.unwrap());
    }

    #[tokio::test]
    async fn a_closed_terminal_ends_it() {
        let (user, path) = terminal();
        let mut ours = Terminal::open(&path, Keys::default(), |_| true).unwrap();
        drop(user);
        assert!(!timeout(SOON, ours.line()).await.unwrap());
    }
}
