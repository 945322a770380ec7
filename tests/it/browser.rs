//! The main use as a user sees it: JupyterLab in a real browser, through the gateway.

use std::{fs, net::IpAddr, os::unix::fs::MetadataExt as _, path::Path, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use jq_tests::{
    eventually,
    lab::{Browser, Gpus, Lab, Topology},
    product::{Client, client_binary},
    require,
    terminal::Terminal,
};
use rustix::process::Signal;

/// How long a step of connecting may take.
const CONNECT: Duration = Duration::from_secs(120);

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

/// What stands in for the browser notes its arguments, which any user of the laptop could read.
#[test]
fn the_browser_is_given_a_private_file_and_no_token_among_its_arguments() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).docker(true).up()?;
    let laptop = lab.laptop();
    laptop.install(&client_binary(), "jq-client")?;
    laptop.install_script(
        "xdg-open",
        "#!/bin/sh\necho \"$*\" >~/.opened && mv ~/.opened ~/opened",
    )?;
    let mut terminal = Terminal::open(
        laptop,
        &["jq-client", "connect", "gpu", "--image", "jq-lab/jupyter"],
    )?;
    terminal.shows("?token=", CONNECT)?;
    terminal.shows("Ctrl-C disconnects", CONNECT)?;
    let shown = terminal.text();
    let (_, behind) = shown.split_once("?token=").context("a token")?;
    let token = behind.split_whitespace().next().context("a token")?;
    ensure!(token.len() >= 32, "{shown}");

    let opened = laptop.home().join("opened");
    eventually("the browser was started", CONNECT, || opened.exists())?;
    let arguments = fs::read_to_string(opened)?;
    ensure!(!arguments.contains(token), "{arguments}");
    let page = Path::new(arguments.trim_end());
    ensure!(fs::read_to_string(page)?.contains(token), "the page leads there");
    ensure!(page.metadata()?.mode() & 0o777 == 0o600, "{arguments}");
    terminal.types("\x03")?;
    ensure!(terminal.wait()?.success(), "{}", terminal.text());
    ensure!(!page.exists(), "nothing of it is left");
    lab.down()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a fault lasts for a given time; there is no condition to wait for"
)]
fn lasts(length: Duration) {
    thread::sleep(length);
}
