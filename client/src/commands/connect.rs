//! `connect`: runs a session in the foreground until the user ends it.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    browser, error::Failure, output::Printer, reporter::Reporter, session::run::RunningSession,
    settings::ConnectSettings,
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
    // The browser may read the file at any time while the session runs.
    let mut page = None;
    loop {
        let connecting = RunningSession::connect(settings.session.clone(), Arc::new(printer.clone()));
        let session = stop
            .run_until_cancelled(connecting)
            .await
            .unwrap_or_else(|| Err(Failure::interrupted()))?;
        let is_by_ticket = session.is_by_ticket();
        let ended = session.run(stop, |opened| {
            printer.opened(opened);
            if let Some(url) = opened.url.as_ref().filter(|_| settings.browser) {
                let plan = &settings.session;
                page = browser::open(&plan.folders.state, &plan.name, url, printer);
            }
        });
        match ended.await {
            // The ticket is used up: the next round logs in.
            Err(failure) if is_by_ticket && failure.may_come_of_an_earlier_login() => {
                let reporter: &dyn Reporter = printer;
                reporter.abandon();
                printer.note(&format!(
                    "{failure}; this was without a login, so it is tried again with one"
                ));
            }
            ended => return ended,
        }
    }
}
