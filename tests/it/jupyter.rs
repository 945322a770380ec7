//! Jupyter comes up with our token on our terms, whatever image and container say; or the message names the cause.

mod beside;
mod images;

use std::fs;

use anyhow::{Context as _, Result, ensure};
use jq_tests::{
    http,
    lab::{Lab, Topology},
    product::{Client, Ready},
};

const IMAGE: &str = "jq-lab/jupyter";

fn lab() -> Result<Lab> {
    Lab::builder().topology(Topology::Direct).docker(true).up()
}

/// Builds an image of these files, of which one is its Dockerfile. It is gone with the lab.
fn image(lab: &Lab, name: &str, files: &[(&str, &str)]) -> Result<String> {
    let context = tempfile::tempdir()?;
    for (file, content) in files {
        fs::write(context.path().join(file), content)?;
    }
    let name = format!("odd/{name}");
    let path = context.path().to_string_lossy().into_owned();
    lab.docker(["build", "--quiet", "--tag", &name, &path])
        .with_context(|| format!("building {name}"))?;
    Ok(name)
}

/// Connects, and checks that Jupyter answers to its token and to nothing else.
fn connects(lab: &Lab, arguments: &[&str]) -> Result<(Client, Ready)> {
    let mut client = Client::connect(lab.laptop(), arguments)?;
    let ready = client.ready()?;
    answers(lab, &ready).with_context(|| format!("{arguments:?}"))?;
    Ok((client, ready))
}

fn answers(lab: &Lab, ready: &Ready) -> Result<()> {
    for (token, expected) in [(Some(ready.token()?), 200), (Some("theirs"), 403), (None, 403)] {
        let dialled = http::dial(lab.laptop(), ready.jupyter_port()?)?;
        let (status, body) = http::request(dialled, "GET", "/api/status", token)?;
        ensure!(status == expected, "{token:?}: {status} {body}");
    }
    Ok(())
}

/// What the processes of the container whose command lines contain `name` have in their environment.
fn environment(lab: &Lab, container: &str, name: &str) -> Result<String> {
    let processes = lab.docker(["top", container, "-eo", "pid,args"])?;
    let pids = processes
        .lines()
        .filter(|line| line.contains(name))
        .filter_map(|line| line.split_whitespace().next());
    let mut found = String::new();
    for pid in pids {
        // One that has just ended has none.
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        found.push_str(&String::from_utf8_lossy(&environ).replace('\0', "\n"));
    }
    Ok(found)
}
