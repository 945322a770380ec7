//! The remote end of the SSH channel: prints the nonce, finds or starts the role's long-lived process, relays one
//! message each way, and then copies packets if the client asked for a tunnel.

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

/// Input of a bootstrap, from the command line and from sshd.
pub struct Bootstrap {
    /// The role to reach.
    pub(crate) role: Role,
    /// Printed before anything else, so that the client can tell our output from that of start-up files.
    pub(crate) nonce: Nonce,
    /// Path of the agent's binary.
    pub(crate) binary: PathBuf,
    /// This host's address on the SSH connection, if known.
    pub(crate) address: Option<IpAddr>,
}

/// Time limit for the client to send its request. The client may first have to reach other hosts.
const REQUEST: Duration = Duration::from_secs(300);

/// Runs the bootstrap on standard input and output. May return while a read of standard input is still blocked.
///
/// # Errors
/// When reading from or writing to the client fails. A failure on this host is reported to the client instead.
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

/// Sends the request to the role's process and returns its reply with the connection. A process that was shutting down
/// when it was reached is replaced by a new one.
async fn answer(
    process: UnixStream,
    request: &BootstrapRequest,
    bootstrap: &Bootstrap,
) -> Result<(Started, UnixStream), Failure> {
    let (reply, process) = match exchange(process, request).await {
        Ok(answered) => answered,
        Err(error) => {
            tracing::info!(%error, "the role's process ended; starting another");
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
