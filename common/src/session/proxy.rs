//! Copies between the local socket of a stream and one leg after another.

use super::{
    leg::{Leg, LegEnd, LegSource},
    recv::Inbound,
    send,
    socket::Socket,
    stream::{Ended, Stream},
};
use crate::protocol::stream::ResetCode;

/// Copies in both directions until the stream is complete or reset.
pub(super) async fn run(stream: &Stream, socket: &Socket, legs: &mut impl LegSource) -> Ended {
    let mut inbound = Inbound::default();
    tokio::select! {
        biased;
        () = stream.settles() => {}
        () = stream.context.ended() => stream.reset(ResetCode::SessionLost),
        () = send::fill(stream, socket) => stream.reset(ResetCode::ConnectionReset),
        () = run_legs(stream, socket, legs, &mut inbound) => {}
    }
    match stream.reset_reason() {
        None => {
            socket.end_on_close();
            Ended::Complete
        }
        Some(reset) => Ended::Reset(ResetCode::from_wire(reset.code().into())),
    }
}

/// On one leg after another. Returns when the stream was reset.
async fn run_legs(stream: &Stream, socket: &Socket, legs: &mut impl LegSource, inbound: &mut Inbound) {
    let mut next = None;
    loop {
        let leg = match next.take() {
            Some(leg) => leg,
            None => tokio::select! {
                leg = legs.next() => leg,
                () = inbound.run_detached(stream, socket) => return stream.reset(ResetCode::ConnectionReset),
            },
        };
        tokio::select! {
            newer = legs.next() => next = Some(newer),
            end = run_leg(stream, leg, socket, inbound) => match end {
                LegEnd::Lost => {}
                LegEnd::Refused(code) => return stream.reset(code),
                LegEnd::Violation(violation) => return stream.violated(&violation),
                LegEnd::Socket => return stream.reset(ResetCode::ConnectionReset),
            },
        }
    }
}

async fn run_leg(stream: &Stream, leg: Leg, socket: &Socket, inbound: &mut Inbound) -> LegEnd {
    let Leg {
        generation,
        mut send,
        mut receive,
        at,
    } = leg;
    let end = tokio::select! {
        end = send::run(stream, generation, &mut send) => end,
        end = inbound.run(stream, generation, &mut receive, at, socket) => end,
    };
    match end {
        LegEnd::Refused(ResetCode::ShuttingDown) => LegEnd::Lost,
        // What arrives on a replaced attachment has no effect.
        LegEnd::Refused(_) | LegEnd::Violation(_) if stream.context.generation() > generation => LegEnd::Lost,
        end => end,
    }
}
