//! The files and types that `ARCHITECTURE.md` names.

/// Something that the document names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// The line in the document, from 1.
    pub line: usize,
    /// The path or type as it is written.
    pub text: String,
    /// The folders that a path may begin in.
    pub folders: Vec<String>,
}

impl Mention {
    /// Whether it looks like a path, and not like a type.
    pub fn is_path(&self) -> bool {
        self.text.contains('/') || self.text.ends_with(".rs")
    }

    /// The possible paths. One of them must exist. A placeholder (`NAME.rs`, `…`, `*`) stands for anything in its folder.
    pub fn candidates(&self) -> Vec<String> {
        let parts = self.text.trim_end_matches('/').split('/');
        let known: Vec<_> = parts.take_while(|part| !is_placeholder(part)).collect();
        let known = known.join("/");
        self.folders
            .iter()
            .map(|folder| format!("{folder}{known}"))
            .collect()
    }
}

fn is_placeholder(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or(part);
    let is_capital = stem.len() > 1 && stem.chars().all(|c| c.is_ascii_uppercase());
    is_capital || part.contains(['…', '*', '<'])
}

/// The names in backticks in the table "To add". A path there is relative to the root, or to a crate that its row has named
/// before.
pub fn to_add(document: &str) -> Vec<Mention> {
    let mut mentions = Vec::new();
    for (line, row) in section(document, "## To add").filter(|(_, row)| row.starts_with('|')) {
        for (at, _) in row.match_indices('`').step_by(2) {
            let text = row[at + 1..].split('`').next().unwrap_or_default().to_owned();
            let mut folders = vec![String::new()];
            for name in CRATES.into_iter().filter(|name| row[..at].contains(name)) {
                folders.extend([format!("{name}/src/"), format!("{name}/")]);
            }
            mentions.push(Mention { line, text, folders });
        }
    }
    mentions
}

const CRATES: [&str; 3] = ["client", "agent", "common"];

/// The names in the drawing "Rooms": folders are indented by four spaces, their content by six. A name ends before two spaces.
pub fn rooms(document: &str) -> Vec<Mention> {
    let mut mentions = Vec::new();
    let mut folder = String::new();
    for (line, text) in section(document, "## Rooms") {
        let indent = text.len() - text.trim_start().len();
        let names = text.trim_start().split("  ").next().unwrap_or_default();
        let folders = match indent {
            4 if names.ends_with('/') => {
                folder = names.to_owned();
                vec![String::new()]
            }
            6 => vec![folder.clone(), format!("{folder}src/")],
            _ => continue,
        };
        for name in names.split(' ').filter(|name| !is_placeholder(name)) {
            let file = if name.ends_with('/') {
                name.to_owned()
            } else {
                format!("{name}.rs")
            };
            mentions.push(Mention {
                line,
                text: file,
                folders: folders.clone(),
            });
        }
    }
    mentions
}

/// The lines under a heading, with their numbers.
fn section<'a>(document: &'a str, heading: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let lines = document.lines().enumerate().map(|(at, text)| (at + 1, text));
    lines
        .skip_while(move |(_, text)| !text.starts_with(heading))
        .skip(1)
        .take_while(|(_, text)| !text.starts_with("## "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "\
## Rooms

    client/src/    jq-client
      cli ssh/     flags; ssh
                   more of it
      output …     the rest

    client -> common

## To add …

| a forward | `client/src/forward/KIND.rs`, `spec.rs` (the trait `Forward`); at the agent `serve/…` |

## Next

| `not/this.rs` |
";

    fn candidates(mentions: &[Mention]) -> Vec<String> {
        mentions.iter().flat_map(Mention::candidates).collect()
    }

    #[test]
    fn the_drawing_names_folders_and_files() {
        let rooms = rooms(DOCUMENT);
        assert_eq!(
            rooms.iter().map(|room| room.line).collect::<Vec<_>>(),
            [3, 4, 4, 6]
        );
        assert_eq!(rooms[2].text, "ssh/");
        assert_eq!(
            candidates(&rooms[..2]),
            ["client/src", "client/src/cli.rs", "client/src/src/cli.rs"]
        );
    }

    #[test]
    fn a_row_names_paths_and_types_and_a_placeholder_stands_for_its_folder() {
        let row = to_add(DOCUMENT);
        let texts: Vec<_> = row.iter().map(|mention| mention.text.as_str()).collect();
        assert_eq!(
            texts,
            ["client/src/forward/KIND.rs", "spec.rs", "Forward", "serve/…"]
        );
        assert!(row.iter().all(|mention| mention.line == 12));
        assert!(!row[2].is_path());
        assert_eq!(candidates(&row[..1]), ["client/src/forward"]);
        assert_eq!(
            candidates(&row[1..2]),
            ["spec.rs", "client/src/spec.rs", "client/spec.rs"]
        );
        assert!(row[3].candidates().contains(&"agent/src/serve".to_owned()));
    }
}
