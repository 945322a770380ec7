//! Errors while connecting to a host: its name, the network, the login, its key, its shell, UDP.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use jq_tests::{
    lab::{HostName, Topology},
    product::client_binary,
    require,
};

use super::{IMAGE, fails, hosts, says};

#[test]
fn an_unknown_host_is_named() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    // The lab has no name server. The resolver refuses an invalid name without a query.
    let failure = fails(&hosts(Topology::Direct)?, &["nowhere..invalid", "--image", IMAGE])?;
    says(&failure, "unknown_host", 255, "nowhere..invalid", &["resolve"])
}

#[test]
fn without_a_network_the_error_names_the_host_that_did_not_answer() -> Result<()> {
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
fn if_a_key_is_refused_the_error_names_the_host() -> Result<()> {
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
fn a_changed_host_key_ends_the_connect() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let mut lab = hosts(Topology::Gateway)?;
    lab.sshd(HostName::Gpu).change_host_key()?;
    let failure = fails(&lab, &["gpu", "--image", IMAGE])?;
    says(&failure, "host_key_changed", 255, "gpu", &["key"])?;
    ensure!(
        !lab.gpu().home().join(".cache").exists(),
        "something was sent to that host"
    );
    lab.down()
}

#[test]
fn a_shell_with_endless_output_is_an_error_that_quotes_the_beginning() -> Result<()> {
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
fn a_login_without_a_shell_is_an_error_that_names_the_host() -> Result<()> {
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
fn remote_text_is_sanitised_before_it_reaches_the_terminal() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = hosts(Topology::Direct)?;
    lab.gpu().write(
        ".bashrc",
        "printf '\\033]0;owned\\007\\033[31mred' >&2; exec /bin/false\n",
    )?;
    lab.laptop().install(&client_binary(), "jq-client")?;
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
fn if_udp_is_blocked_the_error_names_the_ports_to_open() -> Result<()> {
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
fn the_wait_for_udp_is_short() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = hosts(Topology::Direct)?;
    lab.link().set(|conditions| conditions.block_udp = true);
    let began = Instant::now();
    fails(&lab, &["gpu", "--image", IMAGE, "--path", "direct"])?;
    ensure!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    lab.down()
}
