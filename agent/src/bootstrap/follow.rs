//! Has a running agent follow the login: where it differs from the one that the agent was started by, a successor is started
//! from this one and takes over. Groups and limits of a process cannot be changed from outside, so it is another process.

use jq_common::{
    bootstrap::{BootstrapRequest, LoginCompared},
    codec::{self, FrameError},
    login::Login,
    protocol::limits,
};
use tokio::net::UnixStream;

use super::{
    contract::START,
    input::Bootstrap,
    launch::{self, Start},
};
/// How often it is tried: another bootstrap may be doing the same at this moment.
const TRIES: usize = 2;

/// Has the agent behind `process` work for this login. Returns what the user should know when that is not possible now.
pub(super) async fn login(bootstrap: &Bootstrap, process: UnixStream) -> Option<String> {
    let folder = launch::folder(bootstrap).ok()?;
    let mut connected = Some(process);
    let mut refusal = None;
    for _ in 0..TRIES {
        let process = match connected.take() {
            Some(process) => process,
            None => folder.connect().await.ok()?,
        };
        let differs = match compare(process, &bootstrap.login).await {
            Ok(differs) if differs.is_empty() => return None,
            Ok(differs) => differs,
            Err(error) => {
                tracing::info!(%error, "the agent does not compare logins");
                return None;
            }
        };
        tracing::info!(?differs, "the agent was started by a login that differs");
        match launch::start(bootstrap, &folder, Start::TakingOver).await {
            Ok(()) => return None,
            Err(failure) => refusal = Some((differs, failure.why)),
        }
    }
    let (differs, why) = refusal?;
    let differs = differs.join(", ");
    Some(format!(
        "the agent still works with an earlier login, which differs in {differs}: {why}"
    ))
}

async fn compare(mut process: UnixStream, login: &Login) -> Result<Vec<String>, FrameError> {
    let request = BootstrapRequest::CompareLogin(login.clone());
    codec::write(&mut process, &request, limits::BOOTSTRAP_FRAME).await?;
    let compared: LoginCompared = codec::read_within(&mut process, limits::BOOTSTRAP_FRAME, START).await?;
    Ok(compared.differs)
}
