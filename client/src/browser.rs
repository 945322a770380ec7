//! Opens Jupyter's page in the browser.
//!
//! Every user of this machine can read a process's argument list, so the URL with its token must not stand there. The
//! browser gets a private HTML file that redirects to the page. The file is removed once it was read.

use std::{future::pending, io, path::Path, time::Duration};

use jq_common::private_files;
use tempfile::NamedTempFile;

use crate::reporter::Reporter;

/// How long nobody must have read the file before it is removed: a launcher looks at a file's type before it starts the
/// browser, which may take its time on a cold disk.
const SETTLED: Duration = Duration::from_secs(30);

/// A file that redirects to Jupyter's page. Dropping it removes it.
pub(crate) struct Page(NamedTempFile);

/// Opens `url`. A machine without a browser is no error; a file that cannot be written is reported as a note.
pub(crate) fn open(state_dir: &Path, session: &str, url: &str, reporter: &dyn Reporter) -> Option<Page> {
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
    Some(Page(page))
}

impl Page {
    /// Removes the file once the browser has read it. Dropping the future removes it at once.
    pub(crate) async fn remove_once_read(self) {
        if let Err(error) = reads::settled(self.0.path(), SETTLED).await {
            tracing::debug!(%error, "the page stays while the session runs");
            pending::<()>().await;
        }
    }
}

#[cfg(target_os = "linux")]
mod reads {
    use std::{io, mem::MaybeUninit, os::fd::OwnedFd, path::Path, time::Duration};

    use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
    use tokio::{
        io::{Interest, unix::AsyncFd},
        time::timeout,
    };

    /// Returns when the file was read, and then not for as long as `settled`.
    pub(super) async fn settled(file: &Path, settled: Duration) -> io::Result<()> {
        let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&watch, file, WatchFlags::CLOSE_NOWRITE)?;
        let watch = readable(watch)?;
        next(&watch).await?;
        while timeout(settled, next(&watch)).await.is_ok() {}
        Ok(())
    }

    #[expect(
        deprecated,
        reason = "its successor is unsafe because a descriptor may be closed too early; an `OwnedFd` is not"
    )]
    fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
        AsyncFd::with_interest(fd, Interest::READABLE)
    }

    /// Waits for the next read, and takes what is known of it.
    async fn next(watch: &AsyncFd<OwnedFd>) -> io::Result<()> {
        loop {
            let mut ready = watch.readable().await?;
            let mut space = [MaybeUninit::uninit(); 1024];
            let taken =
                ready.try_io(|watch| Ok(Reader::new(watch.get_ref(), &mut space).next().map(drop)?));
            if let Ok(taken) = taken {
                return taken;
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod reads {
    use std::{io, path::Path, time::Duration};

    /// Unknown here.
    pub(super) async fn settled(_: &Path, _: Duration) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn the_page_with_the_token_is_there_until_it_was_read_and_then_gone() {
        let dir = tempfile::tempdir().unwrap();
        let file = write_page(dir.path(), "gpu", "http://127.0.0.1:8888/lab?token=x").unwrap();
        let path = file.path().to_owned();
        let settled = Duration::from_millis(300);
        let mut read = std::pin::pin!(reads::settled(&path, settled));
        let none = tokio::time::timeout(settled, &mut read).await;
        assert!(none.is_err() && path.exists());
        let began = Instant::now();
        assert!(std::fs::read_to_string(&path).unwrap().contains("token=x"));
        read.await.unwrap();
        assert!(began.elapsed() >= settled);
        drop(Page(file));
        assert!(!path.exists());
    }
}
