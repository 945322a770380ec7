//! Turns off the terminal's echo while a status line is shown: an echoed Enter would leave a copy of the line behind.

use std::io;

use rustix::{
    process::getpgrp,
    termios::{LocalModes, OptionalActions, tcgetattr, tcgetpgrp, tcsetattr},
};

/// Whether this process has turned the echo off.
#[derive(Default)]
pub(super) struct Echo {
    off: bool,
}

impl Echo {
    /// Turns the echo off, unless the user had turned it off. Works again after a shell changed it while this process was
    /// stopped.
    pub(super) fn turn_off(&mut self) {
        self.off |= change(|modes| modes.contains(LocalModes::ECHO).then(|| modes - LocalModes::ECHO));
    }

    /// Restores the echo. Does nothing in the background: the shell restores the modes of a job with the terminal.
    pub(super) fn restore(&mut self) {
        if self.off && change(|modes| Some(modes | LocalModes::ECHO)) {
            self.off = false;
        }
    }
}

/// Whether another process group owns the terminal: this process's output would mix with its output.
pub(super) fn is_in_background() -> bool {
    tcgetpgrp(io::stderr()).is_ok_and(|front| front != getpgrp())
}

/// Changes the terminal's modes to the result of `to`, and returns whether it did. Does nothing in the background, where
/// the kernel would stop this process (SIGTTOU, termios(3)).
fn change(to: impl FnOnce(LocalModes) -> Option<LocalModes>) -> bool {
    let terminal = io::stderr();
    if !tcgetpgrp(&terminal).is_ok_and(|front| front == getpgrp()) {
        return false;
    }
    let Ok(mut attributes) = tcgetattr(&terminal) else {
        return false;
    };
    let Some(modes) = to(attributes.local_modes) else {
        return false;
    };
    attributes.local_modes = modes;
    tcsetattr(&terminal, OptionalActions::Now, &attributes).is_ok()
}
