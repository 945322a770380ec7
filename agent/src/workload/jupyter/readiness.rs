//! Waits until Jupyter answers: as long as its output goes on.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    output::REPORT,
    probe::{Listener, Reason, probe},
};
use crate::workload::{EventSink, RunningWorkload};

/// Time limit for Jupyter to answer, from its last output on: big images on cold disks need most of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Time limit in all, for what prints without end. An image's hook may install packages for long.
const LIMIT: Duration = Duration::from_secs(60 * 60);
/// Interval between probes.
const INTERVAL: Duration = Duration::from_millis(250);
/// Interval at which its output is looked at, and shown to the user.
const OUTPUT_INTERVAL: Duration = Duration::from_secs(2);

/// How the wait ended.
#[derive(Debug)]
pub(crate) enum Outcome<E> {
    /// Our Jupyter answers.
    Ready,
    /// A Jupyter answers that refuses our token.
    OtherToken,
    /// The command that runs it has ended.
    Ended(E),
    /// Time is up, or what listens there cannot become our Jupyter; the last result of the probe.
    NotReady(Listener),
}

/// When to give up.
struct Deadline {
    began: Instant,
    progressed: Instant,
    seen: Vec<String>,
}

impl Deadline {
    fn new(now: Instant) -> Self {
        Self {
            began: now,
            progressed: now,
            seen: Vec::new(),
        }
    }

    /// Takes the last lines of the output.
    fn see(&mut self, lines: Vec<String>, now: Instant) {
        if lines != self.seen {
            self.seen = lines;
            self.progressed = now;
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        now - self.progressed >= PATIENCE || now - self.began >= LIMIT
    }
}

/// Probes until Jupyter answers, `ended` completes, or its output has stood still for too long. `last_lines` returns its
/// latest output; the last line is shown to the user.
pub(crate) async fn wait<E, L>(
    workload: &dyn RunningWorkload,
    port: u16,
    token: &str,
    ended: impl Future<Output = E>,
    last_lines: impl Fn() -> L,
    events: &EventSink,
) -> Outcome<E>
where
    L: Future<Output = Vec<String>>,
{
    let probing = async {
        let mut deadline = Deadline::new(Instant::now());
        let (mut looked, mut reports) = (Instant::now(), 0);
        loop {
            match probe(workload, port, token).await {
                Listener::Ours => return Outcome::Ready,
                Listener::OtherToken => return Outcome::OtherToken,
                found @ Listener::Unusable(Reason::NoToken | Reason::OtherUser(_)) => {
                    return Outcome::NotReady(found);
                }
                found if deadline.is_over(Instant::now()) => return Outcome::NotReady(found),
                Listener::None(_) | Listener::Unusable(Reason::NotJupyter(_)) => {}
            }
            if looked.elapsed() >= OUTPUT_INTERVAL {
                looked = Instant::now();
                let lines = last_lines().await;
                let shown = lines.iter().rev().find(|line| !line.starts_with(REPORT));
                if let Some(line) = shown {
                    reports += 1;
                    events.detail(reports, line.clone());
                }
                deadline.see(lines, Instant::now());
            }
            sleep(INTERVAL).await;
        }
    };
    tokio::select! {
        outcome = probing => outcome,
        end = ended => Outcome::Ended(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_while_the_output_goes_on_and_comes_to_an_end() {
        let start = Instant::now();
        let mut deadline = Deadline::new(start);
        let minutes = |count: u64| start + Duration::from_secs(60 * count);
        for minute in 1..30 {
            deadline.see(vec![format!("package {minute}")], minutes(minute));
            assert!(!deadline.is_over(minutes(minute + 1)));
        }
        // The same line again is no progress.
        deadline.see(vec!["package 29".to_owned()], minutes(31));
        assert!(deadline.is_over(minutes(31)));
        for minute in 31..60 {
            deadline.see(vec![format!("again {minute}")], minutes(minute));
        }
        assert!(deadline.is_over(minutes(60)));
    }
}
