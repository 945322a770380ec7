//! QUIC endpoints and their transport settings, in one place.

use std::{io, net::UdpSocket, sync::Arc, time::Duration};

use quinn::{
    ClientConfig, Connecting, Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::version::TLS13;

use crate::{
    identity::{AllowedClients, Fingerprint, Identity, PinnedAgent, PinnedClients, SERVER_NAME, provider},
    protocol::{limits, version::ALPN},
};

/// Silence after which a connection is given up (RFC 9000, section 10.1).
const IDLE: Duration = Duration::from_secs(30);

/// How often an idle connection is kept alive; NATs forget a mapping after 30 s.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Bytes one stream may have under way: 1 Gbit/s at 64 ms.
const STREAM_WINDOW: u32 = 8 * 1024 * 1024;

/// Bytes one side buffers for sending, over all streams.
const SEND_WINDOW: u64 = 32 * 1024 * 1024;

/// Largest UDP payload tried: what 1500-byte links carry over IPv6.
const LARGEST_PAYLOAD: u16 = 1452;

/// Kernel buffer asked for each way; the system may give less.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// Why an endpoint could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The certificate or the TLS settings are not usable.
    #[error("TLS set-up: {0}")]
    Tls(#[from] rustls::Error),
    /// TLS gives no cipher for QUIC's first packets.
    #[error("TLS set-up: {0}")]
    Cipher(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    /// The socket.
    #[error("UDP socket: {0}")]
    Socket(#[from] io::Error),
}

/// An endpoint that lets in the clients of `allowed`, each by its certificate, and nobody else.
///
/// # Errors
/// Any [`EndpointError`]. Must be called within a tokio runtime.
pub fn agent_endpoint(
    socket: UdpSocket,
    identity: &Identity,
    allowed: AllowedClients,
) -> Result<Endpoint, EndpointError> {
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(PinnedClients::new(allowed)))
        .with_cert_resolver(identity.resolver()?);
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.send_tls13_tickets = 0;

    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config
        .transport_config(Arc::new(transport(VarInt::from_u32(limits::STREAMS))))
        .max_incoming(16)
        .incoming_buffer_size(64 * 1024)
        .incoming_buffer_size_total(1024 * 1024);
    endpoint(socket, Some(config))
}

/// An endpoint for connections that [`connect`] opens. It accepts none.
///
/// # Errors
/// Any [`EndpointError`]. Must be called within a tokio runtime.
pub fn client_endpoint(socket: UdpSocket) -> Result<Endpoint, EndpointError> {
    endpoint(socket, None)
}

/// Connects to the agent whose certificate has the fingerprint `agent`, at `address`.
///
/// # Errors
/// As [`client_endpoint`], or an address that the endpoint's socket cannot send to.
pub fn connect(
    endpoint: &Endpoint,
    address: std::net::SocketAddr,
    identity: &Identity,
    agent: Fingerprint,
) -> Result<Connecting, EndpointError> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedAgent::new(agent)))
        .with_client_cert_resolver(identity.resolver()?);
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();

    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = transport(VarInt::from_u32(0));
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    config.transport_config(Arc::new(transport));
    endpoint
        .connect_with(config, address, SERVER_NAME)
        .map_err(|error| io::Error::other(error).into())
}

/// The settings both sides share. `streams` is how many the peer may open at once.
fn transport(streams: VarInt) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(streams)
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE.as_millis() as u32))))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .send_window(SEND_WINDOW);
    let mut discovery = quinn::MtuDiscoveryConfig::default();
    discovery.upper_bound(LARGEST_PAYLOAD);
    config.mtu_discovery_config(Some(discovery));
    config
}

fn endpoint(socket: UdpSocket, server: Option<ServerConfig>) -> Result<Endpoint, EndpointError> {
    let buffers = socket2::SockRef::from(&socket);
    // Best effort: the system's own limits (net.core.rmem_max) decide in the end.
    let _ = buffers.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = buffers.set_send_buffer_size(SOCKET_BUFFER);
    let mut config = EndpointConfig::default();
    // A relay tells its own packets from QUIC's by this bit (RFC 9287 would let it vary).
    config.grease_quic_bit(false);
    Ok(Endpoint::new(config, server, socket, Arc::new(TokioRuntime))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").unwrap()
    }

    struct Pair {
        agent: Endpoint,
        client: Endpoint,
        agent_identity: Identity,
        client_identity: Identity,
        allowed: AllowedClients,
    }

    fn pair() -> Pair {
        let agent_identity = Identity::generate().unwrap();
        let allowed = AllowedClients::default();
        Pair {
            agent: agent_endpoint(loopback(), &agent_identity, allowed.clone()).unwrap(),
            client: client_endpoint(loopback()).unwrap(),
            agent_identity,
            client_identity: Identity::generate().unwrap(),
            allowed,
        }
    }

    /// Connects, and returns whether a stream opened by the client reached the agent.
    async fn stream_arrives(pair: &Pair, pin: Fingerprint, identity: &Identity) -> bool {
        let address = pair.agent.local_addr().unwrap();
        let accepted = async {
            let connection = pair.agent.accept().await.unwrap().await.ok()?;
            connection.accept_bi().await.ok()
        };
        let opened = async {
            let connection = connect(&pair.client, address, identity, pin)
                .unwrap()
                .await
                .ok()?;
            let (mut send, _recv) = connection.open_bi().await.ok()?;
            send.write_all(b"x").await.ok()?;
            connection.closed().await;
            Some(())
        };
        tokio::select! {
            accepted = accepted => accepted.is_some(),
            _ = opened => false,
        }
    }

    #[tokio::test]
    async fn a_client_and_an_agent_that_know_each_other_connect() {
        let pair = pair();
        pair.allowed.allow(pair.client_identity.fingerprint());
        assert!(stream_arrives(&pair, pair.agent_identity.fingerprint(), &pair.client_identity).await);
    }

    #[tokio::test]
    async fn an_agent_with_another_certificate_is_refused() {
        let pair = pair();
        pair.allowed.allow(pair.client_identity.fingerprint());
        let pin = Identity::generate().unwrap().fingerprint();
        assert!(!stream_arrives(&pair, pin, &pair.client_identity).await);
    }

    #[tokio::test]
    async fn a_client_that_was_not_let_in_over_ssh_is_refused() {
        let pair = pair();
        pair.allowed.allow(Identity::generate().unwrap().fingerprint());
        assert!(!stream_arrives(&pair, pair.agent_identity.fingerprint(), &pair.client_identity).await);
    }

    #[tokio::test]
    async fn a_stolen_certificate_without_its_key_is_refused() {
        let pair = pair();
        pair.allowed.allow(pair.client_identity.fingerprint());
        let thief = Identity::generate()
            .unwrap()
            .with_key_of_another(&pair.client_identity);
        assert_eq!(thief.fingerprint(), pair.client_identity.fingerprint());
        assert!(!stream_arrives(&pair, pair.agent_identity.fingerprint(), &thief).await);
    }

    #[tokio::test]
    async fn an_agent_that_shows_a_stolen_certificate_is_refused() {
        let pair = pair();
        let thief = Identity::generate()
            .unwrap()
            .with_key_of_another(&pair.agent_identity);
        let pair = Pair {
            agent: agent_endpoint(loopback(), &thief, pair.allowed.clone()).unwrap(),
            ..pair
        };
        pair.allowed.allow(pair.client_identity.fingerprint());
        assert!(!stream_arrives(&pair, pair.agent_identity.fingerprint(), &pair.client_identity).await);
    }

    #[tokio::test]
    async fn the_agent_can_open_no_stream_on_the_laptop() {
        let pair = pair();
        pair.allowed.allow(pair.client_identity.fingerprint());
        let address = pair.agent.local_addr().unwrap();
        let (accepted, opened) = tokio::join!(
            async { pair.agent.accept().await.unwrap().await.unwrap() },
            async {
                connect(
                    &pair.client,
                    address,
                    &pair.client_identity,
                    pair.agent_identity.fingerprint(),
                )
                .unwrap()
                .await
                .unwrap()
            }
        );
        let opening = tokio::time::timeout(Duration::from_millis(200), accepted.open_bi());
        assert!(
            opening.await.is_err(),
            "a stream opened by the agent must wait for ever"
        );
        drop(opened);
    }
}
