//! Finds panics of the product's processes in their output and in their logs.
//!
//! A panic often ends only its own task, so a test could pass in spite of it. Therefore everything that runs a process of
//! the product also checks for panics.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// The start of the standard library's panic message.
const PANIC_MARK: &str = "panicked at ";

/// The panics in a text: for each one its location and the next line, which has the reason.
#[must_use]
pub fn in_text(text: &str) -> Vec<String> {
    let mut lines = text.lines().peekable();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line.contains(PANIC_MARK) {
            let why = lines.peek().copied().unwrap_or_default();
            found.push(format!("{line} {why}"));
        }
    }
    found
}

/// The logs of agents and relays below a folder in which an agent is installed, such as `~/.cache/jq`.
#[must_use]
pub fn logs_below(folder: &Path) -> Vec<PathBuf> {
    let entries = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
    let hosts = entries(folder.join("run"));
    let roles = hosts.flat_map(|host| entries(host.path()));
    roles.map(|role| role.path().join("log")).collect()
}

/// Reads logs as they grow. A process that restarts truncates its log, so they have to be read often.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Number of bytes read from each file, by device and inode.
    read: HashMap<(u64, u64), u64>,
}

impl Reader {
    /// The panics that were written to a log since the last call. A missing log has none.
    pub(crate) fn new_panics(&mut self, log: &Path) -> Vec<String> {
        let new = self.new_lines(log).unwrap_or_default();
        let found = in_text(&new).into_iter();
        found.map(|panic| format!("{}: {panic}", log.display())).collect()
    }

    fn new_lines(&mut self, log: &Path) -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let found = file.metadata()?;
        let read = self.read.entry((found.dev(), found.ino())).or_default();
        if *read > found.len() {
            *read = 0;
        }
        file.seek(SeekFrom::Start(*read))?;
        let mut new = Vec::new();
        file.read_to_end(&mut new)?;
        // A message has two lines, so the last line is read again, together with the next one.
        let ends = new.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
        let kept = ends.map(|(at, _)| at + 1).nth(1).unwrap_or_default();
        *read += kept as u64;
        Ok(String::from_utf8_lossy(&new).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::{Reader, in_text};

    const MESSAGE: &str = "thread 'main' (7) panicked at src/main.rs:1:1:\nattempt to add with overflow\n";

    #[test]
    fn a_panic_is_reported_with_its_location_and_its_reason() {
        let text = format!("INFO starts\n{MESSAGE}INFO goes on\n");
        let wanted = "thread 'main' (7) panicked at src/main.rs:1:1: attempt to add with overflow";
        assert_eq!(in_text(&text), [wanted]);
        assert!(in_text("nobody panicked\n").is_empty());
    }

    #[test]
    fn a_panic_before_a_restart_and_one_after_it_are_both_found() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut reader = Reader::default();
        assert!(reader.new_panics(&log).is_empty());
        fs::write(&log, format!("INFO a long line of the first process\n{MESSAGE}")).unwrap();
        assert!(!reader.new_panics(&log).is_empty());
        fs::write(&log, MESSAGE).unwrap();
        assert!(!reader.new_panics(&log).is_empty());
    }

    #[test]
    fn a_panic_that_is_written_in_pieces_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut reader = Reader::default();
        for piece in [
            "one\n",
            "thread 'main' panic",
            "ked at x.rs:1:1:\n",
            "why\n",
            "two\n",
            "three\n",
        ] {
            let mut file = fs::File::options().create(true).append(true).open(&log).unwrap();
            file.write_all(piece.as_bytes()).unwrap();
            if piece == "why\n" {
                assert!(reader.new_panics(&log)[0].ends_with("x.rs:1:1: why"));
            } else {
                reader.new_panics(&log);
            }
        }
        assert!(reader.new_panics(&log).is_empty());
    }
}
