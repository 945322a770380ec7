//! Measured values and their limits.

use std::fmt;

use serde::Serialize;

/// The result of a scenario.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// The measured figures.
    pub measures: Vec<Measure>,
    /// Further information for the reader. May be empty.
    pub note: String,
}

/// A measured figure.
#[derive(Clone, Debug, Serialize)]
pub struct Measure {
    /// What was measured.
    pub what: &'static str,
    /// The value.
    pub value: f64,
    /// The unit.
    pub unit: &'static str,
    /// The limit that it must meet.
    pub limit: Limit,
}

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// An upper limit.
    AtMost(f64),
    /// A lower limit.
    AtLeast(f64),
    /// A goal: exceeding it is shown but does not fail.
    Wished(f64),
    /// No limit: for information.
    Told,
}

impl Outcome {
    /// Adds a figure.
    #[must_use]
    pub fn with(mut self, what: &'static str, value: f64, unit: &'static str, limit: Limit) -> Self {
        self.measures.push(Measure {
            what,
            value,
            unit,
            limit,
        });
        self
    }

    /// Adds a figure in seconds with an upper limit.
    #[must_use]
    pub fn seconds(self, what: &'static str, value: std::time::Duration, most: f64) -> Self {
        self.with(what, value.as_secs_f64(), "s", Limit::AtMost(most))
    }

    /// Adds a note.
    #[must_use]
    pub fn noting(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Combines the figures and notes of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.measures.extend(other.measures);
        if !other.note.is_empty() {
            self.note = if self.note.is_empty() {
                other.note
            } else {
                format!("{}; {}", self.note, other.note)
            };
        }
        self
    }

    /// Whether every bar is met.
    pub fn passed(&self) -> bool {
        self.measures.iter().all(Measure::holds)
    }
}

impl Measure {
    fn holds(&self) -> bool {
        match self.limit {
            Limit::AtMost(most) => self.value <= most,
            Limit::AtLeast(least) => self.value >= least,
            Limit::Wished(_) | Limit::Told => true,
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.3} {}", self.what, self.value, self.unit)?;
        match self.limit {
            Limit::AtMost(most) => write!(f, " (<= {most})"),
            Limit::AtLeast(least) => write!(f, " (>= {least})"),
            Limit::Wished(most) if self.value > most => write!(f, " (missed: <= {most})"),
            Limit::Wished(most) => write!(f, " (<= {most})"),
            Limit::Told => Ok(()),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<_> = self.measures.iter().map(ToString::to_string).collect();
        if !self.note.is_empty() {
            parts.push(self.note.clone());
        }
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::{Limit, Outcome};

    #[test]
    fn an_outcome_passes_only_if_every_bar_is_met() {
        let good = Outcome::default().with("a", 1.0, "s", Limit::AtMost(1.0));
        assert!(good.passed());
        assert!(good.clone().with("wish", 9.0, "s", Limit::Wished(1.0)).passed());
        assert!(!good.clone().with("b", 1.1, "s", Limit::AtMost(1.0)).passed());
        assert!(!good.with("c", 0.9, "", Limit::AtLeast(1.0)).passed());
    }
}
