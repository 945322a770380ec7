//! Runs programs of the host, with a time limit and a limit on their output.

use std::{
    ffi::OsStr,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    pin::pin,
    process::{Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, Command},
    time::timeout,
};

use crate::run_blocking::run_blocking;

/// Bytes kept of each of a program's two outputs; the rest is read and dropped.
const OUTPUT: u64 = 1 << 20;

/// How long output is read that arrives after a program has ended.
const AFTER_EXIT: Duration = Duration::from_millis(500);

/// The first executable file with this name in the directories of `path`.
pub(crate) fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    find_all(name, path).next()
}

/// Every executable file with this name in the directories of `path`, in its order.
pub(crate) fn find_all<'a>(name: &'a str, path: &'a OsStr) -> impl Iterator<Item = PathBuf> + 'a {
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(move |folder| folder.join(name))
        .filter(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    std::fs::metadata(file)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Runs a program to its end and returns its output. After `deadline` it is killed with its children.
///
/// # Errors
/// When it cannot be started; `TimedOut` after the deadline.
pub(crate) async fn output(program: &Path, arguments: &[&str], deadline: Duration) -> io::Result<Output> {
    output_for(program, arguments, &[], deadline).await
}

/// As [`output`], for a program that reads `input` on its standard input.
///
/// # Errors
/// As [`output`].
pub(crate) async fn output_for(
    program: &Path,
    arguments: &[&str],
    input: &[u8],
    deadline: Duration,
) -> io::Result<Output> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    // It may be on a network file system, which may take long to read it from.
    let mut child = timeout(deadline, run_blocking(move || command.spawn()))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "its file cannot be read in time"))??;
    // Dropped before the child, which is not reaped then: its id is still its own.
    let mut group = Group(child.id());
    let finished = timeout(deadline, finish(&mut child, input)).await;
    match finished {
        Ok(Ok(output)) => {
            group.0 = None;
            Ok(output)
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer")),
    }
}

/// A process group that is killed when this is dropped; none when its leader has ended.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let leader = self.0.and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(leader) = leader {
            // Fails only when nothing of it is left.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

async fn finish(child: &mut Child, input: &[u8]) -> io::Result<Output> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (from, errors, to) = (child.stdout.take(), child.stderr.take(), child.stdin.take());
    let status = {
        let mut talk = pin!(async {
            tokio::join!(
                write(to, input),
                read_limited(from, &mut stdout),
                read_limited(errors, &mut stderr)
            )
        });
        tokio::select! {
            _ = &mut talk => child.wait().await?,
            status = child.wait() => {
                // A child that goes on in the background may keep the output open.
                let _ = timeout(AFTER_EXIT, &mut talk).await;
                status?
            }
        }
    };
    Ok(Output {
        status,
        stdout,
        stderr,
    })
}

async fn write(to: Option<ChildStdin>, input: &[u8]) {
    if let Some(mut to) = to {
        // A program that ends without reading it has said all that it has to say.
        let _ = to.write_all(input).await;
    }
}

async fn read_limited(output: Option<impl AsyncRead + Unpin>, bytes: &mut Vec<u8>) {
    let Some(mut output) = output else {
        return;
    };
    // What was read until an error counts.
    if (&mut output).take(OUTPUT).read_to_end(bytes).await.is_ok() {
        let _ = tokio::io::copy(&mut output, &mut tokio::io::sink()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_executable_files_of_absolute_folders_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let tool = dir.path().join("tool");
        std::fs::write(&tool, "").unwrap();
        assert_eq!(find("tool", dir.path().as_os_str()), None);
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find("tool", dir.path().as_os_str()), Some(tool));
        assert_eq!(find("tool", OsStr::new("relative:")), None);
    }

    #[tokio::test]
    async fn output_beyond_the_limit_is_dropped_and_the_program_succeeds() {
        let flood = ["-c", "head -c 3000000 /dev/zero; echo why >&2"];
        let output = output(Path::new("/bin/sh"), &flood, Duration::from_secs(30))
            .await
            .unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout.len(), 1 << 20);
        assert_eq!(output.stderr, b"why\n");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_an_error() {
        let slow = output(Path::new("/bin/sleep"), &["60"], Duration::from_millis(50)).await;
        assert_eq!(slow.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_ended_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("child");
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        let hangs = output(Path::new("/bin/sh"), &["-c", &script], Duration::from_millis(500)).await;
        assert_eq!(hangs.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let child = std::fs::read_to_string(&file).unwrap();
        let is_gone = || {
            let state = std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
            state.map_or(true, |state| state.contains(") Z ") || !state.contains("(sleep)"))
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !is_gone() {
            assert!(std::time::Instant::now() < deadline, "its child runs on");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_child_in_the_background_that_keeps_the_output_open_holds_nothing_up() {
        let started = std::time::Instant::now();
        let leaves = ["-c", "sleep 20 & echo said"];
        let output = output(Path::new("/bin/sh"), &leaves, Duration::from_secs(15)).await;
        assert_eq!(output.unwrap().stdout, b"said\n");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn input_is_written_and_a_program_that_does_not_read_it_is_no_error() {
        let deadline = Duration::from_secs(30);
        let echoed = output_for(Path::new("/bin/cat"), &[], b"words", deadline)
            .await
            .unwrap();
        assert_eq!(echoed.stdout, b"words");
        let deaf = output_for(Path::new("/bin/true"), &[], &[7; 1 << 20], deadline).await;
        assert!(deaf.unwrap().status.success());
    }
}
