//! The JSON events that end a connect: `ready` or `failure`.

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// The event `ready`.
#[derive(Clone, Debug, Deserialize)]
pub struct Ready {
    /// Jupyter's URL; none without Jupyter.
    pub url: Option<String>,
    /// The engine's name and version, as shown to the user.
    pub engine: String,
    /// The container; none for a process.
    pub container: Option<Container>,
    /// Whether Jupyter was running before this connect.
    pub jupyter_was_running: Option<bool>,
    /// GPUs that are visible to the workload.
    pub gpus: Vec<String>,
    /// The path that packets take.
    pub path: String,
    /// The forwards of `-L`.
    pub forwards: Vec<Forwarded>,
}

/// The container of a [`Ready`].
#[derive(Clone, Debug, Deserialize)]
pub struct Container {
    /// Full id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Image.
    pub image: String,
    /// `created`, `started` or `found`.
    pub origin: String,
}

/// One forward of a [`Ready`].
#[derive(Clone, Debug, Deserialize)]
pub struct Forwarded {
    /// Local port.
    pub port: u16,
    /// The target.
    pub target: String,
}

/// The event `failure`, and how the process ended.
#[derive(Clone, Debug, Deserialize)]
pub struct Failure {
    /// The kind of failure, as a code for programs.
    pub kind: String,
    /// What failed.
    pub what: String,
    /// The host on which it failed.
    pub host: Option<String>,
    /// Why.
    pub why: String,
    /// What to do.
    pub hint: String,
    /// Exit status.
    #[serde(skip)]
    pub status: Option<i32>,
}

impl Failure {
    /// The whole message that the user sees.
    #[must_use]
    pub fn all_words(&self) -> String {
        format!("{}\n{}\n{}", self.what, self.why, self.hint)
    }
}

impl Ready {
    /// Jupyter's local port.
    ///
    /// # Errors
    /// When there is no Jupyter.
    pub fn jupyter_port(&self) -> Result<u16> {
        let url = self.url.as_deref().context("no URL")?;
        let port = url
            .strip_prefix("http://127.0.0.1:")
            .and_then(|rest| rest.split('/').next());
        port.and_then(|port| port.parse().ok())
            .with_context(|| format!("no port in {url}"))
    }

    /// Jupyter's token.
    ///
    /// # Errors
    /// When there is no Jupyter.
    pub fn token(&self) -> Result<&str> {
        let url = self.url.as_deref().context("no URL")?;
        url.split_once("?token=")
            .map(|(_, token)| token)
            .with_context(|| format!("no token in {url}"))
    }
}
