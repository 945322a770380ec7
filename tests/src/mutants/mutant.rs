//! One patch: what it says, what it changes, and whether that is still there.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use super::named_test::NamedTest;

/// Most lines that a patch takes away or puts in: more is another program, and not this one without a check.
const MOST_LINES: usize = 8;

/// A patch.
#[derive(Debug, PartialEq, Eq)]
pub struct Mutant {
    /// The name of its file.
    pub name: String,
    /// The test that fails once the patch is applied.
    test: NamedTest,
    changes: Vec<Change>,
}

/// Some lines of a file, of which the patch changes at least one.
#[derive(Debug, Default, PartialEq, Eq)]
struct Change {
    file: String,
    /// The lines as they are: those that are taken away, and those around them.
    before: String,
    /// How many are taken away or put in.
    changed: usize,
}

impl Mutant {
    /// Reads the patch `name`.
    ///
    /// # Errors
    /// It is not as `deploy/mutants` says that one is.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self> {
        let stem = name
            .strip_suffix(".patch")
            .context("its name does not end with .patch")?;
        ensure!(is_name(stem), "it is not named ATTACK-what-is-switched-off.patch");
        let (head, diff) = text.split_once("\n--- ").context("it changes nothing")?;
        let (words, test) = head
            .split_once("\nTest: ")
            .context("no line begins with `Test: `")?;
        ensure!(words.trim().len() > 20, "it does not say what it switches off");
        let changes = changes(&format!("--- {diff}"))?;
        let lines: usize = changes.iter().map(|change| change.changed).sum();
        ensure!(
            lines <= MOST_LINES,
            "it changes {lines} lines, and may change {MOST_LINES}"
        );
        Ok(Self {
            name: name.to_owned(),
            test: NamedTest::parse(test.trim())?,
            changes,
        })
    }

    /// Why this patch is of no use for the sources below `root`; none if it is.
    pub fn fault(&self, root: &Path) -> Option<String> {
        let misplaced = self.changes.iter().find_map(|change| change.fault(root));
        misplaced.or_else(|| self.test.fault(root))
    }
}

/// `T10-the-client-accepts-any-certificate`: an attack or a fault of the table, and words.
fn is_name(stem: &str) -> bool {
    let (id, words) = stem.split_once('-').unwrap_or_default();
    let number = id.strip_prefix(['T', 'F']);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
        && !words.is_empty()
        && words
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// The changes of a unified diff (the manual of GNU diff, "Detailed Unified").
fn changes(diff: &str) -> Result<Vec<Change>> {
    let (mut file, mut changes) = (None, Vec::<Change>::new());
    for line in diff.lines() {
        if let Some(path) = line.strip_prefix("+++ b/") {
            file = Some(path.to_owned());
        } else if line.starts_with("@@ ") {
            changes.push(Change {
                file: file.clone().context("a change without a file")?,
                ..Change::default()
            });
        } else if let Some(change) = changes.last_mut().filter(|_| !line.starts_with("--- ")) {
            change.add(line)?;
        }
    }
    ensure!(!changes.is_empty(), "it changes nothing");
    Ok(changes)
}

impl Change {
    fn add(&mut self, line: &str) -> Result<()> {
        let (mark, text) = line.split_at_checked(1).context("an empty line in a change")?;
        ensure!(matches!(mark, "-" | "+" | " "), "`{line}` in a change");
        if mark != "+" {
            self.before.push_str(text);
            self.before.push('\n');
        }
        self.changed += usize::from(mark != " ");
        Ok(())
    }

    /// Why it cannot be made, or could be made in another place than is meant.
    fn fault(&self, root: &Path) -> Option<String> {
        let Ok(text) = fs::read_to_string(root.join(&self.file)) else {
            return Some(format!("{} cannot be read", self.file));
        };
        match occurrences(&text, &self.before) {
            1 => None,
            count => Some(format!(
                "{} has {count} places like this, where one is meant:\n{}",
                self.file, self.before
            )),
        }
    }
}

/// How often `lines` stand in `text`, as whole lines.
fn occurrences(text: &str, lines: &str) -> usize {
    let starts = text.match_indices('\n').map(|(at, _)| at + 1);
    let starts = std::iter::once(0).chain(starts);
    starts
        .filter(|at| !lines.is_empty() && text[*at..].starts_with(lines))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "\
The lock is not looked at any more, whoever holds it.
Test: jq-agent rundir::tests::one_process_holds_the_lock

--- a/agent/src/rundir.rs
+++ b/agent/src/rundir.rs
@@ -3 +3 @@
-    if held {
+    if false {
";

    fn parse(text: &str) -> Result<Mutant> {
        Mutant::parse("T2-nobody-looks-at-the-lock.patch", text)
    }

    /// What is wrong with the patch, where `rundir.rs` is like this.
    fn fault(rundir: &str) -> Option<String> {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("agent/src")).unwrap();
        fs::write(root.path().join("agent/src/rundir.rs"), rundir).unwrap();
        parse(PATCH).unwrap().fault(root.path())
    }

    #[test]
    fn a_patch_fits_while_its_place_and_its_test_are_there() {
        let test = "mod tests {\n    fn one_process_holds_the_lock() {\n";
        assert_eq!(fault(&format!("\n    if held {{\n{test}")), None);
        let moved = fault(&format!("    if held {{\n    if held {{\n{test}")).unwrap();
        assert!(moved.contains("2 places"), "{moved}");
        let gone = fault(&format!("    if held && true {{\n{test}")).unwrap();
        assert!(gone.contains("0 places"), "{gone}");
        let renamed = fault("    if held {\nmod tests {\n    fn another_name() {\n").unwrap();
        assert!(renamed.contains("one_process_holds_the_lock"), "{renamed}");
    }

    #[test]
    fn what_is_no_patch_of_ours_is_refused() {
        parse(PATCH).unwrap();
        for (without, why) in [
            (
                "The lock is not looked at any more, whoever holds it.",
                "does not say",
            ),
            (
                "\nTest: jq-agent rundir::tests::one_process_holds_the_lock",
                "`Test: `",
            ),
            (
                "@@ -3 +3 @@\n-    if held {\n+    if false {\n",
                "changes nothing",
            ),
            ("rundir::tests::one_process_holds_the_lock", "names no test"),
        ] {
            let error = parse(&PATCH.replace(without, "")).unwrap_err();
            assert!(format!("{error:#}").contains(why), "{error:#}");
        }
        for name in [
            "T2-x.diff",
            "x.patch",
            "T-x.patch",
            "T2-.patch",
            "T2-A b.patch",
            "X2-x.patch",
        ] {
            assert!(Mutant::parse(name, PATCH).is_err(), "{name}");
        }
        let long = format!("{PATCH}{}", "+    x();\n".repeat(MOST_LINES));
        assert!(parse(&long).is_err());
    }
}
