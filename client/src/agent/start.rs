//! Starts the agent on a host, installs it first if necessary, and exchanges one message each way over its shell.

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
    probe::{self, Experience, Report, Start},
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

/// Timeout for one line of the first exchange: a folder may be on a slow network file system.
const LINE: Duration = Duration::from_secs(30);

/// Limit of lines in a report.
const LINES: usize = 100;

/// Timeout for the answer of the agent.
const ANSWER: Duration = Duration::from_secs(30);

/// An agent that waits for its request. Dropping it ends its shell and thereby the agent.
pub(crate) struct Prepared {
    shell: Shell,
}

/// Starts the agent on `host`, up to the point where it waits for its request. Installs it first if it is missing.
///
/// # Errors
/// When no shell can be started, the host is not supported, no folder accepts the agent, or it does not start.
pub(crate) async fn prepare<'a>(
    host: &dyn RemoteHost,
    start: impl Into<Start<'a>>,
    bundle: &Bundle,
    reporter: &dyn Reporter,
) -> Result<Prepared, Failure> {
    let start = start.into();
    let mut experience = Experience::default();
    let mut installed = false;
    loop {
        reporter.step(host.name(), "starting the agent");
        let (mut shell, nonce, report) = look(host, start, bundle, &experience).await?;
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
    Failure::new(Kind::InstallFailed, "the agent disappeared after its upload")
        .on(host)
        .because("its file is missing or cannot be executed")
        .hint("a virus scanner or a clean-up job may remove it: ask the administrator")
}

/// Runs the first exchange. If the agent was found, the shell is about to be replaced by it.
async fn look(
    host: &dyn RemoteHost,
    start: Start<'_>,
    bundle: &Bundle,
    experience: &Experience,
) -> Result<(Shell, Nonce, Report), Failure> {
    let nonce = nonce()?;
    let script = probe::script(&nonce, start, bundle, experience);
    let mut shell = shell::run(host, &script, &nonce).await?;
    let mut report = Report::default();
    for _ in 0..LINES {
        if report.take(&shell.line(LINE).await?) {
            return Ok((shell, nonce, report));
        }
    }
    Err(invalid(host.name(), "its report has no end"))
}

/// Whether the file that was found cannot be executed, because it is truncated or its file system is noexec. Exit statuses
/// of sh(1): 126 and 127 mean so, 2 is a broken file that was read as a script, and higher ones are signals.
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
                .hint("the host's kernel may be too old, or security software may kill unknown programs")
        }
        NoMarker::Silent(_) | NoMarker::TooLoud(_) => failure
            .because("it does not answer within 30 s")
            .hint("the host may be overloaded: try again"),
    }
}

impl Prepared {
    /// Asks the agent to admit a client.
    ///
    /// # Errors
    /// As [`Prepared::exchange`].
    pub(crate) async fn admit(self, request: AdmitRequest) -> Result<AdmitReply, Failure> {
        let host = self.shell.host().to_owned();
        match self.exchange(&BootstrapRequest::Admit(request)).await? {
            Started::Serve(reply) => Ok(reply),
            Started::Relay(_) => Err(invalid(&host, "it started as a relay")),
        }
    }

    /// Asks the relay to forward between a client and an agent.
    ///
    /// # Errors
    /// As [`Prepared::exchange`].
    pub(crate) async fn relay(self, request: RelayRequest) -> Result<RelayReply, Failure> {
        let host = self.shell.host().to_owned();
        match self.exchange(&BootstrapRequest::Relay(request)).await? {
            Started::Relay(reply) => Ok(reply),
            Started::Serve(_) => Err(invalid(&host, "it started as a server")),
        }
    }

    /// Asks the agent to admit a client, and turns the shell's input and output into a pipe of packets to the agent.
    ///
    /// # Errors
    /// As [`Prepared::exchange`].
    pub(crate) async fn admit_and_tunnel(
        mut self,
        request: AdmitRequest,
    ) -> Result<(AdmitReply, Pipe), Failure> {
        match self.ask(&BootstrapRequest::AdmitAndTunnel(request)).await? {
            Started::Serve(reply) => Ok((reply, Pipe { shell: self.shell })),
            Started::Relay(_) => Err(invalid(self.shell.host(), "it started as a relay")),
        }
    }

    /// Sends the request and returns the answer. Does not wait for the end of the shell.
    ///
    /// # Errors
    /// A failure that the agent reports; or that the agent ended, answered with invalid data, or not within 30 s.
    pub(crate) async fn exchange(mut self, request: &BootstrapRequest) -> Result<Started, Failure> {
        self.ask(request).await
    }

    async fn ask(&mut self, request: &BootstrapRequest) -> Result<Started, Failure> {
        let host = self.shell.host().to_owned();
        let frame = codec::encode(request, limits::BOOTSTRAP_FRAME).map_err(|e| invalid(&host, e))?;
        // A write error means that the agent has ended; its output gives the cause.
        let _ = self.shell.write(&frame).await;
        let read = codec::read_within::<BootstrapReply>(self.shell.output(), limits::BOOTSTRAP_FRAME, ANSWER);
        match read.await {
            Ok(Ok(started)) => Ok(started),
            Ok(Err(failure)) => Err(Failure::of_agent(&host, failure)),
            Err(FrameError::Ended | FrameError::Io(_)) => {
                let words = self.shell.last_words().await;
                Err(invalid(
                    &host,
                    if words.is_empty() {
                        "it ended without an answer"
                    } else {
                        &words
                    },
                ))
            }
            Err(error) => Err(invalid(&host, error)),
        }
    }
}

/// A pipe of packets to an agent, through a shell on its host. Dropping it ends the shell.
pub(crate) struct Pipe {
    shell: Shell,
}

impl Pipe {
    /// Reader and writer for a [carrier](jq_common::carrier::pipe::over), and the local process of the shell. Dropping the
    /// process ends the pipe.
    ///
    /// # Errors
    /// When the shell's input was closed before.
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

fn invalid(host: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(Kind::AgentFailed, "the agent's answer is invalid")
        .on(host)
        .because(why)
        .hint("try again; if it persists, the client and the agent are of different versions")
}

#[cfg(test)]
mod tests;
