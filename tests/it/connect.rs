//! The main use: a first connect to JupyterLab, and a second one.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    time::Duration,
};

use anyhow::{Result, ensure};
use jq_tests::{
    http,
    lab::{HostName, Lab, Topology},
    product::{Client, Ready},
    require,
};

const IMAGE: &str = "jq-lab/jupyter";

fn listening(lab: &Lab, name: HostName) -> Result<String> {
    lab.host(name).run_as_root("ss -Hltn | sort")
}

#[test]
fn through_the_gateway_the_second_connect_finds_everything_that_the_first_created() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = Lab::builder()
        .topology(Topology::Gateway)
        .rtt(Duration::from_millis(40))
        .docker(true)
        .up()?;
    lab.gpu().run("mkdir -p work && echo data > work/file")?;
    let before = [
        listening(&lab, HostName::Gateway)?,
        listening(&lab, HostName::Gpu)?,
    ];
    // As if the laptop's shell had expanded `~`: this is the laptop's home, but the GPU host's is meant.
    let volume = format!("{}:/work", lab.laptop().home().join("work").display());
    let arguments = ["gpu", "--image", IMAGE, "-v", &volume];

    let mut first = Client::connect(lab.laptop(), &arguments)?;
    let made = first.ready()?;
    let container = made.container.clone().expect("a container");
    ensure!(
        container.origin == "created" && made.jupyter_was_running == Some(false),
        "{made:?}"
    );
    ensure!(made.path == "through gateway", "{}", made.path);
    ensure!(
        first
            .texts("step")
            .iter()
            .filter(|step| step.contains("upload"))
            .count()
            == 2
    );
    let (port, token) = (made.jupyter_port()?, made.token()?);
    let dial = || http::dial(lab.laptop(), port);
    ensure!(
        http::request(dial()?, "GET", "/api/status", None)?.0 == 403,
        "Jupyter answers without a token"
    );
    ensure!(http::request(dial()?, "GET", "/api/status", Some(token))?.0 == 200);
    let (status, file) = http::request(dial()?, "GET", "/api/contents/file", Some(token))?;
    ensure!(
        status == 200 && file["content"] == "data\n",
        "the volume must be Jupyter's folder: {file}"
    );
    let (status, kernel) = http::request(dial()?, "POST", "/api/kernels", Some(token))?;
    ensure!(status == 201, "{status} {kernel}");
    let during = [
        listening(&lab, HostName::Gateway)?,
        listening(&lab, HostName::Gpu)?,
    ];
    ensure!(
        during == before,
        "no new port may listen on a shared machine: {before:#?} {during:#?}"
    );
    first.disconnect()?;

    let mut second = Client::connect(lab.laptop(), &arguments)?;
    let found = second.ready()?;
    let same = found.container.clone().expect("a container");
    ensure!(same.id == container.id && same.origin == "found", "{same:?}");
    ensure!(found.jupyter_was_running == Some(true));
    ensure!(found.url == made.url, "port and token must stay the same");
    ensure!(
        !second.texts("step").iter().any(|step| step.contains("upload")),
        "the agent was uploaded twice"
    );
    let (_, kernels) = http::request(dial()?, "GET", "/api/kernels", Some(token))?;
    ensure!(kernels[0]["id"] == kernel["id"], "the kernel is gone: {kernels}");
    second.disconnect()?;
    lab.down()
}

/// Connects without a container, and checks that a forward to the GPU host works.
fn forward_without_a_container(lab: &Lab) -> Result<Ready> {
    let service = lab.gpu().enter(|| TcpListener::bind("127.0.0.1:9000"))??;
    let arguments = ["gpu", "--engine", "process", "--jupyter", "none", "-L", "9000"];
    let mut client = Client::connect(lab.laptop(), &arguments)?;
    let ready = client.ready()?;
    let mut near = http::dial(lab.laptop(), 9000)?;
    near.write_all(b"through")?;
    let mut heard = [0; 7];
    service.accept()?.0.read_exact(&mut heard)?;
    ensure!(&heard == b"through");
    client.disconnect()?;
    Ok(ready)
}

#[test]
fn a_host_reached_directly_needs_no_relay() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).up()?;
    let ready = forward_without_a_container(&lab)?;
    ensure!(ready.path == "direct", "{}", ready.path);
    lab.down()
}

#[test]
fn two_jump_hosts_relay_the_packets_between_them() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::TwoGateways).up()?;
    let gpu = lab.gpu().address;
    for host in [HostName::Laptop, HostName::Gw1] {
        ensure!(
            lab.host(host).run(&format!("ping -c 1 -W 1 {gpu}")).is_err(),
            "{host} reaches the GPU host directly"
        );
    }
    let ready = forward_without_a_container(&lab)?;
    ensure!(ready.path == "through gw1, gw2", "{}", ready.path);
    lab.down()
}

#[test]
fn a_direct_path_installs_nothing_on_the_gateway() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    // The gateway of this lab does not forward packets, so the direct path fails. This test is about what stays on the gateway.
    let lab = Lab::builder().topology(Topology::Gateway).up()?;
    let arguments = [
        "gpu",
        "--engine",
        "process",
        "--jupyter",
        "none",
        "--path",
        "direct",
    ];
    let mut client = Client::connect(lab.laptop(), &arguments)?;
    let failure = client.failure()?;
    ensure!(
        failure.kind == "udp_blocked" && failure.status == Some(255),
        "{failure:?}"
    );
    ensure!(
        !Path::new(&lab.gateway().home().join(".cache/jq")).exists(),
        "something was installed on the gateway"
    );
    lab.down()
}

#[test]
fn if_the_local_port_is_taken_jupyter_gets_another_and_the_next_connect_keeps_it() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).docker(true).up()?;
    let arguments = ["gpu", "--image", IMAGE];
    let taken = lab.laptop().enter(|| TcpListener::bind("127.0.0.1:8888"))??;
    let mut first = Client::connect(lab.laptop(), &arguments)?;
    let moved = first.ready()?;
    ensure!(moved.jupyter_port()? == 8889, "{moved:?}");
    ensure!(
        first.texts("warning").iter().any(|text| text.contains("8888")),
        "there is no warning about the port"
    );
    first.disconnect()?;
    drop(taken);
    let mut second = Client::connect(lab.laptop(), &arguments)?;
    ensure!(second.ready()?.url == moved.url, "the URL has changed");
    second.disconnect()?;
    lab.down()
}
