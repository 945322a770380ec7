//! Which room of a crate may import which.

use super::imports::Imports;

/// The rooms of one crate. A room is a module with all its children. A file belongs to the room with the longest name
/// (`session::core` before `session`). Lists of rooms are separated by spaces.
#[derive(Clone, Copy, Debug)]
pub struct Rooms<'a> {
    /// Files that may import every room. No room may import them.
    pub roots: &'a str,
    /// Each room, and the rooms that it may import besides leaves. A row may name only rooms of later rows.
    pub rooms: &'a [(&'a str, &'a str)],
    /// Files that every room may import. They may import only each other.
    pub leaves: &'a str,
}

impl Rooms<'_> {
    /// The forbidden imports between rooms, and the errors in the table itself.
    pub fn violations(&self, imports: &Imports) -> Vec<String> {
        let mut violations = self.upward_rows();
        for file in imports.files().filter(|file| self.room_of(file).is_none()) {
            violations.push(format!("{file} is in no room of the table"));
        }
        for import in imports.iter() {
            let (Some(from), Some(to)) = (self.room_of(&import.file), self.room_of(&import.defined_in))
            else {
                continue;
            };
            if from != to && !self.may_import(from, to) {
                violations.push(format!("{import}: `{from}` may not import `{to}`"));
            }
        }
        violations
    }

    /// Rows that allow an import of an earlier row, or of a room that is not in the table.
    fn upward_rows(&self) -> Vec<String> {
        let mut violations = Vec::new();
        for (row, (room, allowed)) in self.rooms.iter().enumerate() {
            let below = &self.rooms[row + 1..];
            for other in allowed.split(' ').filter(|other| !other.is_empty()) {
                if !below.iter().any(|(name, _)| *name == other) {
                    violations.push(format!(
                        "the table lets `{room}` import `{other}`, which is not below it"
                    ));
                }
            }
        }
        violations
    }

    fn may_import(&self, from: &str, to: &str) -> bool {
        if lists(self.roots, from) || lists(self.leaves, to) {
            return true;
        }
        let row = self.rooms.iter().find(|(room, _)| *room == from);
        row.is_some_and(|(_, allowed)| lists(allowed, to))
    }

    fn room_of(&self, file: &str) -> Option<&str> {
        let module = file.trim_end_matches(".rs").replace('/', "::");
        let rooms = self.rooms.iter().map(|(room, _)| *room);
        let all = rooms.chain(self.roots.split(' ')).chain(self.leaves.split(' '));
        all.filter(|room| is_within(&module, room))
            .max_by_key(|room| room.len())
    }
}

fn lists(list: &str, room: &str) -> bool {
    list.split(' ').any(|other| other == room)
}

fn is_within(module: &str, room: &str) -> bool {
    module
        .strip_prefix(room)
        .is_some_and(|behind| behind.is_empty() || behind.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::super::sources::Sources;
    use super::*;

    const ROOMS: Rooms<'_> = Rooms {
        roots: "lib",
        rooms: &[
            ("upper", "lower upper::core"),
            ("lower", "upper::core"),
            ("upper::core", ""),
        ],
        leaves: "leaf",
    };

    fn violations(rooms: &Rooms<'_>, lower: &str, leaf: &str) -> Vec<String> {
        let sources = Sources::from([
            ("lib.rs", "mod upper; mod lower; mod leaf;"),
            (
                "upper.rs",
                "mod core; mod top; use crate::lower::L; use crate::leaf::F;",
            ),
            ("upper/core.rs", "pub struct C;"),
            ("upper/top.rs", "pub struct T;"),
            ("lower.rs", lower),
            ("leaf.rs", leaf),
        ]);
        rooms.violations(&Imports::of(&sources, "sample").unwrap())
    }

    #[test]
    fn imports_of_lower_rooms_and_of_leaves_are_allowed() {
        assert!(violations(&ROOMS, "use crate::{upper::core::C, leaf::F};", "").is_empty());
    }

    #[test]
    fn an_upward_import_is_found_also_in_a_nested_group_in_code_and_as_a_reexport() {
        for (lower, path) in [
            (
                "\nuse crate::{leaf::F, upper::{core::C, top::T}};",
                "crate::upper::top::T",
            ),
            ("\nfn f() { super::upper::top::T; }", "super::upper::top::T"),
            ("\npub use crate::upper::top::T;", "crate::upper::top::T"),
        ] {
            let expected =
                format!("lower.rs:2 imports upper/top.rs ({path}): `lower` may not import `upper`");
            assert_eq!(violations(&ROOMS, lower, ""), [expected]);
        }
        assert_eq!(
            violations(&ROOMS, "", "use crate::lower;"),
            ["leaf.rs:1 imports lower.rs (crate::lower): `leaf` may not import `lower`"]
        );
    }

    #[test]
    fn an_upward_row_of_the_table_and_a_file_without_a_room_are_found() {
        let upward = Rooms {
            rooms: &[("upper::core", ""), ("lower", "upper::core"), ("upper", "lower")],
            leaves: "",
            ..ROOMS
        };
        assert_eq!(
            violations(&upward, "", ""),
            [
                "the table lets `lower` import `upper::core`, which is not below it",
                "the table lets `upper` import `lower`, which is not below it",
                "leaf.rs is in no room of the table",
            ]
        );
    }
}
