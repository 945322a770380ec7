//! Formats quantities: short, and with a stable width for a line that is redrawn every second.

use std::time::Duration;

use jq_common::protocol::topics::WorkloadState;

/// Name of a workload's state, also in `--json`.
pub(super) fn workload(state: WorkloadState) -> &'static str {
    match state {
        WorkloadState::None => "none",
        WorkloadState::Starting => "starting",
        WorkloadState::Running => "running",
        WorkloadState::Restoring => "restoring",
        WorkloadState::Unknown => "unknown",
    }
}

/// Bytes per second: `0 B/s`, `1.2 MB/s`, `3 kB/s`, `35 kB/s`.
pub(super) fn rate(bytes_per_s: u64) -> String {
    let rounded = |unit: u64| bytes_per_s.saturating_add(unit / 2) / unit;
    let units = [(1, "B/s"), (1_000, "kB/s"), (1_000_000, "MB/s")];
    let fits = units.into_iter().find(|(unit, _)| rounded(*unit) < 1000);
    let (unit, name) = fits.unwrap_or((1_000_000_000, "GB/s"));
    let tenths = rounded((unit / 10).max(1));
    if unit == 1 || tenths >= 100 || tenths.is_multiple_of(10) {
        format!("{} {name}", rounded(unit))
    } else {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

/// Milliseconds as a fraction.
pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A round-trip time: `0.4 ms`, `43 ms`, `1.2 s`.
pub(super) fn round_trip(time: Duration) -> String {
    let ms = milliseconds(time);
    if ms < 9.95 {
        format!("{ms:.1} ms")
    } else if ms < 999.5 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.1} s", ms / 1000.0)
    }
}

/// A duration: `34 s`, `2 min`, `3 h 12 min`, `2 d 3 h`.
pub(super) fn lasting(time: Duration) -> String {
    let s = time.as_secs();
    let (min, h, d) = (s / 60, s / 3600, s / 86_400);
    let both = |large: u64, large_unit: &str, small: u64, small_unit: &str| {
        if small == 0 {
            format!("{large} {large_unit}")
        } else {
            format!("{large} {large_unit} {small} {small_unit}")
        }
    };
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{min} min"),
        3600..86_400 => both(h, "h", min % 60, "min"),
        _ => both(d, "d", h % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_at_most_three_digits_and_a_unit_that_fits() {
        for (rate_per_s, shown) in [
            (0, "0 B/s"),
            (7, "7 B/s"),
            (999, "999 B/s"),
            (1000, "1 kB/s"),
            (3_049, "3 kB/s"),
            (9_949, "9.9 kB/s"),
            (9_960, "10 kB/s"),
            (35_400, "35 kB/s"),
            (999_499, "999 kB/s"),
            (999_600, "1 MB/s"),
            (1_234_567, "1.2 MB/s"),
            (118_000_000, "118 MB/s"),
            (1_250_000_000, "1.3 GB/s"),
        ] {
            assert_eq!(rate(rate_per_s), shown, "{rate_per_s}");
        }
    }

    #[test]
    fn times_are_as_coarse_as_they_are_long() {
        for (us, shown) in [
            (0, "0.0 ms"),
            (437, "0.4 ms"),
            (9_940, "9.9 ms"),
            (9_960, "10 ms"),
            (43_100, "43 ms"),
            (999_700, "1.0 s"),
            (2_340_000, "2.3 s"),
        ] {
            assert_eq!(round_trip(Duration::from_micros(us)), shown, "{us}");
        }
        for (s, shown) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (11_520, "3 h 12 min"),
            (86_399, "23 h 59 min"),
            (172_800, "2 d"),
            (183_600, "2 d 3 h"),
        ] {
            assert_eq!(lasting(Duration::from_secs(s)), shown, "{s}");
        }
    }
}
