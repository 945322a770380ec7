//! QUIC endpoints and their transport settings.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use quinn::{
    AsyncUdpSocket, ClientConfig, Connecting, ConnectionError, Endpoint, EndpointConfig, IdleTimeout,
    ServerConfig, TokioRuntime, TransportConfig, TransportErrorCode, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;
use rustls::{AlertDescription, version::TLS13};

use crate::{
    carrier::{pipe, udp::UdpCarrier},
    congestion::Congestion,
    identity::{AllowedClients, Fingerprint, Identity, PinnedAgent, PinnedClients, SERVER_NAME, provider},
    protocol::{limits, version::ALPN},
    session::buffer_budget,
};

/// Idle time-out of a connection (RFC 9000, section 10.1).
const IDLE: Duration = Duration::from_secs(30);

/// Keep-alive interval of an idle connection. NATs drop a mapping after 30 s.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Receive window of a stream in bytes: 1 Gbit/s at 128 ms.
const STREAM_WINDOW: u32 = 16 * 1024 * 1024;

/// Streams that a client may open before its session is known: control, and its first request.
const FIRST_STREAMS: u32 = 2;

/// Receive window of a connection in bytes.
const CONNECTION_WINDOW: u32 = 336 * 1024 * 1024;

/// The part of it for the control stream and for streams that are being opened.
const MARGIN: u64 = 16 * 1024 * 1024;

const _: () =
    assert!(SEND_WINDOW >= buffer_budget::SESSION + limits::STREAMS as u64 * buffer_budget::EACH + MARGIN);

/// Unacknowledged bytes of all streams of a connection. If it were smaller than the receive window, bulk streams would leave
/// nothing for new ones and the control stream. It takes no memory of its own: the bytes are shared with the send buffers,
/// which have a budget.
const SEND_WINDOW: u64 = CONNECTION_WINDOW as u64;

/// Upper bound of path MTU discovery: the UDP payload of a 1500-byte link over IPv6.
const LARGEST_PAYLOAD: u16 = 1452;

/// A client's initial round-trip time estimate. The first packet is sent again after three of them.
const UDP_ROUND_TRIP: Duration = Duration::from_millis(200);

/// The same for a pipe, which may have a long queue that is not noticed at first.
const PIPE_ROUND_TRIP: Duration = Duration::from_secs(1);

/// Why an endpoint could not be created.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The certificate or the TLS settings are not usable.
    #[error("TLS set-up: {0}")]
    Tls(#[from] rustls::Error),
    /// TLS has no cipher for QUIC's initial packets.
    #[error("TLS set-up: {0}")]
    Cipher(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    /// The socket.
    #[error("UDP socket: {0}")]
    Socket(#[from] io::Error),
}

/// The kind of carrier that an endpoint uses. It decides on packet sizes and initial time-outs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CarrierKind {
    /// UDP, direct or through relays.
    Udp,
    /// A byte pipe.
    Pipe,
}

/// The settings of all endpoints of an agent.
pub struct AgentSettings {
    server: ServerConfig,
    reset_secret: [u8; 32],
}

impl AgentSettings {
    /// Settings for endpoints that admit the clients of `allowed` by their certificates, and nobody else.
    ///
    /// A new agent with the `reset_secret` and the port of one that died sends stateless resets to its clients (RFC 9000, section
    /// 10.3).
    ///
    /// # Errors
    /// When the certificate or the TLS settings are unusable.
    pub fn new(
        identity: &Identity,
        allowed: AllowedClients,
        reset_secret: &[u8; 32],
    ) -> Result<Self, EndpointError> {
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(PinnedClients::new(allowed)))
            .with_cert_resolver(identity.resolver()?);
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.send_tls13_tickets = 0;

        let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        server
            .max_incoming(16)
            .incoming_buffer_size(64 * 1024)
            .incoming_buffer_size_total(1024 * 1024);
        Ok(Self {
            server,
            reset_secret: *reset_secret,
        })
    }

    /// An endpoint on a UDP socket.
    ///
    /// # Errors
    /// When the socket cannot be used. Must be called within a tokio runtime.
    pub(crate) fn endpoint(&self, socket: UdpSocket) -> Result<Endpoint, EndpointError> {
        self.endpoint_on(UdpCarrier::new(socket)?, CarrierKind::Udp)
    }

    /// An endpoint on a carrier.
    ///
    /// # Errors
    /// When the carrier cannot be used. Must be called within a tokio runtime.
    pub fn endpoint_on(
        &self,
        carrier: Arc<dyn AsyncUdpSocket>,
        kind: CarrierKind,
    ) -> Result<Endpoint, EndpointError> {
        let mut server = self.server.clone();
        // quinn allocates for each stream from the first packet on, before the client is known. A session gets more
        // (`Connection::set_max_concurrent_bi_streams`).
        let streams = VarInt::from_u32(FIRST_STREAMS);
        let mut transport = transport(streams, kind);
        transport.receive_window(window(0));
        server.transport_config(Arc::new(transport));

        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.reset_secret);
        // A packet of an unknown connection is answered by a reset only if its connection id could be ours, so a successor must
        // recognise those of its predecessor.
        let ids = hmac::sign(&key, b"connection ids");
        let ids = ids
            .as_ref()
            .iter()
            .take(8)
            .fold(0, |ids, &byte| ids << 8 | u64::from(byte));
        let mut config = EndpointConfig::new(Arc::new(key));
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
        endpoint(config, carrier, kind, Some(server))
    }
}

/// An endpoint on a UDP socket that admits the clients of `allowed` by their certificates, and nobody else. No successor can
/// send stateless resets for it.
///
/// # Errors
/// Any [`EndpointError`]. Must be called within a tokio runtime.
pub fn agent_endpoint(
    socket: UdpSocket,
    identity: &Identity,
    allowed: AllowedClients,
) -> Result<Endpoint, EndpointError> {
    let secret = crate::bootstrap::random().map_err(io::Error::other)?;
    AgentSettings::new(identity, allowed, &secret)?.endpoint(socket)
}

/// An endpoint on a UDP socket for connections that [`connect`] opens. It accepts none.
///
/// # Errors
/// Any [`EndpointError`]. Must be called within a tokio runtime.
pub fn client_endpoint(socket: UdpSocket) -> Result<Endpoint, EndpointError> {
    client_endpoint_on(UdpCarrier::new(socket)?, CarrierKind::Udp)
}

/// An endpoint on a carrier for connections that [`connect_over`] opens. It accepts none.
///
/// # Errors
/// As [`client_endpoint`].
pub fn client_endpoint_on(
    carrier: Arc<dyn AsyncUdpSocket>,
    kind: CarrierKind,
) -> Result<Endpoint, EndpointError> {
    endpoint(EndpointConfig::default(), carrier, kind, None)
}

/// Connects over UDP to the agent whose certificate has the fingerprint `agent`, at `address`.
///
/// # Errors
/// As [`connect_over`].
pub fn connect(
    endpoint: &Endpoint,
    address: SocketAddr,
    identity: &Identity,
    agent: Fingerprint,
) -> Result<Connecting, EndpointError> {
    connect_over(endpoint, address, identity, agent, CarrierKind::Udp)
}

/// Connects to the agent whose certificate has the fingerprint `agent`, at `address`: [`pipe::PEER`] for a pipe.
///
/// # Errors
/// As [`client_endpoint`], or an address that the endpoint's carrier cannot send to.
pub fn connect_over(
    endpoint: &Endpoint,
    address: SocketAddr,
    identity: &Identity,
    agent: Fingerprint,
    kind: CarrierKind,
) -> Result<Connecting, EndpointError> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedAgent::new(agent)))
        .with_client_cert_resolver(identity.resolver()?);
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();

    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = transport(VarInt::from_u32(0), kind);
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    if kind == CarrierKind::Udp {
        transport.initial_rtt(UDP_ROUND_TRIP);
    }
    config.transport_config(Arc::new(transport));
    endpoint
        .connect_with(config, address, SERVER_NAME)
        .map_err(|error| io::Error::other(error).into())
}

/// Whether a handshake failed because the peer speaks another version of the protocol (TLS alert `no_application_protocol`,
/// RFC 7301, section 3.2).
#[must_use]
pub fn is_version_mismatch(error: &ConnectionError) -> bool {
    let alert = TransportErrorCode::crypto(AlertDescription::NoApplicationProtocol.into());
    match error {
        ConnectionError::ConnectionClosed(close) => close.error_code == alert,
        ConnectionError::TransportError(error) => error.code == alert,
        _ => false,
    }
}

/// The agent's receive window for a client with `streams` streams, in bytes: what the client's send buffers may hold, and a
/// margin. So streams whose targets do not read never block others, and a client that opens streams without sending a header
/// takes little of the agent's memory. For [`Connection::set_receive_window`](quinn::Connection::set_receive_window); at first it
/// is that of 0 streams.
#[must_use]
pub fn window(streams: usize) -> VarInt {
    let send_buffers = match streams as u64 {
        0 => 0,
        streams => buffer_budget::SESSION + streams * buffer_budget::EACH,
    };
    let bytes = u32::try_from(MARGIN + send_buffers).unwrap_or(u32::MAX);
    VarInt::from_u32(bytes.min(CONNECTION_WINDOW))
}

/// The settings that both sides share. `streams`: how many the peer may have open at once.
fn transport(streams: VarInt, kind: CarrierKind) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .congestion_controller_factory(Arc::new(Congestion))
        .max_concurrent_bidi_streams(streams)
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE.as_millis() as u32))))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW);
    match kind {
        CarrierKind::Udp => {
            let mut discovery = quinn::MtuDiscoveryConfig::default();
            discovery.upper_bound(LARGEST_PAYLOAD);
            config.mtu_discovery_config(Some(discovery));
        }
        CarrierKind::Pipe => {
            config
                .initial_mtu(pipe::LONGEST)
                .min_mtu(pipe::LONGEST)
                .mtu_discovery_config(None)
                .initial_rtt(PIPE_ROUND_TRIP);
        }
    }
    config
}

fn endpoint(
    mut config: EndpointConfig,
    carrier: Arc<dyn AsyncUdpSocket>,
    kind: CarrierKind,
    server: Option<ServerConfig>,
) -> Result<Endpoint, EndpointError> {
    // A relay distinguishes its own packets from QUIC's by this bit, which greasing would vary (RFC 9287).
    config.grease_quic_bit(false);
    if kind == CarrierKind::Pipe {
        config
            .max_udp_payload_size(pipe::LONGEST)
            .map_err(io::Error::other)?;
    }
    Ok(Endpoint::new_with_abstract_socket(
        config,
        server,
        carrier,
        Arc::new(TokioRuntime),
    )?)
}

#[cfg(test)]
mod tests;
