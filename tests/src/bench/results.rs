//! The files in results/. They hold the newest results, and their names do not change.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{Benchmark, Grade, Sheet, benchmarks, plot, table};

/// The newest results of all benchmarks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// The rows, in the order of [`benchmarks`].
    pub rows: Vec<Row>,
}

/// The result of a benchmark.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The id of the benchmark.
    pub id: String,
    /// The name of the benchmark.
    pub name: String,
    /// The bar in words.
    pub bar: String,
    /// The aim in words.
    pub aim: String,
    /// Number of rounds.
    pub rounds: usize,
    /// Length of a measurement in seconds.
    pub seconds: f64,
    /// Processor time that other processes used just before, in percent of one processor.
    pub others: f64,
    /// The machine.
    pub machine: String,
    /// The figures.
    pub sheet: Sheet,
}

impl Row {
    /// A row with the results of `benchmark`.
    #[must_use]
    pub fn new(benchmark: &Benchmark, options: &super::Options, others: f64, sheet: Sheet) -> Self {
        Self {
            id: benchmark.id.into(),
            name: benchmark.name.into(),
            bar: benchmark.bar.into(),
            aim: benchmark.aim.into(),
            rounds: options.rounds,
            seconds: options.length.as_secs_f64(),
            others,
            machine: machine(),
            sheet,
        }
    }

    /// Whether every bar is met.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.sheet
            .verdicts
            .iter()
            .all(|verdict| verdict.grade != Grade::Missed)
    }

    /// The results as Markdown tables.
    #[must_use]
    pub fn table(&self) -> String {
        table::of(self)
    }
}

impl Results {
    const FILE: &str = "results.json";

    /// Loads the results in `folder`. Empty if there are none.
    ///
    /// # Errors
    /// When the file cannot be read or decoded.
    pub fn load(folder: &Path) -> Result<Self> {
        let file = folder.join(Self::FILE);
        if !file.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a results file", file.display()))
    }

    /// Inserts a row, or replaces an older one of the same benchmark.
    pub fn put(&mut self, row: Row) {
        self.rows.retain(|old| old.id != row.id);
        self.rows.push(row);
        let order = benchmarks();
        let place = |row: &Row| order.iter().position(|benchmark| benchmark.id == row.id);
        self.rows.sort_by_key(|row| place(row).unwrap_or(usize::MAX));
    }

    /// Writes all files to `folder`, which is created if necessary: the figures (JSON), the tables (Markdown), a plot (SVG)
    /// for each benchmark that compares peers, and one for all bulk benchmarks.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let write = |name: &str, text: &str| {
            let (file, draft) = (folder.join(name), folder.join(format!(".{name}.new")));
            fs::write(&draft, text).with_context(|| format!("cannot write {}", draft.display()))?;
            fs::rename(&draft, &file).with_context(|| format!("cannot put {} in place", file.display()))
        };
        write(Self::FILE, &serde_json::to_string_pretty(self)?)?;
        write("tables.md", &table::of_all(self))?;
        for row in &self.rows {
            if let Some(picture) = plot::of(row) {
                write(&format!("{}.svg", row.id), &picture)?;
            }
        }
        if let Some(picture) = plot::overview(self) {
            write("bulk.svg", &picture)?;
        }
        Ok(())
    }
}

/// Processor and kernel in one line.
fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<_> = info
        .lines()
        .filter_map(|line| line.strip_prefix("model name"))
        .map(|rest| rest.trim_start_matches([' ', '\t', ':']))
        .collect();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let model = models.first().copied().unwrap_or("unknown processor");
    format!("{} x {model}, Linux {}", models.len(), kernel.trim())
}
