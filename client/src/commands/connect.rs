//! `connect`: from a target to a page in the browser, until the user has had enough.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    browser, error::Failure, output::Printer, session::run::RunningSession, settings::ConnectSettings,
};

/// Connects, and stays until `stop` is cancelled; then disconnects. Dropping the future disconnects at once.
///
/// # Errors
/// A [`Failure`] that says what went wrong, on which host, and what to do: also when it is stopped before all stood.
pub async fn run(
    settings: &ConnectSettings,
    printer: &Printer,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    for note in &settings.notes {
        printer.note(note);
    }
    let plan = settings.session.clone();
    let connecting = RunningSession::connect(plan, Arc::new(printer.clone()));
    let session = stop
        .run_until_cancelled(connecting)
        .await
        .unwrap_or_else(|| Err(Failure::interrupted()))?;
    // Its file is there for as long as the session runs.
    let mut page = None;
    session
        .run(stop, |opened| {
            printer.opened(opened);
            if let Some(url) = opened.url.as_ref().filter(|_| settings.browser) {
                let plan = &settings.session;
                page = browser::open(&plan.folders.state, &plan.name, url, printer);
            }
        })
        .await
}
