//! Receive buffers for batches of packets.

use quinn_udp::{BATCH_SIZE, RecvMeta};

use super::socket::Socket;

/// Most bytes that one receive of coalesced packets (GRO) can return.
const COALESCED: usize = 64 * 1024;

/// Receive buffers, reused for each batch.
pub(super) struct Batch {
    buffers: Vec<Vec<u8>>,
    meta: Vec<RecvMeta>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            buffers: vec![vec![0; COALESCED]; BATCH_SIZE],
            meta: vec![RecvMeta::default(); BATCH_SIZE],
        }
    }

    /// Receives a batch. Returns each filled buffer with its metadata.
    pub(super) async fn receive(&mut self, socket: &Socket) -> impl Iterator<Item = (&[u8], &RecvMeta)> {
        let filled = match socket.receive(&mut self.buffers, &mut self.meta).await {
            Ok(filled) => filled,
            Err(error) => {
                // An ICMP error for an earlier packet: nothing was received, and the peer may come back.
                tracing::debug!(%error, "receive failed");
                0
            }
        };
        self.buffers
            .iter()
            .zip(&self.meta)
            .take(filled)
            .map(|(buffer, meta)| (&buffer[..meta.len], meta))
    }
}
