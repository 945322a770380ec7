//! ssh's own log (`-E`, LogLevel DEBUG): how far a connection has come, and ssh's messages. Pure.
//!
//! A host's banner goes to standard error, never to the log. A host can still have some words of its own logged: with a
//! disconnect, and while it asks questions. So messages from those moments are kept apart, and what says that the host's
//! key is wrong counts only before the key was found to be right.

use std::collections::VecDeque;

use jq_common::text;

/// Number of newest messages that are kept.
const MESSAGES: usize = 64;

/// Limit of a message in characters.
const MESSAGE: usize = 300;

/// How far a connection has come. It never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Nothing has been heard from the host: whatever was written is this machine's.
    #[default]
    Unheard,
    /// The host has answered. Its key is being verified.
    Heard,
    /// The host's key is right; the host decides about the login.
    Verified,
    /// The host asks questions in its own words.
    Asking,
    /// The login is done.
    LoggedIn,
}

/// What messages without a word for the user mean. In the order of the stages.
const STAGES: [(&str, Stage); 7] = [
    ("Remote protocol version ", Stage::Heard),
    ("SSH2_MSG_SERVICE_ACCEPT received", Stage::Verified),
    ("Next authentication method: keyboard-interactive", Stage::Asking),
    ("Next authentication method: password", Stage::Asking),
    // Until OpenSSH 8, and since.
    ("Authentication succeeded ", Stage::LoggedIn),
    ("Authenticated to ", Stage::LoggedIn),
    ("Entering interactive session", Stage::LoggedIn),
];

/// Messages of level VERBOSE: of no interest, and without the mark that debug messages have.
const VERBOSE: [&str; 4] = [
    "Authenticated to ",
    "Transferred: ",
    "Bytes per second: ",
    "OpenSSH_",
];

/// How ssh begins the message in which it repeats the words of a host that disconnects.
const DISCONNECT: &str = "Received disconnect from ";

/// The log of one ssh.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    stage: Stage,
    messages: VecDeque<(Stage, String)>,
    farewell: Option<String>,
    keys_offered: usize,
    key_accepted: bool,
    session_opened: bool,
}

impl Log {
    /// The log of a shell that is reached without ssh.
    pub(super) fn without_ssh() -> Self {
        Self {
            session_opened: true,
            ..Self::default()
        }
    }

    /// Takes the next line. Some: it is a message for the user.
    pub(super) fn push(&mut self, line: &str) -> Option<String> {
        if let Some(debug) = line.strip_prefix("debug") {
            if let Some((_, text)) = debug.split_once(": ") {
                self.learn(text);
            }
            return None;
        }
        let message = text::one_line(line.trim_end_matches('\r'), MESSAGE);
        if VERBOSE.iter().any(|text| message.starts_with(text)) {
            self.learn(&message);
            return None;
        }
        if message.trim().is_empty() {
            return None;
        }
        if self.farewell.is_some() {
            // Either ssh's word that it is over, or more of what the host says.
            return None;
        }
        if let Some(rest) = message.strip_prefix(DISCONNECT) {
            // `ADDRESS port PORT:REASON: WORDS`
            let words = rest.split_once(": ").map_or("", |(_, words)| words);
            self.farewell = Some(words.to_owned());
            return None;
        }
        self.messages.push_back((self.stage, message.clone()));
        if self.messages.len() > MESSAGES {
            self.messages.pop_front();
        }
        Some(message)
    }

    fn learn(&mut self, text: &str) {
        for (beginning, stage) in STAGES {
            if text.starts_with(beginning) {
                self.stage = self.stage.max(stage);
            }
        }
        if text.starts_with("Offering ") && text.contains("public key: ") {
            self.keys_offered += 1;
        }
        self.key_accepted |= text.starts_with("Server accepts key: ");
        self.session_opened |= text.contains("master session id: ");
    }

    /// How far the connection has come.
    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// The messages that are ssh's own: those from before the host asked questions, and the last one, with which ssh ends.
    pub(super) fn messages(&self) -> impl DoubleEndedIterator<Item = &str> {
        let last = self.messages.len().saturating_sub(1);
        let is_own =
            move |(at, (stage, _)): &(usize, &(Stage, String))| *at == last || *stage != Stage::Asking;
        self.messages
            .iter()
            .enumerate()
            .filter(is_own)
            .map(|(_, (_, text))| text.as_str())
    }

    /// The last message, unless the host disconnected with words of its own.
    pub(super) fn last(&self) -> Option<&str> {
        match self.farewell {
            Some(_) => None,
            None => self.messages.back().map(|(_, text)| text.as_str()),
        }
    }

    /// The words with which the host disconnected, if it did.
    pub(super) fn farewell(&self) -> Option<&str> {
        self.farewell.as_deref()
    }

    /// How many keys were offered to the host.
    pub(super) fn keys_offered(&self) -> usize {
        self.keys_offered
    }

    /// Whether the host has accepted a key.
    pub(super) fn key_accepted(&self) -> bool {
        self.key_accepted
    }

    /// Whether the host has opened the session that was asked for over a master connection.
    pub(super) fn session_opened(&self) -> bool {
        self.session_opened
    }

    /// Whether the host has refused that session.
    pub(super) fn session_refused(&self) -> bool {
        let is_refusal = |message: &str| message.contains("session request failed");
        !self.session_opened && self.messages().any(is_refusal)
    }

    /// Whether there was no master connection any more, or it ended in the middle of the session.
    pub(super) fn connection_lost(&self) -> bool {
        let is_end =
            |message: &str| message.contains("read from master failed") || message.contains("mux_client");
        !self.session_opened || self.messages().any(is_end)
    }
}

impl From<&str> for Log {
    fn from(text: &str) -> Self {
        let mut log = Self::default();
        for line in text.lines() {
            log.push(line);
        }
        log
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: &str = "debug1: Connecting to gpu [10.0.0.2] port 22.\r\ndebug1: Remote protocol version 2.0, remote software \
        version OpenSSH_9.2p1\r\ndebug1: SSH2_MSG_SERVICE_ACCEPT received\r\n";

    #[test]
    fn debug_messages_tell_how_far_a_connection_is_and_are_not_shown() {
        let mut log = Log::default();
        for (line, stage) in [
            ("debug1: Connecting to gpu [10.0.0.2] port 22.", Stage::Unheard),
            (
                "debug1: Remote protocol version 2.0, remote software version x",
                Stage::Heard,
            ),
            ("debug1: SSH2_MSG_SERVICE_ACCEPT received", Stage::Verified),
            (
                "debug1: Offering public key: /a ED25519 SHA256:x agent",
                Stage::Verified,
            ),
            ("debug1: Next authentication method: password", Stage::Asking),
            ("debug1: Remote protocol version 2.0", Stage::Asking),
            ("debug1: Authentication succeeded (password).", Stage::LoggedIn),
            (
                "Authenticated to gpu ([10.0.0.2]:22) using \"password\".",
                Stage::LoggedIn,
            ),
        ] {
            assert_eq!(log.push(line), None, "{line}");
            assert_eq!(log.stage(), stage, "{line}");
        }
        assert_eq!(log.keys_offered(), 1);
        assert_eq!(log.push("Warning: x\r").as_deref(), Some("Warning: x"));
    }

    #[test]
    fn what_a_host_says_while_it_asks_is_not_among_sshs_own_messages() {
        let text = format!(
            "{LOGIN}Load key \"/a\": bad permissions\r\ndebug1: Next authentication method: keyboard-interactive\r\n\
             REMOTE HOST IDENTIFICATION HAS CHANGED\nssh-keygen -R evil\r\nana@gpu: Permission denied (publickey).\r\n"
        );
        let log = Log::from(text.as_str());
        let own: Vec<_> = log.messages().collect();
        assert_eq!(
            own,
            [
                "Load key \"/a\": bad permissions",
                "ana@gpu: Permission denied (publickey)."
            ]
        );
    }

    #[test]
    fn whatever_follows_a_disconnect_is_the_hosts() {
        let text = "debug1: Remote protocol version 2.0\r\nReceived disconnect from 10.0.0.2 port 22:2: no\n\
            Host key verification failed.\r\nDisconnected from 10.0.0.2 port 22\r\n";
        let log = Log::from(text);
        assert_eq!((log.farewell(), log.last()), (Some("no"), None));
        assert_eq!(log.messages().count(), 0);
    }

    #[test]
    fn an_endless_log_takes_bounded_memory() {
        let mut log = Log::default();
        for _ in 0..10_000 {
            log.push(&"x".repeat(1000));
        }
        assert_eq!(log.messages.len(), MESSAGES);
        assert!(
            log.messages
                .iter()
                .all(|(_, text)| text.chars().count() <= MESSAGE + 1)
        );
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(lines: Vec<String>) {
            let mut log = Log::default();
            for line in &lines {
                log.push(line);
            }
            let _ = (log.messages().count(), log.last());
        }
    }
}
