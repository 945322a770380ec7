//! Processes of the host that outlive the agent.

use std::{
    ffi::OsString, fs::File, io, os::unix::fs::OpenOptionsExt, path::PathBuf, process::Stdio, time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// Time limit for a process to end after SIGTERM.
const END: Duration = Duration::from_secs(5);

/// A process to be started.
pub(crate) struct Launch {
    /// Path of the program.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// Environment, in addition to the agent's own.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Working directory.
    pub(crate) workdir: PathBuf,
    /// Its umask.
    pub(crate) umask: u32,
    /// File for its output; truncated, readable by the user only.
    pub(crate) log: PathBuf,
}

/// Sets the umask in the first argument for the user's program. `exec` keeps the process id.
const WITH_UMASK: &str = "umask \"$0\" && exec \"$@\"";

/// Starts the process in a process group of its own, without a terminal. Dropping the child leaves it running.
///
/// # Errors
/// When the log or the program cannot be opened.
pub(crate) fn spawn(launch: &Launch) -> io::Result<Child> {
    let log = File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&launch.log)?;
    Command::new("/bin/sh")
        .args(["-c", WITH_UMASK])
        .arg(format!("{:03o}", launch.umask))
        .arg(&launch.program)
        .args(&launch.arguments)
        .envs(launch.env.iter().map(|(key, value)| (key, value)))
        .current_dir(&launch.workdir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(false)
        .spawn()
}

/// Ends a process that [`spawn`] has started, with its process group.
pub(crate) async fn end(child: &mut Child) {
    let Some(group) = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)) else {
        return;
    };
    // Each call fails only when the group is empty.
    let _ = kill_process_group(group, Signal::TERM);
    if timeout(END, child.wait()).await.is_err() {
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.wait().await;
    }
}

/// Reads a variable of a running process of this user. None when the environment cannot be read; an inner None when the
/// variable is not set.
pub(crate) fn variable(pid: u32, key: &str) -> Option<Option<String>> {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = environ.split(|byte| *byte == 0).find_map(|entry| {
        let (name, value) = std::str::from_utf8(entry).ok()?.split_once('=')?;
        (name == key).then(|| value.to_owned())
    });
    Some(value)
}

/// Start time of a process, in ticks since boot. None when there is no such process, or only a zombie.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Parses field 22 of proc_pid_stat(5). The name in parentheses may contain anything, so counting starts after the last
/// one.
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    fields.get(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;
    use crate::log_tail::tail_of_file as tail;

    #[test]
    fn a_process_is_identified_by_pid_and_start_time() {
        let own = start_time(std::process::id()).unwrap();
        assert_eq!(start_time(std::process::id()), Some(own));
        let stat = "7 (a) Z (b) S 1 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        assert_eq!(parse_stat(stat), Some(4711));
        assert_eq!(parse_stat(&stat.replace(") S", ") Z")), None);
        assert_eq!(parse_stat("junk"), None);
    }

    #[tokio::test]
    async fn output_goes_to_a_private_log() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut child = spawn(&Launch {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), "echo $GREETING; umask".into()],
            env: vec![("GREETING".into(), "hello".into())],
            workdir: dir.path().into(),
            umask: 0o027,
            log: log.clone(),
        })
        .unwrap();
        assert!(child.wait().await.unwrap().success());
        let said = tail(&log, 5);
        assert_eq!(said, ["hello", "0027"]);
        assert_eq!(
            std::fs::metadata(&log).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    /// What `look` finds within five seconds.
    async fn within<T>(look: impl Fn() -> Option<T>) -> T {
        let found = async {
            loop {
                match look() {
                    Some(found) => return found,
                    None => sleep(Duration::from_millis(10)).await,
                }
            }
        };
        timeout(Duration::from_secs(5), found).await.unwrap()
    }

    #[tokio::test]
    async fn a_process_is_ended_with_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = spawn(&Launch {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), "sleep 60 & echo $!; wait".into()],
            env: vec![("MARK".into(), "7".into())],
            workdir: dir.path().into(),
            umask: 0o022,
            log: dir.path().join("log"),
        })
        .unwrap();
        let pid = child.id().unwrap();
        let said = within(|| tail(&dir.path().join("log"), 1).pop()).await;
        let inner = said.parse().unwrap();
        assert_eq!(variable(pid, "MARK"), Some(Some("7".into())));
        assert_eq!(variable(pid, "MARKS"), Some(None));
        end(&mut child).await;
        assert_eq!(start_time(pid), None);
        within(|| start_time(inner).is_none().then_some(())).await;
    }
}
