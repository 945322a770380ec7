//! Processes that an earlier program of this process started: nobody else waits for their end (wait(2)).

use std::io;

use rustix::process::{Pid, WaitOptions, getpid, waitpid};
use tokio::signal::unix::{SignalKind, signal};

/// Waits for the end of `children`, so that none stays as a zombie. What this program starts is not among them: whoever
/// starts it waits for it.
///
/// # Errors
/// When signals cannot be heard.
pub(crate) async fn reap(mut children: Vec<Pid>) -> io::Result<()> {
    let mut ended = signal(SignalKind::child())?;
    loop {
        // An error tells that it is no child any more.
        children.retain(|child| matches!(waitpid(Some(*child), WaitOptions::NOHANG), Ok(None)));
        if children.is_empty() || ended.recv().await.is_none() {
            return Ok(());
        }
    }
}

/// All children of the program before: exec ended its threads, and theirs are the first thread's now. To be asked before
/// that thread starts any. None where the kernel does not list them (`CONFIG_PROC_CHILDREN`, proc(5)).
pub(crate) fn children() -> Vec<Pid> {
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
    async fn a_child_that_nobody_waits_for_leaves_no_zombie() {
        let child = Command::new("sleep").arg("0.1").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let reaped = timeout(Duration::from_secs(10), reap(vec![pid]));
        reaped.await.expect("it ends").unwrap();
        let again = waitpid(Some(pid), WaitOptions::NOHANG);
        assert_eq!(again.unwrap_err(), rustix::io::Errno::CHILD);
    }
}
