//! A minimal HTTP server for the registry: one request and one response on each connection.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;
use sha2::{Digest as _, Sha256};

/// The first byte from a TLS client. dockerd tries TLS before plain HTTP.
const TLS_HANDSHAKE: u8 = 0x16;

/// Longer than any request of dockerd.
const HEAD: usize = 64 << 10;

/// The parts of a request that the registry needs.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) authorization: Option<String>,
    /// The offset of the first requested byte.
    pub(super) from: u64,
}

impl Request {
    /// None if the request is not HTTP.
    pub(super) fn read(stream: &mut TcpStream) -> io::Result<Option<Self>> {
        let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
        while !text.ends_with(b"\r\n\r\n") {
            let len = stream.read(&mut buffer)?;
            text.extend_from_slice(&buffer[..len]);
            if len == 0 || text.len() > HEAD || text[0] == TLS_HANDSHAKE {
                return Ok(None);
            }
        }
        let text = String::from_utf8_lossy(&text);
        let mut words = text.split(' ').map(str::to_owned);
        let header = |name: &str| {
            let mut fields = text.lines().filter_map(|line| line.split_once(": "));
            fields.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.to_owned()))
        };
        let range = header("range");
        let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        Ok(Some(Self {
            method: words.next().unwrap_or_default(),
            path: words.next().unwrap_or_default(),
            authorization: header("authorization"),
            from: from.unwrap_or(0),
        }))
    }

    pub(super) fn answer(
        &self,
        stream: &mut TcpStream,
        status: &str,
        media_type: &str,
        body: &[u8],
    ) -> io::Result<()> {
        head(stream, status, media_type, &digest(body), body.len() as u64)?;
        if self.method == "HEAD" {
            return Ok(());
        }
        stream.write_all(body)
    }

    pub(super) fn refuse(
        &self,
        stream: &mut TcpStream,
        status: &str,
        code: &str,
        message: &str,
    ) -> io::Result<()> {
        // Like real registries, with `detail`: dockerd does not show the message of an error without it.
        let body = json!({ "errors": [{ "code": code, "message": message, "detail": {} }] });
        self.answer(stream, status, "application/json", body.to_string().as_bytes())
    }
}

pub(super) fn head(
    stream: &mut TcpStream,
    status: &str,
    media_type: &str,
    digest: &str,
    length: u64,
) -> io::Result<()> {
    let text = format!(
        "HTTP/1.1 {status}\r\nDocker-Distribution-Api-Version: registry/2.0\r\nContent-Type: {media_type}\r\n\
         Docker-Content-Digest: {digest}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(text.as_bytes())
}

pub(super) fn digest(content: &[u8]) -> String {
    let hex = Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>();
    format!("sha256:{hex}")
}

pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let at = |index: usize| usize::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        let digit = move |index: usize| char::from(DIGITS[bits >> (18 - 6 * index) & 63]);
        let used = group.len() + 1;
        (0..4).map(move |index| if index < used { digit(index) } else { '=' })
    };
    bytes.chunks(3).flat_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::{base64, digest};

    #[test]
    fn base64_matches_the_test_vectors_of_rfc_4648() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
            ("user:?>~\u{ff}", "dXNlcjo/Pn7Dvw=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn a_digest_names_its_algorithm() {
        assert!(digest(b"").starts_with("sha256:e3b0c44298fc1c14"));
    }
}
