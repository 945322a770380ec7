//! `connect`: runs a session in the foreground until the user ends it.

use std::{pin::pin, sync::Arc};

use tokio_util::sync::CancellationToken;

use crate::{
    browser,
    error::{Failure, Kind},
    output::Printer,
    session::run::RunningSession,
    settings::ConnectSettings,
    signals::EndSignals,
};

/// Runs the session until it fails or the user ends it: the first signal disconnects cleanly, the second one exits at once.
///
/// # Errors
/// What failed, on which host, and what to do; [`Failure::interrupted`] when it ends before the session is open, or at once.
pub(super) async fn run(settings: &ConnectSettings, printer: &Printer) -> Result<(), Failure> {
    let mut signals = EndSignals::new()
        .map_err(|error| Failure::new(Kind::Local, "cannot handle signals").because(error))?;
    let stop = CancellationToken::new();
    let mut session = pin!(run_until(settings, printer, &stop));
    tokio::select! {
        ended = &mut session => return ended,
        () = signals.next() => printer.clear_status(),
    }
    stop.cancel();
    tokio::select! {
        ended = &mut session => ended?,
        () = signals.next() => return Err(Failure::interrupted()),
    }
    printer.closed(&settings.host());
    Ok(())
}

/// Connects and runs the session until `stop` is cancelled; then disconnects. Dropping the future disconnects at once.
async fn run_until(
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
    // The browser may read the file at any time while the session runs.
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
