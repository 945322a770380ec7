//! JupyterLab in a real browser.

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::{
    Benchmark, Options,
    figures::{Sheet, Spread, at_most},
    peers::{PRODUCT, Who, await_port, ssh},
    place::Place,
    wire,
};
use crate::{
    eventually,
    lab::{Browser, images, tools},
    product::Client,
    require,
};

pub(super) const BENCHMARKS: &[Benchmark] = &[Benchmark {
    id: "jupyter",
    name: "JupyterLab in Chromium, 20 Mbit/s 40 ms, 1 % loss, empty cache",
    bar: "launcher: 0.7 x ssh -L; 1+1 during a download: idle + 30 ms",
    aim: "0.3 x; idle + 5 ms",
    run: jupyter,
}];

const SCRIPT: &str = include_str!("launcher.py");

/// The file that is downloaded, in the folder that JupyterLab shows.
const FILE: &str = "large.bin";

/// The published port of the container for ssh, on the GPU host's loopback.
const PUBLISHED: u16 = 9300;

/// The local port of `ssh -L`.
const NEAR: u16 = 9301;

/// Time limit for JupyterLab to start.
const START: std::time::Duration = std::time::Duration::from_secs(90);

/// The output of the script.
#[derive(Deserialize)]
struct Visit {
    launcher: f64,
    idle: Vec<f64>,
    loaded: Vec<f64>,
    mbit: f64,
}

fn jupyter(options: &Options) -> Result<Sheet> {
    anyhow::ensure!(
        require::browser(),
        "this machine does not meet the requirements of a browser (see above)"
    );
    let browser = Browser::install()?;
    let place = Place::up_with(wire::HOME, |builder| builder.docker(true))?;
    let (laptop, gpu) = (place.lab.laptop(), place.lab.gpu());
    gpu.run(&format!(
        "mkdir -p work && head -c 500000000 /dev/urandom > work/{FILE}"
    ))?;
    let mut client = Client::connect(laptop, &["gpu", "--image", images::JUPYTER, "-v", "~/work:/work"])?;
    let ours = client.ready()?.url.context("no URL")?;
    let theirs = publish(&place)?;
    let tunnel = ssh(&place, NEAR, PUBLISHED, "")?;
    await_port(&place, NEAR, START)?;
    let mut sheet = Sheet::default();
    let (launcher, idle, loaded) = (
        "until the launcher is usable",
        "1+1, idle",
        "1+1, during a download",
    );
    let mut late = Vec::new();
    for round in 0..options.rounds {
        for (peer, url) in [(Who::Ssh.name(), &theirs), (PRODUCT, &ours)] {
            // A new workspace, so that JupyterLab does not reopen the notebooks of an earlier round.
            let fresh = format!("/lab/workspaces/round-{round}?");
            let visit = visit(&place, &browser, &url.replacen("/lab?", &fresh, 1))?;
            let (idle_ms, loaded_ms) = (median(&visit.idle)?, median(&visit.loaded)?);
            let figures = [
                (launcher, visit.launcher, "s"),
                (idle, idle_ms, "ms"),
                (loaded, loaded_ms, "ms"),
                ("download during the cells", visit.mbit, "Mbit/s"),
            ];
            for (what, value, unit) in figures {
                sheet.add(what, peer, unit, value);
                options.tell(round, what, peer, value, unit);
            }
            if peer == PRODUCT {
                late.push(loaded_ms - idle_ms);
            }
            place.settle()?;
        }
    }
    sheet.judge_ratio(launcher, PRODUCT, Who::Ssh.name(), at_most(0.7, 0.3));
    sheet.judge(
        "1+1 during a download, above idle",
        "ms",
        late,
        at_most(30.0, 5.0),
    );
    drop(tunnel);
    client.disconnect()?;
    place.down()?;
    Ok(sheet)
}

/// The usual setup without jq: a container with a published port, and `ssh -L`. Returns the URL on the laptop.
fn publish(place: &Place) -> Result<String> {
    let work = format!("{}:/work", place.lab.gpu().home().join("work").display());
    let publish = format!("127.0.0.1:{PUBLISHED}:{PUBLISHED}");
    // As the user: the other container's user could not change files that belong to root.
    let user = &place.lab.gpu().user;
    let user = format!("{}:{}", user.uid, user.gid);
    place.lab.docker([
        "run",
        "-d",
        "-u",
        &user,
        "-e",
        "HOME=/tmp",
        "-p",
        &publish,
        "-v",
        &work,
        "-w",
        "/work",
        images::JUPYTER,
        "jupyter",
        "lab",
        "--ip=0.0.0.0",
        &format!("--port={PUBLISHED}"),
        "--allow-root",
        "--no-browser",
        "--IdentityProvider.token=bench",
    ])?;
    let asks = format!("curl -fsS -o /dev/null http://127.0.0.1:{PUBLISHED}/api");
    eventually("JupyterLab to answer", START, || {
        place.lab.gpu().run(&asks).is_ok()
    })?;
    Ok(format!("http://127.0.0.1:{NEAR}/lab?token=bench"))
}

fn median(values: &[f64]) -> Result<f64> {
    let spread = Spread::of(values).context("the browser measured nothing")?;
    Ok(spread.median)
}

fn visit(place: &Place, browser: &Browser, url: &str) -> Result<Visit> {
    let laptop = place.lab.laptop();
    laptop.write("launcher.py", SCRIPT)?;
    let mut command = laptop.command(browser.python());
    command.arg(laptop.home().join("launcher.py"));
    let said = tools::output(command.args([url, "--file", FILE]))?;
    serde_json::from_str(said.trim()).context("the browser driver printed something unexpected")
}
