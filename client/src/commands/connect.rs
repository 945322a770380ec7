//! `connect`: runs a session in the foreground until the user ends it.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    browser, error::Failure, output::Printer, session::run::RunningSession, settings::ConnectSettings,
};

/// Connects and runs the session until `stop` is cancelled; then disconnects. Dropping the future disconnects at once.
///
/// # Errors
/// What failed, on which host, and what to do; [`Failure::interrupted`] when it is stopped before the session is open.
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
    // Its page is removed when it was read, or with the session.
    let mut page = JoinSet::new();
    session
        .run(stop, |opened| {
            printer.opened(opened);
            if let Some(url) = opened.browser_url.as_ref().filter(|_| settings.browser) {
                let plan = &settings.session;
                let opened = browser::open(&plan.folders.state, &plan.name, url, printer);
                opened.map(|opened| page.spawn(opened.remove_once_read()));
            }
        })
        .await
}
