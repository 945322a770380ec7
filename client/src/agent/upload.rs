//! One attempt to upload an agent to a folder of a host.

use std::time::Duration;

use jq_common::{bootstrap::Nonce, protocol::hex, text};
use sha2::{Digest, Sha256};
use tokio::{io::AsyncReadExt, task::spawn_blocking, time::timeout};

use super::{
    bundle::Agent,
    script::{ENTER, nonce, with_variables},
};
use crate::{
    error::{Failure, Kind},
    reporter::Reporter,
    ssh::{RemoteHost, Shell, shell},
};

/// Result of an upload. Except for `Done`, nothing is left on the host.
pub(super) enum Outcome {
    /// The agent is installed.
    Done,
    /// The data was corrupted on the way.
    Damaged,
    /// The host could not write the file.
    Refused {
        /// The error message of the host.
        why: String,
        /// Free space in KiB, if known.
        free: Option<u64>,
    },
}

/// Bytes between two reports of progress.
const PIECE: usize = 64 * 1024;

/// Timeout for writing and verifying the file on the host.
const SETTLES: Duration = Duration::from_secs(120);

pub(super) async fn upload(
    host: &dyn RemoteHost,
    agent: &Agent,
    folder: &str,
    packed: bool,
    reporter: &dyn Reporter,
) -> Result<Outcome, Failure> {
    let content = content(agent, packed).await?;
    let nonce = nonce()?;
    let script = with_variables(
        &[
            ("nonce", &nonce.to_string()),
            ("folder", folder),
            ("agent", &agent.file_name()),
            ("sha256", agent.sha256()),
            ("packed", if packed { "yes" } else { "" }),
        ],
        &[ENTER, include_str!("receive.sh")].concat(),
    );
    let mut shell = shell::run(host, &script, &nonce).await?;
    send(&mut shell, &content, reporter).await;
    shell.end_input();
    let answer = shell.line(SETTLES).await?;
    shell.close().await;
    match outcome(&answer) {
        Some(outcome) => Ok(outcome),
        None if answer == "unverified" => confirm(host, agent, folder, &format!(".new-{nonce}")).await,
        None => Err(unexpected(host, &answer)),
    }
}

async fn content(agent: &Agent, packed: bool) -> Result<Vec<u8>, Failure> {
    let agent = agent.clone();
    let failed = |e: &dyn std::fmt::Display| Failure::new(Kind::Local, "cannot unpack the agent").because(e);
    spawn_blocking(move || if packed { agent.packed() } else { agent.raw() })
        .await
        .map_err(|e| failed(&e))?
        .map_err(|e| failed(&e))
}

/// Sends the content. Returns nothing: a host that stops reading prints the cause, which is read next.
async fn send(shell: &mut Shell, content: &[u8], reporter: &dyn Reporter) {
    let host = shell.host().to_owned();
    let total = content.len() as u64;
    let mut done = 0;
    reporter.bytes(&host, done, total);
    for piece in content.chunks(PIECE) {
        if shell.write(piece).await.is_err() {
            return;
        }
        done += piece.len() as u64;
        reporter.bytes(&host, done, total);
    }
}

/// Reads the file back and verifies it on this machine, for a host without `sha256sum`.
async fn confirm(host: &dyn RemoteHost, agent: &Agent, folder: &str, new: &str) -> Result<Outcome, Failure> {
    let nonce = nonce()?;
    let script = with_variables(
        &[
            ("nonce", &nonce.to_string()),
            ("folder", folder),
            ("agent", &agent.file_name()),
            ("new", new),
        ],
        &[ENTER, include_str!("confirm.sh")].concat(),
    );
    let mut shell = shell::run(host, &script, &nonce).await?;
    let is_right = match timeout(SETTLES, read_back(&mut shell, agent.length(), &nonce)).await {
        Ok(Ok(content)) => hex::encode(&Sha256::digest(&content)) == agent.sha256(),
        _ => false,
    };
    let _ = shell.write(if is_right { b"keep\n" } else { b"drop\n" }).await;
    let answer = shell.line(SETTLES).await?;
    shell.close().await;
    outcome(&answer).ok_or_else(|| unexpected(host, &answer))
}

/// Reads up to the marker, at most slightly more than `length` bytes.
async fn read_back(shell: &mut Shell, length: u64, nonce: &Nonce) -> std::io::Result<Vec<u8>> {
    let marker = format!("\n{nonce}\n").into_bytes();
    let most = usize::try_from(length)
        .unwrap_or(usize::MAX)
        .saturating_add(marker.len());
    let mut content = Vec::new();
    while content.len() <= most && !content.ends_with(&marker) {
        if shell.output().read_buf(&mut content).await? == 0 {
            break;
        }
    }
    content.truncate(content.len().saturating_sub(marker.len()));
    Ok(content)
}

fn outcome(answer: &str) -> Option<Outcome> {
    let mut fields = answer.splitn(3, '\t');
    match fields.next()? {
        "done" => Some(Outcome::Done),
        "damaged" => Some(Outcome::Damaged),
        "failed" => {
            let free = fields.next().and_then(|kib| kib.parse().ok());
            let why = text::one_line(fields.next().unwrap_or_default(), 200);
            let why = if why.is_empty() {
                "it is not writable".to_owned()
            } else {
                why
            };
            Some(Outcome::Refused { why, free })
        }
        _ => None,
    }
}

fn unexpected(host: &dyn RemoteHost, answer: &str) -> Failure {
    Failure::new(Kind::InstallFailed, "cannot upload the agent")
        .on(host.name())
        .because(format!("the host answered: {}", text::one_line(answer, 200)))
}

/// Whether `why` means that the disk is full.
pub(super) fn is_full(why: &str) -> bool {
    let why = why.to_lowercase();
    ["no space", "quota", "too large"]
        .iter()
        .any(|text| why.contains(text))
}

/// Whether another attempt would be useless.
pub(super) fn is_final(why: &str) -> bool {
    is_full(why) || ["ead-only", "denied"].iter().any(|text| why.contains(text))
}
