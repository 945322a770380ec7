//! What a program that failed has printed: the one line that matters, and what [`START`](super::START) reports.

/// Longest line that a failure shows, in characters.
const LINE: usize = 300;

/// What the lines of [`START`](super::START) begin with.
pub(crate) const REPORT: &str = "jq: ";

/// Words of a line that says why a program failed. Python's exceptions, pip, shells, sudo, loaders.
const WORDS: [&str; 18] = [
    "error",
    "exception",
    "errno",
    "critical",
    "fatal",
    "not found",
    "no such file",
    "no module named",
    "denied",
    "not permitted",
    "no new privileges",
    "bad interpreter",
    "cannot ",
    "no space left",
    "killed",
    "traceback",
    "bad config",
    "invalid",
];

/// The last output of a program that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Output {
    /// Its last lines.
    pub(crate) lines: Vec<String>,
    /// Where all of it is, for the user: `FILE on the host`.
    pub(crate) kept: Option<String>,
}

impl Output {
    /// The line that matters, and where the rest is: for a sentence that has told what happened. Empty without output.
    pub(crate) fn says(&self) -> String {
        match (line_that_matters(&self.lines), &self.kept) {
            (None, _) => String::new(),
            (Some(line), None) => format!("; its output says: {line}"),
            (Some(line), Some(kept)) => format!("; its output says: {line} (all of it: {kept})"),
        }
    }

    /// What [`START`](super::START) reported.
    pub(crate) fn report(&self) -> Report {
        Report::of(self.lines.iter().map(String::as_str))
    }
}

/// The last line that says why a program failed; else its last line.
pub(crate) fn line_that_matters(lines: &[String]) -> Option<String> {
    let own = || {
        let lines = lines.iter().rev().map(|line| plain(line));
        lines.filter(|line| !line.is_empty() && !line.starts_with(REPORT))
    };
    let says_why = |line: &&str| {
        let low = line.to_lowercase();
        WORDS.iter().any(|word| low.contains(word))
    };
    let line = own().find(says_why).or_else(|| own().next())?;
    let mut cut: String = line.chars().take(LINE).collect();
    if cut.len() < line.len() {
        cut.push('…');
    }
    Some(cut)
}

/// A line without the time that Jupyter puts before it: `[C 2026-11-30 01:02:03.004 ServerApp] `.
fn plain(line: &str) -> &str {
    let line = line.trim();
    let logged = line
        .strip_prefix('[')
        .filter(|rest| rest.starts_with(['C', 'E', 'W', 'I', 'D']) && rest[1..].starts_with(' '));
    logged
        .and_then(|rest| rest.split_once("] "))
        .map_or(line, |(_, text)| text.trim())
}

/// What [`START`](super::START) found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// It ran, as this user.
    pub(crate) uid: Option<u32>,
    /// There is no `jupyter` in these folders.
    pub(crate) lacks_jupyter_in: Option<Vec<String>>,
    /// It cannot read its token from this file.
    pub(crate) unreadable: Option<String>,
    /// No folder can be written to.
    pub(crate) is_read_only: bool,
    /// The private folder of this Jupyter.
    pub(crate) folder: Option<String>,
    /// The Python that runs Jupyter; told only of one on a private socket.
    pub(crate) python: Option<String>,
    /// The version of its server, which cannot listen on a socket.
    pub(crate) without_socket: Option<String>,
    /// The value of PYTHONPATH.
    pub(crate) python_path: Option<String>,
}

impl Report {
    /// Reads the report from among other lines. The last run counts.
    pub(crate) fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut report = Self::default();
        for line in lines.filter_map(|line| line.strip_prefix(REPORT)) {
            let after = |start: &str| line.strip_prefix(start).map(|rest| rest.trim_end().to_owned());
            if let Some(uid) = after("started as uid ") {
                report = Self {
                    uid: uid.parse().ok(),
                    ..Self::default()
                };
            }
            if let Some(path) = after("no jupyter on PATH=") {
                report.lacks_jupyter_in = Some(path.split(':').map(str::to_owned).collect());
            }
            report.unreadable = after("cannot read ").or(report.unreadable);
            report.is_read_only |= line.starts_with("no folder can be written to");
            report.folder = after("folder ").or(report.folder);
            report.python = after("python ").or(report.python);
            let server =
                after("server ").and_then(|rest| rest.strip_suffix(" has no socket").map(str::to_owned));
            report.without_socket = server.or(report.without_socket);
            report.python_path = after("PYTHONPATH=").or(report.python_path);
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_line_that_says_why_is_shown_and_not_the_last_one() {
        for (output, line) in [
            (
                "Collecting x\nERROR: Could not find a version\nERROR: No matching distribution found for x\n\
                 [notice] A new release of pip is available",
                "ERROR: No matching distribution found for x",
            ),
            (
                "Traceback (most recent call last):\n  File \"/a\", line 1\nModuleNotFoundError: No module named 'a'\n",
                "ModuleNotFoundError: No module named 'a'",
            ),
            (
                "[C 2026-11-30 01:02:03.004 ServerApp] Bad config encountered during initialization: No such dir\n\
                 [I 2026-11-30 01:02:03.005 ServerApp] Shutting down",
                "Bad config encountered during initialization: No such dir",
            ),
            ("one\ntwo\njq: started as uid 7\n\n", "two"),
        ] {
            assert_eq!(line_that_matters(&lines(output)).as_deref(), Some(line));
        }
        assert_eq!(line_that_matters(&lines("jq: started as uid 7")), None);
        let long = line_that_matters(&["x".repeat(100_000)]).unwrap();
        assert!(long.chars().count() == LINE + 1 && long.ends_with('…'));
    }

    #[test]
    fn the_last_run_is_reported_among_other_lines() {
        let text = "jq: started as uid 0\njq: cannot read /run/jq/token\nhello\njq: started as uid 1234\n\
                    jq: folder /tmp/jq-jupyter-1234-gpu\njq: no jupyter on PATH=/usr/bin:/root/bin\n";
        let report = Report::of(text.lines());
        let expected = Report {
            uid: Some(1234),
            lacks_jupyter_in: Some(vec!["/usr/bin".into(), "/root/bin".into()]),
            folder: Some("/tmp/jq-jupyter-1234-gpu".into()),
            ..Report::default()
        };
        assert_eq!(report, expected);
        assert_eq!(Report::of("jq is a tool".lines()), Report::default());
    }
}
