//! How long the supervisor waits for what. The pace of ssh is [`Attempts::SSH`](crate::connection::backoff::Attempts::SSH).

use std::time::Duration;

/// How long UDP alone is tried before ssh takes part.
pub(super) const SSH_AFTER: Duration = Duration::from_millis(300);

/// The same after this machine woke or changed its network, which hardly makes UDP impossible.
pub(super) const SSH_AFTER_CHANGE: Duration = Duration::from_secs(2);

/// How soon ssh is tried in the background after it needed the user: the host may have been booting.
pub(super) const LOGIN_AGAIN: Duration = Duration::from_secs(120);

/// How soon paths are tried again that were all refused.
pub(super) const REFUSED_AGAIN: Duration = Duration::from_secs(5);

/// A connection that is lost within this time is no success.
pub(super) const SHORT_LIFE: Duration = Duration::from_secs(1);

/// How many short lives in a row are bad luck; from then on there is a pause before the next search.
pub(super) const SHORT_LIVES: u32 = 2;

/// The longest pause, in short lives.
pub(super) const LONGEST_PAUSE: u32 = 10;

/// How long the answer may take that installs a new connection, once the agent has closed the old one for it.
pub(super) const MOVE: Duration = Duration::from_secs(1);

/// Head start of UDP, which has been tried for a while, over an ssh channel that is there.
pub(super) const PIPE_HEAD_START: Duration = Duration::from_millis(200);

/// How long a connection may be silent before the user is shown that another one is needed.
pub(super) const SUSPECT: Duration = Duration::from_secs(5);

/// Enter pressed again within this time is the same wish: a key that is held down repeats several times a second, after
/// 0.25 to 1 s.
pub(super) const HELD_KEY: Duration = Duration::from_secs(1);

/// Least time between two starts of ssh that Enter leads to: sshd penalises who comes too often.
pub(super) const ASKED_APART: Duration = Duration::from_secs(3);

/// ssh in the background that has run for longer may hang, and Enter starts another one in its place.
pub(super) const HANGS: Duration = Duration::from_secs(10);
