//! How Jupyter is started, and the facts about it. Pure.

use jq_common::protocol::workload::{JupyterInfo, JupyterKind};

/// The port it listens on in a container.
pub(crate) const PORT: u16 = 8888;

/// Number of ports tried, from [`PORT`] on, in a container that the user brought along.
pub(crate) const PORTS: u16 = 10;

/// The port under which a workload is dialled to reach a Jupyter that listens on a Unix socket. No TCP port has it.
pub(crate) const SOCKET_PORT: u16 = 0;

/// The program that starts Jupyter on our terms, for `/bin/sh`.
pub(crate) const START: &str = include_str!("start.sh");

/// Variables by which a user could give a token. They are refused: it would be in an environment that others can read.
pub(crate) const TOKEN_VARIABLES: [&str; 2] = ["JUPYTER_TOKEN", "JUPYTER_TOKEN_FILE"];

/// How Jupyter is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start<'a> {
    pub(crate) kind: JupyterKind,
    pub(crate) listen: Listen<'a>,
    /// Its root folder; none for the working directory.
    pub(crate) root: Option<&'a str>,
    /// The session, which distinguishes the private folders of one user and is part of its local host name.
    pub(crate) name: &'a str,
    /// The file with the token; none when it comes on standard input.
    pub(crate) token: Option<&'a str>,
    /// A file that gets what [`START`] reports; none when only standard output does.
    pub(crate) report: Option<&'a str>,
}

/// Where Jupyter listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listen<'a> {
    /// A port of 127.0.0.1.
    Port(u16),
    /// A Unix socket (0600) with this path.
    Socket(&'a str),
    /// A Unix socket (0600), `jupyter.sock` in the private folder that [`START`] makes and reports.
    PrivateSocket,
}

impl Start<'_> {
    /// The arguments of [`START`]; None for [`JupyterKind::None`]. The token is not among them.
    #[must_use]
    pub(crate) fn arguments(&self) -> Option<Vec<String>> {
        let mut arguments: Vec<String> = [
            verb(self.kind)?,
            self.name,
            self.token.unwrap_or("-"),
            self.report.unwrap_or("-"),
            &local_host(self.name),
        ]
        .map(str::to_owned)
        .into();
        arguments.extend(self.settings());
        Some(arguments)
    }

    /// Settings for Jupyter's command line, which has the last word. They override what an image or home may have
    /// configured: another address or port, HTTPS, another base URL, access for other origins or host names, an end
    /// after some time without use.
    fn settings(&self) -> Vec<String> {
        let mut settings: Vec<String> = [
            "ip=127.0.0.1",
            "port_retries=0",
            "base_url=/",
            "certfile=",
            "keyfile=",
            "client_ca=",
            "allow_origin=",
            "allow_origin_pat=",
            "allow_credentials=False",
            "disable_check_xsrf=False",
            "allow_remote_access=False",
            "custom_display_url=",
            "shutdown_no_activity_timeout=0",
        ]
        .map(str::to_owned)
        .into();
        match self.listen {
            Listen::Port(port) => settings.extend([format!("port={port}"), "sock=".to_owned()]),
            Listen::Socket(path) => settings.extend(on_socket(path)),
            Listen::PrivateSocket => settings.extend(on_socket("@")),
        }
        settings.extend(self.root.map(|root| format!("root_dir={root}")));
        settings
    }
}

/// A server with a socket insists on the default port, and listens on none.
fn on_socket(path: &str) -> [String; 3] {
    [
        format!("port={PORT}"),
        format!("sock={path}"),
        "sock_mode=0600".to_owned(),
    ]
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

/// The name below `localhost` for the Jupyter of a session.
pub(crate) fn local_host(session: &str) -> String {
    let label: String = session
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    let label = label.trim_matches('-');
    format!("{}.localhost", if label.is_empty() { "jq" } else { label })
}

/// How the client reaches the Jupyter that listens on `port` of the workload.
pub(crate) fn info(kind: JupyterKind, port: u16, token: &str, was_running: bool) -> JupyterInfo {
    JupyterInfo {
        port,
        token: token.to_owned(),
        path: page(kind).to_owned(),
        was_running,
        host: None,
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

    fn start(listen: Listen<'static>) -> Start<'static> {
        Start {
            kind: JupyterKind::Lab,
            listen,
            root: Some("/work"),
            name: "gpu",
            token: None,
            report: None,
        }
    }

    #[test]
    fn it_listens_on_loopback_at_its_port_only() {
        let arguments = start(Listen::Port(PORT)).arguments().unwrap();
        assert_eq!(&arguments[..5], ["lab", "gpu", "-", "-", "gpu.localhost"]);
        for setting in [
            "ip=127.0.0.1",
            "port=8888",
            "port_retries=0",
            "sock=",
            "certfile=",
            "root_dir=/work",
            "allow_origin=",
            "allow_origin_pat=",
            "disable_check_xsrf=False",
            "allow_remote_access=False",
        ] {
            assert!(arguments.iter().any(|word| word == setting), "{setting}");
        }
        let none = Start {
            kind: JupyterKind::None,
            ..start(Listen::Port(PORT))
        };
        assert_eq!(none.arguments(), None);
    }

    #[test]
    fn each_session_has_a_local_host_name_that_browsers_accept() {
        for (session, host) in [
            ("gpu", "gpu.localhost"),
            ("My_box.2", "my-box-2.localhost"),
            ("_", "jq.localhost"),
        ] {
            assert_eq!(local_host(session), host);
        }
    }

    #[test]
    fn a_socket_is_the_users_own() {
        let arguments = start(Listen::Socket("/s")).arguments().unwrap();
        for setting in ["sock=/s", "sock_mode=0600", "port=8888"] {
            assert!(arguments.iter().any(|word| word == setting), "{setting}");
        }
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
