//! The exchange over SSH: the shell prints a nonce, then each side sends one message.
//!
//! A login shell may print anything before our script runs. So everything is ignored until a random [`Nonce`] appears alone on
//! a line: the script was given it, and no start-up file can know it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    codec::{Frame, FrameError},
    identity::Fingerprint,
    login::Login,
    protocol::{hex, limits, list::first, message::Message, workload::Failure},
};

/// Marks where our output begins on a shell's standard output. Not a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// A new random nonce.
    ///
    /// # Errors
    /// Only when the system gives no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        Ok(Self(hex::encode(&random::<16>()?)))
    }

    /// Parses a nonce: 32 lower-case hexadecimal digits, as an argument of the agent.
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

/// Finds the line with the nonce in bytes that arrive in pieces.
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
    /// Not found yet.
    Searching,
    /// Found. The message follows in the last piece.
    Found {
        /// Bytes of the piece up to the end of the line, inclusive.
        used: usize,
    },
    /// Not within the first [`limits::BANNER`] bytes.
    GaveUp,
}

impl NonceScanner {
    /// A scanner for `nonce`.
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

    /// Scans the next piece.
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

    /// The beginning of what was printed instead, for an error message. Not sanitised.
    #[must_use]
    pub fn seen_instead(&mut self) -> String {
        self.keep_for_the_user();
        String::from_utf8_lossy(&self.before).trim().to_owned()
    }
}

/// Bytes of what a shell printed that are kept for an error message.
const SHOWN: usize = 400;

/// The client's message, sent once the agent has printed the nonce. A frame of at most [`limits::BOOTSTRAP_FRAME`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootstrapRequest {
    /// To the agent on the GPU host: admit this client.
    Admit(AdmitRequest),
    /// To the agent on a gateway: forward packets.
    Relay(RelayRequest),
    /// As `Admit`; after the reply, which is [`Started::Serve`], the channel is a [pipe of packets](crate::carrier::pipe) to the
    /// agent.
    AdmitAndTunnel(AdmitRequest),
    /// To the agent on the GPU host, from another build of it there: hand over to that one. The successor answers with
    /// [`Started::Serve`] once it runs. A failure means that the agent continues.
    Upgrade(UpgradeRequest),
    /// To the agent on the GPU host, from a bootstrap of the same build: how does this login differ from the one that the
    /// agent was started by? Answered with [`LoginCompared`].
    CompareLogin(Login),
    /// To the agent on the GPU host, from a process of the same build that a newer login has started: hand over to the
    /// sender. A failure means that the agent continues.
    HandOver(HandOverRequest),
}

/// How a login differs from that of the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginCompared {
    /// The names of what differs.
    #[serde(default)]
    pub differs: Vec<String>,
}

impl Message for LoginCompared {}

/// Hand over to the sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOverRequest {
    /// The [handshake](crate::protocol::version::ALPN) that the successor speaks with clients.
    pub handshake: String,
    /// The formats of the handover snapshot that the successor reads.
    pub formats: FormatRange,
}

/// Which machine a host is: by the id that its system was installed with, and by its name. Neither is a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineId {
    /// From /etc/machine-id (machine-id(5)), hashed; hexadecimal digits.
    #[serde(default)]
    pub id: String,
    /// Its host name, with only characters that are safe in a file name.
    #[serde(default)]
    pub name: String,
}

impl MachineId {
    /// Whether this is certainly not the machine `other`. The name alone may change (DHCP); the id alone may change too: a
    /// system without a disk has a new one after each boot.
    #[must_use]
    pub fn is_other_than(&self, other: &Self) -> bool {
        self.id != other.id && self.name != other.name
    }

    /// Parses what [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, name) = text.split_once(':')?;
        let is_safe = |text: &str| {
            (1..=255).contains(&text.len())
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        (is_safe(id) && is_safe(name)).then(|| Self {
            id: id.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.id, self.name)
    }
}

/// Hand over to another build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeRequest {
    /// Path of the successor's executable.
    pub successor: PathBuf,
    /// The successor's run directory.
    pub run_dir: PathBuf,
    /// The successor's version, as users see it.
    pub version: String,
    /// The [handshake](crate::protocol::version::ALPN) that the successor speaks with clients.
    pub handshake: String,
    /// The formats of the handover snapshot that the successor reads.
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

/// Admit this client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmitRequest {
    /// The client's certificate.
    pub client: Fingerprint,
    /// How long the agent keeps running while nobody is connected, in seconds.
    #[serde(default)]
    pub linger_s: u64,
}

/// Forward packets between this client and one agent, or the next relay on the way there.
///
/// May be repeated for a pair, also while a client is bound. With the same secret, the client stays bound and its generation
/// stays the same. With another secret, the client must bind again, at any generation.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayRequest {
    /// Id of the pair; random.
    #[serde(with = "hex")]
    pub pair: PairId,
    /// The secret that proves to the relay who may use it.
    #[serde(with = "hex")]
    pub secret: RelaySecret,
    /// Address of the agent or the next relay, as the gateway reaches it.
    pub agent: SocketAddr,
}

impl fmt::Debug for RelayRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayRequest")
            .field("agent", &self.agent)
            .finish_non_exhaustive()
    }
}

/// Id of a relayed pair of addresses. Not a secret.
pub type PairId = [u8; 16];

/// The secret of a pair. Exchanged over SSH, sent nowhere else.
pub type RelaySecret = [u8; 32];

/// The agent's message. A frame of at most [`limits::BOOTSTRAP_FRAME`] bytes.
pub type BootstrapReply = Result<Started, Failure>;

impl Message for BootstrapRequest {}

/// A reply on the wire.
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

/// The role runs and has accepted the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Started {
    /// The agent on the GPU host.
    Serve(AdmitReply),
    /// The relay on the gateway.
    Relay(RelayReply),
}

/// Most further addresses in a reply.
pub const MOST_ADDRESSES: usize = 4;

/// Most notes in a reply.
pub const MOST_NOTES: usize = 4;

/// How to reach and authenticate the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmitReply {
    /// The agent's certificate.
    pub agent: Fingerprint,
    /// UDP port it listens on, on all addresses.
    pub port: u16,
    /// The host's address that SSH connected to (`SSH_CONNECTION`, sshd(8)); none without SSH.
    pub address: Option<IpAddr>,
    /// Further addresses of the host, at most [`MOST_ADDRESSES`].
    #[serde(default, deserialize_with = "first::<MOST_ADDRESSES, _, _>")]
    pub others: Vec<IpAddr>,
    /// Which machine the host is; none from an older agent.
    #[serde(default)]
    pub machine: Option<MachineId>,
    /// What the user should know, a sentence each.
    #[serde(default, deserialize_with = "first::<MOST_NOTES, _, _>")]
    pub notes: Vec<String>,
}

/// How to reach the relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayReply {
    /// UDP port it listens on, on all addresses.
    pub port: u16,
    /// The gateway's address that SSH connected to, as the previous host in the chain reaches it; none without SSH.
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
    fn the_nonce_is_found_after_whatever_a_start_up_file_prints() {
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
    fn endless_output_is_given_up_and_its_beginning_kept() {
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
    fn only_a_nonce_is_parsed() {
        let nonce = Nonce::generate().unwrap();
        assert!(Nonce::parse(&nonce.to_string()) == Some(nonce));
        assert!(Nonce::parse("0123").is_none());
        assert!(Nonce::parse(&"G".repeat(32)).is_none());
    }

    #[test]
    fn a_machine_is_another_only_if_neither_its_id_nor_its_name_is_the_same() {
        let machine = |id: &str, name: &str| MachineId {
            id: id.to_owned(),
            name: name.to_owned(),
        };
        let ours = machine("01", "gpu-a");
        assert!(!ours.is_other_than(&ours));
        assert!(!ours.is_other_than(&machine("01", "dhcp-7")), "renamed");
        assert!(
            !ours.is_other_than(&machine("02", "gpu-a")),
            "booted without a disk"
        );
        assert!(ours.is_other_than(&machine("02", "gpu-b")));
        assert_eq!(MachineId::parse(&ours.to_string()), Some(ours));
        for text in ["", ":", "a", "a:", ":b", "a:b c", "a:$(id)", "a:b:c"] {
            assert_eq!(MachineId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_relays_secret_is_in_no_log() {
        let request = RelayRequest {
            pair: [1; 16],
            secret: [0xab; 32],
            agent: ([192, 0, 2, 1], 60_000).into(),
        };
        let logged = format!("{:?}", BootstrapRequest::Relay(request));
        assert!(
            logged.contains("192.0.2.1") && !logged.contains("171") && !logged.contains("abab"),
            "{logged}"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(pieces: Vec<Vec<u8>>) {
            let mut scanner = NonceScanner::new(&Nonce::parse(&"a".repeat(32)).unwrap());
            for piece in pieces {
                scanner.push(&piece);
            }
        }
    }
}
