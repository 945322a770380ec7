mod outage;

use rustls::client::WantsClientCert;

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

/// The TLS settings of a client that pins the agent, with a certificate as `authenticate` says.
fn client_tls(
    pair: &Pair,
    authenticate: impl FnOnce(
        rustls::ConfigBuilder<rustls::ClientConfig, WantsClientCert>,
    ) -> rustls::ClientConfig,
) -> rustls::ClientConfig {
    let pin = PinnedAgent::new(pair.agent_identity.fingerprint());
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pin));
    let mut tls = authenticate(builder);
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls
}

fn client_config(tls: rustls::ClientConfig) -> ClientConfig {
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
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
async fn a_client_and_an_agent_that_pin_each_other_connect() {
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
async fn a_client_that_was_not_admitted_over_ssh_is_refused() {
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
async fn a_client_without_a_certificate_is_refused() {
    let pair = pair();
    pair.allowed.allow(pair.client_identity.fingerprint());
    let tls = client_tls(&pair, |builder| builder.with_no_client_auth());
    let connecting =
        pair.client
            .connect_with(client_config(tls), pair.agent.local_addr().unwrap(), SERVER_NAME);
    let (accepted, _) = tokio::join!(
        async { pair.agent.accept().await.unwrap().await },
        connecting.unwrap()
    );
    assert!(accepted.is_err());
}

#[tokio::test]
async fn an_agent_that_was_met_before_takes_no_data_before_the_handshake() {
    let pair = pair();
    pair.allowed.allow(pair.client_identity.fingerprint());
    let identity = pair.client_identity.resolver().unwrap();
    let mut tls = client_tls(&pair, |builder| builder.with_client_cert_resolver(identity));
    // A client that would repeat what it has of an earlier connection, and does not wait.
    tls.enable_early_data = true;
    let config = client_config(tls);
    let address = pair.agent.local_addr().unwrap();
    let connect = || {
        let connecting = pair.client.connect_with(config.clone(), address, SERVER_NAME);
        connecting.unwrap()
    };
    let (accepted, connected) = tokio::join!(
        async { pair.agent.accept().await.unwrap().await.unwrap() },
        connect()
    );
    let connected = connected.unwrap();
    // What the agent has to say about a resumption comes before the stream.
    let (mut send, mut receive) = connected.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    let (mut answer, _) = accepted.accept_bi().await.unwrap();
    answer.write_all(b"y").await.unwrap();
    receive.read_exact(&mut [0]).await.unwrap();
    assert!(connect().into_0rtt().is_err());
}

#[tokio::test]
async fn an_agent_with_a_stolen_certificate_is_refused() {
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
async fn the_agent_cannot_open_a_stream_on_the_laptop() {
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
        "a stream opened by the agent must be blocked"
    );
    drop(opened);
}

#[tokio::test]
async fn builds_with_different_protocol_versions_refuse_each_other_and_say_so() {
    let pair = pair();
    pair.allowed.allow(pair.client_identity.fingerprint());
    let identity = pair.client_identity.resolver().unwrap();
    let mut tls = client_tls(&pair, |builder| builder.with_client_cert_resolver(identity));
    tls.alpn_protocols = vec![b"jq/0".to_vec()];
    let address = pair.agent.local_addr().unwrap();
    let connecting = pair.client.connect_with(client_config(tls), address, SERVER_NAME);
    let connecting = connecting.unwrap();
    let (accepted, connected) = tokio::join!(async { pair.agent.accept().await.unwrap().await }, connecting);
    assert!(is_version_mismatch(&connected.unwrap_err()));
    assert!(is_version_mismatch(&accepted.unwrap_err()));

    let stranger = Identity::generate().unwrap();
    let connecting = connect(
        &pair.client,
        address,
        &stranger,
        pair.agent_identity.fingerprint(),
    )
    .unwrap();
    let (accepted, _) = tokio::join!(async { pair.agent.accept().await.unwrap().await }, connecting);
    assert!(!is_version_mismatch(&accepted.unwrap_err()), "another refusal");
}

#[tokio::test]
async fn the_successor_of_a_dead_agent_resets_its_connections_at_once() {
    let (agent, client) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let allowed = AllowedClients::default();
    allowed.allow(client.fingerprint());
    let secret = [7; 32];
    let settings = AgentSettings::new(&agent, allowed, &secret).unwrap();
    // The agent's socket moves to the successor without a close, as in a crash.
    let socket = loopback();
    let first = settings.endpoint(socket.try_clone().unwrap()).unwrap();
    let address = first.local_addr().unwrap();
    let dialling = client_endpoint(loopback()).unwrap();
    let connecting = connect(&dialling, address, &client, agent.fingerprint()).unwrap();
    let (accepted, connected) =
        tokio::join!(async { first.accept().await.unwrap().await.unwrap() }, connecting);
    let connected = connected.unwrap();
    first.rebind(loopback()).unwrap();

    let successor = AgentSettings::new(&Identity::generate().unwrap(), AllowedClients::default(), &secret);
    let _successor = successor.unwrap().endpoint(socket).unwrap();
    let (mut send, _receive) = connected.open_bi().await.unwrap();
    send.write_all(&[0; 4096]).await.unwrap();
    let lost = tokio::time::timeout(Duration::from_secs(5), connected.closed()).await;
    assert!(matches!(lost, Ok(ConnectionError::Reset)), "{lost:?}");
    drop(accepted);
}
