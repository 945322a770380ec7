//! A private virtual environment with Jupyter, created once.
//!
//! Virtual environments cannot be moved, so it is created in its final place, and a file that is written last marks it
//! as complete.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::Command,
    time::timeout,
};

use jq_common::private_files;

use crate::{host_program, log_tail::Tail, run_blocking::run_blocking};

/// Time limit for pip; it downloads a hundred packages, perhaps over a slow line.
const INSTALL: Duration = Duration::from_secs(30 * 60);
/// Time limit for creating the bare environment.
const CREATE: Duration = Duration::from_secs(3 * 60);
/// Time limit for a program in it to print its version, which is slow on a cold disk.
const VERSION: Duration = Duration::from_secs(60);
/// Name of the file that is written last.
const MARK: &str = "jq-complete";

/// Why there is no environment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VenvError {
    /// Python is not installed.
    #[error("there is no python3 on PATH")]
    NoPython,
    /// Python's venv or ensurepip is not installed.
    #[error("{0}")]
    NoVenv(String),
    /// pip failed.
    #[error("{0}")]
    Pip(String),
    /// The folder cannot be written, or a program cannot be run.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The environment in `dir`, if it is complete and has these packages.
pub(crate) fn find(dir: &Path, packages: &[&str]) -> Option<PathBuf> {
    let mark = fs::read_to_string(dir.join(MARK)).ok()?;
    let has = |package: &&str| mark.lines().any(|line| line == *package);
    (packages.iter().all(has) && dir.join("bin/python").exists()).then(|| dir.to_owned())
}

/// Whether `jupyter VERB` runs in the environment. It may stop working when the host's Python is upgraded.
pub(crate) async fn works(dir: &Path, verb: &str) -> bool {
    runs(&dir.join("bin/jupyter"), &[verb, "--version"]).await
}

/// A timeout does not count as broken: the environment is not discarded for it.
async fn runs(program: &Path, arguments: &[&str]) -> bool {
    match host_program::output(program, arguments, VERSION).await {
        Ok(output) => output.status.success(),
        Err(error) => error.kind() == io::ErrorKind::TimedOut,
    }
}

/// Creates the environment in `dir` with these packages, for `jupyter VERB`, or creates it again if it no longer works.
/// `progress` gets the number of packages collected so far and pip's line. Only one at a time: others wait.
pub(crate) async fn create(
    dir: &Path,
    packages: &[&str],
    verb: &str,
    path: &std::ffi::OsStr,
    progress: &(dyn Fn(u64, &str) + Send + Sync),
) -> Result<(), VenvError> {
    let parent = dir.parent().ok_or_else(|| io::Error::other("no folder for it"))?;
    fs::create_dir_all(parent)?;
    let lock = dir.with_extension("lock");
    let _lock = run_blocking(move || private_files::lock(&lock)).await?;
    let sound = if find(dir, packages).is_some() {
        if works(dir, verb).await {
            return Ok(());
        }
        false
    } else {
        // Another package can be added only if pip runs.
        runs(&dir.join("bin/python"), &["-m", "pip", "--version"]).await
    };
    if !sound && dir.join(MARK).exists() {
        fs::remove_file(dir.join(MARK))?;
    }
    // Remains of an interrupted attempt may be incomplete.
    if !dir.join(MARK).exists() && dir.exists() {
        tokio::fs::remove_dir_all(dir).await?;
    }
    if !dir.exists() {
        let python = host_program::find("python3", path).ok_or(VenvError::NoPython)?;
        let target = dir.to_string_lossy();
        let created = host_program::output(&python, &["-m", "venv", &target], CREATE).await?;
        if !created.status.success() {
            // It leaves an incomplete folder behind.
            let _ = tokio::fs::remove_dir_all(dir).await;
            let mut output = String::from_utf8_lossy(&created.stdout).into_owned();
            output.push_str(&String::from_utf8_lossy(&created.stderr));
            return Err(VenvError::NoVenv(last_lines(&output)));
        }
    }
    pip(dir, packages, progress).await?;
    let mark = packages.join("\n") + "\n";
    private_files::replace(&dir.join(MARK), mark.as_bytes())?;
    Ok(())
}

async fn pip(
    dir: &Path,
    packages: &[&str],
    progress: &(dyn Fn(u64, &str) + Send + Sync),
) -> Result<(), VenvError> {
    let mut child = Command::new(dir.join("bin/python"))
        .args([
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--no-input",
        ])
        .args(["--progress-bar", "off"])
        .args(packages)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let tail = Tail::default();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let run = async {
        let (_, _, status) = tokio::join!(
            follow(stdout, &tail, progress),
            follow(stderr, &tail, &|_, _| {}),
            child.wait()
        );
        status
    };
    let status = timeout(INSTALL, run)
        .await
        .map_err(|_| VenvError::Pip("pip did not finish within half an hour".into()))??;
    if status.success() {
        Ok(())
    } else {
        Err(VenvError::Pip(tail.last(4).join(" | ")))
    }
}

/// Reports pip's lines, and counts the packages that it collects.
async fn follow(
    output: Option<impl AsyncRead + Unpin>,
    tail: &Tail,
    progress: &(dyn Fn(u64, &str) + Send + Sync),
) {
    let Some(output) = output else { return };
    let mut lines = BufReader::new(output).lines();
    let mut collected = 0;
    // A line that is not UTF-8 ends the reports but not the installation: the pipe is drained below.
    while let Ok(Some(line)) = lines.next_line().await {
        tail.write(line.as_bytes());
        tail.write(b"\n");
        collected += u64::from(line.trim_start().starts_with("Collecting "));
        progress(collected, line.trim());
    }
    let _ = tokio::io::copy(&mut lines.into_inner(), &mut tokio::io::sink()).await;
}

fn last_lines(text: &str) -> String {
    let tail = Tail::default();
    tail.write(text.as_bytes());
    tail.last(4).join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        ffi::OsStr,
        os::unix::fs::PermissionsExt,
        sync::atomic::{AtomicU64, Ordering},
    };

    fn script(dir: &Path, name: &str, text: &str) {
        let path = dir.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A python3 whose venv has a pip that runs `pip`, and a `jupyter` that runs.
    fn python(dir: &Path, pip: &str) {
        let text = format!(
            "mkdir -p \"$3/bin\"\ncat > \"$3/bin/python\" <<'END'\n#!/bin/sh\n{pip}\nEND\n\
             printf '#!/bin/sh\\n' > \"$3/bin/jupyter\"\nchmod +x \"$3/bin/python\" \"$3/bin/jupyter\""
        );
        script(dir, "python3", &text);
    }

    fn silent(_: u64, _: &str) {}

    #[tokio::test]
    async fn it_is_created_once_and_reports() {
        let dir = tempfile::tempdir().unwrap();
        python(
            dir.path(),
            "echo Collecting a; echo Collecting b; echo run >> \"$0.runs\"",
        );
        let venv = dir.path().join("share/venv");
        let met = AtomicU64::new(0);
        let progress = |count, _: &str| met.store(count, Ordering::Relaxed);
        for _ in 0..2 {
            create(&venv, &["jupyterlab"], "lab", dir.path().as_os_str(), &progress)
                .await
                .unwrap();
        }
        assert_eq!(met.load(Ordering::Relaxed), 2);
        assert_eq!(fs::read_to_string(venv.join("bin/python.runs")).unwrap(), "run\n");
        assert!(find(&venv, &["jupyterlab"]).is_some());
        assert!(find(&venv, &["jupyterlab", "notebook"]).is_none());
    }

    #[tokio::test]
    async fn a_failure_is_reported_and_leaves_nothing_that_looks_complete() {
        let dir = tempfile::tempdir().unwrap();
        let venv = dir.path().join("venv");
        let path = dir.path().as_os_str();
        let none = create(&venv, &["x"], "lab", OsStr::new("/nonexistent"), &silent).await;
        assert!(matches!(none, Err(VenvError::NoPython)));

        script(dir.path(), "python3", "echo ensurepip is not available; exit 1");
        let bare = create(&venv, &["x"], "lab", path, &silent).await;
        assert!(matches!(bare, Err(VenvError::NoVenv(why)) if why.contains("ensurepip")));

        python(dir.path(), "echo no network >&2; exit 1");
        let offline = create(&venv, &["x"], "lab", path, &silent).await;
        assert!(matches!(offline, Err(VenvError::Pip(why)) if why.contains("no network")));
        assert!(find(&venv, &["x"]).is_none());

        python(dir.path(), "exit 0");
        create(&venv, &["x"], "lab", path, &silent).await.unwrap();
        assert!(find(&venv, &["x"]).is_some());
    }

    #[tokio::test]
    async fn one_that_no_longer_works_is_created_again() {
        let dir = tempfile::tempdir().unwrap();
        let venv = dir.path().join("venv");
        let path = dir.path().as_os_str();
        python(dir.path(), "exit 0");
        create(&venv, &["x"], "lab", path, &silent).await.unwrap();
        assert!(works(&venv, "lab").await);

        // Its packages are for another Python, or its interpreter is gone.
        for broken in ["jupyter", "python"] {
            fs::write(venv.join("old"), "").unwrap();
            if broken == "jupyter" {
                script(&venv.join("bin"), "jupyter", "exit 1");
            } else {
                fs::remove_file(venv.join("bin/python")).unwrap();
            }
            create(&venv, &["x"], "lab", path, &silent).await.unwrap();
            assert!(works(&venv, "lab").await && find(&venv, &["x"]).is_some());
            assert!(!venv.join("old").exists(), "{broken}");
        }
    }
}
