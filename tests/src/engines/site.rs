//! A lab with the engine of a row.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Row;
use crate::{
    http,
    lab::{Gpus, Host, Lab, Topology, images::JUPYTER},
    product::{Client, Container, Failure, Ready},
};

/// The GPUs of the host.
const GPUS: u32 = 2;

/// A laptop and a GPU host with two GPUs and the engine of a row.
pub(super) struct Site {
    pub(super) row: Row,
    pub(super) lab: Lab,
}

/// A connect that succeeded, with what the user was told.
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) ready: Ready,
    pub(super) warnings: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl Site {
    pub(super) fn up(row: &Row) -> Result<Self> {
        let lab = Lab::builder()
            .topology(Topology::Direct)
            .rtt(Duration::from_millis(10))
            .engine(row.generation)
            .gpus(Gpus::Working(GPUS))
            .up()
            .with_context(|| format!("no lab with {}", row.name()))?;
        Ok(Self { row: *row, lab })
    }

    pub(super) fn down(self) -> Result<()> {
        self.lab.down()
    }

    pub(super) fn host(&self) -> &Host {
        self.lab.gpu()
    }

    /// Connects with these arguments after the host's name.
    pub(super) fn connect(&self, args: &[&str]) -> Result<Connected> {
        let mut client = Client::connect(self.lab.laptop(), &[&["gpu"], args].concat())?;
        let ready = client.ready()?;
        let (warnings, notes) = (client.texts("warning"), client.texts("note"));
        Ok(Connected {
            client,
            ready,
            warnings,
            notes,
        })
    }

    /// Connects to a new container with Jupyter in a session of this name.
    pub(super) fn session(&self, name: &str, args: &[&str]) -> Result<Connected> {
        self.connect(&[&["--image", JUPYTER, "--name", name], args].concat())
    }

    /// The failure of a connect to a new container with Jupyter.
    pub(super) fn refusal(&self, name: &str, args: &[&str]) -> Result<Failure> {
        let words = [&["gpu", "--image", JUPYTER, "--name", name], args].concat();
        Client::connect(self.lab.laptop(), &words)?.failure()
    }

    /// Sends a request to Jupyter. Returns the status and the body.
    pub(super) fn ask(&self, ready: &Ready, method: &str, path: &str) -> Result<(u16, serde_json::Value)> {
        let stream = http::dial(self.lab.laptop(), ready.jupyter_port()?)?;
        http::request(stream, method, path, Some(ready.token()?))
    }

    /// Checks that Jupyter answers.
    pub(super) fn jupyter_answers(&self, ready: &Ready) -> Result<()> {
        let (status, body) = self.ask(ready, "GET", "/api/status")?;
        ensure!(status == 200, "Jupyter answered with {status}: {body}");
        Ok(())
    }
}

impl Connected {
    /// The session's container.
    pub(super) fn container(&self) -> Result<&Container> {
        self.ready.container.as_ref().context("there is no container")
    }
}
