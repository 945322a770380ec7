//! The way inward: from one leg after another to the local socket.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::{
    leg::{LegEnd, Receiver},
    socket::Socket,
    stream::Stream,
};

/// What arrived and is being written to the socket, from one leg to the next.
#[derive(Default)]
pub(super) struct Inward {
    pending: Bytes,
}

impl Inward {
    /// Without a leg: writes what is pending, and waits. Returns when the socket breaks.
    pub(super) async fn starve(&mut self, stream: &Arc<Stream>, socket: &Socket) {
        if self.flush(stream, socket).await.is_ok() {
            std::future::pending::<()>().await;
        }
    }

    async fn flush(&mut self, stream: &Arc<Stream>, socket: &Socket) -> Result<(), LegEnd> {
        while !self.pending.is_empty() {
            let count = socket.write(&self.pending).await.map_err(|_| LegEnd::Socket)?;
            self.pending.advance(count);
            stream.delivered(count as u64);
        }
        let end = {
            let mut core = stream.core();
            core.inbox().wants_end() && core.deliver_end()
        };
        if end {
            socket.end();
            stream.settled.notify_one();
            stream.tell_peer(true);
        }
        Ok(())
    }

    pub(super) async fn receive(
        &mut self,
        stream: &Arc<Stream>,
        generation: u64,
        receive: &mut Receiver,
        mut at: u64,
        socket: &Socket,
    ) -> LegEnd {
        loop {
            // Neither reading from QUIC nor writing to a socket with room gives way to other tasks by itself.
            tokio::task::coop::consume_budget().await;
            if let Err(end) = self.flush(stream, socket).await {
                return end;
            }
            let accepted = match receive.stream().read_chunk(usize::MAX, true).await {
                Ok(Some(chunk)) => {
                    let offset = at;
                    at += chunk.bytes.len() as u64;
                    stream.core().accept(generation, offset, chunk.bytes)
                }
                Ok(None) => {
                    let ended = stream.core().accept_end(generation, at);
                    if ended.is_ok()
                        && let Err(end) = self.flush(stream, socket).await
                    {
                        return end;
                    }
                    match ended {
                        // The other way goes on.
                        Ok(()) => std::future::pending().await,
                        Err(fault) => return LegEnd::Faulty(fault),
                    }
                }
                Err(error) => return error.into(),
            };
            match accepted {
                Ok(Some(new)) => self.pending = new,
                Ok(None) => {}
                Err(fault) => return LegEnd::Faulty(fault),
            }
        }
    }
}
