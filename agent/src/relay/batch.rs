//! Where packets are received into.

use quinn_udp::{BATCH_SIZE, RecvMeta};

use super::socket::Socket;

/// Most bytes that one receive of coalesced packets can bring.
const COALESCED: usize = 64 * 1024;

/// Where packets are received into.
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

    /// Receives, and gives each filled buffer with what is known of it.
    pub(super) async fn fill(&mut self, socket: &Socket) -> impl Iterator<Item = (&[u8], &RecvMeta)> {
        let filled = match socket.receive(&mut self.buffers, &mut self.meta).await {
            Ok(filled) => filled,
            Err(error) => {
                // An ICMP error of an earlier packet: nothing was received, and whoever is away may come back.
                tracing::debug!(%error, "receive");
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
