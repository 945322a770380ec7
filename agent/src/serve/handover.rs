//! Making way for another build of the agent, which goes on in this very process (execve(2)): with its sockets, its
//! certificate and its sessions, so that no stream notices.
//!
//! What comes before the streams stop may be refused and changes nothing. Afterwards the successor restores everything
//! from an [`snapshot`]; and where the system does not start it, this program does so itself, in the same way.

mod reaper;
pub(crate) mod snapshot;

use std::{
    convert::Infallible,
    fs::File,
    io,
    os::{
        fd::OwnedFd,
        unix::{fs::MetadataExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::Ordering,
    time::Duration,
};

use jq_common::{
    bootstrap::{BootstrapReply, UpgradeRequest},
    codec,
    protocol::{
        limits,
        version::{ALPN, BUILD},
    },
};
use quinn::Connection;
use tokio::{
    net::UnixStream,
    process::Command,
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};

pub(super) use self::reaper::{children, reap};
use self::snapshot::{FORMATS, Header, Snapshot};
use super::{GRACE, Shared, within};
use crate::rundir::RunDir;

/// How long requests that are being worked on may take to end.
const REQUESTS: Duration = Duration::from_secs(3);

/// How long the successor may take to say its version.
const VERSION: Duration = Duration::from_secs(3);

/// How long the clients' farewells may take to be sent.
const FAREWELLS: Duration = Duration::from_millis(50);

/// Between two looks whether they were.
const LOOK: Duration = Duration::from_millis(1);

/// How long all streams together may take to stop.
const STANDSTILL: Duration = Duration::from_secs(1);

/// An upgrade that was agreed to.
pub struct Upgrade {
    /// Who waits to hear that the successor is there.
    asker: UnixStream,
    successor: PathBuf,
    run_dir: PathBuf,
    /// What the successor reads.
    format: u32,
    lock: File,
}

/// Gets ready to make way, while the streams go on.
///
/// # Errors
/// Why this agent stays, in one line. Nothing has changed then.
pub(super) async fn prepare(request: UpgradeRequest, shared: &Shared) -> Result<Prepared, String> {
    if shared.stays.load(Ordering::Relaxed) {
        return Err("an upgrade has failed before".to_owned());
    }
    let format = check(&request)?;
    runs(&request.successor).await?;
    let folder = RunDir::at(request.run_dir.clone());
    let lock = folder.and_then(|folder| folder.lock());
    let lock = lock
        .map_err(|error| format!("{}: {error}", request.run_dir.display()))?
        .ok_or("the successor runs already")?;
    if !shared.quiesce.close() {
        return Err("an upgrade is under way".to_owned());
    }
    if timeout(REQUESTS, shared.quiesce.empty()).await.is_err() {
        shared.quiesce.open();
        return Err("a workload is being started".to_owned());
    }
    within("helpers", shared.workloads.shutdown()).await;
    Ok(Prepared {
        request,
        format,
        lock,
    })
}

/// Nothing stands in the way of an upgrade.
pub(super) struct Prepared {
    request: UpgradeRequest,
    format: u32,
    lock: File,
}

impl Prepared {
    /// `asker` is told when the successor is there.
    pub(super) fn for_asker(self, asker: UnixStream) -> Upgrade {
        Upgrade {
            asker,
            successor: self.request.successor,
            run_dir: self.request.run_dir,
            format: self.format,
            lock: self.lock,
        }
    }
}

/// The format in which the successor is to be left everything.
fn check(request: &UpgradeRequest) -> Result<u32, String> {
    let version = |text: &str| parse_version(text).ok_or_else(|| format!("`{text}` is no version"));
    if version(&request.version)? < version(BUILD)? {
        return Err(format!("this agent's version {BUILD} is newer"));
    }
    if request.handshake.as_bytes() != ALPN {
        return Err("its clients would not understand the successor".to_owned());
    }
    let format = FORMATS
        .newest_shared(request.formats)
        .ok_or("the successor would not understand what this agent leaves")?;
    let file = std::fs::metadata(&request.successor);
    let file = file.map_err(|error| format!("{}: {error}", request.successor.display()))?;
    let own = rustix::process::geteuid().as_raw();
    if !file.is_file() || file.uid() != own || file.mode() & 0o022 != 0 || file.mode() & 0o100 == 0 {
        let path = request.successor.display();
        return Err(format!("{path} is not a program that only its user may change"));
    }
    Ok(format)
}

/// Whether the program runs here: for the right machine, whole, and not in a place that forbids it.
async fn runs(program: &Path) -> Result<(), String> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    match timeout(VERSION, command.output()).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(format!("{}: {}", program.display(), output.status)),
        Ok(Err(error)) => Err(format!("{}: {error}", program.display())),
        Err(_) => Err(format!("{}: it does not answer", program.display())),
    }
}

/// The numbers of a version, and whether it is a release, so that they compare as the versions do (Semantic Versioning
/// 2.0.0, section 11; pre-releases of the same version count as equal).
fn parse_version(text: &str) -> Option<([u64; 3], bool)> {
    let text = text.split('+').next()?;
    let (numbers, release) = match text.split_once('-') {
        Some((numbers, _)) => (numbers, false),
        None => (text, true),
    };
    let mut parts = numbers.split('.').map(|part| part.parse().ok());
    let version = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some((version, release))
}

/// Stops all streams where they are. What is left of their sessions, with everything else.
///
/// The clients' connections are closed, and they come back at once by new ones. What they send meanwhile waits in the
/// kernel: nothing is read any more.
pub(super) async fn close(shared: &Shared, rest: Rest) -> Snapshot {
    let sessions = shared.sessions.all();
    let mut leaving = Vec::new();
    for session in &sessions {
        let before = session.connection().map(|connection| sent(&connection));
        leaving.extend(session.freeze().zip(before));
    }
    let mut snapshot = Snapshot {
        head: Header {
            sessions: Vec::new(),
            linger_s: shared.idle_shutdown.linger().as_secs(),
            allowed: shared.allowed.all(),
            reset_secret: shared.reset_secret,
            boot: shared.sessions.boot(),
            certificate: shared.identity.parts().0.to_vec(),
            key: shared.identity.parts().1.to_vec(),
        },
        udp: rest.udp,
        asker: None,
        locks: rest.locks,
        controls: rest.controls,
        sockets: Vec::new(),
        held: Vec::new(),
    };
    let standing = async {
        for session in sessions {
            let exported = session.export().await;
            snapshot.head.sessions.push(exported.state);
            snapshot.sockets.extend(exported.sockets);
            snapshot.held.extend(exported.held);
        }
    };
    if timeout(STANDSTILL, standing).await.is_err() {
        tracing::error!("streams did not stop; their sessions are lost");
    }
    let told = async {
        while leaving
            .iter()
            .any(|(connection, before)| sent(connection) == *before)
        {
            sleep(LOOK).await;
        }
    };
    // Who does not hear of it is told by the successor, with his next packet (RFC 9000, section 10.3).
    let _ = timeout(FAREWELLS, told).await;
    snapshot
}

fn sent(connection: &Connection) -> u64 {
    connection.stats().udp_tx.datagrams
}

/// What of a [`Server`](super::Server) goes over as it is.
pub(super) struct Rest {
    pub(super) udp: std::net::UdpSocket,
    pub(super) locks: Vec<File>,
    pub(super) controls: Vec<std::os::unix::net::UnixListener>,
}

/// Becomes the successor. Returns only when that failed: then nothing has changed, and the snapshot is as it was, without
/// the successor's lock.
pub(super) fn become_successor(upgrade: Upgrade, snapshot: &mut Snapshot) -> (io::Error, Option<UnixStream>) {
    let Upgrade {
        asker,
        successor,
        run_dir,
        format,
        lock,
    } = upgrade;
    match asker.into_std() {
        Ok(asker) => snapshot.asker = Some(asker),
        Err(error) => return (error, None),
    }
    snapshot.locks.push(lock);
    let error = match execute(&successor, &run_dir, format, snapshot) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    // Before anybody hears of the failure: the lock is then free for another start.
    snapshot.locks.pop();
    let asker = snapshot
        .asker
        .take()
        .and_then(|asker| UnixStream::from_std(asker).ok());
    (error, asker)
}

fn execute(successor: &Path, run_dir: &Path, format: u32, snapshot: &Snapshot) -> io::Result<Infallible> {
    rustix::stdio::dup2_stdin(snapshot.pack(format)?)?;
    let error = std::process::Command::new(successor)
        .args(["serve", "--inherit", "--run-dir"])
        .arg(run_dir)
        .exec();
    // std has exec give SIGPIPE its default back, which would end this process at the next write to a socket whose peer
    // is gone. Whoever registers for it is not ended by it; that holds for the first time only.
    if let Err(error) = signal(SignalKind::pipe()) {
        tracing::error!(%error, "SIGPIPE");
    }
    // What lies in it must not keep sockets open.
    null_stdin()?;
    Err(error)
}

/// What the predecessor left on standard input, which is empty afterwards.
///
/// # Errors
/// When there is nothing of the kind.
pub(super) fn inherit() -> io::Result<Snapshot> {
    let snapshot = Snapshot::unpack(io::stdin());
    null_stdin()?;
    snapshot
}

/// Tells who asked for an upgrade what came of it.
pub(super) async fn answer(mut asker: UnixStream, reply: &BootstrapReply) {
    // One that has gone does not need it.
    let _ = codec::write(&mut asker, reply, limits::BOOTSTRAP_FRAME).await;
}

fn null_stdin() -> io::Result<()> {
    let null: OwnedFd = File::open("/dev/null")?.into();
    Ok(rustix::stdio::dup2_stdin(null)?)
}

/// How long the whole of a preparation may take, for who waits for it.
pub(crate) const PREPARATION: Duration = VERSION
    .saturating_add(REQUESTS)
    .saturating_add(GRACE)
    .saturating_add(STANDSTILL);

#[cfg(test)]
mod tests;
