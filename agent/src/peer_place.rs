//! Where the peer of a Unix socket is: on this host, or in a container that has a folder of the host. A read-only bind mount
//! does not keep anybody from connecting to a socket in it, and the user of a container may have the same id.

use std::{fs, io, os::unix::fs::MetadataExt};

use tokio::net::UnixStream;

/// Whether the peer sees the processes and the file tree that this process sees. One with another `/tmp` does (pam_namespace,
/// `PrivateTmp`); one in a container does not.
///
/// # Errors
/// When the peer is gone, or hides.
pub(crate) fn is_here(stream: &UnixStream) -> io::Result<bool> {
    let pid = stream.peer_cred()?.pid();
    // 0: it has no number here, because it is in a namespace of processes that is not below ours (unix(7)).
    match pid.filter(|pid| *pid > 0) {
        Some(pid) => Ok(Place::of(&pid.to_string())? == Place::of("self")?),
        None => Ok(false),
    }
}

/// Where a process is.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    processes: Processes,
    root: Option<Root>,
}

/// Which processes it sees.
#[derive(Debug, PartialEq, Eq)]
enum Processes {
    /// How many numbers it has: one more for each namespace between it and this process.
    Numbers(usize),
    /// Its namespace, where the kernel does not list the numbers (before Linux 4.1).
    Namespace(u64),
}

/// The file system of its root directory, and the folder in it.
type Root = (String, String);

impl Place {
    /// Reads only what anybody may read: a login with another primary group may not be traced (ptrace(2)).
    fn of(process: &str) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let processes = match numbers(&status) {
            Some(count) => Processes::Numbers(count),
            None => Processes::Namespace(fs::metadata(format!("/proc/{process}/ns/pid"))?.ino()),
        };
        let mounts = fs::read_to_string(format!("/proc/{process}/mountinfo"))?;
        Ok(Self {
            processes,
            root: root(&mounts),
        })
    }
}

/// How many numbers the process has (`NSpid`, proc_pid_status(5)).
fn numbers(status: &str) -> Option<usize> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    Some(line.split_ascii_whitespace().count())
}

/// The last mount on `/` (proc_pid_mountinfo(5)): its device, and its root in that.
fn root(mounts: &str) -> Option<Root> {
    let on_root = |line: &str| {
        let mut fields = line.split(' ').skip(2);
        let (device, root, point) = (fields.next()?, fields.next()?, fields.next()?);
        (point == "/").then(|| (device.to_owned(), root.to_owned()))
    };
    mounts.lines().filter_map(on_root).next_back()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn a_process_of_this_host_is_here() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("control")).unwrap();
        let (accepted, connected) =
            tokio::join!(listener.accept(), UnixStream::connect(dir.path().join("control")));
        let _held = connected.unwrap();
        assert!(is_here(&accepted.unwrap().0).unwrap());
    }

    /// The place of a process that `unshare` starts with these options, as seen from here. None where it may not.
    fn started_with(options: &[&str]) -> Option<Place> {
        let mut child = Command::new("unshare")
            .args(options)
            .args(["/bin/sh", "-c", "echo $$; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        let mut output = io::BufReader::new(child.stdout.take()?);
        io::BufRead::read_line(&mut output, &mut line).ok()?;
        let parent = child.id();
        let children =
            fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        let inner = children.split_ascii_whitespace().next().map(str::to_owned);
        let place = Place::of(&inner.unwrap_or_else(|| parent.to_string())).ok();
        drop(child.stdin.take());
        child.wait().ok()?;
        (!line.is_empty()).then_some(place)?
    }

    #[test]
    fn another_tmp_is_no_other_place_and_other_processes_are() {
        let ours = Place::of("self").unwrap();
        let Some(other_mounts) = started_with(&["-m"]) else {
            return;
        };
        assert_eq!(other_mounts, ours);
        let other_processes = started_with(&["-m", "-p", "-f"]).unwrap();
        assert_ne!(other_processes, ours);
    }

    #[test]
    fn a_container_has_another_root_or_more_numbers() {
        assert_eq!(numbers("Name:\tcat\nNSpid:\t4711\t1\n"), Some(2));
        assert_eq!(numbers("Name:\tcat\n"), None);
        let host = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:5 / /dev rw - devtmpfs udev rw\n";
        let container =
            "500 400 0:99 / / rw - overlay overlay rw\n501 500 8:1 /home /d ro - ext4 /dev/sda1 rw\n";
        assert_eq!(root(host), Some(("8:1".to_owned(), "/".to_owned())));
        assert_ne!(root(host), root(container));
        assert_eq!(root(""), None);
    }
}
