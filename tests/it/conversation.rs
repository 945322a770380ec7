//! A connection through a forward, held at both ends.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Result, ensure};
use jq_tests::{http, lab::Lab};

/// The service on the GPU host, and its port on the laptop.
const PORT: u16 = 9000;
pub(crate) const FORWARD: &str = "9000:127.0.0.1:9000";

/// How long what was asked may take to arrive: an outage may have to be noticed first.
const SOON: Duration = Duration::from_secs(30);

/// Both ends of a connection.
pub(crate) struct Conversation {
    pub(crate) near: TcpStream,
    far: TcpStream,
}

impl Conversation {
    pub(crate) fn begin(lab: &Lab, service: &TcpListener) -> Result<Self> {
        let near = http::dial(lab.laptop(), PORT)?;
        let (far, _) = service.accept()?;
        far.set_read_timeout(Some(SOON))?;
        near.set_read_timeout(Some(SOON))?;
        Ok(Self { near, far })
    }

    pub(crate) fn asks(&mut self, question: &[u8]) -> Result<()> {
        Ok(self.near.write_all(question)?)
    }

    /// That `question` arrives next, and an answer to it.
    pub(crate) fn is_answered(&mut self, question: &[u8]) -> Result<()> {
        let mut heard = vec![0; question.len()];
        self.far.read_exact(&mut heard)?;
        ensure!(heard == question, "{heard:?}");
        self.far.write_all(question)?;
        self.near.read_exact(&mut heard)?;
        ensure!(heard == question, "{heard:?}");
        Ok(())
    }

    /// Asks and is answered.
    pub(crate) fn goes_on(&mut self, question: &[u8]) -> Result<()> {
        self.asks(question)?;
        self.is_answered(question)
    }
}

/// What listens on the GPU host.
pub(crate) fn service(lab: &Lab) -> Result<TcpListener> {
    Ok(lab.gpu().enter(|| TcpListener::bind(("127.0.0.1", PORT)))??)
}
