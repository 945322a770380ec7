//! A command in the workload: how it is asked for, and what travels while it runs.
//!
//! A stream whose header is [`StreamHeader::Exec`](super::stream::StreamHeader::Exec) carries [`ExecInput`] frames to the
//! command and [`ExecOutput`] frames back, each at most [`EXEC_FRAME`](super::limits::EXEC_FRAME) bytes: a byte that says which kind, then for
//! data the data itself, and for everything else JSON. A frame of an unknown kind is ignored.
//!
//! Reserved: no build announces [`Capabilities::EXEC`](super::capabilities::Capabilities::EXEC) yet.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    list::at_most,
    message::Message,
    workload::{Failure, MOST_LISTED},
};
use crate::codec::{Frame, FrameError};

/// Most words of a command.
pub const MOST_WORDS: usize = 1024;

/// What is to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// The program and its arguments, at most [`MOST_WORDS`]. None: the user's login shell.
    #[serde(default, deserialize_with = "at_most::<MOST_WORDS, _, _>")]
    pub argv: Vec<String>,
    /// Environment variables besides the workload's own, at most [`MOST_LISTED`].
    #[serde(default, deserialize_with = "at_most::<MOST_LISTED, _, _>")]
    pub env: Vec<(String, String)>,
    /// Working directory. None: the workload's.
    pub cwd: Option<String>,
    /// User, by name or number. None: the workload's.
    pub user: Option<String>,
    /// The terminal it gets. None: pipes.
    pub terminal: Option<TerminalSize>,
}

/// The size of a terminal (RFC 4254, section 6.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TerminalSize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
    /// Pixels in a line; 0 where that is not known.
    pub width: u16,
    /// Pixels in a column; 0 where that is not known.
    pub height: u16,
}

/// What the client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecInput {
    /// Bytes of standard input.
    Stdin(Bytes),
    /// Standard input has ended.
    StdinEof,
    /// The terminal has this size now.
    Resize(TerminalSize),
    /// A signal for the command, by its name without `SIG` (RFC 4254, section 6.9).
    Signal(String),
    /// Something of a newer client.
    Unknown,
}

/// What the agent sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecOutput {
    /// It runs.
    Started,
    /// Bytes of standard output, or of the terminal.
    Stdout(Bytes),
    /// Bytes of standard error.
    Stderr(Bytes),
    /// Final: it has ended with this status.
    Exited {
        /// The exit status.
        code: i32,
    },
    /// Final: a signal ended it, by its name without `SIG`.
    Signaled {
        /// Which.
        signal: String,
    },
    /// Final: it could not be run.
    Failed(Failure),
    /// Something of a newer agent.
    Unknown,
}

/// What an [`ExecOutput::Exited`] says.
#[derive(Serialize, Deserialize)]
struct Status {
    code: i32,
}

/// What an [`ExecInput::Signal`] or [`ExecOutput::Signaled`] says.
#[derive(Serialize, Deserialize)]
struct Signal {
    signal: String,
}

/// What a kind without content says, so that it may get some.
#[derive(Serialize, Deserialize)]
struct Nothing {}

impl Message for ExecSpec {}
impl Message for TerminalSize {}
impl Message for Status {}
impl Message for Signal {}
impl Message for Nothing {}

const STDIN: u8 = 0;
const STDIN_EOF: u8 = 1;
const RESIZE: u8 = 2;
const SIGNAL: u8 = 3;

const STARTED: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const EXITED: u8 = 3;
const SIGNALED: u8 = 4;
const FAILED: u8 = 5;

fn data(mut frame: Vec<u8>, kind: u8, bytes: &[u8]) -> Vec<u8> {
    frame.reserve(1 + bytes.len());
    frame.push(kind);
    frame.extend_from_slice(bytes);
    frame
}

fn json(mut frame: Vec<u8>, kind: u8, message: &impl Message) -> Result<Vec<u8>, FrameError> {
    frame.push(kind);
    message.append_to(frame)
}

fn split(body: &[u8]) -> Result<(u8, &[u8]), FrameError> {
    let (kind, content) = body
        .split_first()
        .ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
    Ok((*kind, content))
}

impl Frame for ExecInput {
    fn append_to(&self, frame: Vec<u8>) -> Result<Vec<u8>, FrameError> {
        match self {
            Self::Stdin(bytes) => Ok(data(frame, STDIN, bytes)),
            Self::StdinEof => json(frame, STDIN_EOF, &Nothing {}),
            Self::Resize(size) => json(frame, RESIZE, size),
            Self::Signal(signal) => {
                let signal = signal.clone();
                json(frame, SIGNAL, &Signal { signal })
            }
            Self::Unknown => Ok(data(frame, u8::MAX, &[])),
        }
    }

    fn decode(body: &[u8]) -> Result<Self, FrameError> {
        let (kind, content) = split(body)?;
        Ok(match kind {
            STDIN => Self::Stdin(Bytes::copy_from_slice(content)),
            STDIN_EOF => Nothing::decode(content).map(|Nothing {}| Self::StdinEof)?,
            RESIZE => Self::Resize(TerminalSize::decode(content)?),
            SIGNAL => Self::Signal(Signal::decode(content)?.signal),
            _ => Self::Unknown,
        })
    }
}

impl ExecOutput {
    /// Whether nothing follows.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Exited { .. } | Self::Signaled { .. } | Self::Failed(_)
        )
    }
}

impl Frame for ExecOutput {
    fn append_to(&self, frame: Vec<u8>) -> Result<Vec<u8>, FrameError> {
        match self {
            Self::Started => json(frame, STARTED, &Nothing {}),
            Self::Stdout(bytes) => Ok(data(frame, STDOUT, bytes)),
            Self::Stderr(bytes) => Ok(data(frame, STDERR, bytes)),
            Self::Exited { code } => json(frame, EXITED, &Status { code: *code }),
            Self::Signaled { signal } => {
                let signal = signal.clone();
                json(frame, SIGNALED, &Signal { signal })
            }
            Self::Failed(failure) => json(frame, FAILED, failure),
            Self::Unknown => Ok(data(frame, u8::MAX, &[])),
        }
    }

    fn decode(body: &[u8]) -> Result<Self, FrameError> {
        let (kind, content) = split(body)?;
        Ok(match kind {
            STARTED => Nothing::decode(content).map(|Nothing {}| Self::Started)?,
            STDOUT => Self::Stdout(Bytes::copy_from_slice(content)),
            STDERR => Self::Stderr(Bytes::copy_from_slice(content)),
            EXITED => Self::Exited {
                code: Status::decode(content)?.code,
            },
            SIGNALED => Self::Signaled {
                signal: Signal::decode(content)?.signal,
            },
            FAILED => Self::Failed(Failure::decode(content)?),
            _ => Self::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codec, protocol::limits};

    #[test]
    fn a_frame_of_data_is_as_long_as_the_limit_allows_and_no_longer() {
        let most = Bytes::from(vec![7; limits::EXEC_FRAME - 1]);
        assert!(codec::encode(&ExecOutput::Stdout(most), limits::EXEC_FRAME).is_ok());
        let longer = Bytes::from(vec![7; limits::EXEC_FRAME]);
        assert!(matches!(
            codec::encode(&ExecInput::Stdin(longer), limits::EXEC_FRAME),
            Err(FrameError::TooLong { .. })
        ));
    }

    #[test]
    fn a_frame_of_a_newer_peer_is_unknown_and_an_empty_one_is_a_fault() {
        assert_eq!(ExecInput::decode(&[9, 1, 2]).unwrap(), ExecInput::Unknown);
        assert_eq!(ExecOutput::decode(&[9]).unwrap(), ExecOutput::Unknown);
        assert!(ExecInput::decode(&[]).is_err());
        let newer = [&[STARTED], br#"{"pid":7}"#.as_slice()].concat();
        assert_eq!(ExecOutput::decode(&newer).unwrap(), ExecOutput::Started);
    }

    #[test]
    fn only_what_nothing_follows_is_final() {
        assert!(ExecOutput::Exited { code: 0 }.is_final());
        assert!(!ExecOutput::Started.is_final());
    }
}
