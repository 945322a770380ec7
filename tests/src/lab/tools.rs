//! Runs programs of this machine. Errors say which program failed and what it printed.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::environment;

/// The directories of system programs, which a user's PATH often lacks.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The PATH of the lab's own programs: the caller's, and the directories of system programs.
pub(crate) fn path() -> String {
    environment::var("PATH").map_or_else(|| SYSTEM_PATH.into(), |own| format!("{own}:{SYSTEM_PATH}"))
}

/// The full path of a program, if it is installed.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&path())
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// The full path of a program. Fails if it is not installed.
pub(crate) fn must_find(program: &str) -> Result<PathBuf> {
    find(program).with_context(|| format!("{program} is not installed"))
}

/// A command that runs a program of this machine as the lab's own user.
pub(crate) fn command<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(program);
    command.args(args).env("PATH", path()).env("LC_ALL", "C.UTF-8");
    command
}

/// Runs a program to its end and returns its stdout. Fails unless it exits with 0.
pub(crate) fn run<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Result<String> {
    output(&mut command(program, args))
}

/// Runs a command to its end and returns its stdout. Its stdin is empty unless the caller has set it. Fails unless the
/// command exits with 0; the error has the command, its status and its stderr.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("cannot start {}", describe(command)))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed ({}): {}{}",
            describe(command),
            output.status,
            stdout.trim(),
            stderr.trim()
        );
    }
    Ok(stdout.into_owned())
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}
