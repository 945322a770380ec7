//! The last lines of a program's output.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// A bounded buffer of the last lines written to it. Clones share the buffer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail(Arc<Mutex<TailLines>>);

#[derive(Debug, Default)]
struct TailLines {
    ended: VecDeque<String>,
    /// A line that has not ended yet.
    open: String,
}

impl Tail {
    /// Number of lines kept.
    const LINES: usize = 1000;
    /// Number of bytes kept of each line.
    const LINE: usize = 2000;

    /// Appends output.
    pub(crate) fn write(&self, bytes: &[u8]) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for c in String::from_utf8_lossy(bytes).chars() {
            if c == '\n' || lines.open.len() >= Self::LINE {
                let line = std::mem::take(&mut lines.open);
                lines.ended.push_back(line);
                if lines.ended.len() > Self::LINES {
                    lines.ended.pop_front();
                }
            }
            if c != '\n' {
                lines.open.push(c);
            }
        }
    }

    /// The last lines that are not empty, at most `count`.
    #[must_use]
    pub(crate) fn last(&self, count: usize) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<&String> = lines
            .ended
            .iter()
            .chain([&lines.open])
            .filter(|line| !line.trim().is_empty())
            .collect();
        all[all.len().saturating_sub(count)..]
            .iter()
            .map(|line| line.trim_end().to_owned())
            .collect()
    }
}

/// Bytes read from the end of a log file.
const FILE_TAIL: u64 = 64 * 1024;

/// The last non-empty lines of a file, at most `count`; no lines when it cannot be read.
pub(crate) fn tail_of_file(file: &Path, count: usize) -> Vec<String> {
    let read = || {
        let mut file = File::open(file)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(FILE_TAIL)))?;
        let mut bytes = Vec::new();
        file.take(FILE_TAIL).read_to_end(&mut bytes)?;
        io::Result::Ok(bytes)
    };
    let tail = Tail::default();
    tail.write(&read().unwrap_or_default());
    tail.last(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_long_file_are_its_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        let lines: Vec<String> = (0..100_000).map(|n| format!("line {n}")).collect();
        std::fs::write(&file, lines.join("\n")).unwrap();
        assert_eq!(tail_of_file(&file, 2), ["line 99998", "line 99999"]);
    }

    #[test]
    fn a_tail_keeps_the_last_lines_and_bounds_them() {
        let tail = Tail::default();
        for n in 0..2000 {
            tail.write(format!("line {n}\n\n").as_bytes());
        }
        tail.write(b"un");
        tail.write(b"finished");
        assert_eq!(tail.last(2), ["line 1999", "unfinished"]);
        tail.write(&vec![b'x'; 1_000_000]);
        assert!(tail.last(10_000).iter().all(|line| line.len() <= Tail::LINE + 10));
    }
}
