//! The main use as a user sees it: JupyterLab in a real browser, through the gateway.

use std::{net::IpAddr, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use jq_tests::{
    lab::{Browser, Gpus, Lab, Topology},
    product::Client,
    require,
};
use rustix::process::Signal;

#[test]
fn a_notebook_prints_and_plots_and_its_variables_survive_a_killed_client() -> Result<()> {
    if !require::browser() {
        return Ok(());
    }
    let browser = Browser::install()?;
    let lab = Lab::builder()
        .topology(Topology::Gateway)
        .rtt(Duration::from_millis(40))
        .docker(true)
        .gpus(Gpus::Working(2))
        .up()?;
    let pictures = tempfile::tempdir()?;
    let arguments = ["gpu", "--image", "jq-lab/jupyter", "-v", "~/work:/work"];

    let mut client = Client::connect(lab.laptop(), &arguments)?;
    let url = client.ready()?.url.context("a URL")?;
    let visit = browser.use_jupyter(lab.laptop(), &url, &pictures.path().join("first.png"))?;
    client.signal(Signal::KILL)?;
    client.wait()?;

    let mut client = Client::connect(lab.laptop(), &arguments)?;
    ensure!(
        client.ready()?.url.as_deref() == Some(&*url),
        "the URL has changed"
    );
    browser.use_jupyter_again(
        lab.laptop(),
        &url,
        &visit.notebook,
        &pictures.path().join("again.png"),
    )?;
    client.disconnect()?;
    lab.down()
}

#[test]
fn a_counting_cell_loses_no_output_during_an_outage_an_address_change_and_blocked_udp() -> Result<()> {
    if !require::browser() {
        return Ok(());
    }
    let browser = Browser::install()?;
    let lab = Lab::builder()
        .topology(Topology::Gateway)
        .rtt(Duration::from_millis(40))
        .docker(true)
        .up()?;
    let pictures = tempfile::tempdir()?;
    let picture = pictures.path().join("count.png");
    let arguments = ["gpu", "--image", "jq-lab/jupyter", "-v", "~/work:/work"];
    let mut client = Client::connect(lab.laptop(), &arguments)?;
    let url = client.ready()?.url.context("a URL")?;
    browser.count_in_jupyter(lab.laptop(), &url, &picture, || {
        lab.link().set_up(false);
        lasts(Duration::from_secs(20));
        lab.link().set_up(true);
        lasts(Duration::from_secs(3));
        let address = IpAddr::from(lab.laptop().address);
        lab.laptop().change_address(address, [10, 77, 1, 99].into())?;
        lasts(Duration::from_secs(3));
        lab.link().set(|link| link.block_udp = true);
        client.wait_for_path(Duration::from_secs(20), |path| path == "ssh")?;
        Ok(())
    })?;
    client.disconnect()?;
    lab.down()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a fault lasts for a given time; there is no condition to wait for"
)]
fn lasts(length: Duration) {
    thread::sleep(length);
}
