//! Detects suspend: CLOCK_BOOTTIME advances while CLOCK_MONOTONIC does not. A process that was stopped, or whose virtual
//! machine was paused, sees no difference between the clocks, but its own check comes late.
//!
//! Checks once a second, so an idle client wakes the CPU once a second, and a resume is detected within a second.

use std::time::Duration;

use tokio::time::sleep_until;

use crate::ticker::{self, TICK};

/// Shorter suspends have no effect on connections.
pub(crate) const SHORTEST_SLEEP: Duration = Duration::from_secs(1);

/// A check that is later than this counts as a pause. A process that gets no CPU for so long sees the same.
pub(crate) const LATE: Duration = Duration::from_secs(2);

/// The values of both clocks at one moment. Their origins differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// CLOCK_MONOTONIC: stops while this machine is suspended.
    pub(crate) monotonic: Duration,
    /// CLOCK_BOOTTIME: advances while it is suspended.
    pub(crate) boottime: Duration,
}

/// A pause of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pause {
    /// How long this machine was suspended; zero if it was not.
    pub(crate) suspended: Duration,
    /// How much the check was late besides: the process was stopped, or got no CPU.
    pub(crate) late: Duration,
}

/// Compares each sample of the clocks with the previous one.
#[derive(Debug)]
pub(crate) struct Drift(Sample);

impl Drift {
    /// Starts with a first sample.
    #[must_use]
    pub(crate) fn new(first: Sample) -> Self {
        Self(first)
    }

    /// Takes a sample that should come at most a [`TICK`] after the previous one. A clock that went backwards is ignored
    /// until the next sample.
    pub(crate) fn see(&mut self, now: Sample) -> Option<Pause> {
        let last = std::mem::replace(&mut self.0, now);
        let ran = now.monotonic.checked_sub(last.monotonic)?;
        let passed = now.boottime.checked_sub(last.boottime).unwrap_or(ran);
        let apart = passed.saturating_sub(ran);
        let suspended = if apart > SHORTEST_SLEEP {
            apart
        } else {
            Duration::ZERO
        };
        let late = ran.saturating_sub(TICK);
        (!suspended.is_zero() || late > LATE).then_some(Pause { suspended, late })
    }
}

/// Samples the clocks of this machine.
pub(crate) struct Clock(Drift);

impl Clock {
    /// Takes the first sample.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self(Drift::new(now()))
    }

    /// Waits until this process has paused. Must be polled all the time: a late check counts as a pause.
    pub(crate) async fn pause(&mut self) -> Pause {
        loop {
            sleep_until(ticker::next()).await;
            if let Some(pause) = self.0.see(now()) {
                return pause;
            }
        }
    }
}

/// The clocks of clock_gettime(2).
#[cfg(target_os = "linux")]
fn now() -> Sample {
    use rustix::time::{ClockId, clock_gettime};
    let read = |id| Duration::try_from(clock_gettime(id)).unwrap_or_default();
    Sample {
        monotonic: read(ClockId::Monotonic),
        boottime: read(ClockId::Boottime),
    }
}

/// The wall clock stands in for CLOCK_BOOTTIME on other systems. If it is set ahead, that looks like a suspend and costs one
/// unnecessary retry.
#[cfg(not(target_os = "linux"))]
fn now() -> Sample {
    use std::{
        sync::LazyLock,
        time::{Instant, SystemTime},
    };
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    Sample {
        monotonic: START.elapsed(),
        boottime: SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(monotonic: f64, boottime: f64) -> Sample {
        Sample {
            monotonic: Duration::from_secs_f64(monotonic),
            boottime: Duration::from_secs_f64(boottime),
        }
    }

    /// How long the machine was suspended, and how late the check was.
    type Seconds = (f64, f64);

    #[test]
    fn a_suspend_is_told_from_a_process_that_stood_still_and_nothing_else_is_reported() {
        let night = 8.0 * 3600.0;
        let cases: [(&str, Sample, Option<Seconds>); 11] = [
            ("a check in time", at(101.0, 201.0), None),
            ("a busy machine", at(102.9, 202.9), None),
            ("suspended for half a second", at(101.0, 201.5), None),
            (
                "suspended for a night",
                at(101.0, 201.0 + night),
                Some((night, 0.0)),
            ),
            (
                "suspended, and woken early",
                at(100.1, 200.1 + night),
                Some((night, 0.0)),
            ),
            ("stopped for five seconds", at(106.0, 206.0), Some((0.0, 5.0))),
            (
                "stopped for a night",
                at(101.0 + night, 201.0 + night),
                Some((0.0, night)),
            ),
            ("suspended and stopped", at(106.0, 216.0), Some((10.0, 5.0))),
            ("both clocks went back", at(1.0, 2.0), None),
            ("only CLOCK_MONOTONIC went back", at(90.0, 201.0), None),
            ("only CLOCK_BOOTTIME went back", at(101.0, 20.0), None),
        ];
        for (what, second, expected) in cases {
            let seen = Drift::new(at(100.0, 200.0)).see(second);
            let seen = seen.map(|pause| (pause.suspended.as_secs_f64(), pause.late.as_secs_f64()));
            match (seen, expected) {
                (None, None) => {}
                (Some(seen), Some(expected)) => assert!(
                    (seen.0 - expected.0).abs() < 1e-6 && (seen.1 - expected.1).abs() < 1e-6,
                    "{what}: {seen:?}"
                ),
                _ => panic!("{what}: {seen:?}"),
            }
        }
    }

    #[test]
    fn each_suspend_is_reported_once() {
        let mut drift = Drift::new(at(10.0, 10.0));
        assert!(drift.see(at(11.0, 100.0)).is_some());
        assert!(drift.see(at(12.0, 101.0)).is_none());
        assert!(drift.see(at(13.0, 202.0)).is_some());
    }

    #[test]
    fn a_suspend_after_a_clock_went_back_is_detected() {
        let mut drift = Drift::new(at(100.0, 100.0));
        assert!(drift.see(at(1.0, 1.0)).is_none());
        assert!(drift.see(at(2.0, 62.0)).is_some());
    }

    proptest! {
        #[test]
        fn no_clock_makes_it_panic(samples in prop::collection::vec((any::<Duration>(), any::<Duration>()), 2..8)) {
            let mut drift = Drift::new(at(0.0, 0.0));
            for (monotonic, boottime) in samples {
                drift.see(Sample { monotonic, boottime });
            }
        }

        #[test]
        fn looks_in_time_are_never_a_pause(steps in prop::collection::vec(0.0..2.9f64, 1..100)) {
            let mut drift = Drift::new(at(50.0, 70.0));
            let mut since = 0.0;
            for step in steps {
                since += step;
                prop_assert_eq!(drift.see(at(50.0 + since, 70.0 + since)), None);
            }
        }
    }

    /// Neither is the wall clock, which may be years off and may be set at any time.
    #[cfg(target_os = "linux")]
    #[test]
    fn both_clocks_count_from_the_start_of_this_machine() {
        let before = uptime();
        let now = now();
        let after = uptime();
        assert!(before.saturating_sub(SHORTEST_SLEEP) <= now.boottime);
        assert!(now.boottime <= after + SHORTEST_SLEEP);
        assert!(now.monotonic <= now.boottime + SHORTEST_SLEEP);
    }

    /// proc_uptime(5): the time since the start, with sleep.
    #[cfg(target_os = "linux")]
    fn uptime() -> Duration {
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        Duration::from_secs_f64(text.split(' ').next().unwrap().parse().unwrap())
    }
}
