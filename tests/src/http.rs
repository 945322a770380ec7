//! Just enough of HTTP/1.1 to talk to Jupyter in a test.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::lab::Host;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// A connection to a port of this host's own loopback.
///
/// # Errors
/// The connect's.
pub fn dial(host: &Host, port: u16) -> Result<TcpStream> {
    let stream = host.enter(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)))??;
    stream.set_read_timeout(Some(ANSWER))?;
    Ok(stream)
}

/// Sends a request on `stream` and reads the answer whole. Gives the status and the body, which is null unless JSON.
///
/// # Errors
/// When no answer comes.
pub fn request(mut stream: TcpStream, method: &str, path: &str, token: Option<&str>) -> Result<(u16, Value)> {
    let authorization = token
        .map(|token| format!("Authorization: token {token}\r\n"))
        .unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n{authorization}\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("no whole answer")?;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .context("no status line")?;
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body)
        .unwrap_or_default();
    Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}
