//! The last lines of what something writes.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// The last lines that something has written; shared between who writes and who reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail(Arc<Mutex<TailLines>>);

#[derive(Debug, Default)]
struct TailLines {
    whole: VecDeque<String>,
    /// A line whose end has not come yet.
    open: String,
}

impl Tail {
    /// Lines kept.
    const LINES: usize = 64;
    /// Bytes kept of a line.
    const LINE: usize = 2000;

    /// Takes what was written.
    pub(crate) fn write(&self, bytes: &[u8]) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for c in String::from_utf8_lossy(bytes).chars() {
            if c == '\n' || lines.open.len() >= Self::LINE {
                let line = std::mem::take(&mut lines.open);
                lines.whole.push_back(line);
                if lines.whole.len() > Self::LINES {
                    lines.whole.pop_front();
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
            .whole
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

/// The last lines of a file that are not empty, at most `count`. None when it cannot be read.
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
    fn a_tail_keeps_the_last_lines_and_bounds_them() {
        let tail = Tail::default();
        for n in 0..200 {
            tail.write(format!("line {n}\n\n").as_bytes());
        }
        tail.write(b"un");
        tail.write(b"finished");
        assert_eq!(tail.last(2), ["line 199", "unfinished"]);
        tail.write(&vec![b'x'; 1_000_000]);
        assert!(tail.last(100).iter().all(|line| line.len() <= Tail::LINE + 10));
    }
}
