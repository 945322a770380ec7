//! The SSH channel's end on a host: prints the nonce, passes one message each way between the client and the role's
//! long-living process, and starts that process unless it runs.

mod addresses;
pub(crate) mod contract;
mod launch;
mod splice;
mod upgrade;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use jq_common::{
    bootstrap::{BootstrapReply, BootstrapRequest, Nonce, Started},
    codec::{self, FrameError},
    protocol::{limits, workload::Failure},
};
use tokio::{
    io::{AsyncWriteExt, stdin, stdout},
    net::UnixStream,
};

pub use self::launch::report_start;
use self::{contract::START, launch::connect_or_start, splice::splice};
use crate::{failure::host_unfit, role::Role};

/// What the bootstrap needs to know of its surroundings.
pub struct Bootstrap {
    /// The role wanted.
    pub(crate) role: Role,
    /// Printed before anything else.
    pub(crate) nonce: Nonce,
    /// This program's own file.
    pub(crate) binary: PathBuf,
    /// This host's address on the SSH connection, where there is one.
    pub(crate) address: Option<IpAddr>,
}

/// How long the client may take to say its message. It waits for other hosts first.
const REQUEST: Duration = Duration::from_secs(300);

/// Runs the bootstrap on standard input and output. Returns while a read of standard input may still be under way.
///
/// # Errors
/// When the client's side cannot be read or written. A failure on this side is told to the client instead.
pub async fn run(bootstrap: Bootstrap) -> Result<(), FrameError> {
    let mut output = stdout();
    output
        .write_all(format!("{}\n", bootstrap.nonce).as_bytes())
        .await?;
    output.flush().await?;

    let mut input = stdin();
    let (process, request) = tokio::join!(
        connect_or_start(&bootstrap.binary, bootstrap.role),
        codec::read_within::<BootstrapRequest>(&mut input, limits::BOOTSTRAP_FRAME, REQUEST)
    );
    let request = request?;
    let answered = match process {
        Ok(stream) => answer(stream, &request, &bootstrap).await,
        Err(failure) => Err(failure),
    };
    let (reply, process) = match answered {
        Ok((started, process)) => (Ok(started), Some(process)),
        Err(failure) => (Err(failure), None),
    };
    codec::write(&mut output, &reply, limits::BOOTSTRAP_FRAME).await?;
    match (request, process) {
        (BootstrapRequest::AdmitAndTunnel(_), Some(process)) => Ok(splice(input, output, process).await?),
        _ => Ok(()),
    }
}

/// The process's answer, and the process. One that was ending when it was reached is given up for its successor.
async fn answer(
    process: UnixStream,
    request: &BootstrapRequest,
    bootstrap: &Bootstrap,
) -> Result<(Started, UnixStream), Failure> {
    let (reply, process) = match exchange(process, request).await {
        Ok(answered) => answered,
        Err(error) => {
            tracing::info!(%error, "the process ended; starting another");
            let successor = connect_or_start(&bootstrap.binary, bootstrap.role).await?;
            exchange(successor, request)
                .await
                .map_err(|error| host_unfit("the agent does not answer", error))?
        }
    };
    let started = match reply? {
        Started::Serve(mut serve) => {
            serve.address = bootstrap.address;
            serve.others = addresses::own();
            Started::Serve(serve)
        }
        Started::Relay(mut relay) => {
            relay.address = bootstrap.address;
            Started::Relay(relay)
        }
    };
    Ok((started, process))
}

async fn exchange(
    mut process: UnixStream,
    request: &BootstrapRequest,
) -> Result<(BootstrapReply, UnixStream), FrameError> {
    codec::write(&mut process, request, limits::BOOTSTRAP_FRAME).await?;
    let reply = codec::read_within(&mut process, limits::BOOTSTRAP_FRAME, START).await?;
    Ok((reply, process))
}
