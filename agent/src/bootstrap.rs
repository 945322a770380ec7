//! The remote end of the SSH channel: prints the nonce, finds or starts the role's long-lived process, relays one
//! message each way, and then copies packets if the client asked for a tunnel.

mod addresses;
pub(crate) mod contract;
mod follow;
mod input;
mod launch;
mod splice;
mod upgrade;

use std::time::Duration;

use jq_common::{
    bootstrap::{BootstrapReply, BootstrapRequest, Started},
    codec::{self, FrameError},
    protocol::{
        limits,
        workload::{Failure, FailureKind},
    },
};
use tokio::{
    io::{AsyncWriteExt, stdin, stdout},
    net::UnixStream,
};

use self::{
    contract::START,
    launch::{Origin, connect_or_start},
    splice::splice,
};
pub use self::{input::Bootstrap, launch::report_start};
use crate::{
    failure::{fail, host_unfit},
    machine::Machine,
    role::Role,
};

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
        process(&bootstrap),
        codec::read_within::<BootstrapRequest>(&mut input, limits::BOOTSTRAP_FRAME, REQUEST)
    );
    let request = request?;
    let answered = match process {
        Ok((stream, notes)) => answer(stream, &request, notes, &bootstrap).await,
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

/// The role's process, which works for this login from now on where that is possible, and what the user should know.
/// Nothing is done on another machine than the client's.
async fn process(bootstrap: &Bootstrap) -> Result<(UnixStream, Vec<String>), Failure> {
    let this = Machine::this().told();
    if let Some(wanted) = &bootstrap.machine
        && this.is_other_than(wanted)
    {
        return Err(another_machine(&this.name, &wanted.name));
    }
    let (stream, origin) = connect_or_start(bootstrap).await?;
    let follows = bootstrap.role == Role::Serve && !bootstrap.keeps_login && origin == Origin::Found;
    if !follows {
        return Ok((stream, Vec::new()));
    }
    let note = follow::login(bootstrap, stream).await;
    let (stream, _) = connect_or_start(bootstrap).await?;
    Ok((stream, note.into_iter().collect()))
}

fn another_machine(this: &str, wanted: &str) -> Failure {
    fail(
        FailureKind::OtherMachine,
        "another machine answers in its place",
        format!("{this} answers, and the session is on {wanted}"),
        "",
    )
}

/// Sends the request to the role's process and returns its reply with the connection. A process that was shutting down
/// when it was reached is replaced by a new one.
async fn answer(
    process: UnixStream,
    request: &BootstrapRequest,
    notes: Vec<String>,
    bootstrap: &Bootstrap,
) -> Result<(Started, UnixStream), Failure> {
    let (reply, process) = match exchange(process, request).await {
        Ok(answered) => answered,
        Err(error) => {
            tracing::info!(%error, "the role's process ended; starting another");
            let (successor, _) = connect_or_start(bootstrap).await?;
            exchange(successor, request)
                .await
                .map_err(|error| host_unfit("the agent does not answer", error))?
        }
    };
    let started = match reply? {
        Started::Serve(mut serve) => {
            serve.address = bootstrap.address;
            serve.others = addresses::own();
            serve.machine = Some(Machine::this().told());
            serve.notes = notes;
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
