//! Commands, one a file: settings and printer in, exit status out.

mod connect;
mod status;

use crate::{
    cli::Command,
    error::Failure,
    output::Printer,
    settings::{ConnectSettings, Environment},
};

/// Runs the command that the user chose.
///
/// # Errors
/// What failed, on which host, and what to do.
pub async fn run(command: Command, environment: &Environment, printer: &Printer) -> Result<(), Failure> {
    match command {
        Command::Connect(args) => connect::run(&ConnectSettings::new(*args, environment)?, printer).await,
        Command::Status(args) => status::run(&args, environment, printer).await,
    }
}
