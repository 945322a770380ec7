//! Static analysis of the product's sources: which file imports which, and which names a file uses. It parses only the part
//! of Rust's grammar that this needs: words, paths, `use`, `mod` and `#[cfg(test)]`. Modules are `foo.rs` beside `foo/`.
//! Names that macros generate are not found.
//!
//! - `token`: the tokens of a source file, without comments and without test code
//! - `path`: the paths of one file
//! - `modules`: the modules of a crate, and the file that defines the target of a path
//! - [`Imports`]: which file imports which, and the cycles among them
//! - [`Rooms`]: a table of which room may import which
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
