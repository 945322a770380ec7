//! Replies of the helper in a container's network namespace, as the agent decodes them.
#![no_main]

use std::io::Write as _;

use jq_agent::netns_helper::HelperConnection;
use libfuzzer_sys::fuzz_target;
use tokio::{
    net::UnixStream,
    runtime::{Builder, Runtime},
};

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
}

fuzz_target!(|data: &[u8]| {
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let (agent, helper) = UnixStream::pair().expect("a pair of sockets");
            let agent = HelperConnection::over(agent);
            // Longer than the kernel takes at once is more than any number of replies needs.
            let mut helper = helper.into_std().expect("a socket");
            let _ = helper.write(data);
            drop(helper);
            // No reply carries a socket, so none of them is a connection.
            assert!(agent.dial(1).await.is_err());
        });
    });
});
