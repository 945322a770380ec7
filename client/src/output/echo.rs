//! The terminal's echo, off while a still line stands there: an echoed Enter would leave a copy of it behind.

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
    /// Off, unless the user had it so. Again after a shell has set it while this process was stopped.
    pub(super) fn turn_off(&mut self) {
        self.off |= change(|modes| modes.contains(LocalModes::ECHO).then(|| modes - LocalModes::ECHO));
    }

    /// As the user had it. In the background that waits: a shell gives a job its modes back with the terminal.
    pub(super) fn restore(&mut self) {
        if self.off && change(|modes| Some(modes | LocalModes::ECHO)) {
            self.off = false;
        }
    }
}

/// Whether the terminal is a shell's or another job's by now: what is written there comes into what they write.
pub(super) fn is_in_background() -> bool {
    tcgetpgrp(io::stderr()).is_ok_and(|front| front != getpgrp())
}

/// Changes the terminal's modes to what `to` makes of them, and says whether it did. Not in the background, where a
/// process that tries is stopped (SIGTTOU, termios(3)) and the modes are somebody else's.
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
