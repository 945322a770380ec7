//! The pairs of a relay: which client is bound to which agent.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use jq_common::bootstrap::{PairId, RelayRequest, RelaySecret};
use tokio_util::sync::CancellationToken;

use super::socket::Socket;

/// One client and one agent, or the next relay in the agent's place.
pub(super) struct Pair {
    pub(super) secret: RelaySecret,
    pub(super) agent: SocketAddr,
    /// Connected to the agent; receives from nobody else.
    pub(super) upstream: Socket,
    state: Mutex<State>,
    removed: CancellationToken,
}

/// A client's address, and the local address that it sends to: replies must come from that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) address: SocketAddr,
    pub(super) via: Option<IpAddr>,
}

struct State {
    client: Option<Client>,
    generation: u64,
    last_used: Instant,
}

impl Pair {
    /// Creates a pair. It keeps the client binding of `predecessor`.
    fn new(request: &RelayRequest, predecessor: Option<&Self>) -> io::Result<Self> {
        let upstream = match request.agent {
            SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
            SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?,
        };
        upstream.connect(request.agent)?;
        Ok(Self {
            secret: request.secret,
            agent: request.agent,
            upstream: Socket::new(upstream)?,
            state: Mutex::new(State {
                client: predecessor.and_then(Self::client),
                generation: predecessor.map_or(0, |pair| pair.state().generation),
                last_used: Instant::now(),
            }),
            removed: CancellationToken::new(),
        })
    }

    /// The client's address, once it is bound.
    pub(super) fn client(&self) -> Option<Client> {
        self.state().client
    }

    /// Records that a packet was forwarded.
    pub(super) fn touch(&self) {
        self.state().last_used = Instant::now();
    }

    /// Cancelled when the pair is removed.
    pub(super) fn removed(&self) -> CancellationToken {
        self.removed.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All pairs, by id and by the address of their client.
#[derive(Default)]
pub(super) struct Pairs(RwLock<Index>);

#[derive(Default)]
struct Index {
    by_id: HashMap<PairId, Arc<Pair>>,
    by_client: HashMap<SocketAddr, Arc<Pair>>,
}

impl Pairs {
    /// Adds or changes a pair as requested, for a relay that listens on `own_port`. A pair with the same id and secret
    /// keeps its client. Returns the pair if it needs a forwarding task, and None if nothing has changed.
    ///
    /// # Errors
    /// When the relay would forward to itself, or the agent's address cannot be sent to.
    pub(super) fn announce(&self, request: &RelayRequest, own_port: u16) -> io::Result<Option<Arc<Pair>>> {
        if is_own_socket(request.agent, own_port) {
            return Err(io::Error::other("the relay itself listens at that address"));
        }
        let mut index = self.write();
        let old = index.by_id.get(&request.pair).cloned();
        let same = old.as_ref().filter(|old| old.secret == request.secret);
        if let Some(same) = same.filter(|same| same.agent == request.agent) {
            same.touch();
            return Ok(None);
        }
        let pair = Arc::new(Pair::new(request, same.map(AsRef::as_ref))?);
        if let Some(old) = &old {
            index.remove(old);
        }
        if let Some(client) = pair.client() {
            index.by_client.insert(client.address, pair.clone());
        }
        index.by_id.insert(request.pair, pair.clone());
        Ok(Some(pair))
    }

    pub(super) fn get(&self, id: &PairId) -> Option<Arc<Pair>> {
        self.read().by_id.get(id).cloned()
    }

    /// The pair whose client is bound at `address`.
    pub(super) fn by_client(&self, address: SocketAddr) -> Option<Arc<Pair>> {
        self.read().by_client.get(&address).cloned()
    }

    /// Binds a pair's client to an address that the client has proved. Returns false for a generation that is not newer
    /// than the bound one, unless the binding is the same (its BOUND was lost).
    pub(super) fn bind(&self, id: &PairId, client: Client, generation: u64) -> bool {
        let mut index = self.write();
        let Some(pair) = index.by_id.get(id).cloned() else {
            return false;
        };
        let previous = {
            let mut state = pair.state();
            if state.generation == generation && state.client == Some(client) {
                return true;
            }
            if generation <= state.generation {
                return false;
            }
            state.generation = generation;
            state.last_used = Instant::now();
            state.client.replace(client)
        };
        if let Some(previous) = previous {
            index.unbind(previous.address, &pair);
        }
        index.by_client.insert(client.address, pair);
        true
    }

    /// Removes the pairs that have been idle for `limit`; returns how many are left.
    pub(super) fn remove_idle(&self, limit: Duration) -> usize {
        let mut index = self.write();
        let idle: Vec<_> = index
            .by_id
            .iter()
            .filter(|(_, pair)| pair.state().last_used.elapsed() >= limit)
            .map(|(id, pair)| (*id, pair.clone()))
            .collect();
        for (id, pair) in idle {
            index.by_id.remove(&id);
            index.remove(&pair);
        }
        index.by_id.len()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Index> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn remove(&mut self, pair: &Arc<Pair>) {
        if let Some(client) = pair.client() {
            self.unbind(client.address, pair);
        }
        pair.removed.cancel();
    }

    /// Removes a client's address, unless another pair's client is bound there by now.
    fn unbind(&mut self, client: SocketAddr, pair: &Arc<Pair>) {
        if self
            .by_client
            .get(&client)
            .is_some_and(|bound| Arc::ptr_eq(bound, pair))
        {
            self.by_client.remove(&client);
        }
    }
}

/// Whether `agent` is the relay's own socket, which is bound on all addresses of the host.
fn is_own_socket(agent: SocketAddr, own_port: u16) -> bool {
    let address = agent.ip().to_canonical();
    let is_here = || address.is_unspecified() || UdpSocket::bind((address, 0)).is_ok();
    agent.port() == own_port && is_here()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(pair: u8) -> RelayRequest {
        RelayRequest {
            pair: [pair; 16],
            secret: [1; 32],
            agent: "127.0.0.1:9".parse().unwrap(),
        }
    }

    fn client(port: u16) -> Client {
        Client {
            address: SocketAddr::from(([192, 0, 2, 1], port)),
            via: None,
        }
    }

    #[tokio::test]
    async fn only_a_newer_generation_rebinds_a_client() {
        let pairs = Pairs::default();
        pairs.announce(&request(1), 1).unwrap();
        assert!(pairs.bind(&[1; 16], client(1), 5));
        assert!(pairs.bind(&[1; 16], client(1), 5), "the same again is fine");
        assert!(!pairs.bind(&[1; 16], client(2), 5));
        assert!(!pairs.bind(&[1; 16], client(2), 4));
        assert!(pairs.bind(&[1; 16], client(2), 6));
        assert!(pairs.by_client(client(1).address).is_none());
        assert!(pairs.by_client(client(2).address).is_some());
        assert!(!pairs.bind(&[2; 16], client(3), 1), "a pair nobody announced");
    }

    #[tokio::test]
    async fn an_idle_pair_is_removed_and_its_task_cancelled() {
        let pairs = Pairs::default();
        let pair = pairs.announce(&request(1), 1).unwrap().unwrap();
        assert!(pairs.bind(&[1; 16], client(1), 1));
        assert_eq!(pairs.remove_idle(Duration::from_secs(300)), 1);
        assert_eq!(pairs.remove_idle(Duration::ZERO), 0);
        assert!(pair.removed().is_cancelled());
        assert!(pairs.by_client(client(1).address).is_none());
    }

    #[tokio::test]
    async fn a_pair_announced_again_keeps_its_client_unless_the_secret_changed() {
        let pairs = Pairs::default();
        let first = pairs.announce(&request(1), 1).unwrap().unwrap();
        assert!(pairs.bind(&[1; 16], client(1), 5));
        assert!(
            pairs.announce(&request(1), 1).unwrap().is_none(),
            "nothing is new"
        );
        assert!(!first.removed().is_cancelled());

        let agent = "127.0.0.1:10".parse().unwrap();
        let moved = RelayRequest { agent, ..request(1) };
        let second = pairs.announce(&moved, 1).unwrap().unwrap();
        assert!(first.removed().is_cancelled());
        let bound = pairs.by_client(client(1).address).unwrap();
        assert!(Arc::ptr_eq(&bound, &second));
        assert_eq!(bound.agent, agent);
        assert!(!pairs.bind(&[1; 16], client(2), 5), "its generation stays");
        assert!(pairs.bind(&[1; 16], client(2), 6));

        let secret = [2; 32];
        pairs
            .announce(&RelayRequest { secret, ..moved }, 1)
            .unwrap()
            .unwrap();
        assert!(second.removed().is_cancelled());
        assert!(pairs.by_client(client(2).address).is_none());
        assert!(pairs.bind(&[1; 16], client(3), 1), "another secret begins anew");
    }

    #[tokio::test]
    async fn a_relay_does_not_forward_to_itself() {
        let pairs = Pairs::default();
        for own in [
            "127.0.0.1:9",
            "127.3.2.1:9",
            "[::ffff:127.0.0.1]:9",
            "0.0.0.0:9",
            "[::]:9",
        ] {
            let agent = own.parse().unwrap();
            let request = RelayRequest { agent, ..request(1) };
            assert!(pairs.announce(&request, 9).is_err(), "{own}");
            assert!(pairs.get(&[1; 16]).is_none(), "{own}");
        }
        let agent = "192.0.2.1:9".parse().unwrap();
        assert!(!is_own_socket(agent, 9), "another host's port of the same number");
        pairs.announce(&request(1), 10).unwrap();
    }
}
