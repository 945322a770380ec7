//! The only printing. Progress and prose go to standard error, data to standard output; nothing from a remote machine
//! passes without being sanitised here.
//!
//! # Layout
//!
//! - [`Printer`]: what happens, as lines or as JSON
//! - `line`: the last line of the terminal, redrawn in place; `echo`: the terminal's echo meanwhile
//! - `steps`, `status_line`, `sessions`, `summary`: what is said of each, as text; `json`: as objects
//! - `text`: texts from elsewhere made safe; `words`: quantities
//! - `writer`: a thread that writes, so that a stopped terminal holds up nothing

mod echo;
mod json;
mod line;
mod printer;
mod sessions;
mod status_line;
mod steps;
mod summary;
mod text;
mod words;
mod writer;

pub use self::{
    printer::{Printer, Terminal},
    writer::{flush, log},
};
