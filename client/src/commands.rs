//! Commands, one a file: settings and printer in, exit status out.

pub mod connect;
pub mod status;
