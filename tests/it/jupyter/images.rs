//! Images that are not neutral: their environment, configuration, entry point, user.

use std::os::unix::fs::MetadataExt as _;

use anyhow::{Result, ensure};
use jq_tests::{product::Client, require};

use super::{IMAGE, connects, environment, image, lab};

const CONFIGURATION: &str = r#"
c = get_config()
for app in (c.ServerApp, c.LabApp):
    app.ip = "0.0.0.0"
    app.port = 9999
    app.base_url = "/theirs/"
    app.certfile = "/nonexistent/certificate.pem"
    app.keyfile = "/nonexistent/key.pem"
    app.allow_origin = "*"
    app.allow_remote_access = True
    app.disable_check_xsrf = True
    app.sock = "/tmp/theirs.sock"
    app.shutdown_no_activity_timeout = 1
c.ServerApp.token = "theirs"
c.ServerApp.password = "argon2:theirs"
c.IdentityProvider.token = "theirs"
c.PasswordIdentityProvider.token = "theirs"
c.PasswordIdentityProvider.hashed_password = "argon2:theirs"
c.PasswordIdentityProvider.password_required = True
c.ServerApp.authorizer_class = "no.such.Authorizer"
c.ServerApp.websocket_url = "wss://theirs"
c.ServerApp.preferred_dir = c.FileContentsManager.preferred_dir = "/opt"
c.ServerApp.tornado_settings = {"headers": {"Access-Control-Allow-Origin": "*"}}
"#;

#[test]
fn token_password_certificate_and_address_of_an_image_do_not_count() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    let dockerfile = format!(
        "FROM {IMAGE}\n\
         ENV JUPYTER_TOKEN=theirs JUPYTER_PASSWORD=theirs JUPYTER_PORT=9999 JUPYTER_CONFIG_DIR=/no/such/folder \
         JUPYTER_RUNTIME_DIR=/proc/nowhere JUPYTER_SERVER_IP=0.0.0.0 PYTHONPATH=/no/such/modules HOME=/\n\
         COPY config.py /etc/jupyter/jupyter_server_config.py\n\
         COPY config.py /opt/jupyter/etc/jupyter/jupyter_lab_config.py\n\
         COPY config.py /usr/local/etc/jupyter/jupyter_config.py\n"
    );
    let odd = image(
        &lab,
        "terms",
        &[("Dockerfile", &dockerfile), ("config.py", CONFIGURATION)],
    )?;
    let (client, ready) = connects(&lab, &["gpu", "--image", &odd])?;
    let container = ready.container.expect("a container").id;
    let listening = lab.docker(["exec", &container, "cat", "/proc/net/tcp", "/proc/net/tcp6"])?;
    // 127.0.0.1:8888 is the only address that is listened on (proc_net_tcp(5)).
    let addresses: Vec<_> = listening
        .lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            (fields.get(3) == Some(&"0A")).then(|| fields[1].to_owned())
        })
        .collect();
    // Kernels and helpers listen on ports of the loopback as well.
    ensure!(
        addresses.contains(&"0100007F:22B8".to_owned())
            && addresses.iter().all(|address| address.starts_with("0100007F:")),
        "{listening}"
    );
    client.disconnect()?;

    // The same in a container of the user's own.
    lab.docker(["run", "-d", "--name", "theirs", &odd, "sleep", "600"])?;
    let (client, _) = connects(&lab, &["gpu", "-c", "theirs"])?;
    client.disconnect()?;

    let mut refused = Client::connect(
        lab.laptop(),
        &[
            "gpu",
            "--name",
            "mine",
            "--image",
            IMAGE,
            "-e",
            "JUPYTER_TOKEN=mine",
        ],
    )?;
    let failure = refused.failure()?;
    ensure!(
        failure.why.contains("-e JUPYTER_TOKEN") && failure.hint.contains("leave it out"),
        "{failure:#?}"
    );
    lab.down()
}

#[test]
fn any_kind_of_entry_point_comes_to_jupyter() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    let activate = "#!/bin/sh\nexport ACTIVATED=by-entry-point\nexec \"$@\"\n";
    let serve = "#!/bin/sh\necho usage: serve PORT\nexit 2\n";
    let files = [("activate", activate), ("serve", serve)];
    let build = |name: &str, entry: &str| {
        let dockerfile = format!(
            "FROM {IMAGE}\nCOPY activate serve /usr/local/bin/\nRUN chmod 755 /usr/local/bin/*\nENTRYPOINT {entry}\n"
        );
        image(
            &lab,
            name,
            &[("Dockerfile", dockerfile.as_str()), files[0], files[1]],
        )
    };
    for (name, entry, left_out) in [
        ("shell", r#"["/bin/bash"]"#, false),
        // Debian's profile sets another PATH.
        ("login", r#"["bash", "-lc"]"#, true),
        (
            "wrapper",
            r#"["bash", "-c", "export ACTIVATED=by-entry-point; exec \"$@\"", "--"]"#,
            false,
        ),
        ("activator", r#"["activate"]"#, false),
        ("python", r#"["python3"]"#, true),
        (
            "jupyter",
            r#"["jupyter", "lab", "--port=8888", "--allow-root"]"#,
            true,
        ),
        ("line", "exec sleep 1000", true),
        ("serve", r#"["serve"]"#, true),
    ] {
        let odd = build(name, entry)?;
        let (mut client, ready) = connects(&lab, &["gpu", "--name", name, "--image", &odd])?;
        let noted = client
            .texts("note")
            .iter()
            .any(|note| note.contains("--entrypoint"));
        ensure!(noted == left_out, "{name}: {:?}", client.texts("note"));
        if matches!(name, "wrapper" | "activator") {
            let container = ready.container.expect("a container").id;
            let has = environment(&lab, &container, "jupyter-lab")?;
            ensure!(has.contains("ACTIVATED=by-entry-point"), "{name}: {has}");
        }
        client.disconnect()?;
    }
    // By hand, as with docker.
    let serve = "odd/serve";
    let (client, _) = connects(
        &lab,
        &["gpu", "--name", "none", "--image", serve, "--entrypoint", ""],
    )?;
    client.disconnect()?;
    let named = [
        "gpu",
        "--name",
        "named",
        "--image",
        serve,
        "--entrypoint",
        "activate",
    ];
    let (client, ready) = connects(&lab, &named)?;
    let container = ready.container.expect("a container").id;
    ensure!(environment(&lab, &container, "jupyter-lab")?.contains("ACTIVATED=by-entry-point"));
    client.disconnect()?;
    let mut refused = Client::connect(
        lab.laptop(),
        &[
            "gpu",
            "--name",
            "wrong",
            "--image",
            IMAGE,
            "--entrypoint",
            "serve",
        ],
    )?;
    let failure = refused.failure()?;
    ensure!(
        failure.what.contains("`serve`") && failure.hint.contains("--entrypoint"),
        "{failure:#?}"
    );
    lab.down()
}

#[test]
fn a_jupyter_in_roots_home_is_named_with_the_flag_that_reaches_it() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    let dockerfile = format!(
        "FROM {IMAGE}\n\
         RUN chmod 700 /root && mkdir /root/bin && ln -s /opt/jupyter/bin/jupyter* /root/bin/\n\
         ENV PATH=/root/bin:/usr/bin:/bin\n"
    );
    let odd = image(&lab, "root", &[("Dockerfile", &dockerfile)])?;
    let mut client = Client::connect(lab.laptop(), &["gpu", "--image", &odd])?;
    let failure = client.failure()?;
    ensure!(
        failure.why.contains("/root/bin/jupyter") && failure.hint.contains("--user 0:0"),
        "{failure:#?}"
    );
    let (client, _) = connects(&lab, &["gpu", "--image", &odd, "--user", "0:0"])?;
    client.disconnect()?;
    lab.down()
}

/// As sudo, as far as a daemon that forbids new privileges is concerned.
const SUDO: &str = r#"#!/bin/sh
if grep -q '^NoNewPrivs:.*1' /proc/self/status; then
    echo 'sudo: The "no new privileges" flag is set, which prevents sudo from running as root.' >&2
    exit 1
fi
exec setpriv --reuid "$NB_UID" --regid "$NB_GID" --clear-groups -- "$@"
"#;

const START: &str = r#"#!/bin/bash
if [ "$(id -u)" = 0 ]; then exec sudo "$@"; fi
exec "$@"
"#;

#[test]
fn an_image_that_needs_sudo_starts_under_a_daemon_that_forbids_new_privileges() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let mut lab = lab()?;
    let dockerfile = format!(
        "FROM {IMAGE}\nENV NB_USER=jovyan NB_UID=1000 NB_GID=100\nCOPY start.sh sudo /usr/local/bin/\n\
         RUN chmod 755 /usr/local/bin/*\nENTRYPOINT [\"start.sh\"]\n"
    );
    let odd = image(
        &lab,
        "sudo",
        &[("Dockerfile", &dockerfile), ("start.sh", START), ("sudo", SUDO)],
    )?;
    lab.engine().stop()?;
    lab.engine().set_options(["--no-new-privileges"]);
    lab.engine().launch()?;
    let (mut client, ready) = connects(&lab, &["gpu", "--image", &odd, "-v", "~/work:/work"])?;
    let notes = client.texts("note");
    ensure!(
        notes.iter().any(|note| note.contains("forbids new privileges")),
        "{notes:?}"
    );
    let container = ready.container.expect("a container").id;
    lab.docker(["exec", &container, "touch", "/work/made"])?;
    let made = lab.gpu().home().join("work/made").metadata()?;
    ensure!(made.uid() == lab.gpu().user.uid, "made by {}", made.uid());
    client.disconnect()?;
    lab.down()
}
