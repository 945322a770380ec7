//! `--gpus` with a real dockerd and a simulated NVIDIA hook: the requested GPUs are visible in the container, or there is a
//! warning or an error.

use std::time::Duration;

use anyhow::{Result, ensure};
use jq_tests::{
    eventually,
    lab::{Gpus, Lab, Topology},
    product::{Client, Ready},
    require,
};

const IMAGE: &str = "jq-lab/jupyter";

fn lab(gpus: Gpus) -> Result<Lab> {
    Lab::builder()
        .topology(Topology::Direct)
        .docker(true)
        .gpus(gpus)
        .up()
}

fn connect(lab: &Lab, session: &str, gpus: &[&str]) -> Result<(Ready, Vec<String>)> {
    let mut arguments = vec!["gpu", "--image", IMAGE, "--name", session];
    arguments.extend(gpus);
    let mut client = Client::connect(lab.laptop(), &arguments)?;
    let ready = client.ready()?;
    let warnings = client.texts("warning");
    client.disconnect()?;
    Ok((ready, warnings))
}

#[test]
fn the_requested_gpus_are_visible_in_the_container() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab(Gpus::Working(2))?;
    let (ready, warnings) = connect(&lab, "default", &[])?;
    ensure!(
        ready.gpus.len() == 2 && warnings.is_empty(),
        "{ready:?} {warnings:?}"
    );
    let (ready, _) = connect(&lab, "all", &["--gpus", "all"])?;
    ensure!(ready.gpus.len() == 2, "{ready:?}");
    let (ready, _) = connect(&lab, "one", &["--gpus", "1"])?;
    ensure!(ready.gpus.len() == 1, "{ready:?}");
    let (ready, _) = connect(&lab, "second", &["--gpus", "1,"])?;
    ensure!(ready.gpus.len() == 1, "{ready:?}");
    let (ready, warnings) = connect(&lab, "none", &["--gpus", "none"])?;
    ensure!(
        ready.gpus.is_empty() && warnings.is_empty(),
        "{ready:?} {warnings:?}"
    );
    lab.down()
}

#[test]
fn requesting_more_gpus_than_exist_is_an_error_and_leaves_no_container() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab(Gpus::Working(2))?;
    for ask in ["3", "0,7", "GPU-no-such"] {
        let mut client = Client::connect(lab.laptop(), &["gpu", "--image", IMAGE, "--gpus", ask])?;
        let failure = client.failure()?;
        ensure!(
            failure.kind == "gpu_unavailable" && failure.status == Some(1),
            "{ask}: {failure:#?}"
        );
    }
    ensure!(lab.docker(["ps", "-a", "-q"])?.is_empty());
    lab.down()
}

#[test]
fn a_host_without_gpus_gives_a_warning_or_an_error_if_a_number_was_requested() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab(Gpus::None)?;
    let (ready, warnings) = connect(&lab, "default", &[])?;
    ensure!(
        ready.gpus.is_empty() && warnings.iter().any(|text| text.contains("GPU")),
        "{warnings:?}"
    );
    let mut client = Client::connect(
        lab.laptop(),
        &["gpu", "--image", IMAGE, "--name", "b", "--gpus", "1"],
    )?;
    ensure!(client.failure()?.kind == "gpu_unavailable");
    lab.down()
}

#[test]
fn an_engine_that_cannot_pass_gpus_to_containers_is_always_reported() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    for gpus in [Gpus::NoHook(2), Gpus::BrokenHook(2)] {
        let lab = lab(gpus)?;
        let (ready, warnings) = connect(&lab, "default", &[])?;
        ensure!(
            ready.gpus.is_empty() && warnings.iter().any(|text| text.contains("GPU")),
            "{warnings:?}"
        );
        let mut client = Client::connect(
            lab.laptop(),
            &["gpu", "--image", IMAGE, "--name", "b", "--gpus", "1"],
        )?;
        ensure!(client.failure()?.kind == "gpu_unavailable");
        ensure!(
            lab.docker(["ps", "-a", "-q", "--filter", "label=dev.jq.session=b"])?
                .is_empty()
        );
    }
    Ok(())
}

#[test]
fn an_nvidia_smi_that_hangs_is_given_up_after_five_seconds_said_and_ended() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab(Gpus::Working(2))?;
    lab.gpu()
        .install_script("nvidia-smi", "#!/bin/sh\nsleep 4321\n")?;
    let says_so = |words: &str| words.contains("nvidia-smi on the host did not answer within 5 seconds");
    let (_, warnings) = connect(&lab, "default", &[])?;
    ensure!(warnings.iter().any(|text| says_so(text)), "{warnings:?}");
    let mut client = Client::connect(
        lab.laptop(),
        &["gpu", "--image", IMAGE, "--name", "b", "--gpus", "1"],
    )?;
    let failure = client.failure()?;
    ensure!(
        failure.kind == "gpu_unavailable" && says_so(&failure.why),
        "{failure:#?}"
    );
    let steps = client.texts("step");
    ensure!(steps.iter().any(|step| step.contains("nvidia-smi")), "{steps:?}");
    eventually("its children are ended", Duration::from_secs(10), || {
        lab.gpu().run(r#"! pgrep -u "$(id -u)" -f '^sleep 4321'"#).is_ok()
    })?;
    lab.down()
}

#[test]
fn without_gpus_an_image_that_asks_for_them_is_told_that_there_are_none() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab(Gpus::Working(2))?;
    let made = lab.docker(["create", "jq-lab/static"])?;
    let change = "ENV NVIDIA_VISIBLE_DEVICES=all";
    lab.docker(["commit", "--change", change, made.trim(), "wants-gpus:1"])?;
    let mut client = Client::connect(
        lab.laptop(),
        &[
            "gpu",
            "--image",
            "wants-gpus:1",
            "--jupyter",
            "none",
            "--gpus",
            "none",
        ],
    )?;
    let id = client.ready()?.container.expect("a container").id;
    let env = lab.docker(["inspect", "-f", "{{json .Config.Env}}", &id])?;
    ensure!(env.contains("NVIDIA_VISIBLE_DEVICES=void"), "{env}");
    client.disconnect()?;
    lab.down()
}
