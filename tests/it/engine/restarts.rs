//! Engines that restart or stay away, agents that are replaced, and helpers that are not needed any more.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use jq_tests::{
    eventually,
    lab::Lab,
    product::{Client, agent_binary},
    require,
};

use super::{echo, echoes, inspect, lab, ready};

const SOON: Duration = Duration::from_secs(60);

/// Reconnects to the session, whatever it has.
const AGAIN: [&str; 5] = ["gpu", "--jupyter", "none", "-L", "7000"];

#[test]
fn a_reconnect_without_an_image_waits_for_the_containers_engine_and_never_takes_a_process() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let mut lab = lab()?;
    lab.engine().set_options(["--live-restore"]);
    lab.engine().stop()?;
    lab.engine().launch()?;
    let mut client = echo(&lab, &[])?;
    let container = ready(&mut client)?;
    client.disconnect()?;

    lab.engine().stop()?;
    let failure = Client::connect(lab.laptop(), &AGAIN)?.failure()?;
    ensure!(failure.kind == "engine_stopped", "{failure:#?}");
    ensure!(failure.why.contains(&container.name), "{failure:#?}");

    let mut client = Client::connect(lab.laptop(), &AGAIN)?;
    let named = |client: &mut Client| {
        let steps = client.texts("step");
        steps
            .iter()
            .any(|step| step.contains("waiting for the container engine"))
    };
    eventually("the wait has a name", SOON, || named(&mut client))?;
    lab.engine().launch()?;
    let same = ready(&mut client)?;
    ensure!(same.id == container.id && same.origin == "found", "{same:?}");
    echoes(lab.laptop())?;
    client.disconnect()?;

    // It is gone, and the engine says so: nothing else is taken in its place.
    lab.docker(["rm", "-f", &container.id])?;
    let failure = Client::connect(lab.laptop(), &AGAIN)?.failure()?;
    ensure!(
        failure.kind == "container_unavailable" && failure.what.contains("does not exist any more"),
        "{failure:#?}"
    );
    lab.down()
}

/// The same agent with some bytes behind its end, which no program reads: another build, by its hash.
fn other_build(lab: &Lab) -> Result<PathBuf> {
    let folder = lab.laptop().dir.join("other-agent");
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    let file = folder.join(agent_binary().file_name().context("no name")?);
    fs::copy(agent_binary(), &file)?;
    fs::File::options()
        .append(true)
        .open(&file)?
        .write_all(b"another build")?;
    Ok(folder)
}

/// How often the agent has looked for a workload in vain.
fn looked_in_vain(lab: &Lab) -> usize {
    let log = lab.gpu().run("cat .cache/jq/run/*/*/log").unwrap_or_default();
    log.matches("the workload was not found again").count()
}

#[test]
fn an_upgrade_neither_starts_what_the_user_stopped_nor_makes_what_is_gone() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    let mut client = echo(&lab, &[])?;
    let container = ready(&mut client)?;
    lab.docker(["stop", "-t", "1", &container.id])?;
    let agents = other_build(&lab)?;
    let mut other = Client::connect(
        lab.laptop(),
        &[
            "gpu",
            "--engine",
            "process",
            "--jupyter",
            "none",
            "--name",
            "second",
            "--agent-dir",
            &agents.to_string_lossy(),
        ],
    )?;
    other.ready()?;
    eventually("the new agent has looked", SOON, || looked_in_vain(&lab) > 0)?;
    ensure!(
        inspect(&lab, &container.id, "{{.State.Running}}")? == "false",
        "it was started"
    );

    lab.docker(["rm", &container.id])?;
    let before = looked_in_vain(&lab);
    eventually("it has looked again", SOON, || looked_in_vain(&lab) > before)?;
    let left = lab.docker(["ps", "-a", "--filter", "label=dev.jq.role=workload", "-q"])?;
    ensure!(left.is_empty(), "it was made again: {left}");
    other.disconnect()?;
    client.disconnect()?;
    lab.down()
}

fn helpers(lab: &Lab) -> usize {
    let listed = lab.docker(["ps", "-a", "-q", "--filter", "label=dev.jq.role=inside"]);
    listed.map_or(usize::MAX, |listed| listed.lines().count())
}

#[test]
fn a_helper_goes_when_its_container_ends_and_when_nobody_uses_it() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    let mut client = echo(&lab, &[])?;
    let container = ready(&mut client)?;
    ensure!(helpers(&lab) == 1, "{} helpers", helpers(&lab));
    lab.docker(["stop", "-t", "1", &container.id])?;
    eventually("the helper goes with its container", SOON, || helpers(&lab) == 0)?;
    lab.docker(["start", &container.id])?;
    eventually("another one is started on demand", SOON, || {
        echoes(lab.laptop()).is_ok()
    })?;
    ensure!(helpers(&lab) == 1, "{} helpers", helpers(&lab));
    client.disconnect()?;
    eventually("the helper goes while the agent stays", SOON, || {
        helpers(&lab) == 0
    })?;
    ensure!(inspect(&lab, &container.id, "{{.State.Running}}")? == "true");
    let agents = lab.gpu().run(r#"pgrep -u "$(id -u)" -f '[-]-run-dir'"#)?;
    ensure!(agents.lines().count() == 1, "{agents}");
    lab.down()
}
