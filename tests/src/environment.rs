//! The only file that reads the process's environment.
#![expect(clippy::disallowed_methods, reason = "this is the one place that may")]

use std::ffi::OsString;

/// An environment variable; none if it is unset or empty.
pub(crate) fn var_os(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// An environment variable; none if it is unset, empty or not valid UTF-8.
pub(crate) fn var(name: &str) -> Option<String> {
    var_os(name)?.into_string().ok()
}
