//! The engine as its user has it: what `docker run` does on that host, a connect does.

mod daemons;
mod registries;
mod restarts;
mod settings;
mod volumes;

use std::io::{Read as _, Write as _};

use anyhow::{Context as _, Result, ensure};
use jq_tests::{
    http,
    lab::{Host, Lab, Topology},
    product::{Client, Container},
};

/// A JupyterLab.
const JUPYTER: &str = "jq-lab/jupyter";

/// It echoes on 7000, and has neither a Jupyter nor a shell.
const ECHO: &str = "jq-lab/static";

fn lab() -> Result<Lab> {
    Lab::builder().topology(Topology::Direct).docker(true).up()
}

/// Connects without Jupyter to a container of the image that echoes, with its port.
fn echo(lab: &Lab, options: &[&str]) -> Result<Client> {
    let words = ["gpu", "--image", ECHO, "--jupyter", "none", "-L", "7000"];
    Client::connect(lab.laptop(), &[&words, options].concat())
}

/// That bytes come back from the container's port 7000.
fn echoes(laptop: &Host) -> Result<()> {
    let mut stream = http::dial(laptop, 7000)?;
    stream.write_all(b"through")?;
    let mut heard = [0; 7];
    stream.read_exact(&mut heard)?;
    ensure!(&heard == b"through");
    Ok(())
}

fn ready(client: &mut Client) -> Result<Container> {
    client.ready()?.container.context("no container")
}

fn inspect(lab: &Lab, container: &str, format: &str) -> Result<String> {
    Ok(lab
        .docker(["inspect", "-f", format, container])?
        .trim()
        .to_owned())
}
