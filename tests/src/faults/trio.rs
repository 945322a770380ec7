//! A download, an upload and an echo stream at the same time: the load under which faults happen.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::{clock::last, site::Site};
use crate::{
    eventually,
    oracle::{End, Job, Side, Stream},
};

/// Time limit for the first byte of a stream, and for its end once there is no fault.
const SOON: Duration = Duration::from_secs(30);

/// Pause between two requests of the echo.
const PAUSE: Duration = Duration::from_millis(20);

/// Longest time to wait for streams to work again. Bars are shorter.
const PATIENCE: Duration = Duration::from_secs(60);

/// Three streams that carry data all the time.
pub(super) struct Trio {
    pub(super) down: Stream,
    pub(super) up: Stream,
    pub(super) echo: Stream,
}

/// The number of bytes that had arrived at a given time.
pub(super) struct Mark {
    at: Instant,
    down: u64,
    up: u64,
}

impl Trio {
    /// Opens the streams and waits until all carry data.
    pub(super) fn start(site: &Site) -> Result<Self> {
        let trio = Self {
            down: site.caller.open(Job::Bulk {
                up: 0,
                down: u64::MAX,
            }),
            up: site.caller.open(Job::Bulk {
                up: u64::MAX,
                down: 0,
            }),
            echo: site.caller.echo(PAUSE),
        };
        eventually("bytes on all three streams", SOON, || {
            trio.down.near().received() > 1_000_000
                && trio.up.far().received() > 1_000_000
                && trio.echo.near().answers() > 5
        })?;
        Ok(trio)
    }

    /// Marks the current time, from which [`Self::usable_since`] counts.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            at: Instant::now(),
            down: self.down.near().received(),
            up: self.up.far().received(),
        }
    }

    /// Waits until all three streams have carried data since the mark. Returns how long that took.
    ///
    /// # Errors
    /// When one of them ends, or does not carry data again.
    pub(super) fn usable_since(&self, mark: &Mark) -> Result<Duration> {
        self.moved_since(mark, 1)
    }

    /// As [`Self::usable_since`], with at least `bytes` on each bulk stream.
    pub(super) fn moved_since(&self, mark: &Mark, bytes: u64) -> Result<Duration> {
        let mut latest = [None; 3];
        let moved = eventually("all streams to move again", PATIENCE, || {
            let now = [
                self.down.near().received() >= mark.down + bytes,
                self.up.far().received() >= mark.up + bytes,
                self.echo.near().first_answer(mark.at).is_some(),
            ];
            for (latest, now) in latest.iter_mut().zip(now) {
                if now && latest.is_none() {
                    *latest = Some(mark.at.elapsed());
                }
            }
            latest.iter().all(Option::is_some) || self.alive().is_err()
        });
        self.alive()?;
        if moved.is_err() {
            bail!("not usable after {PATIENCE:?}: download, upload and echo carried data after {latest:?}");
        }
        Ok(latest.into_iter().flatten().max().unwrap_or_default())
    }

    /// The bytes that each stream carries in 2 s, for an error message.
    pub(super) fn movement(&self) -> String {
        let count = || {
            [
                self.down.near().received(),
                self.up.far().received(),
                self.echo.near().received(),
            ]
        };
        let before = count();
        last(Duration::from_secs(2));
        let now = count();
        let [down, up, echo] = [now[0] - before[0], now[1] - before[1], now[2] - before[2]];
        format!("in 2 s the download carried {down} bytes, the upload {up}, the echo {echo}")
    }

    /// Fails if a stream has ended.
    pub(super) fn alive(&self) -> Result<()> {
        for (name, stream) in self.streams() {
            // At the far side of a download, reading is complete: nothing is sent up.
            for end in [stream.near().end(), stream.far().end()] {
                ensure!(
                    matches!(end, End::Open | End::Complete),
                    "the {name} ended: {end:?}"
                );
            }
        }
        Ok(())
    }

    /// Ends the streams cleanly. Fails unless everything sent has arrived.
    pub(super) fn end(&self) -> Result<()> {
        for (_, stream) in self.streams() {
            stream.finish();
        }
        self.streams()
            .into_iter()
            .try_for_each(|(_, stream)| stream.complete(SOON))
    }

    /// Waits until each stream was reset at the laptop. Fails if one ends in another way.
    pub(super) fn all_reset(&self, within: Duration) -> Result<()> {
        let near = self.streams().map(|(name, stream)| (name, stream.near()));
        near.into_iter()
            .try_for_each(|(name, side)| reset(name, side, within))
    }

    /// Waits until each stream was reset at the GPU host. Fails if one ends in another way.
    pub(super) fn all_reset_at_the_host(&self, within: Duration) -> Result<()> {
        let far = self.streams().map(|(name, stream)| (name, stream.far()));
        far.into_iter()
            .try_for_each(|(name, side)| reset(name, side, within))
    }

    fn streams(&self) -> [(&'static str, &Stream); 3] {
        [
            ("download", &self.down),
            ("upload", &self.up),
            ("echo", &self.echo),
        ]
    }
}

fn reset(name: &str, side: &Side, within: Duration) -> Result<()> {
    eventually("a reset", within, || side.end() == End::Reset)
        .with_context(|| format!("the {name} ended with {:?}", side.end()))
}
