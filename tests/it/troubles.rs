//! Bad input and bad days: each a message that says what, where, why and what to do, and an exit status.

use std::{
    net::TcpListener,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
    time::Duration,
};

use anyhow::{Result, ensure};
use jq_tests::{
    lab::{HostName, Lab, Topology},
    product::{Client, Failure},
    require,
};

const IMAGE: &str = "jq-lab/jupyter";

/// A lab without an engine: enough for what fails before one is asked for.
fn hosts(topology: Topology) -> Result<Lab> {
    Lab::builder().topology(topology).up()
}

fn with_engine() -> Result<Lab> {
    Lab::builder().topology(Topology::Direct).docker(true).up()
}

fn fails(lab: &Lab, arguments: &[&str]) -> Result<Failure> {
    Client::connect(lab.laptop(), arguments)?.failure()
}

/// That a failure has its kind and status, names a host, and says why and what to do.
fn says(failure: &Failure, kind: &str, status: i32, host: &str, words: &[&str]) -> Result<()> {
    let all = failure.all_words();
    ensure!(
        failure.kind == kind && failure.status == Some(status),
        "{failure:#?}"
    );
    ensure!(
        failure.host.as_deref().is_some_and(|named| named.contains(host)),
        "host: {failure:#?}"
    );
    ensure!(
        !failure.what.is_empty() && !failure.hint.is_empty(),
        "{failure:#?}"
    );
    for word in words {
        ensure!(
            all.to_lowercase().contains(&word.to_lowercase()),
            "`{word}` is missing: {failure:#?}"
        );
    }
    Ok(())
}

#[test]
fn an_unknown_host_is_named() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    // No name server is in the lab; a name that cannot be one is refused without asking.
    let failure = fails(&hosts(Topology::Direct)?, &["nowhere..invalid", "--image", IMAGE])?;
    says(&failure, "unknown_host", 255, "nowhere..invalid", &["resolve"])
}

#[test]
fn no_network_is_said_of_the_host_that_did_not_answer() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = hosts(Topology::Gateway)?;
    lab.link().set_up(false);
    let failure = fails(&lab, &["gpu", "--image", IMAGE, "-o", "ConnectTimeout=3"])?;
    says(&failure, "unreachable", 255, "gateway", &[])?;
    lab.down()
}

#[test]
fn a_wrong_key_names_the_host_that_refused_it() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = hosts(Topology::Gateway)?;
    lab.laptop().forget_key()?;
    let failure = fails(&lab, &["gpu", "--image", IMAGE])?;
    says(&failure, "login_refused", 255, "gateway", &["Permission denied"])?;
    lab.down()
}

#[test]
fn a_changed_host_key_stops_hard() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let mut lab = hosts(Topology::Gateway)?;
    lab.sshd(HostName::Gpu).change_host_key()?;
    let failure = fails(&lab, &["gpu", "--image", IMAGE])?;
    says(&failure, "host_key_changed", 255, "gpu", &["key"])?;
    ensure!(
        !lab.gpu().home().join(".cache").exists(),
        "nothing was sent to that host"
    );
    lab.down()
}

#[test]
fn a_host_without_an_engine_says_how_to_do_without() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    // The hosts of a lab share this machine's programs, Docker's among them; Podman is not.
    let lab = hosts(Topology::Direct)?;
    let failure = fails(&lab, &["gpu", "--image", IMAGE, "--engine", "podman"])?;
    says(
        &failure,
        "engine_missing",
        1,
        "gpu",
        &["podman", "--engine process"],
    )?;
    let failure = fails(&lab, &["gpu", "--image", IMAGE, "--engine", "docker"])?;
    says(&failure, "engine_stopped", 1, "gpu", &["docker"])?;
    lab.down()
}

#[test]
fn a_socket_that_may_not_be_opened_names_the_group() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let mut lab = with_engine()?;
    let socket = lab.engine().socket();
    lab.gpu()
        .run_as_root(&format!("chgrp root '{0}' && chmod 660 '{0}'", socket.display()))?;
    let failure = fails(&lab, &["gpu", "--image", IMAGE])?;
    says(&failure, "engine_permission", 1, "gpu", &["group", "docker"])?;
    lab.down()
}

#[test]
fn a_stopped_dockerd_is_told_from_a_missing_one() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let mut lab = with_engine()?;
    lab.engine().stop()?;
    // What a dockerd that died leaves: a socket at which nobody listens.
    let socket = lab.engine().socket();
    drop(UnixListener::bind(&socket)?);
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666))?;
    let failure = fails(&lab, &["gpu", "--image", IMAGE])?;
    says(&failure, "engine_stopped", 1, "gpu", &["docker"])?;
    lab.down()
}

#[test]
fn an_image_that_cannot_be_had_is_named_with_what_the_engine_said() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = with_engine()?;
    let failure = fails(&lab, &["gpu", "--image", "127.0.0.1:9/no/such-image:1"])?;
    says(
        &failure,
        "image_unavailable",
        1,
        "gpu",
        &["127.0.0.1:9/no/such-image:1"],
    )?;
    let failure = fails(&lab, &["gpu", "--image", "no/such-image:1", "--pull", "never"])?;
    says(&failure, "image_unavailable", 1, "gpu", &["no/such-image:1"])?;
    lab.down()
}

#[test]
fn an_image_without_jupyter_is_said_to_be_one_and_nothing_of_it_is_left() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = with_engine()?;
    let failure = fails(&lab, &["gpu", "--image", "jq-lab/nojupyter"])?;
    says(
        &failure,
        "command_missing",
        1,
        "gpu",
        &["jq-lab/nojupyter", "jupyter"],
    )?;
    ensure!(lab.docker(["ps", "-a", "-q"])?.is_empty(), "no container is left");
    let failure = fails(&lab, &["gpu", "--image", "jq-lab/static"])?;
    says(&failure, "command_missing", 1, "gpu", &["jq-lab/static"])?;
    lab.down()
}

#[test]
fn a_container_of_somebody_else_with_our_name_is_not_touched() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = with_engine()?;
    let name = format!("jq-{}-gpu", lab.gpu().user.name);
    let id = lab.docker(["run", "-d", "--name", &name, "jq-lab/static"])?;
    let failure = fails(&lab, &["gpu", "--image", IMAGE])?;
    says(&failure, "name_taken", 1, "gpu", &[&name, "--name"])?;
    ensure!(
        lab.docker(["inspect", "-f", "{{.State.Running}}", id.trim()])?
            .trim()
            == "true"
    );
    lab.down()
}

#[test]
fn a_home_that_is_full_gives_way_to_another_folder_or_is_named() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = with_engine()?;
    lab.gpu().limit_home(512)?;
    let mut client = Client::connect(
        lab.laptop(),
        &["gpu", "--image", "jq-lab/static", "--jupyter", "none"],
    )?;
    match client.ready() {
        Ok(_) => client.disconnect(),
        Err(_) => {
            let events = format!("{:?}", client.events());
            ensure!(
                events.contains("install_failed") && events.contains(".cache/jq"),
                "{events}"
            );
            Ok(())
        }
    }?;
    lab.down()
}

#[test]
fn a_read_only_home_gives_way_to_another_folder() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = with_engine()?;
    lab.gpu().make_home_read_only()?;
    let mut client = Client::connect(lab.laptop(), &["gpu", "--image", IMAGE])?;
    client.ready()?;
    client.disconnect()?;
    lab.down()
}

#[test]
fn a_noexec_home_gives_way_to_another_folder() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = with_engine()?;
    lab.gpu().make_home_noexec()?;
    let mut client = Client::connect(lab.laptop(), &["gpu", "--image", IMAGE])?;
    client.ready()?;
    client.disconnect()?;
    lab.down()
}

#[test]
fn an_unsupported_processor_is_named_with_what_is_supported() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = hosts(Topology::Direct)?;
    lab.gpu().pretend_machine("riscv64")?;
    let failure = fails(&lab, &["gpu", "--image", IMAGE])?;
    says(&failure, "unsupported_host", 1, "gpu", &["riscv64", "x86_64"])?;
    lab.down()
}

#[test]
fn start_up_files_that_print_do_not_disturb() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = with_engine()?;
    let noise = format!(
        "\u{1b}[2J\u{1b}]0;title\u{7}Welcome\r\n{}no newline at the end",
        "x".repeat(100_000)
    );
    lab.gpu().print_at_login(&noise)?;
    let mut client = Client::connect(lab.laptop(), &["gpu", "--image", IMAGE])?;
    client.ready()?;
    client.disconnect()?;
    lab.down()
}

#[test]
fn a_shell_that_says_too_much_is_given_up_with_its_beginning() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = hosts(Topology::Direct)?;
    lab.gpu().write(".bashrc", "yes 'so much to say'\n")?;
    let failure = fails(&lab, &["gpu", "--image", IMAGE])?;
    says(&failure, "no_shell", 255, "gpu", &["so much to say"])?;
    lab.down()
}

#[test]
fn a_login_that_may_run_nothing_is_named() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = hosts(Topology::Direct)?;
    lab.gpu().set_shell(Path::new("/usr/sbin/nologin"))?;
    let failure = fails(&lab, &["gpu", "--image", IMAGE])?;
    says(&failure, "no_shell", 255, "gpu", &[])?;
    lab.down()
}

#[test]
fn blocked_udp_says_which_ports_to_ask_for() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = hosts(Topology::Gateway)?;
    lab.link().set(|conditions| conditions.block_udp = true);
    let failure = fails(&lab, &["gpu", "--image", IMAGE, "--path", "relay"])?;
    says(
        &failure,
        "udp_blocked",
        255,
        "gpu",
        &["60000", "gateway", "UDP", "--path"],
    )?;
    lab.down()
}

#[test]
fn no_free_local_port_in_a_hundred_is_an_error_that_names_them() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = with_engine()?;
    let taken: Vec<TcpListener> = lab.laptop().enter(|| {
        (20_000..=20_100)
            .map(|port| TcpListener::bind(("127.0.0.1", port)))
            .collect::<Result<_, _>>()
    })??;
    let mut client = Client::connect(
        lab.laptop(),
        &[
            "gpu",
            "--image",
            "jq-lab/static",
            "--jupyter",
            "none",
            "-L",
            "20000:7000",
        ],
    )?;
    let failure = client.failure()?;
    ensure!(
        failure.kind == "local" && failure.status == Some(1) && failure.what.contains("20000"),
        "{failure:#?}"
    );
    drop(taken);
    lab.down()
}

#[test]
fn wrong_flags_end_with_2_before_anything_is_started() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = hosts(Topology::Direct)?;
    for arguments in [
        &["gpu", "-L", "99999"][..],
        &["gpu", "-v", "work"],
        &["gpu", "--gpus", "some"],
        &["gpu", "--name", "a/b"],
        &["ann@-oProxyCommand=id", "--image", IMAGE],
    ] {
        let failure = fails(&lab, arguments)?;
        ensure!(
            failure.kind == "usage" && failure.status == Some(2),
            "{arguments:?}: {failure:#?}"
        );
    }
    lab.down()
}

#[test]
fn nothing_from_a_remote_machine_reaches_the_terminal_unsanitised() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = hosts(Topology::Direct)?;
    lab.gpu().write(
        ".bashrc",
        "printf '\\033]0;owned\\007\\033[31mred' >&2; exec /bin/false\n",
    )?;
    lab.laptop()
        .install(&jq_tests::product::client_binary(), "jq-client")?;
    let output = lab
        .laptop()
        .command("jq-client")
        .args(["connect", "gpu", "--image", IMAGE])
        .output()?;
    ensure!(output.status.code() == Some(255), "{output:?}");
    ensure!(
        !output.stderr.contains(&0x1b) && !output.stderr.contains(&0x07),
        "{output:?}"
    );
    lab.down()
}

#[test]
fn the_wait_for_udp_is_short() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = hosts(Topology::Direct)?;
    lab.link().set(|conditions| conditions.block_udp = true);
    let began = std::time::Instant::now();
    fails(&lab, &["gpu", "--image", IMAGE, "--path", "direct"])?;
    ensure!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    lab.down()
}
