//! Waits for child processes of the predecessor, for which nobody else does (wait(2)).

use std::io;

use rustix::process::{Pid, WaitOptions, getpid, waitpid};
use tokio::signal::unix::{SignalKind, signal};

/// Waits until all of `children` have ended, so that none stays a zombie. Does not touch processes that this program
/// starts: whoever starts one waits for it.
///
/// # Errors
///
/// When SIGCHLD cannot be handled.
pub(crate) async fn reap(mut children: Vec<Pid>) -> io::Result<()> {
    let mut ended = signal(SignalKind::child())?;
    loop {
        // An error means that the process is no longer a child.
        children.retain(|child| matches!(waitpid(Some(*child), WaitOptions::NOHANG), Ok(None)));
        if children.is_empty() || ended.recv().await.is_none() {
            return Ok(());
        }
    }
}

/// Lists the predecessor's child processes. Since exec ended all other threads, all of them belong to the first thread.
/// Call it before this program starts any. Empty where the kernel does not list children (`CONFIG_PROC_CHILDREN`,
/// proc(5)).
pub(crate) fn inherited_children() -> Vec<Pid> {
    let own = getpid().as_raw_nonzero();
    let listed = std::fs::read_to_string(format!("/proc/self/task/{own}/children")).unwrap_or_default();
    let pids = listed.split_ascii_whitespace();
    pids.filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    #[expect(clippy::zombie_processes, reason = "that it is none is what is tested")]
    async fn an_inherited_child_leaves_no_zombie() {
        let child = Command::new("sleep").arg("0.1").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let reaped = timeout(Duration::from_secs(10), reap(vec![pid]));
        reaped.await.expect("it ends").unwrap();
        let again = waitpid(Some(pid), WaitOptions::NOHANG);
        assert_eq!(again.unwrap_err(), rustix::io::Errno::CHILD);
    }
}
