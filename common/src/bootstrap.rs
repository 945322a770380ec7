//! What is said over SSH: the shell prints a nonce, then each side says one message, and SSH is done.
//!
//! A login shell may print anything before our script runs. Nothing is read as meant for us until a random [`Nonce`],
//! which the script was given and no start-up file can know, appears alone on a line.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    codec::{Frame, FrameError},
    identity::Fingerprint,
    protocol::{hex, limits, list::first, message::Message, workload::Failure},
};

/// Marks the first meaningful byte on a shell's standard output. Not a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// A fresh one.
    ///
    /// # Errors
    /// Only when the system gives no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        Ok(Self(hex::encode(&random::<16>()?)))
    }

    /// The nonce in `text`: 32 lower-case hexadecimal digits, as an argument of the agent.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let valid = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        valid.then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Finds the line that is a nonce in bytes that arrive in pieces.
pub struct NonceScanner {
    line: Vec<u8>,
    wanted: Vec<u8>,
    overlong: bool,
    seen: usize,
    before: Vec<u8>,
}

/// What a [`NonceScanner`] has found.
#[derive(Debug, PartialEq, Eq)]
pub enum Scan {
    /// Not there yet.
    Searching,
    /// The nonce's line ended; this many bytes of the last piece were used, what follows is the message.
    Found {
        /// Bytes of the piece up to and with the line's end.
        used: usize,
    },
    /// More than [`limits::BANNER`] bytes came without it.
    GaveUp,
}

impl NonceScanner {
    /// Looks for `nonce`.
    #[must_use]
    pub fn new(nonce: &Nonce) -> Self {
        Self {
            line: Vec::new(),
            wanted: nonce.0.clone().into_bytes(),
            overlong: false,
            seen: 0,
            before: Vec::new(),
        }
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: &[u8]) -> Scan {
        for (at, &byte) in piece.iter().enumerate() {
            self.seen += 1;
            if byte == b'\n' {
                let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
                if !self.overlong && line == self.wanted {
                    return Scan::Found { used: at + 1 };
                }
                self.keep_for_the_user();
                self.line.clear();
                self.overlong = false;
            } else if self.line.len() <= self.wanted.len() {
                self.line.push(byte);
            } else {
                self.overlong = true;
                if self.line.len() < SHOWN {
                    self.line.push(byte);
                }
            }
            if self.seen > limits::BANNER {
                return Scan::GaveUp;
            }
        }
        Scan::Searching
    }

    fn keep_for_the_user(&mut self) {
        let room = SHOWN.saturating_sub(self.before.len());
        self.before.extend(self.line.iter().copied().take(room));
        self.before.push(b' ');
        self.before.truncate(SHOWN);
    }

    /// The beginning of what came instead of the nonce, for an error message; not sanitised.
    #[must_use]
    pub fn seen_instead(&mut self) -> String {
        self.keep_for_the_user();
        String::from_utf8_lossy(&self.before).trim().to_owned()
    }
}

/// How much of what a shell printed is kept for an error message, in bytes.
const SHOWN: usize = 400;

/// What the client says, once the agent printed the nonce. A frame of at most [`limits::BOOTSTRAP_FRAME`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootstrapRequest {
    /// To the agent on the GPU host.
    Admit(AdmitRequest),
    /// To the agent on a gateway.
    Relay(RelayRequest),
    /// As `Admit`; but after the reply, which is [`Started::Serve`], the rest of the bytes in both directions is a
    /// [pipe of packets](crate::carrier::pipe) to the agent.
    AdmitAndTunnel(AdmitRequest),
    /// To the agent on the GPU host, from another build of it there: make way for that one. The successor itself answers,
    /// once it is there, with [`Started::Serve`]; a failure means that the agent stays what it is.
    Upgrade(UpgradeRequest),
}

/// Make way for another build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeRequest {
    /// The successor's program.
    pub successor: PathBuf,
    /// The successor's private folder.
    pub run_dir: PathBuf,
    /// The successor's version, as its users see it.
    pub version: String,
    /// The [handshake](crate::protocol::version::ALPN) that the successor speaks with clients.
    pub handshake: String,
    /// The formats in which the successor takes state over.
    pub formats: FormatRange,
}

/// Formats of a handover, from the oldest that is read to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormatRange {
    /// The oldest.
    pub oldest: u32,
    /// The newest.
    pub newest: u32,
}

impl FormatRange {
    /// The newest format of both ranges. None when they have none in common.
    #[must_use]
    pub fn newest_shared(self, other: Self) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// Let this client in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmitRequest {
    /// The client's certificate.
    pub client: Fingerprint,
    /// How long the agent stays when nobody is connected, in seconds.
    #[serde(default)]
    pub linger_s: u64,
}

/// Forward between this client and one agent, or the next relay on the way there.
///
/// May be said again for the same pair, also while a client is bound: with the same secret its client stays bound and
/// its generation stays where it is; with another, the client must bind anew, at any generation.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayRequest {
    /// Names the pair; random.
    #[serde(with = "hex")]
    pub pair: PairId,
    /// Proves to the relay who may use it.
    #[serde(with = "hex")]
    pub secret: RelaySecret,
    /// Where the agent or the next relay listens, as the gateway reaches it.
    pub agent: SocketAddr,
}

impl fmt::Debug for RelayRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayRequest")
            .field("agent", &self.agent)
            .finish_non_exhaustive()
    }
}

/// Names a relayed pair of addresses. Not a secret.
pub type PairId = [u8; 16];

/// What a client must know to use a relay. Given over SSH, sent nowhere else.
pub type RelaySecret = [u8; 32];

/// What the agent says. A frame of at most [`limits::BOOTSTRAP_FRAME`] bytes.
pub type BootstrapReply = Result<Started, Failure>;

impl Message for BootstrapRequest {}

/// A reply as it travels: what it is about, or why not.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wire<S, F> {
    Started(S),
    Failed(F),
}

impl<T: Serialize + DeserializeOwned> Message for Wire<T, Failure> {}

/// `{"started": …}` or `{"failed": …}`.
impl<T: Serialize + DeserializeOwned> Frame for Result<T, Failure> {
    fn append_to(&self, mut frame: Vec<u8>) -> Result<Vec<u8>, FrameError> {
        let wire = match self {
            Ok(started) => Wire::Started(started),
            Err(failure) => Wire::Failed(failure),
        };
        serde_json::to_writer(&mut frame, &wire).map_err(FrameError::MalformedJson)?;
        Ok(frame)
    }

    fn decode(body: &[u8]) -> Result<Self, FrameError> {
        Ok(match Wire::decode(body)? {
            Wire::Started(started) => Ok(started),
            Wire::Failed(failure) => Err(failure),
        })
    }
}

/// The role runs and has taken the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Started {
    /// The agent on the GPU host.
    Serve(AdmitReply),
    /// The relay on the gateway.
    Relay(RelayReply),
}

/// Most further addresses that a host tells.
pub const MOST_ADDRESSES: usize = 4;

/// How to reach the agent and how to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmitReply {
    /// The agent's certificate.
    pub agent: Fingerprint,
    /// UDP port it listens on, on all addresses.
    pub port: u16,
    /// The host's own address on which SSH came in (`SSH_CONNECTION`, sshd(8)); none without SSH.
    pub address: Option<IpAddr>,
    /// Further addresses of the host's own, at most [`MOST_ADDRESSES`].
    #[serde(default, deserialize_with = "first::<MOST_ADDRESSES, _, _>")]
    pub others: Vec<IpAddr>,
}

/// How to reach the relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayReply {
    /// UDP port it listens on, on all addresses.
    pub port: u16,
    /// The gateway's own address on which SSH came in, where the host before it in a chain reaches it; none without SSH.
    pub address: Option<IpAddr>,
}

/// `N` random bytes from the system.
///
/// # Errors
/// Only when the system gives no randomness.
pub fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nonce_is_found_behind_whatever_a_start_up_file_prints() {
        let nonce = Nonce::generate().unwrap();
        let wire = format!("Welcome!\x1b[2J\r\nno newline {nonce}\n{nonce}\nmessage");
        for size in [1, 2, 7, wire.len()] {
            let mut scanner = NonceScanner::new(&nonce);
            let mut offset = 0;
            let found = wire
                .as_bytes()
                .chunks(size)
                .find_map(|piece| match scanner.push(piece) {
                    Scan::Found { used } => Some(offset + used),
                    _ => {
                        offset += piece.len();
                        None
                    }
                });
            assert_eq!(found.map(|at| &wire[at..]), Some("message"), "pieces of {size}");
        }
    }

    #[test]
    fn endless_noise_is_given_up_with_its_beginning_kept() {
        let mut scanner = NonceScanner::new(&Nonce::generate().unwrap());
        let mut last = Scan::Searching;
        for _ in 0..limits::BANNER / 1000 + 2 {
            last = scanner.push(&[b'x'; 1000]);
            if last == Scan::GaveUp {
                break;
            }
        }
        assert_eq!(last, Scan::GaveUp);
        assert!(scanner.seen_instead().starts_with("xxx"));
        assert!(scanner.seen_instead().len() <= SHOWN);
        assert!(scanner.line.len() <= SHOWN);
    }

    #[test]
    fn only_a_nonce_is_read_as_one() {
        let nonce = Nonce::generate().unwrap();
        assert!(Nonce::parse(&nonce.to_string()) == Some(nonce));
        assert!(Nonce::parse("0123").is_none());
        assert!(Nonce::parse(&"G".repeat(32)).is_none());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic_the_scanner(pieces: Vec<Vec<u8>>) {
            let mut scanner = NonceScanner::new(&Nonce::parse(&"a".repeat(32)).unwrap());
            for piece in pieces {
                scanner.push(&piece);
            }
        }
    }
}
