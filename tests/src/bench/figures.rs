//! Figures of several rounds, and the bars that they must meet. Values only.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The results of a benchmark.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sheet {
    /// The measured series, in the order of their first value.
    pub series: Vec<Series>,
    /// Their comparison with the bars.
    pub verdicts: Vec<Verdict>,
}

/// The values of one peer in one situation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Series {
    /// The name of the situation.
    pub what: String,
    /// The name of the peer.
    pub peer: String,
    /// The unit.
    pub unit: String,
    /// One value per round.
    pub values: Vec<f64>,
}

/// A figure and its bar.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// What was measured.
    pub what: String,
    /// The unit; `x` for a ratio.
    pub unit: String,
    /// One value per round. A ratio compares values of the same round.
    pub values: Vec<f64>,
    /// The limit that must be met.
    pub bar: Bound,
    /// The desired value.
    pub aim: Bound,
    /// The grade of the median.
    pub grade: Grade,
}

/// A lower or upper limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// A lower limit.
    AtLeast(f64),
    /// An upper limit.
    AtMost(f64),
}

/// The grade of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// The aim is reached.
    Aim,
    /// The bar is met, the aim is not.
    Bar,
    /// The bar is missed.
    Missed,
}

/// Median and spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
}

impl Sheet {
    /// Adds the value of a round.
    pub(super) fn add(&mut self, what: &str, peer: &str, unit: &str, value: f64) {
        let known = |series: &&mut Series| series.what == what && series.peer == peer;
        if let Some(series) = self.series.iter_mut().find(known) {
            series.values.push(value);
            return;
        }
        self.series.push(Series {
            what: what.into(),
            peer: peer.into(),
            unit: unit.into(),
            values: vec![value],
        });
    }

    /// The values of `peer`. Empty if it was not measured.
    pub(super) fn values(&self, what: &str, peer: &str) -> Vec<f64> {
        let known = |series: &&Series| series.what == what && series.peer == peer;
        self.series
            .iter()
            .find(known)
            .map(|series| series.values.clone())
            .unwrap_or_default()
    }

    /// Compares `values` with a bar and an aim. Does nothing without values.
    pub(super) fn judge(
        &mut self,
        what: impl Into<String>,
        unit: &str,
        values: Vec<f64>,
        limits: [Bound; 2],
    ) {
        let Some(spread) = Spread::of(&values) else { return };
        let [bar, aim] = limits;
        let grade = if aim.holds(spread.median) {
            Grade::Aim
        } else if bar.holds(spread.median) {
            Grade::Bar
        } else {
            Grade::Missed
        };
        self.verdicts.push(Verdict {
            what: what.into(),
            unit: unit.into(),
            values,
            bar,
            aim,
            grade,
        });
    }

    /// Compares the ratio of `peer` to `over` with a bar and an aim, round by round.
    pub(super) fn judge_ratio(&mut self, what: &str, peer: &str, over: &str, limits: [Bound; 2]) {
        let ratios = ratios(&self.values(what, peer), &self.values(what, over));
        self.judge(format!("{what}, against {over}"), "x", ratios, limits);
    }
}

/// The ratios of two peers' values, round by round. A round in which the other peer carried nothing is left out.
pub(super) fn ratios(values: &[f64], over: &[f64]) -> Vec<f64> {
    let pairs = values.iter().zip(over).filter(|(_, over)| **over > 0.0);
    pairs.map(|(value, over)| value / over).collect()
}

/// A bar and an aim that are lower limits.
pub(super) fn at_least(bar: f64, aim: f64) -> [Bound; 2] {
    [Bound::AtLeast(bar), Bound::AtLeast(aim)]
}

/// A bar and an aim that are upper limits.
pub(super) fn at_most(bar: f64, aim: f64) -> [Bound; 2] {
    [Bound::AtMost(bar), Bound::AtMost(aim)]
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl Spread {
    /// The spread of values in any order; none without values.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: percentile(&sorted, 50.0)?,
            min: *sorted.first()?,
            max: *sorted.last()?,
        })
    }
}

/// The percentile `share` (0 to 100) of `sorted`, with linear interpolation; none without values.
pub(super) fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share / 100.0 * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    Some(sorted[low] + (sorted[high] - sorted[low]) * place.fract())
}

/// A number with its significant digits.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size if size >= 0.01 || size == 0.0 => format!("{value:.3}"),
        _ => format!("{value:.5}"),
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&short(self.median))?;
        if self.min < self.max {
            write!(f, " ({}..{})", short(self.min), short(self.max))?;
        }
        Ok(())
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, ">= {least}"),
            Self::AtMost(most) => write!(f, "<= {most}"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grade = match self.grade {
            Grade::Aim => "aim   ",
            Grade::Bar => "bar   ",
            Grade::Missed => "MISSED",
        };
        let value = Spread::of(&self.values).map_or_else(String::new, |spread| spread.to_string());
        let Self {
            what, unit, bar, aim, ..
        } = self;
        write!(f, "{grade} {what}: {value} {unit}; bar {bar}, aim {aim}")
    }
}

#[cfg(test)]
mod tests {
    use super::{Grade, Sheet, Spread, at_least, at_most, percentile};

    #[test]
    fn the_median_of_an_even_number_of_values_lies_between_the_two_in_the_middle() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!(
            spread,
            Some(Spread {
                median: 2.5,
                min: 1.0,
                max: 4.0
            })
        );
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(percentile(&[1.0, 2.0, 3.0], 100.0), Some(3.0));
    }

    #[test]
    fn a_missed_bar_is_marked_and_ratios_compare_the_same_round() {
        let mut sheet = Sheet::default();
        for (ours, theirs) in [(2.0, 1.0), (30.0, 10.0), (8.0, 2.0), (7.0, 0.0)] {
            sheet.add("down", "ours", "Mbit/s", ours);
            sheet.add("down", "theirs", "Mbit/s", theirs);
        }
        sheet.judge_ratio("down", "ours", "theirs", at_least(2.0, 3.0));
        sheet.judge_ratio("down", "ours", "theirs", at_least(3.5, 4.0));
        sheet.judge("late", "ms", vec![1.5], at_most(2.0, 1.0));
        sheet.judge("nothing was measured", "ms", Vec::new(), at_most(2.0, 1.0));
        let grades: Vec<_> = sheet.verdicts.iter().map(|verdict| verdict.grade).collect();
        assert_eq!(grades, [Grade::Aim, Grade::Missed, Grade::Bar]);
        assert_eq!(sheet.verdicts[0].values, [2.0, 3.0, 4.0]);
    }
}
