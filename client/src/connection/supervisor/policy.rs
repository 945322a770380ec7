//! Times and limits. For the pace of ssh see [`Attempts`](crate::connection::backoff::Attempts).

use std::time::Duration;

/// How long only UDP is tried before ssh starts.
pub(super) const SSH_AFTER: Duration = Duration::from_millis(300);

/// The same after a resume or a change of networks, when UDP most likely still works.
pub(super) const SSH_AFTER_CHANGE: Duration = Duration::from_secs(2);

/// How long ssh may take in the background. A ProxyCommand may wake a machine; an `ssh -G` may hang.
pub(super) const BACKGROUND_LIMIT: Duration = Duration::from_secs(120);

/// How long an attended login may take, start of the agent included. sshd gives a login 120 s by default (`LoginGraceTime` in
/// sshd_config(5)); there may be several hosts.
pub(super) const LOGIN_LIMIT: Duration = Duration::from_secs(300);

/// How long an attended login may continue after a resume or a change of networks, which most likely has cut it off.
pub(super) const LOGIN_GRACE: Duration = Duration::from_secs(20);

/// Interval of attempts in the background while a login is needed.
pub(super) const LOGIN_AGAIN: Duration = Duration::from_secs(120);

/// Pause before the next search after every path was refused.
pub(super) const REFUSED_AGAIN: Duration = Duration::from_secs(5);

/// A connection that lives shorter than this counts as a failed attempt.
pub(super) const SHORT_LIFE: Duration = Duration::from_secs(1);

/// After this number of short lives in a row, each further search starts with a pause.
pub(super) const SHORT_LIVES: u32 = 2;

/// The longest such pause, in short lives.
pub(super) const LONGEST_PAUSE: u32 = 10;

/// How long the new connection may take after the agent closed the old one in favour of it.
pub(super) const MOVE: Duration = Duration::from_secs(1);

/// Head start of UDP over an ssh channel that is ready.
pub(super) const PIPE_HEAD_START: Duration = Duration::from_millis(200);

/// How long a silent connection is shown as suspect before it is shown as reconnecting.
pub(super) const SUSPECT: Duration = Duration::from_secs(5);

/// Enter pressed again within this time is the same request: a key that is held down repeats several times a second, after
/// 0.25 to 1 s.
pub(super) const HELD_KEY: Duration = Duration::from_secs(1);

/// The status queried again within this time is the same request: `watch jq-client status` queries it every 2 s.
pub(super) const POLLED: Duration = Duration::from_secs(15);
