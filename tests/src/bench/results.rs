//! What is written down: one newest set of files, whose names do not change.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{Grade, Sheet, Work, plot, table, works};

/// What all works came to, each when it was last measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// In the order of [`works`].
    pub rows: Vec<Row>,
}

/// What a work came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The work's.
    pub id: String,
    /// The work's.
    pub name: String,
    /// What had to be reached, in words.
    pub bar: String,
    /// What was wished, in words.
    pub aim: String,
    /// How often it was measured.
    pub rounds: usize,
    /// How long each time, in seconds.
    pub seconds: f64,
    /// How much of the machine others used just before, in percent of one processor.
    pub others: f64,
    /// The machine.
    pub machine: String,
    /// The figures.
    pub sheet: Sheet,
}

impl Row {
    /// A row for what `work` came to.
    #[must_use]
    pub fn new(work: &Work, bench: &super::Bench, others: f64, sheet: Sheet) -> Self {
        Self {
            id: work.id.into(),
            name: work.name.into(),
            bar: work.bar.into(),
            aim: work.aim.into(),
            rounds: bench.rounds,
            seconds: bench.length.as_secs_f64(),
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

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        table::of(self)
    }
}

impl Results {
    const FILE: &str = "results.json";

    /// What is in `folder`; nothing if there is nothing yet.
    ///
    /// # Errors
    /// When there is something else.
    pub fn load(folder: &Path) -> Result<Self> {
        let file = folder.join(Self::FILE);
        if !file.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is something else", file.display()))
    }

    /// Puts a row in its place, where there may be an older one.
    pub fn put(&mut self, row: Row) {
        self.rows.retain(|old| old.id != row.id);
        self.rows.push(row);
        let order = works();
        let place = |row: &Row| order.iter().position(|work| work.id == row.id);
        self.rows.sort_by_key(|row| place(row).unwrap_or(usize::MAX));
    }

    /// Writes everything into `folder`, which is made: the figures (JSON), the tables (Markdown), a plot (SVG) for each
    /// work that compares, and one of all bulk.
    ///
    /// # Errors
    /// When it cannot be written.
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

/// Processor and kernel, in a line.
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
