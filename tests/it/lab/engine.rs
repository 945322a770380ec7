//! The GPU host's engine, and a browser that opens what runs there.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jq_tests::{
    eventually,
    lab::{Browser, Gpus, Lab, Topology, images, remains},
    require,
};

use super::MS;

#[test]
fn the_gpu_host_has_an_engine() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let mut lab = Lab::builder().docker(true).gpus(Gpus::Working(2)).up()?;
    let run = |lab: &Lab, line: &str| lab.laptop().run(&format!("ssh -o BatchMode=yes gpu '{line}'"));
    let list = "docker run --rm --gpus device=1 jq-lab/nojupyter nvidia-smi -L";
    assert_eq!(
        run(&lab, list)?.trim(),
        format!("GPU 1: NVIDIA H100 80GB HBM3 (UUID: {})", Gpus::uuid(1))
    );
    assert_eq!(run(&lab, "nvidia-smi -L")?.lines().count(), 2);
    let other = "docker run --rm jq-lab/nojupyter nvidia-smi -L";
    ensure!(
        run(&lab, other).is_err(),
        "a container has GPUs that were not requested"
    );
    ensure!(run(&lab, "docker run --rm jq-lab/jupyter jupyter lab --version")?.starts_with('4'));
    let uid = "docker run --rm --user 0 --env NB_UID=2345 jq-lab/stacks id -u";
    assert_eq!(run(&lab, uid)?.trim(), "2345");
    run(&lab, "docker run --detach --init --name echo jq-lab/static")?;
    ensure!(
        run(&lab, "docker exec echo /bin/sh").is_err(),
        "the static image has a shell"
    );
    // Only the GPU host's user can open the socket, as on separate machines.
    let socket = lab.state().engine.clone().context("no engine")?;
    let knock = format!("DOCKER_HOST=unix://{} docker ps", socket.display());
    ensure!(
        lab.laptop().run(&knock).is_err(),
        "the laptop's user can open the engine's socket"
    );
    lab.engine().stop()?;
    ensure!(run(&lab, "docker ps").is_err(), "dockerd still answers");
    lab.engine().launch()?;
    lab.docker(["tag", images::STATIC, "somebody/else:1"])?;
    let id = lab.id().clone();
    lab.down()?;
    assert_eq!(remains(&id), [""; 0]);
    let lab = Lab::builder()
        .topology(Topology::Direct)
        .docker(true)
        .gpus(Gpus::NoHook(1))
        .up()?;
    assert_eq!(lab.docker(["ps", "--all", "--quiet"])?, "");
    assert_eq!(lab.docker(["images", "--quiet", "somebody/else"])?, "");
    let refused = lab.gpu().run("docker run --rm --gpus all jq-lab/nojupyter true");
    ensure!(
        refused.is_err(),
        "an engine without the hook passes GPUs to containers"
    );
    lab.down()
}

#[test]
fn a_browser_can_use_jupyter_over_an_ssh_tunnel() -> Result<()> {
    if !require::browser() {
        return Ok(());
    }
    let browser = Browser::install()?;
    let lab = Lab::builder().rtt(40 * MS).docker(true).up()?;
    let jupyter = "jupyter lab --allow-root --no-browser --port 8888 --IdentityProvider.token=t";
    lab.gpu().run(&format!(
        "docker run --detach --init --network host {} {jupyter}",
        images::JUPYTER
    ))?;
    let mut tunnel = lab
        .laptop()
        .command("ssh")
        .args(["-N", "-L", "8888:127.0.0.1:8888", "gpu"])
        .spawn()?;
    let url = "http://127.0.0.1:8888/lab?token=t";
    eventually("Jupyter to answer", Duration::from_secs(30), || {
        lab.laptop()
            .run("curl --fail --silent http://127.0.0.1:8888/api")
            .is_ok()
    })?;
    let picture = tempfile::NamedTempFile::new()?;
    let first = browser.use_jupyter(lab.laptop(), url, picture.path())?;
    ensure!(
        std::fs::read(picture.path())?.starts_with(b"\x89PNG"),
        "there is no screenshot"
    );
    let again = browser.use_jupyter_again(lab.laptop(), url, &first.notebook, picture.path())?;
    assert_eq!(again.notebook, first.notebook);
    tunnel.kill()?;
    tunnel.wait()?;
    lab.down()
}
