//! Errors of the GPU host: its home, its processor, its start-up files.

use anyhow::{Result, ensure};
use jq_tests::{lab::Topology, product::Client, require};

use super::{IMAGE, fails, hosts, says, with_engine};

/// Arguments of a connect that needs neither an engine nor Jupyter.
const PROCESS: [&str; 5] = ["gpu", "--engine", "process", "--jupyter", "none"];

#[test]
fn if_the_home_is_full_the_agent_is_put_into_another_folder() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = hosts(Topology::Direct)?;
    lab.gpu().limit_home(512)?;
    let mut client = Client::connect(lab.laptop(), &PROCESS)?;
    client.ready()?;
    let elsewhere = format!("/tmp/jq-{}", lab.gpu().user.uid);
    let agents = lab.gpu().run(&format!("ls {elsewhere}/agent-*"))?;
    ensure!(agents.lines().count() == 1, "{agents}");
    client.disconnect()?;
    lab.down()
}

#[test]
fn if_the_home_is_read_only_the_agent_is_put_into_another_folder() -> Result<()> {
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
fn if_the_home_is_noexec_the_agent_is_put_into_another_folder() -> Result<()> {
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
fn the_error_for_an_unsupported_processor_names_it_and_the_supported_one() -> Result<()> {
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
fn output_of_shell_start_up_files_is_ignored() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = hosts(Topology::Direct)?;
    let noise = format!(
        "\u{1b}[2J\u{1b}]0;title\u{7}Welcome\r\n{}no newline at the end",
        "x".repeat(100_000)
    );
    lab.gpu().print_at_login(&noise)?;
    let mut client = Client::connect(lab.laptop(), &PROCESS)?;
    client.ready()?;
    client.disconnect()?;
    lab.down()
}
