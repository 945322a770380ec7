//! Replies of the helper in a container's network namespace, as the agent decodes them.
#![no_main]

use std::{cell::LazyCell, io::Write as _, os::unix::net::UnixStream, time::Duration};

use jq_agent::{fuzzing::HELPER_SOCKET, netns_helper::HelperListener};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// Time limit for the conversation. The helper sends all its replies at once, so it ends at once.
const SOON: Duration = Duration::from_secs(5);

thread_local! {
    static PLACE: LazyCell<(Runtime, TempDir)> = LazyCell::new(|| {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        (runtime, tempfile::tempdir().expect("a temporary folder"))
    });
}

fuzz_target!(|data: &[u8]| {
    PLACE.with(|place| {
        let (runtime, folder) = &**place;
        runtime.block_on(async {
            let listener = HelperListener::bind(folder.path()).expect("a socket");
            let mut helper =
                UnixStream::connect(folder.path().join(HELPER_SOCKET)).expect("the agent listens");
            let agent = listener.accept(SOON).await.expect("the helper has connected");
            // Input that does not fit into the socket's buffer is longer than any number of replies.
            helper.set_nonblocking(true).expect("a socket");
            let _ = helper.write(data);
            drop(helper);
            // No reply carries a socket, so none of them is a connection.
            assert!(agent.dial(1).await.is_err());
        });
    });
});
