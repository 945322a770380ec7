//! Opening the page. The token must not stand in the browser's argument list, which every user of this machine can
//! read: the browser is given a private file that leads to the page.

use std::{io, io::Write, path::Path};

use tempfile::NamedTempFile;

use crate::{reporter::Reporter, state::make_private};

/// Opens `url`. The file that leads there lives as long as what is returned.
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
    // Its launchers are tried one after another, each for a while. Nobody waits for that.
    drop(tokio::task::spawn_blocking(move || {
        if let Err(error) = open::that_detached(path) {
            // A machine without a browser is no failure: the URL has been printed.
            tracing::info!(%error, "no browser");
        }
    }));
    Some(page)
}

fn write_page(state_dir: &Path, session: &str, url: &str) -> io::Result<NamedTempFile> {
    let folder = state_dir.join("pages");
    make_private(&folder)?;
    let mut page = tempfile::Builder::new()
        .prefix(&format!("{session}-"))
        .suffix(".html")
        .tempfile_in(folder)?;
    let url = url.replace('&', "&amp;").replace('"', "&quot;");
    write!(
        page,
        "<!doctype html><meta charset=\"utf-8\"><title>{session}</title>\
         <meta http-equiv=\"refresh\" content=\"0;url={url}\"><a href=\"{url}\">JupyterLab</a>"
    )?;
    page.flush()?;
    Ok(page)
}
