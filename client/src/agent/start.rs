//! The agent's start on a host, and the one message each way over its shell.

use std::{io, time::Duration};

use jq_common::{
    bootstrap::{
        AdmitReply, AdmitRequest, BootstrapReply, BootstrapRequest, Nonce, RelayReply, RelayRequest, Started,
    },
    codec::{self, FrameError},
    protocol::limits,
    text,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    bundle::Bundle,
    install,
    probe::{self, Experience, Report, Role},
    script::nonce,
};
use crate::{
    error::{Failure, Kind},
    reporter::Reporter,
    ssh::{
        RemoteHost, Shell,
        shell::{self, NoMarker, Process},
    },
};

/// How long a host may think about one line of the first exchange: a folder on a slow network.
const LINE: Duration = Duration::from_secs(30);

/// How long the agent may take to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// An agent that waits for its request. Dropping it ends the shell it runs in, and the agent with it.
pub(crate) struct Prepared {
    shell: Shell,
}

/// Starts the agent on `host`, putting it there first where it is not, up to where it waits for its request.
///
/// # Errors
/// When no shell can be had, the host is not supported, no folder takes the agent, or it does not start.
pub(crate) async fn prepare(
    host: &dyn RemoteHost,
    role: Role,
    bundle: &Bundle,
    reporter: &dyn Reporter,
) -> Result<Prepared, Failure> {
    let mut experience = Experience::default();
    let mut installed = false;
    loop {
        reporter.step(host.name(), "starting the agent");
        let (mut shell, nonce, report) = look(host, role, bundle, &experience).await?;
        if let Some(folder) = report.found {
            match shell.marker(&nonce).await {
                Ok(()) => return Ok(Prepared { shell }),
                Err(no) if may_try_again(&experience, &no, installed) && cannot_run(&mut shell).await => {
                    experience.distrusted.push(folder);
                    continue;
                }
                Err(no) => return Err(does_not_start(&mut shell, &no).await),
            }
        }
        shell.close().await;
        let agent = report.choose(host.name(), bundle)?;
        if installed {
            return Err(vanished(host.name()));
        }
        let Some(folder) = &report.folder else {
            let refusals = [experience.refused, report.unfit].concat();
            return Err(install::nowhere(host.name(), agent, &refusals));
        };
        reporter.step(host.name(), "uploading the agent");
        match install::install(host, agent, folder, &report, reporter).await? {
            None => {
                installed = true;
                experience.distrusted.clear();
            }
            Some(why) => experience.refused.push((folder.clone(), why)),
        }
    }
}

fn may_try_again(experience: &Experience, no: &NoMarker, installed: bool) -> bool {
    !installed && experience.distrusted.len() < 4 && matches!(no, NoMarker::Ended(_))
}

fn vanished(host: &str) -> Failure {
    Failure::new(Kind::InstallFailed, "the agent does not stay")
        .on(host)
        .because("it was put there, and then it was gone or could not be executed")
        .hint("something there removes it (a virus scanner, a clean-up job): ask the administrator")
}

/// The first exchange. Where the agent was found, the shell is about to become it.
async fn look(
    host: &dyn RemoteHost,
    role: Role,
    bundle: &Bundle,
    experience: &Experience,
) -> Result<(Shell, Nonce, Report), Failure> {
    let nonce = nonce()?;
    let script = probe::script(&nonce, role, bundle, experience);
    let mut shell = shell::run(host, &script, &nonce).await?;
    let mut report = Report::default();
    while !report.take(&shell.line(LINE).await?) {}
    Ok((shell, nonce, report))
}

/// Whether what was found is no program that this host can run: cut short, or in a place that has become noexec.
/// sh(1): 126 and 127 say so, 2 is a broken file taken for a script, and above are signals.
async fn cannot_run(shell: &mut Shell) -> bool {
    let status = shell.exit_status().await;
    status.is_some_and(|status| !matches!(status.code(), Some(0 | 1 | 3..=125)))
}

async fn does_not_start(shell: &mut Shell, no: &NoMarker) -> Failure {
    let failure = Failure::new(Kind::AgentFailed, "the agent does not start").on(shell.host());
    match no {
        NoMarker::Ended(printed) => {
            let complaints = shell.last_words().await;
            failure
                .because(text::one_line(&format!("{complaints} {printed}"), 300).trim())
                .hint("the host's system may be too old, or something there ends unknown programs")
        }
        NoMarker::Silent(_) | NoMarker::TooLoud(_) => failure
            .because("it does not answer within 30 s")
            .hint("the host may be overloaded: try again"),
    }
}

impl Prepared {
    /// Lets a client in.
    ///
    /// # Errors
    /// As [`Prepared::exchange`].
    pub(crate) async fn serve(self, request: AdmitRequest) -> Result<AdmitReply, Failure> {
        let host = self.shell.host().to_owned();
        match self.exchange(&BootstrapRequest::Admit(request)).await? {
            Started::Serve(reply) => Ok(reply),
            Started::Relay(_) => Err(nonsense(&host, "it started as a relay")),
        }
    }

    /// Lets a client and an agent reach each other.
    ///
    /// # Errors
    /// As [`Prepared::exchange`].
    pub(crate) async fn relay(self, request: RelayRequest) -> Result<RelayReply, Failure> {
        let host = self.shell.host().to_owned();
        match self.exchange(&BootstrapRequest::Relay(request)).await? {
            Started::Relay(reply) => Ok(reply),
            Started::Serve(_) => Err(nonsense(&host, "it started as a server")),
        }
    }

    /// Lets a client in, and makes of the shell's input and output a pipe of packets to the agent.
    ///
    /// # Errors
    /// As [`Prepared::exchange`].
    pub(crate) async fn carry(mut self, request: AdmitRequest) -> Result<(AdmitReply, Pipe), Failure> {
        match self.ask(&BootstrapRequest::AdmitAndTunnel(request)).await? {
            Started::Serve(reply) => Ok((reply, Pipe { shell: self.shell })),
            Started::Relay(_) => Err(nonsense(self.shell.host(), "it started as a relay")),
        }
    }

    /// Says what is wanted, and returns what the agent answers. The shell is then dropped: that it ends is not waited for.
    ///
    /// # Errors
    /// The agent's own failure; or that it ended, answered nonsense, or did not answer within 30 s.
    pub(crate) async fn exchange(mut self, request: &BootstrapRequest) -> Result<Started, Failure> {
        self.ask(request).await
    }

    async fn ask(&mut self, request: &BootstrapRequest) -> Result<Started, Failure> {
        let host = self.shell.host().to_owned();
        let frame = codec::encode(request, limits::BOOTSTRAP_FRAME).map_err(|e| nonsense(&host, e))?;
        // An agent that does not take it has ended, which its output tells with the reason.
        let _ = self.shell.write(&frame).await;
        let read = codec::read_within::<BootstrapReply>(self.shell.output(), limits::BOOTSTRAP_FRAME, ANSWER);
        match read.await {
            Ok(Ok(started)) => Ok(started),
            Ok(Err(failure)) => Err(Failure::of_agent(&host, failure)),
            Err(FrameError::Ended | FrameError::Io(_)) => {
                let words = self.shell.last_words().await;
                Err(nonsense(
                    &host,
                    if words.is_empty() {
                        "it ended without an answer"
                    } else {
                        &words
                    },
                ))
            }
            Err(error) => Err(nonsense(&host, error)),
        }
    }
}

/// A pipe of packets to an agent, through a shell on its host. Dropping it ends the shell.
pub(crate) struct Pipe {
    shell: Shell,
}

impl Pipe {
    /// What a [carrier](jq_common::carrier::pipe::over) reads from and writes to, and the shell's local process, which
    /// must be kept for as long as the carrier is used: dropping it ends the pipe.
    ///
    /// # Errors
    /// When the shell's input was ended before.
    pub(crate) fn into_parts(
        self,
    ) -> io::Result<(
        impl AsyncRead + Send + Unpin,
        impl AsyncWrite + Send + Unpin,
        Process,
    )> {
        self.shell.into_parts()
    }
}

fn nonsense(host: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(Kind::AgentFailed, "the agent does not answer as it should")
        .on(host)
        .because(why)
        .hint("try again; if it stays so, this client and its agent do not belong together")
}

#[cfg(test)]
mod tests;
