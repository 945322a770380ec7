//! Asks a running agent of another build to upgrade to this one.

use std::path::Path;

use jq_common::{
    bootstrap::{BootstrapReply, BootstrapRequest, Started, UpgradeRequest},
    codec::{self, FrameError},
    protocol::{
        limits,
        version::{ALPN, BUILD},
    },
};

use super::contract::{PREPARATION, SNAPSHOT_FORMATS, START};
use crate::rundir::RunDir;

/// Asks the agents of other builds to upgrade to this build. Returns true when one did: it then answers in `folder`. A
/// build that refuses, or does not know upgrades, keeps running beside this one.
pub(super) async fn from_another_build(binary: &Path, folder: &RunDir) -> bool {
    for other in folder.others() {
        match ask(binary, folder, &other).await {
            Ok(Ok(Started::Serve(_))) => return true,
            Ok(Ok(Started::Relay(_))) => tracing::info!("a relay answered in place of an agent"),
            Ok(Err(failure)) => tracing::info!(
                failure.why,
                "an agent of another build keeps running beside this one"
            ),
            Err(FrameError::Io(error)) => {
                tracing::debug!(%error, "the agent of another build is not running");
            }
            Err(error) => tracing::info!(%error, "an agent of another build keeps running beside this one"),
        }
    }
    false
}

async fn ask(binary: &Path, folder: &RunDir, other: &RunDir) -> Result<BootstrapReply, FrameError> {
    let mut process = other.connect().await?;
    let request = BootstrapRequest::Upgrade(UpgradeRequest {
        successor: binary.to_owned(),
        run_dir: folder.path().to_owned(),
        version: BUILD.to_owned(),
        handshake: String::from_utf8_lossy(ALPN).into_owned(),
        formats: SNAPSHOT_FORMATS,
    });
    codec::write(&mut process, &request, limits::BOOTSTRAP_FRAME).await?;
    codec::read_within(&mut process, limits::BOOTSTRAP_FRAME, PREPARATION + START).await
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::{failure::host_unfit, role::Role};

    /// The result of the question, where the other build's process reacts with `answer`.
    async fn asking(answer: impl AsyncFnOnce(tokio::net::UnixStream)) -> bool {
        let base = tempfile::tempdir().unwrap();
        let ours = base.path().join("agent-new");
        let folder = RunDir::open(&ours, Role::Serve).unwrap();
        let other = RunDir::open(&base.path().join("agent-old"), Role::Serve).unwrap();
        // The folder of another role, and one of a build that no longer runs, must not count as agents.
        RunDir::open(&base.path().join("agent-new"), Role::Relay).unwrap();
        RunDir::open(&base.path().join("agent-dead"), Role::Serve).unwrap();
        let listener = other.listen().unwrap();
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).await.unwrap();
            let mut request = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut request).await.unwrap();
            answer(stream).await;
        };
        tokio::join!(from_another_build(&ours, &folder), answering).0
    }

    #[tokio::test]
    async fn an_agent_that_knows_nothing_of_upgrades_or_refuses_stays_beside_ours() {
        assert!(!asking(async |stream| drop(stream)).await);
        let refusal: BootstrapReply = Err(host_unfit("no", "not now"));
        let refuse = async |mut stream| {
            codec::write(&mut stream, &refusal, limits::BOOTSTRAP_FRAME)
                .await
                .unwrap();
        };
        assert!(!asking(refuse).await);
    }
}
