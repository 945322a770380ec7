//! Runs programs of the host, with a time limit and a limit on their output.

use std::{
    ffi::OsStr,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
    time::timeout,
};

use crate::run_blocking::run_blocking;

/// Bytes kept of each of a program's two outputs; the rest is read and dropped.
const OUTPUT: u64 = 1 << 20;

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

/// Runs a program to its end and returns its output. It is killed after `deadline`.
///
/// # Errors
/// When it cannot be started; `TimedOut` after the deadline.
pub(crate) async fn output(program: &Path, arguments: &[&str], deadline: Duration) -> io::Result<Output> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // It may be on a network file system, which may take long to read it from.
    let mut child = timeout(deadline, run_blocking(move || command.spawn()))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "its file cannot be read in time"))??;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let run = async {
        let (stdout, stderr, status) =
            tokio::try_join!(read_limited(stdout), read_limited(stderr), child.wait())?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    };
    timeout(deadline, run)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it does not answer"))?
}

async fn read_limited(output: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut output) = output {
        (&mut output).take(OUTPUT).read_to_end(&mut bytes).await?;
        tokio::io::copy(&mut output, &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
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
}
