//! One verb a file: settings and printer in, an end out.

pub mod connect;
pub mod status;
