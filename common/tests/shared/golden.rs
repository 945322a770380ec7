//! Golden files: what every message, frame and record looks like on the wire and on disk, one file each, in the repository.
//! A change of a format shows as a change of a file. Also part of the unit tests of agent and client.

use std::{
    collections::BTreeSet,
    fmt::{Debug, Write as _},
    fs,
    path::{Path, PathBuf},
};

/// A folder of golden files, all of which are to be read.
pub(crate) struct Golden {
    folder: PathBuf,
    /// Where what should have been there is written.
    written: PathBuf,
    unread: BTreeSet<String>,
    wrong: Vec<String>,
}

impl Golden {
    /// The files in `folder`.
    pub(crate) fn open(folder: &str) -> Self {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let target = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
        Self {
            unread: names.collect(),
            folder: folder.into(),
            written: target.join("golden"),
            wrong: Vec::new(),
        }
    }

    /// `value`, which is written as `text`, is what the file `name` has; and the file is read as `value`.
    pub(crate) fn check<T: PartialEq + Debug>(
        &mut self,
        name: &str,
        value: &T,
        text: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) {
        let file = self.file(name);
        if file.as_deref().map(str::trim_end) != Some(text.trim_end()) {
            let path = self.write(name, text);
            return self.wrong.push(format!("{name} differs from {}", path.display()));
        }
        self.compare(name, value, file.as_deref().and_then(read).as_ref());
    }

    /// The file `name`, which another version has written, is read as `value`.
    pub(crate) fn is_read_as<T: PartialEq + Debug>(
        &mut self,
        name: &str,
        value: &T,
        read: impl FnOnce(&str) -> Option<T>,
    ) {
        let file = self.file(name);
        self.compare(name, value, file.as_deref().and_then(read).as_ref());
    }

    fn file(&mut self, name: &str) -> Option<String> {
        self.unread.remove(name);
        fs::read_to_string(self.folder.join(name)).ok()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.written.join(name);
        let write = |path: &Path| {
            fs::create_dir_all(&self.written)?;
            fs::write(path, format!("{}\n", text.trim_end()))
        };
        if let Err(error) = write(&path) {
            panic!("{}: {error}", path.display());
        }
        path
    }

    fn compare<T: PartialEq + Debug>(&mut self, name: &str, value: &T, read: Option<&T>) {
        if read != Some(value) {
            self.wrong
                .push(format!("{name} is read as {read:?} instead of {value:?}"));
        }
    }

    /// All that is in the folder has been read, and was right.
    #[track_caller]
    pub(crate) fn finish(self) {
        assert!(self.wrong.is_empty(), "\n{}", self.wrong.join("\n"));
        assert!(self.unread.is_empty(), "nobody reads {:?}", self.unread);
    }
}

/// JSON with a line for each field. The order of the fields stays.
pub(crate) fn pretty(json: &[u8]) -> String {
    let mut text = String::new();
    let mut depth = 0;
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, char) in String::from_utf8_lossy(json).chars().enumerate() {
        let is_empty =
            matches!(json.get(at.saturating_sub(1)), Some(b'{' | b'[')) && matches!(char, '}' | ']');
        let line = |text: &mut String, depth: usize| {
            let _ = write!(text, "\n{:1$}", "", 2 * depth);
        };
        match char {
            '}' | ']' if !is_quoted => {
                depth -= 1;
                if is_empty {
                    text.truncate(text.trim_end().len());
                } else {
                    line(&mut text, depth);
                }
                text.push(char);
            }
            _ => text.push(char),
        }
        match char {
            '"' if !is_escaped => is_quoted = !is_quoted,
            '{' | '[' if !is_quoted => {
                depth += 1;
                line(&mut text, depth);
            }
            ',' if !is_quoted => line(&mut text, depth),
            ':' if !is_quoted => text.push(' '),
            _ => {}
        }
        is_escaped = is_quoted && char == '\\' && !is_escaped;
    }
    text
}

/// Bytes as hexadecimal digits, sixteen a line, below a comment.
pub(crate) fn hex(comment: &str, bytes: &[u8]) -> String {
    let lines = bytes.chunks(16).map(|line| {
        let bytes: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        bytes.join(" ")
    });
    let mut text = vec![format!("# {comment}")];
    text.extend(lines);
    text.join("\n")
}

/// The bytes of such a text.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let bytes = lines.flat_map(str::split_whitespace);
    bytes
        .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect()
}
