//! Copies between the local socket of a stream and one leg after another.

use super::{
    leg::{Leg, LegEnd, LegSource},
    opening::Opening,
    recv::Inbound,
    send,
    socket::Socket,
    stream::{Ended, Stream},
};
use crate::protocol::stream::ResetCode;

/// Copies in both directions until the stream is complete or reset.
pub(super) async fn run(
    mut opening: Opening,
    stream: &Stream,
    socket: &Socket,
    legs: &mut impl LegSource,
) -> Ended {
    tokio::select! {
        biased;
        () = stream.settles() => {}
        () = stream.context.ended() => stream.reset(ResetCode::SessionLost),
        () = send::fill(stream, socket) => stream.reset(ResetCode::ConnectionReset),
        () = run_legs(stream, socket, legs, &mut opening) => {}
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
async fn run_legs(stream: &Stream, socket: &Socket, legs: &mut impl LegSource, opening: &mut Opening) {
    let Opening { inbound, leg: next } = opening;
    loop {
        let leg = match next.take() {
            Some(leg) => leg,
            None => tokio::select! {
                leg = legs.next() => {
                    inbound.begin(leg.at);
                    leg
                }
                () = inbound.run_detached(stream, socket) => return stream.reset(ResetCode::ConnectionReset),
            },
        };
        tokio::select! {
            newer = legs.next() => {
                inbound.begin(newer.at);
                *next = Some(newer);
            }
            end = run_leg(stream, leg, socket, inbound) => if stream.leg_ended(&end) {
                return;
            },
        }
    }
}

async fn run_leg(stream: &Stream, leg: Leg, socket: &Socket, inbound: &mut Inbound) -> LegEnd {
    let Leg {
        generation,
        mut send,
        mut receive,
        at: _,
    } = leg;
    let end = tokio::select! {
        end = send::run(stream, generation, &mut send) => end,
        end = inbound.run(stream, generation, &mut receive, socket) => end,
    };
    stream.leg_end(generation, end)
}
