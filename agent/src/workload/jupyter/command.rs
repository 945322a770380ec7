//! Jupyter's command line and the facts about it. Pure.

use jq_common::protocol::workload::{JupyterInfo, JupyterKind};

/// The port it listens on in a container.
pub(crate) const PORT: u16 = 8888;

/// Number of ports tried, from [`PORT`] on, in a container that the user brought along.
pub(crate) const PORTS: u16 = 10;

/// Path of the token's file in a container.
pub(crate) const TOKEN_FILE: &str = "/run/jq/token";

/// The variable with the path of the token's file. The token itself is in neither arguments nor environment.
pub(crate) const TOKEN_FILE_VARIABLE: &str = "JUPYTER_TOKEN_FILE";

/// A token in the environment, which Jupyter would prefer to the one in the file.
pub(crate) const TOKEN_VARIABLE: &str = "JUPYTER_TOKEN";

/// The command that starts Jupyter on loopback; None for [`JupyterKind::None`].
///
/// The options override what an image or home may have configured: another address, another port when this one is
/// taken, another base URL, access for other origins or host names.
#[must_use]
pub(crate) fn command(
    kind: JupyterKind,
    port: u16,
    root: Option<&str>,
    as_root: bool,
) -> Option<Vec<String>> {
    let mut command = vec![
        "jupyter".to_owned(),
        verb(kind)?.to_owned(),
        "--no-browser".to_owned(),
        "--ServerApp.ip=127.0.0.1".to_owned(),
        format!("--ServerApp.port={port}"),
        "--ServerApp.port_retries=0".to_owned(),
        "--ServerApp.base_url=/".to_owned(),
        "--ServerApp.allow_origin=".to_owned(),
        "--ServerApp.allow_origin_pat=".to_owned(),
        "--ServerApp.disable_check_xsrf=False".to_owned(),
        "--ServerApp.allow_remote_access=False".to_owned(),
    ];
    if let Some(root) = root {
        command.push(format!("--ServerApp.root_dir={root}"));
    }
    if as_root {
        command.push("--allow-root".to_owned());
    }
    Some(command)
}

/// Its subcommand.
#[must_use]
pub(crate) fn verb(kind: JupyterKind) -> Option<&'static str> {
    match kind {
        JupyterKind::Lab => Some("lab"),
        JupyterKind::Notebook => Some("notebook"),
        JupyterKind::None => None,
    }
}

/// The kind with this subcommand.
#[must_use]
pub(crate) fn of_verb(verb: &str) -> Option<JupyterKind> {
    [JupyterKind::Lab, JupyterKind::Notebook]
        .into_iter()
        .find(|kind| self::verb(*kind) == Some(verb))
}

/// Its name for the user.
#[must_use]
pub(crate) fn name(kind: JupyterKind) -> &'static str {
    match kind {
        JupyterKind::Lab => "JupyterLab",
        JupyterKind::Notebook => "Jupyter Notebook",
        JupyterKind::None => "Jupyter",
    }
}

/// Path of the page to open.
#[must_use]
fn page(kind: JupyterKind) -> &'static str {
    match kind {
        JupyterKind::Notebook => "/tree",
        JupyterKind::Lab | JupyterKind::None => "/lab",
    }
}

/// How the client reaches the Jupyter that listens on `port` of the workload.
pub(crate) fn info(kind: JupyterKind, port: u16, token: &str, was_running: bool) -> JupyterInfo {
    JupyterInfo {
        port,
        token: token.to_owned(),
        path: page(kind).to_owned(),
        was_running,
    }
}

/// Whether this exit code and these last lines of output mean that Jupyter is not installed.
#[must_use]
pub(crate) fn is_missing(code: Option<i64>, log: &[String]) -> bool {
    let names_it = |line: &String| {
        let low = line.to_lowercase();
        low.contains("jupyter")
            && (low.contains("not found") || low.contains("no such file") || low.contains("no module named"))
    };
    match code {
        Some(126 | 127) => true,
        Some(0) => false,
        _ => log.iter().any(names_it),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_listens_on_loopback_at_its_port_only() {
        let command = command(JupyterKind::Lab, PORT, Some("/work"), false).unwrap();
        assert_eq!(&command[..2], ["jupyter", "lab"]);
        for option in [
            "--ServerApp.ip=127.0.0.1",
            "--ServerApp.port=8888",
            "--ServerApp.port_retries=0",
            "--ServerApp.root_dir=/work",
            "--ServerApp.allow_origin=",
            "--ServerApp.allow_origin_pat=",
            "--ServerApp.disable_check_xsrf=False",
            "--ServerApp.allow_remote_access=False",
        ] {
            assert!(command.iter().any(|word| word == option), "{option}");
        }
        assert!(
            !command
                .iter()
                .any(|word| word == "--allow-root" || word.contains("token"))
        );
    }

    #[test]
    fn root_is_allowed_only_for_root() {
        let command = command(JupyterKind::Notebook, PORT, None, true).unwrap();
        assert!(command.iter().any(|word| word == "--allow-root"));
        assert_eq!(super::command(JupyterKind::None, PORT, None, true), None);
    }

    #[test]
    fn an_image_without_jupyter_is_recognised() {
        let log = |line: &str| vec![line.to_owned()];
        assert!(is_missing(Some(127), &[]));
        assert!(is_missing(
            Some(1),
            &log("Jupyter command `jupyter-lab` not found.")
        ));
        assert!(is_missing(
            Some(1),
            &log("/usr/bin/python: No module named jupyter")
        ));
        assert!(!is_missing(Some(1), &log("Running as root is not recommended")));
        assert!(!is_missing(Some(137), &log("Killed")));
    }
}
