//! Opens Jupyter's page in the browser.
//!
//! Every user of this machine can read a process's argument list, so the URL with its token must not stand there. The
//! browser gets a private HTML file that redirects to the page.

use std::{io, path::Path};

use jq_common::private_files;
use tempfile::NamedTempFile;

use crate::reporter::Reporter;

/// Opens `url`. The file that redirects there is removed when the result is dropped. A machine without a browser is no
/// error; a file that cannot be written is reported as a note.
pub(crate) fn open(
    state_dir: &Path,
    session: &str,
    url: &str,
    reporter: &dyn Reporter,
) -> Option<NamedTempFile> {
    let page = match write_page(state_dir, session, url) {
        Ok(page) => page,
        Err(error) => {
            reporter.note(&format!("the browser was not opened: {error}"));
            return None;
        }
    };
    let path = page.path().to_owned();
    // It tries several launchers, each of which may take a while. Nobody waits for it.
    drop(tokio::task::spawn_blocking(move || {
        if let Err(error) = open::that_detached(path) {
            tracing::info!(%error, "no browser");
        }
    }));
    Some(page)
}

fn write_page(state_dir: &Path, session: &str, url: &str) -> io::Result<NamedTempFile> {
    let url = url.replace('&', "&amp;").replace('"', "&quot;");
    let page = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>{session}</title>\
         <meta http-equiv=\"refresh\" content=\"0;url={url}\"><a href=\"{url}\">JupyterLab</a>"
    );
    private_files::temporary(
        &state_dir.join("pages"),
        &format!("{session}-"),
        ".html",
        page.as_bytes(),
    )
}
