//! A host that ssh is connected to: by a master connection of ours, or by one that the user has opened.

use std::{
    ffi::OsString,
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use super::{
    chain::Hop,
    command,
    diagnose::{self, Place},
    master::{Master, NotEstablished},
    options::SshOptions,
    shell::{RemoteHost, Shell, cannot_start},
    socket::{Socket, Sockets},
};
use crate::{
    error::{Failure, Kind},
    reporter::Reporter,
};

/// How long a master connection of the user's may take to answer this process.
const CHECK: Duration = Duration::from_secs(2);

/// How long the host at its other end may take to answer. If it does not, the connection is dead, and the user's ssh does
/// not know yet.
const ANSWER: Duration = Duration::from_secs(5);

/// A host with a master connection.
pub(crate) struct SshHost {
    hop: Hop,
    by_hand: String,
    program: OsString,
    pub(super) socket: Socket,
    /// None: the connection is the user's, and stays.
    pub(super) master: Option<Master>,
    /// A shell that runs already, and that nobody uses yet.
    first: Mutex<Option<Shell>>,
    answered: Arc<AtomicBool>,
    /// Dropped last: the connection has its socket there, and shells their logs.
    sockets: Arc<Sockets>,
}

impl SshHost {
    fn new(hop: Hop, socket: Socket, sockets: &Arc<Sockets>, options: &SshOptions) -> Self {
        Self {
            by_hand: hop.destination.to_string(),
            hop,
            program: options.program.clone(),
            socket,
            sockets: Arc::clone(sockets),
            master: None,
            first: Mutex::new(None),
            answered: Arc::default(),
        }
    }

    /// Connects to `hop`, through `previous` if there is one, on the way to `target`.
    ///
    /// # Errors
    /// When ssh cannot be started, or the connection fails; the failure names the host.
    pub(super) async fn connect(
        target: &str,
        hop: Hop,
        sockets: &Arc<Sockets>,
        options: &SshOptions,
        previous: Option<&Self>,
        reporter: &Arc<dyn Reporter>,
    ) -> Result<Self, Failure> {
        let mut host = Self::new(hop, sockets.socket(), sockets, options);
        let through = previous.map(|p| (&p.hop, &p.socket));
        let mut master = Master::start(&host.hop, &host.socket, options, through, reporter)?;
        if let Err(why) = master.established().await {
            return Err(host.failure(target, &mut master, previous, why).await);
        }
        host.master = Some(master);
        Ok(host)
    }

    async fn failure(
        &self,
        target: &str,
        master: &mut Master,
        previous: Option<&Self>,
        why: NotEstablished,
    ) -> Failure {
        let words = match why {
            NotEstablished::Ended(_) => master.last_words().await,
            NotEstablished::Endless | NotEstablished::TooLong(_) => master.words(),
        };
        let log = previous
            .and_then(|p| p.master.as_ref())
            .map(|master| master.words().log);
        let place = Place {
            name: self.name(),
            by_hand: &self.by_hand,
            hostname: &self.hop.resolved.hostname,
            known_as: &self.hop.resolved.known_as(),
            through: previous.map(|p| (p.name(), log.as_ref())),
            on_the_way_to: (self.name() != target).then_some(target),
        };
        match why {
            NotEstablished::Ended(status) => diagnose::connection(place, &words, status),
            NotEstablished::Endless => diagnose::endless(place, &words),
            NotEstablished::TooLong(limit) => Failure::new(Kind::Unreachable, "cannot connect")
                .on(self.name())
                .because(format!("the login took longer than {} s", limit.as_secs())),
        }
    }

    /// The host by a master connection that the user has opened, if there is one and the host answers through it. A gateway
    /// need not have a shell; the target must.
    pub(super) async fn of_the_user(
        hop: &Hop,
        sockets: &Arc<Sockets>,
        options: &SshOptions,
        is_target: bool,
    ) -> Option<Self> {
        let path = hop.resolved.control_path.as_deref()?;
        let socket = Socket::of_the_user(path)?;
        // Whoever listens there gets everything that is said.
        let is_own = |path: &std::path::Path| {
            let owner = rustix::fs::stat(path).map(|found| found.st_uid);
            owner.is_ok_and(|uid| uid == rustix::process::geteuid().as_raw())
        };
        if !is_own(path) || !is_open(options, hop, &socket).await {
            return None;
        }
        let host = Self::new(hop.clone(), socket, sockets, options);
        let mut shell = host.shell().ok()?;
        match shell.is_opened(ANSWER).await {
            Some(true) => *host.first.lock().unwrap_or_else(PoisonError::into_inner) = Some(shell),
            Some(false) if !is_target && shell.was_refused() => {}
            answer => {
                tracing::info!(
                    host = host.name(),
                    ?answer,
                    "the user's master connection is of no use"
                );
                return None;
            }
        }
        Some(host)
    }

    /// Name or address that ssh connects to.
    #[must_use]
    pub(crate) fn hostname(&self) -> &str {
        &self.hop.resolved.hostname
    }

    /// Its destination and settings.
    #[must_use]
    pub(crate) fn hop(&self) -> &Hop {
        &self.hop
    }

    /// Whether a shell there has ever run a script.
    pub(crate) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    fn start_shell(&self) -> Result<Shell, Failure> {
        let log = self.sockets.log();
        let mut command = Command::new(&self.program);
        command.args(command::shell(&self.hop, &self.socket, &log));
        Shell::start(self.name(), command, Some(log), Arc::clone(&self.answered))
            .map_err(|e| cannot_start(&self.program.to_string_lossy(), &e))
    }
}

impl RemoteHost for SshHost {
    fn name(&self) -> &str {
        self.hop.destination.written()
    }

    fn shell(&self) -> Result<Shell, Failure> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.map_or_else(|| self.start_shell(), Ok)
    }
}

/// Whether somebody answers at a control socket (`ssh -O check`).
async fn is_open(options: &SshOptions, hop: &Hop, socket: &Socket) -> bool {
    let mut check = Command::new(&options.program);
    check
        .args(command::check(hop, socket))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let status = timeout(CHECK, check.status()).await;
    status.is_ok_and(|status| status.is_ok_and(|status| status.success()))
}
