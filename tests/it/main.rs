//! The integration tests: one binary, a topic a file.

mod lab;
