//! Waits until Jupyter answers, and explains why it does not.

use std::{future::Future, time::Duration};

use jq_common::protocol::workload::{Failure, FailureKind, JupyterKind};
use tokio::time::{Instant, sleep};

use super::{
    command::{is_missing, name},
    probe::{Listener, Reason, probe},
};
use crate::{
    engine::Exit,
    failure::fail,
    workload::{EventSink, RunningWorkload},
};

/// Time limit for Jupyter to answer; big images on cold disks need most of it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);
/// Interval between probes.
const INTERVAL: Duration = Duration::from_millis(250);
/// Interval at which the user is shown its output.
const OUTPUT_INTERVAL: Duration = Duration::from_secs(2);

/// How the wait ended.
#[derive(Debug)]
pub(crate) enum Outcome<E> {
    /// Our Jupyter answers.
    Ready,
    /// A Jupyter answers that refuses our token.
    OtherToken,
    /// The command that runs it has ended.
    Ended(E),
    /// Time is up, or what listens there cannot become our Jupyter; the last result of the probe.
    NotReady(Listener),
}

/// Probes until Jupyter answers, `ended` completes, or time is up. `last_line` returns its latest output, for the user.
pub(crate) async fn wait<E, L>(
    workload: &dyn RunningWorkload,
    port: u16,
    token: &str,
    ended: impl Future<Output = E>,
    last_line: impl Fn() -> L,
    events: &EventSink,
) -> Outcome<E>
where
    L: Future<Output = Option<String>>,
{
    let deadline = Instant::now() + TIMEOUT;
    let probing = async {
        let (mut shown, mut reports) = (Instant::now(), 0);
        loop {
            match probe(workload, port, token).await {
                Listener::Ours => return Outcome::Ready,
                Listener::OtherToken => return Outcome::OtherToken,
                found @ Listener::Unusable(Reason::NoToken | Reason::OtherUser(_)) => {
                    return Outcome::NotReady(found);
                }
                found if Instant::now() >= deadline => return Outcome::NotReady(found),
                Listener::None(_) | Listener::Unusable(Reason::NotJupyter(_)) => {}
            }
            if shown.elapsed() >= OUTPUT_INTERVAL {
                shown = Instant::now();
                reports += 1;
                if let Some(line) = last_line().await {
                    events.detail(reports, line);
                }
            }
            sleep(INTERVAL).await;
        }
    };
    tokio::select! {
        outcome = probing => outcome,
        end = ended => Outcome::Ended(end),
    }
}

/// The failure when Jupyter's command has ended.
pub(crate) fn ended(kind: JupyterKind, image: &str, exit: &Exit, log: &[String]) -> Failure {
    let jupyter = name(kind);
    if kind != JupyterKind::None && is_missing(exit.code, log) {
        return missing(kind, image, &last_output(log).unwrap_or_default());
    }
    let how = match exit {
        Exit {
            out_of_memory: true, ..
        } => "it was killed because memory ran out".to_owned(),
        Exit { code: Some(137), .. } => "it was killed".to_owned(),
        Exit { code: Some(code), .. } => format!("exit code {code}"),
        Exit { code: None, .. } => "it is gone".to_owned(),
    };
    let what = if kind == JupyterKind::None {
        "the image's own command ended at once".to_owned()
    } else {
        format!("{jupyter} ended before it answered")
    };
    let hint = if kind == JupyterKind::None {
        "`--jupyter none` runs what the image runs: use an image whose command keeps running, or let jq start Jupyter"
    } else {
        "the lines above are the end of its output; try another image or tag with `--image`"
    };
    let why = match last_output(log) {
        Some(words) => format!("{how}; its last output: {words}"),
        None if exit.error.is_empty() => format!("{how}, without any output"),
        None => format!("{how}; {}", exit.error),
    };
    fail(FailureKind::StartFailed, what, why, hint)
}

/// The failure when Jupyter is not in the image.
pub(crate) fn missing(kind: JupyterKind, image: &str, words: &str) -> Failure {
    let jupyter = name(kind);
    if words.to_lowercase().contains("exec format error") {
        return fail(
            FailureKind::CommandMissing,
            format!("`{image}` cannot run on this host"),
            words,
            "the image is for another processor architecture: use one for this host",
        );
    }
    let why = if words.is_empty() {
        "there is no `jupyter` on its PATH".to_owned()
    } else {
        format!("there is no `jupyter` on its PATH; its last output: {words}")
    };
    fail(
        FailureKind::CommandMissing,
        format!("`{image}` has no {jupyter}"),
        why,
        "use an image that has it (quay.io/jupyter/base-notebook, quay.io/jupyter/pytorch-notebook), \
         or `--jupyter none` to run the image as it is",
    )
}

/// The failure when a Jupyter answers that refuses our token.
pub(crate) fn other_token(kind: JupyterKind, port: u16) -> Failure {
    fail(
        FailureKind::StartFailed,
        format!(
            "the {} on port {port} does not take this session's token",
            name(kind)
        ),
        "it was started by someone else, or its configuration sets a token or password of its own",
        "remove `c.IdentityProvider.token` or `c.ServerApp.token` from its configuration; or use `--jupyter none`, \
         forward the port with `-L`, and its own token",
    )
}

/// The failure when a Jupyter answers that requires no token.
pub(crate) fn no_token(kind: JupyterKind) -> Failure {
    fail(
        FailureKind::StartFailed,
        format!("{} would admit every user of the host", name(kind)),
        "its configuration disables the token",
        "remove `c.ServerApp.token`, `c.NotebookApp.token`, `c.IdentityProvider.token` and any identity provider from \
         its configuration, usually a file in ~/.jupyter (`jupyter --paths` lists the folders), and stop it if it is still \
         running",
    )
}

/// The failure when another user of the host listens on Jupyter's port.
pub(crate) fn other_user(kind: JupyterKind, why: &str) -> Failure {
    fail(
        FailureKind::StartFailed,
        format!("another user has taken the port of {}", name(kind)),
        why,
        "stop that Jupyter if it is still running, and run the same command again: it uses another port",
    )
}

/// The failure when time is up, or when what listens there cannot be used.
pub(crate) fn not_ready(kind: JupyterKind, found: &Listener, log: &[String]) -> Failure {
    let last = match found {
        Listener::Unusable(Reason::NoToken) => return no_token(kind),
        Listener::Unusable(Reason::OtherUser(why)) => return other_user(kind, why),
        Listener::None(why) | Listener::Unusable(Reason::NotJupyter(why)) => why.clone(),
        Listener::Ours | Listener::OtherToken => String::new(),
    };
    let why = match last_output(log) {
        Some(words) => format!("{last}; its last output: {words}"),
        None => last,
    };
    fail(
        FailureKind::StartFailed,
        format!(
            "{} did not answer within {} seconds",
            name(kind),
            TIMEOUT.as_secs()
        ),
        why,
        "it may still become ready: run the same command again, or look at its log",
    )
}

/// Joins the last few lines into one.
pub(crate) fn last_output(log: &[String]) -> Option<String> {
    const LINES: usize = 6;
    let last = &log[log.len().saturating_sub(LINES)..];
    (!last.is_empty()).then(|| last.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i64) -> Exit {
        Exit {
            code: Some(code),
            ..Exit::default()
        }
    }

    #[test]
    fn a_missing_jupyter_is_distinguished_from_a_broken_one() {
        let log = ["Traceback".to_owned(), "PermissionError: /x".to_owned()];
        let broken = ended(JupyterKind::Lab, "image", &exit(1), &log);
        assert_eq!(broken.kind, FailureKind::StartFailed);
        assert!(broken.why.contains("exit code 1") && broken.why.contains("PermissionError"));
        let missing = ended(JupyterKind::Lab, "busybox", &exit(127), &[]);
        assert_eq!(missing.kind, FailureKind::CommandMissing);
        assert_eq!(missing.what, "`busybox` has no JupyterLab");
        let short = ended(JupyterKind::None, "busybox", &exit(0), &[]);
        assert!(short.what.contains("ended at once"));
    }

    #[test]
    fn memory_and_architecture_are_named() {
        let killed = Exit {
            code: Some(137),
            out_of_memory: true,
            error: String::new(),
        };
        assert!(ended(JupyterKind::Lab, "i", &killed, &[]).why.contains("memory"));
        assert!(
            missing(JupyterKind::Lab, "i", "exec /x: exec format error")
                .hint
                .contains("architecture")
        );
    }

    #[test]
    fn a_jupyter_that_cannot_be_used_is_not_called_slow() {
        let open = not_ready(JupyterKind::Lab, &Listener::Unusable(Reason::NoToken), &[]);
        assert!(open.why.contains("disables the token") && open.hint.contains("~/.jupyter"));
        let foreign = not_ready(
            JupyterKind::Lab,
            &Listener::Unusable(Reason::OtherUser("uid 7".into())),
            &[],
        );
        assert_eq!(foreign.why, "uid 7");
    }
}
