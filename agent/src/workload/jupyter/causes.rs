//! Explains why there is no Jupyter: the true cause, with the line that proves it, and the flag that mends it. Pure.

use jq_common::protocol::workload::{Failure, FailureKind, JupyterKind};

use super::{
    command::{is_missing, name},
    output::Output,
    probe::{Listener, Reason},
    readiness::PATIENCE,
};
use crate::{engine::Exit, failure::fail};

/// The failure when Jupyter's command has ended. `image` names what it ran in.
pub(crate) fn ended(kind: JupyterKind, image: &str, exit: &Exit, output: &Output) -> Failure {
    let jupyter = name(kind);
    let report = output.report();
    if kind != JupyterKind::None {
        if report.lacks_jupyter_in.is_some() || is_missing(exit.code, &output.lines) {
            return missing(kind, image, &output.says());
        }
        if let Some(file) = &report.unreadable {
            return hidden_token(kind, file);
        }
        if report.is_read_only {
            return nowhere_to_write(kind);
        }
        if let Some(version) = &report.without_socket {
            return no_socket(kind, version);
        }
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
    let said = output.says();
    let why = match (said.is_empty(), exit.error.is_empty()) {
        (false, _) => format!("{how}{said}"),
        (true, true) => format!("{how}, without any output"),
        (true, false) => format!("{how}; {}", exit.error),
    };
    let python_path = report.python_path.filter(|_| says_python_failed(&output.lines));
    let hint = match python_path {
        _ if kind == JupyterKind::None => {
            "`--jupyter none` runs what the image runs: use an image whose command keeps running, or let jq start Jupyter"
                .to_owned()
        }
        Some(path) => format!(
            "Python looks for modules in PYTHONPATH={path} first; `-e PYTHONPATH=` leaves that out for a new container"
        ),
        None => "try another image or tag with `--image`; `--entrypoint` leaves out or replaces what the image starts first"
            .to_owned(),
    };
    fail(FailureKind::StartFailed, what, why, hint)
}

fn says_python_failed(lines: &[String]) -> bool {
    let signs = [
        "ImportError",
        "ModuleNotFoundError",
        "AttributeError",
        "SyntaxError",
    ];
    lines
        .iter()
        .any(|line| signs.iter().any(|sign| line.contains(sign)))
}

/// The failure when Jupyter is not in the image. `said` is what its output says, or the engine's words.
pub(crate) fn missing(kind: JupyterKind, image: &str, said: &str) -> Failure {
    let jupyter = name(kind);
    let low = said.to_lowercase();
    if low.contains("exec format error") {
        return fail(
            FailureKind::CommandMissing,
            format!("`{image}` cannot run on this host"),
            said.trim_start_matches("; "),
            "the image is for another processor architecture: use one for this host",
        );
    }
    let why = if low.contains("/bin/sh") {
        "it has no /bin/sh, with which jq starts Jupyter".to_owned()
    } else {
        let said = said.trim_start_matches("; ");
        let separator = if said.is_empty() { "" } else { "; " };
        format!("there is no `jupyter` on its PATH{separator}{said}")
    };
    fail(
        FailureKind::CommandMissing,
        format!("`{image}` has no {jupyter}"),
        why,
        "use an image that has it (quay.io/jupyter/base-notebook, quay.io/jupyter/pytorch-notebook), \
         or `--jupyter none` to run the image as it is",
    )
}

/// The failure when the entry point that the user named has ended without running Jupyter.
pub(crate) fn not_led_to(
    kind: JupyterKind,
    image: &str,
    program: &str,
    exit: &Exit,
    output: &Output,
) -> Failure {
    let code = exit
        .code
        .map_or_else(|| "gone".to_owned(), |code| format!("exit code {code}"));
    fail(
        FailureKind::CommandMissing,
        format!(
            "the entry point `{program}` does not lead to {} in `{image}`",
            name(kind)
        ),
        format!(
            "it ended without running the command that it was given: {code}{}",
            output.says()
        ),
        "`--entrypoint PROGRAM` names another program of the image, and `--entrypoint \"\"` leaves it out",
    )
}

/// The failure when Jupyter is in a folder of the image that its user may not enter.
pub(crate) fn out_of_reach(kind: JupyterKind, image: &str, program: &str, uid: u32) -> Failure {
    fail(
        FailureKind::CommandMissing,
        format!("{} is where your user cannot go in `{image}`", name(kind)),
        format!("there is {program}, and uid {uid} may not enter its folder"),
        "`--user 0:0` runs the container as root: what it writes to volumes is root's then; \
         or use an image that has Jupyter outside of root's home",
    )
}

fn hidden_token(kind: JupyterKind, file: &str) -> Failure {
    fail(
        FailureKind::StartFailed,
        format!("{} cannot read its token in the container", name(kind)),
        format!(
            "{file} is missing or not readable there, so something is mounted over its folder, or it was removed"
        ),
        "use another session name (`--name`) for a new container, without a mount over that folder",
    )
}

fn no_socket(kind: JupyterKind, version: &str) -> Failure {
    fail(
        FailureKind::StartFailed,
        format!(
            "this {} is too old for a container on the host's network",
            name(kind)
        ),
        format!(
            "other users of the host can reach its ports, so Jupyter has to listen on a Unix socket, and its server {version} \
             cannot; jupyter_server 1.9 or notebook 6.1 is the least version"
        ),
        "create the container without `--network host`; or update its Jupyter",
    )
}

fn nowhere_to_write(kind: JupyterKind) -> Failure {
    fail(
        FailureKind::StartFailed,
        format!("{} needs a folder that it can write to", name(kind)),
        "the container's file system is read-only, and nothing is mounted in /tmp, /var/tmp, /dev/shm or /run \
         that its user can write to",
        "create the container with `--tmpfs /tmp`; or use `--jupyter none` and `-L PORT` for what runs in it",
    )
}

/// The failure when a Jupyter answers that refuses our token.
pub(crate) fn other_token(kind: JupyterKind, output: &Output) -> Failure {
    fail(
        FailureKind::StartFailed,
        format!("a {} answers that does not take this session's token", name(kind)),
        format!(
            "something else has started it, or its configuration forbids what jq configures{}",
            output.says()
        ),
        "`--entrypoint \"\"` leaves out what the image starts first; or use `--jupyter none`, forward its port with `-L`, and \
         its own token",
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

/// The failure when another user of the host has what Jupyter should listen on.
fn other_user(kind: JupyterKind, why: &str) -> Failure {
    fail(
        FailureKind::StartFailed,
        format!("another user has taken the place of {}", name(kind)),
        why,
        "stop that Jupyter if it is still running, and run the same command again",
    )
}

/// The failure when time is up, or when what listens there cannot be used.
pub(crate) fn not_ready(kind: JupyterKind, found: &Listener, output: &Output) -> Failure {
    let last = match found {
        Listener::Unusable(Reason::NoToken) => return no_token(kind),
        Listener::Unusable(Reason::OtherUser(why)) => return other_user(kind, why),
        Listener::None(why) | Listener::Unusable(Reason::NotJupyter(why)) => why.clone(),
        Listener::Ours | Listener::OtherToken => String::new(),
    };
    fail(
        FailureKind::StartFailed,
        format!(
            "{} did not answer, and its output stood still for {} seconds",
            name(kind),
            PATIENCE.as_secs()
        ),
        format!("{last}{}", output.says()),
        "it may still become ready: run the same command again, or look at its log",
    )
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

    fn output(text: &str) -> Output {
        Output {
            lines: text.lines().map(str::to_owned).collect(),
            kept: None,
        }
    }

    #[test]
    fn a_missing_jupyter_is_distinguished_from_a_broken_one() {
        let log = output("Traceback\nPermissionError: /x");
        let broken = ended(JupyterKind::Lab, "image", &exit(1), &log);
        assert_eq!(broken.kind, FailureKind::StartFailed);
        assert!(broken.why.contains("exit code 1") && broken.why.contains("PermissionError"));
        for log in ["", "jq: started as uid 0\njq: no jupyter on PATH=/bin"] {
            let missing = ended(JupyterKind::Lab, "busybox", &exit(127), &output(log));
            assert_eq!(missing.kind, FailureKind::CommandMissing);
            assert_eq!(missing.what, "`busybox` has no JupyterLab");
            assert_eq!(missing.why, "there is no `jupyter` on its PATH");
        }
        let short = ended(JupyterKind::None, "busybox", &exit(0), &output(""));
        assert!(short.what.contains("ended at once"));
    }

    #[test]
    fn memory_architecture_and_a_missing_shell_are_named() {
        let killed = Exit {
            code: Some(137),
            out_of_memory: true,
            error: String::new(),
        };
        let failure = ended(JupyterKind::Lab, "i", &killed, &output(""));
        assert!(failure.why.contains("memory"));
        let missing = |said| missing(JupyterKind::Lab, "i", said);
        assert!(
            missing("exec /x: exec format error")
                .hint
                .contains("architecture")
        );
        assert!(
            missing("exec: \"/bin/sh\": no such file")
                .why
                .contains("no /bin/sh")
        );
    }

    #[test]
    fn what_the_start_found_is_the_cause() {
        let says = |text: &str| ended(JupyterKind::Lab, "i", &exit(125), &output(text));
        let hidden = says("jq: started as uid 7\njq: cannot read /run/jq/token");
        assert!(hidden.why.contains("/run/jq/token") && hidden.why.contains("mounted over"));
        let read_only = says("jq: started as uid 7\njq: no folder can be written to");
        assert!(read_only.hint.contains("--tmpfs /tmp"));
        let path = says("jq: started as uid 7\njq: PYTHONPATH=/app\nImportError: cannot import name 'x'");
        assert!(
            path.hint.contains("-e PYTHONPATH=") && path.hint.contains("/app"),
            "{}",
            path.hint
        );
        let old = says("jq: started as uid 7\njq: server 1.5.1 has no socket");
        assert!(old.why.contains("1.5.1") && old.why.contains("jupyter_server 1.9"));
        // PYTHONPATH is not blamed for what has nothing to do with it.
        let other = says("jq: started as uid 7\njq: PYTHONPATH=/app\nOSError: no space left on device");
        assert!(!other.hint.contains("PYTHONPATH"));
    }

    #[test]
    fn a_jupyter_that_cannot_be_used_is_not_called_slow() {
        let not_ready = |found| not_ready(JupyterKind::Lab, &found, &output(""));
        let open = not_ready(Listener::Unusable(Reason::NoToken));
        assert!(open.why.contains("disables the token") && open.hint.contains("~/.jupyter"));
        let foreign = not_ready(Listener::Unusable(Reason::OtherUser("uid 7".into())));
        assert_eq!(foreign.why, "uid 7");
    }
}
