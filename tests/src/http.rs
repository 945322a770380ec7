//! A minimal HTTP/1.1 client for requests to Jupyter.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::lab::Host;

/// Time limit of a response.
const ANSWER: Duration = Duration::from_secs(30);

/// Connects to a port on the loopback of `host`.
///
/// # Errors
/// When the connect fails.
pub fn dial(host: &Host, port: u16) -> Result<TcpStream> {
    let stream = host.enter(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)))??;
    stream.set_read_timeout(Some(ANSWER))?;
    Ok(stream)
}

/// Sends a request on `stream` and reads the whole response. Returns the status and the body, which is null unless it is
/// JSON.
///
/// # Errors
/// When there is no complete response.
pub fn request(mut stream: TcpStream, method: &str, path: &str, token: Option<&str>) -> Result<(u16, Value)> {
    let authorization = token
        .map(|token| format!("Authorization: token {token}\r\n"))
        .unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n{authorization}\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .context("the response is incomplete")?;
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

/// A connection that stays open from one request to the next.
pub struct Kept(BufReader<TcpStream>);

impl Kept {
    /// Sends requests on `stream` from now on.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self(BufReader::new(stream))
    }

    /// Returns the JSON body of the resource at `path`.
    ///
    /// # Errors
    /// When the connection has ended, or the response is not 200 with JSON and a `Content-Length`.
    pub fn get(&mut self, path: &str, token: &str) -> Result<Value> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: token {token}\r\n\r\n");
        self.0.get_mut().write_all(head.as_bytes())?;
        let (mut line, mut length) = (String::new(), None);
        self.0.read_line(&mut line).context("there is no response")?;
        ensure!(line.starts_with("HTTP/1.1 200 "), "{line:?}");
        while !line.trim_end().is_empty() {
            if let Some(("content-length", value)) = line.to_lowercase().trim_end().split_once(": ") {
                length = Some(value.parse()?);
            }
            line.clear();
            self.0
                .read_line(&mut line)
                .context("the response is incomplete")?;
        }
        let mut body = vec![0; length.context("no Content-Length")?];
        self.0
            .read_exact(&mut body)
            .context("the response is incomplete")?;
        Ok(serde_json::from_slice(&body)?)
    }
}
