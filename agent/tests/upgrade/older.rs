//! An agent of the previous version, which lacks one message and one capability.

use jq_common::protocol::capabilities::Capabilities;

use crate::{Echo, assert_echoes, client::Client, host::Host, older_peer};

#[tokio::test(flavor = "multi_thread")]
async fn an_older_agent_is_upgraded_in_place_and_an_open_stream_continues() {
    let (host, echo) = (Host::new(), Echo::start().await);
    let older = host.build_of(&older_peer::older("jq-agent"), "older");
    let newer = host.build("newer");
    let mut client = Client::new();
    let before = host.bootstrap(&older, client.fingerprint()).await;
    client.stay_attached_to(&before).await;
    let agent = host.agent();
    assert!(!client.capabilities().has(Capabilities::SUBSCRIBE));
    let mut stream = client.connect(echo.port);
    assert_echoes(&mut stream, b"to the older one").await;

    let after = host.bootstrap(&newer, client.fingerprint()).await;
    client.reattached_after(1).await;
    assert_echoes(&mut stream, b"to the newer one").await;
    assert_eq!((after.agent, after.port), (before.agent, before.port));
    assert_eq!(host.agent(), agent, "the process has changed");
    assert!(agent.runs(&newer));
    assert!(
        client.capabilities().has(Capabilities::SUBSCRIBE),
        "the capabilities were not negotiated again"
    );
    let mut fresh = client.connect(echo.port);
    assert_echoes(&mut fresh, b"a new stream").await;
    client.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_agent_does_not_make_way_for_an_older_one_and_both_keep_running() {
    let (host, echo) = (Host::new(), Echo::start().await);
    let older = host.build_of(&older_peer::older("jq-agent"), "older");
    let newer = host.build("newer");
    let mut client = Client::new();
    let first = host.bootstrap(&newer, client.fingerprint()).await;
    client.stay_attached_to(&first).await;
    let mut stream = client.connect(echo.port);
    assert_echoes(&mut stream, b"before").await;

    let mut other = Client::new();
    let second = host.bootstrap(&older, other.fingerprint()).await;
    other.stay_attached_to(&second).await;
    assert_ne!(second.agent, first.agent);
    assert_eq!(host.agents().len(), 2);
    let mut beside = other.connect(echo.port);
    assert_echoes(&mut beside, b"beside").await;
    assert_echoes(&mut stream, b"after").await;
    assert_eq!(client.generation(), 1, "the connection was interrupted");
    client.check();
    other.check();

    let refused = host.upgrade_from(&newer, &older, "0.0.9").await.unwrap_err();
    assert!(refused.why.contains("is newer"), "{}", refused.why);
    assert!(!refused.why.contains('\n'), "{}", refused.why);
    let log = host.logs();
    assert!(log.contains("is newer"), "{log}");
}
