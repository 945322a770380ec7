//! Waiting until Jupyter answers, and saying why it does not.

use std::{future::Future, time::Duration};

use jq_common::protocol::workload::{Failure, FailureKind, JupyterKind};
use tokio::time::{Instant, sleep};

use super::{
    command::{is_missing, name},
    probe::{Found, Unfit, probe},
};
use crate::{
    engine::Exit,
    failure::fail,
    workload::{EventSink, RunningWorkload},
};

/// How long Jupyter may take to answer; big images on cold disks need most of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is asked.
const BEAT: Duration = Duration::from_millis(250);
/// How often the user sees what it says.
const SHOW: Duration = Duration::from_secs(2);

/// How the wait ended.
#[derive(Debug)]
pub(crate) enum Waited<E> {
    /// It answers.
    Ready,
    /// A Jupyter answers that does not know the token.
    Stranger,
    /// What runs it has ended.
    Ended(E),
    /// Time is up, or what was found there will not do however long one waits; what was found last.
    Late(Found),
}

/// Asks until Jupyter answers, `ended` comes, or time is up. `last_line` is what it said last, for the user.
pub(crate) async fn wait<E, L>(
    workload: &dyn RunningWorkload,
    port: u16,
    token: &str,
    ended: impl Future<Output = E>,
    last_line: impl Fn() -> L,
    events: &EventSink,
) -> Waited<E>
where
    L: Future<Output = Option<String>>,
{
    let deadline = Instant::now() + PATIENCE;
    let asking = async {
        let (mut shown, mut beats) = (Instant::now(), 0);
        loop {
            match probe(workload, port, token).await {
                Found::Ours => return Waited::Ready,
                Found::Stranger => return Waited::Stranger,
                found @ Found::Other(Unfit::Open | Unfit::Foreign(_)) => return Waited::Late(found),
                found if Instant::now() >= deadline => return Waited::Late(found),
                Found::Nothing(_) | Found::Other(Unfit::Answer(_)) => {}
            }
            if shown.elapsed() >= SHOW {
                shown = Instant::now();
                beats += 1;
                if let Some(line) = last_line().await {
                    events.detail(beats, line);
                }
            }
            sleep(BEAT).await;
        }
    };
    tokio::select! {
        waited = asking => waited,
        end = ended => Waited::Ended(end),
    }
}

/// What the user is told when Jupyter's command has ended.
pub(crate) fn ended(kind: JupyterKind, image: &str, exit: &Exit, log: &[String]) -> Failure {
    let jupyter = name(kind);
    if kind != JupyterKind::None && is_missing(exit.code, log) {
        return missing(kind, image, &last_words(log).unwrap_or_default());
    }
    let how = match exit {
        Exit {
            out_of_memory: true, ..
        } => "it was killed for want of memory".to_owned(),
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
        "`--jupyter none` runs what the image runs: use an image whose command goes on, or let jq start Jupyter"
    } else {
        "the lines above are its last words; `--image` with another image or tag is the usual remedy"
    };
    let why = match last_words(log) {
        Some(words) => format!("{how}; it said: {words}"),
        None if exit.error.is_empty() => format!("{how}, without a word"),
        None => format!("{how}; {}", exit.error),
    };
    fail(FailureKind::StartFailed, what, why, hint)
}

/// What the user is told when Jupyter is not in the image.
pub(crate) fn missing(kind: JupyterKind, image: &str, words: &str) -> Failure {
    let jupyter = name(kind);
    if words.to_lowercase().contains("exec format error") {
        return fail(
            FailureKind::CommandMissing,
            format!("`{image}` cannot run on this host"),
            words,
            "the image is for another processor architecture: use one for this host's",
        );
    }
    let why = if words.is_empty() {
        "there is no `jupyter` on its PATH".to_owned()
    } else {
        format!("there is no `jupyter` on its PATH; it said: {words}")
    };
    fail(
        FailureKind::CommandMissing,
        format!("`{image}` has no {jupyter}"),
        why,
        "use an image that has it (quay.io/jupyter/base-notebook, quay.io/jupyter/pytorch-notebook), \
         or `--jupyter none` to run the image as it is",
    )
}

/// What the user is told when a Jupyter answers that is not ours.
pub(crate) fn stranger(kind: JupyterKind, port: u16) -> Failure {
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

/// What the user is told when a Jupyter answers that lets everybody in.
pub(crate) fn open(kind: JupyterKind) -> Failure {
    fail(
        FailureKind::StartFailed,
        format!("{} would let in everybody on the host", name(kind)),
        "its configuration switches the token off",
        "remove `c.ServerApp.token`, `c.NotebookApp.token`, `c.IdentityProvider.token` and any identity provider from \
         its configuration, usually a file in ~/.jupyter (`jupyter --paths` lists the folders), and end it if it still \
         runs",
    )
}

/// What the user is told when another user of the host listens where Jupyter should.
pub(crate) fn foreign(kind: JupyterKind, why: &str) -> Failure {
    fail(
        FailureKind::StartFailed,
        format!("another user has taken the port of {}", name(kind)),
        why,
        "end that Jupyter if it still runs, and run the same command again: it takes another port",
    )
}

/// What the user is told when time is up, or when what was found will not do.
pub(crate) fn late(kind: JupyterKind, found: &Found, log: &[String]) -> Failure {
    let last = match found {
        Found::Other(Unfit::Open) => return open(kind),
        Found::Other(Unfit::Foreign(why)) => return foreign(kind, why),
        Found::Nothing(why) | Found::Other(Unfit::Answer(why)) => why.clone(),
        Found::Ours | Found::Stranger => String::new(),
    };
    let why = match last_words(log) {
        Some(words) => format!("{last}; it said: {words}"),
        None => last,
    };
    fail(
        FailureKind::StartFailed,
        format!(
            "{} did not answer within {} seconds",
            name(kind),
            PATIENCE.as_secs()
        ),
        why,
        "it may still come up: run the same command again, or look at its log",
    )
}

/// The last few lines as one.
pub(crate) fn last_words(log: &[String]) -> Option<String> {
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
    fn a_missing_jupyter_is_told_from_a_broken_one() {
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
    fn what_will_not_do_is_not_called_slow() {
        let open = late(JupyterKind::Lab, &Found::Other(Unfit::Open), &[]);
        assert!(open.why.contains("switches the token off") && open.hint.contains("~/.jupyter"));
        let foreign = late(
            JupyterKind::Lab,
            &Found::Other(Unfit::Foreign("uid 7".into())),
            &[],
        );
        assert_eq!(foreign.why, "uid 7");
    }
}
