//! Errors of the engine, its images and its containers.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
};

use anyhow::{Result, ensure};
use jq_tests::{
    lab::{HostName, Topology},
    require,
};

use super::{IMAGE, fails, hosts, says, with_engine};

#[test]
fn on_a_host_without_an_engine_the_error_names_the_alternatives() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let mut lab = hosts(Topology::Direct)?;
    // The hosts of a lab share this machine's programs: logins do not see its Podman.
    let hide = "for file in /usr/bin/podman; do [ ! -e $file ] || mount --bind /dev/null $file; done; exec \"$0\" \"$@\"";
    lab.sshd(HostName::Gpu)
        .launch_under(&["unshare", "--mount", "/bin/sh", "-c", hide])?;
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
fn if_the_engines_socket_cannot_be_opened_the_error_names_the_docker_group() -> Result<()> {
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
fn a_stopped_dockerd_and_a_missing_one_are_different_errors() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let mut lab = with_engine()?;
    lab.engine().stop()?;
    // A crashed dockerd leaves a socket without a listener.
    let socket = lab.engine().socket();
    drop(UnixListener::bind(&socket)?);
    fs::set_permissions(&socket, Permissions::from_mode(0o666))?;
    let failure = fails(&lab, &["gpu", "--image", IMAGE])?;
    says(&failure, "engine_stopped", 1, "gpu", &["docker"])?;
    lab.down()
}

#[test]
fn if_an_image_cannot_be_pulled_the_error_has_its_name_and_the_engines_message() -> Result<()> {
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
fn an_image_without_jupyter_is_an_error_and_leaves_no_container() -> Result<()> {
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
    ensure!(
        lab.docker(["ps", "-a", "-q"])?.is_empty(),
        "a container was left behind"
    );
    let failure = fails(&lab, &["gpu", "--image", "jq-lab/static"])?;
    says(&failure, "command_missing", 1, "gpu", &["jq-lab/static"])?;
    lab.down()
}

#[test]
fn a_foreign_container_with_the_sessions_container_name_is_not_touched() -> Result<()> {
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
