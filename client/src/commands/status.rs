//! `status`: shows the sessions of this machine.

use std::path::Path;

use futures_util::future::join_all;

use crate::{
    cli::StatusArgs,
    error::{Failure, Kind},
    output::Printer,
    session::local_api,
    settings::Environment,
    status::{AskError, Found},
};

/// Prints all sessions, or the one with the given name or host.
///
/// # Errors
/// When the given session does not run or does not answer.
pub(super) async fn run(
    args: &StatusArgs,
    environment: &Environment,
    printer: &Printer,
) -> Result<(), Failure> {
    let folder = local_api::folder(&environment.folders.runtime);
    let found = running(&folder).await;
    let Some(name) = &args.name else {
        printer.sessions(&found);
        return Ok(());
    };
    match named(found, name).map(|one| one.answer) {
        Some(Ok(snapshot)) => {
            printer.session(&snapshot);
            Ok(())
        }
        Some(Err(error)) => {
            Err(Failure::new(Kind::Local, format!("cannot get the status of {name}")).because(error))
        }
        None => Err(
            Failure::new(Kind::Local, format!("no session {name} runs on this machine")).hint(format!(
                "`jq-client connect {name}` starts it; `jq-client status` lists the running ones"
            )),
        ),
    }
}

/// The session called `name`; if none is, the first one whose target is `name`.
fn named(mut found: Vec<Found>, name: &str) -> Option<Found> {
    let has_target = |one: &Found| one.answer.as_ref().is_ok_and(|snapshot| snapshot.target == name);
    let called = found.iter().position(|one| one.session == name);
    let index = called.or_else(|| found.iter().position(has_target))?;
    Some(found.swap_remove(index))
}

/// The sessions that have a running process.
async fn running(folder: &Path) -> Vec<Found> {
    let asked = local_api::sessions(folder).into_iter().map(async |session| {
        let answer = local_api::ask(folder, &session).await;
        (!matches!(answer, Err(AskError::NotRunning))).then_some(Found { session, answer })
    });
    join_all(asked).await.into_iter().flatten().collect()
}
