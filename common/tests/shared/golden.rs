//! Golden files: one file in the repository for each message, frame and record, as it is encoded on the wire or on disk. A
//! change of a format shows as a change of a file. Also part of the unit tests of agent and client.

use std::{
    collections::BTreeSet,
    fmt::{Debug, Write as _},
    fs,
    path::{Path, PathBuf},
};

/// A folder of golden files. A test must read all of them.
pub(crate) struct Golden {
    folder: PathBuf,
    /// The folder for the actual encodings that differ from a golden file.
    written: PathBuf,
    unread: BTreeSet<String>,
    wrong: Vec<String>,
}

impl Golden {
    /// Opens the golden files in `folder`.
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

    /// Checks that `value`, encoded as `text`, equals the file `name`, and that the file decodes to `value`.
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

    /// Checks that the file `name`, written by another version, decodes to `value`.
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
                .push(format!("{name} decodes to {read:?} instead of {value:?}"));
        }
    }

    /// Checks that all files of the folder have been read and were right.
    #[track_caller]
    pub(crate) fn finish(self) {
        assert!(self.wrong.is_empty(), "\n{}", self.wrong.join("\n"));
        assert!(self.unread.is_empty(), "no test reads {:?}", self.unread);
    }
}

/// JSON with one line for each field. The order of the fields is kept.
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

/// Bytes as hexadecimal digits, sixteen per line, after a comment.
pub(crate) fn hex(comment: &str, bytes: &[u8]) -> String {
    let lines = bytes.chunks(16).map(|line| {
        let bytes: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        bytes.join(" ")
    });
    let mut text = vec![format!("# {comment}")];
    text.extend(lines);
    text.join("\n")
}

/// The bytes of a text from [`hex`].
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let bytes = lines.flat_map(str::split_whitespace);
    bytes
        .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect()
}
