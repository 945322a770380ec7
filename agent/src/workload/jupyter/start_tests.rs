//! The program that starts Jupyter, with a stand-in that prints what it was started with.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use jq_common::protocol::workload::JupyterKind;

use super::{
    command::{Listen, START, Start},
    output::Report,
};

const JUPYTER: &str = r#"#!/bin/sh
echo "arguments: $*"
env | sed 's/^/env: /'
cat "${JUPYTER_CONFIG_PATH%%:*}/jupyter_server_config.py"
echo "token: $(cat "$JUPYTER_TOKEN_FILE")"
cat
"#;

/// A host with nothing but a few programs, and a temporary folder.
struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        fs::create_dir(host.path("bin")).unwrap();
        fs::create_dir(host.path("tmp")).unwrap();
        host.install("jupyter", JUPYTER);
        host.install("jupyter-server", "#!/bin/sh\n");
        host
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_string_lossy().into_owned()
    }

    fn install(&self, name: &str, script: &str) {
        let file = self.path(&format!("bin/{name}"));
        fs::write(&file, script).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What is printed, and the exit code.
    fn run(&self, start: &Start, env: &[(&str, &str)]) -> (String, Option<i32>) {
        let mut child = Command::new("/bin/sh")
            .args(["-c", START, "jq"])
            .args(start.arguments().unwrap())
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.path("bin")))
            .env("TMPDIR", self.path("tmp"))
            .env("HOME", self.0.path())
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        // Fails when the program has ended without reading it.
        let _ = input.write_all(b"secret\nmore");
        drop(input);
        let ended = child.wait_with_output().unwrap();
        (String::from_utf8(ended.stdout).unwrap(), ended.status.code())
    }
}

fn start<'a>(token: Option<&'a str>) -> Start<'a> {
    Start {
        kind: JupyterKind::Lab,
        listen: Listen::Port(8890),
        root: Some("/the root"),
        name: "gpu",
        token,
        report: None,
    }
}

#[test]
fn our_settings_and_our_token_stand_where_they_have_the_last_word() {
    let host = Host::new();
    let token = host.path("token");
    fs::write(&token, "ours").unwrap();
    let (said, code) = host.run(
        &start(Some(&token)),
        &[
            ("JUPYTER_TOKEN", "theirs"),
            ("JUPYTER_PORT", "1"),
            ("JUPYTER_CONFIG_PATH", "/theirs"),
        ],
    );
    assert_eq!(code, Some(0), "{said}");
    let line = |start: &str| {
        let found = said.lines().find_map(|line| line.strip_prefix(start));
        found
            .unwrap_or_else(|| panic!("no `{start}` in {said}"))
            .to_owned()
    };
    let arguments = line("arguments: ");
    assert!(arguments.starts_with("lab --no-browser "), "{arguments}");
    for argument in [
        "--ServerApp.port=8890",
        "--ServerApp.certfile= ",
        "--ServerApp.root_dir=/the root",
    ] {
        assert!(arguments.contains(argument), "{arguments}");
    }
    assert!(!arguments.contains("ours"), "{arguments}");
    let private = Report::of(said.lines()).folder.unwrap();
    assert_eq!(line("env: JUPYTER_CONFIG_PATH="), format!("{private}:/theirs"));
    assert!(!said.contains("env: JUPYTER_TOKEN=") && !said.contains("env: JUPYTER_PORT="));
    assert!(
        said.contains("from jupyter_server.serverapp import ServerApp as App"),
        "{said}"
    );
    assert!(
        said.ends_with("token: ours\n"),
        "nothing is left on its standard input: {said}"
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(Path::new(&private)), 0o700);
}

#[test]
fn a_token_on_standard_input_is_put_into_a_private_file() {
    let host = Host::new();
    let (said, code) = host.run(&start(None), &[]);
    assert!(code == Some(0) && said.ends_with("token: secret\n"), "{said}");
    let file = format!("{}/token", Report::of(said.lines()).folder.unwrap());
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(said.matches("secret").count(), 1, "{said}");
}

#[test]
fn places_that_cannot_be_used_are_replaced() {
    let host = Host::new();
    let (said, code) = host.run(
        &start(None),
        &[
            ("HOME", "/proc/nowhere"),
            ("TMPDIR", "/proc/nowhere"),
            ("JUPYTER_RUNTIME_DIR", "/proc/run"),
            ("JUPYTER_DATA_DIR", "/proc/data"),
            ("JUPYTER_CONFIG_DIR", "/proc/config"),
        ],
    );
    assert_eq!(code, Some(0), "{said}");
    let private = Report::of(said.lines()).folder.unwrap();
    for (name, folder) in [
        ("HOME", "home"),
        ("JUPYTER_RUNTIME_DIR", "runtime"),
        ("JUPYTER_DATA_DIR", "data"),
        ("JUPYTER_CONFIG_DIR", "config"),
    ] {
        assert!(
            said.contains(&format!("env: {name}={private}/{folder}\n")),
            "{name}: {said}"
        );
    }
    fs::remove_dir_all(private).unwrap();
}

#[test]
fn what_is_missing_is_reported() {
    let host = Host::new();
    let (said, code) = host.run(&start(Some("/no/such/token")), &[]);
    assert_eq!(code, Some(125));
    assert_eq!(
        Report::of(said.lines()).unreadable.as_deref(),
        Some("/no/such/token")
    );
    let (said, code) = host.run(&start(None), &[("PATH", "/root/bin:/usr/bin:/bin")]);
    // This machine may have a Jupyter of its own.
    if code == Some(127) {
        let lacks = Report::of(said.lines()).lacks_jupyter_in.unwrap();
        assert_eq!(lacks, ["/root/bin", "/usr/bin", "/bin"]);
    }
}

#[test]
fn a_classic_server_gets_its_own_class_and_an_old_one_no_socket() {
    let host = Host::new();
    fs::remove_file(host.path("bin/jupyter-server")).unwrap();
    let (said, _) = host.run(&start(None), &[]);
    assert!(said.contains("--NotebookApp.notebook_dir=/the root"), "{said}");
    assert!(
        said.contains("--NotebookApp.port=8890") && said.contains("import NotebookApp as App"),
        "{said}"
    );

    host.install("jupyter-server", "#!/bin/sh\n");
    let on_socket = Start {
        listen: Listen::PrivateSocket,
        ..start(None)
    };
    host.install(
        "jupyter",
        "#!/bin/sh\n[ \"$2\" = --version ] && echo 1.8.0 || echo \"started $*\"\n",
    );
    let (said, code) = host.run(&on_socket, &[]);
    assert!(code == Some(125) && !said.contains("started lab"), "{said}");
    assert_eq!(Report::of(said.lines()).without_socket.as_deref(), Some("1.8.0"));
    host.install(
        "jupyter",
        "#!/bin/sh\n[ \"$2\" = --version ] && echo 1.9.0 || echo \"started $*\"\n",
    );
    let (said, code) = host.run(&on_socket, &[]);
    let report = Report::of(said.lines());
    let socket = format!("--ServerApp.sock={}/jupyter.sock", report.folder.unwrap());
    assert!(
        code == Some(0) && said.contains(&socket) && report.python.is_some(),
        "{said}"
    );
}
