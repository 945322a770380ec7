//! The product's sources as text: which file imports which, and what a file names. Enough of Rust's grammar for that, and
//! no more: words, paths, `use`, `mod` and `#[cfg(test)]`. Modules are `foo.rs` beside `foo/`; names that macros make are
//! not seen.
//!
//! - `token`: source as words and marks, without comments, and without what only tests compile
//! - `path`: the paths of one file
//! - `modules`: the modules of a crate, and the file that defines what a path names
//! - [`Imports`]: which file imports which, and the circles in that
//! - [`Rooms`]: a table of who may import whom
//! - [`crates_named`], [`processes_started`], [`defined`]: what files name and define
//! - [`map`]: the files that `ARCHITECTURE.md` names

mod imports;
pub mod map;
mod modules;
mod names;
mod path;
mod rooms;
mod sources;
mod token;

pub use imports::{Import, Imports};
pub use names::{crates_in_manifest, crates_named, defined, processes_started};
pub use rooms::Rooms;
pub use sources::Sources;
