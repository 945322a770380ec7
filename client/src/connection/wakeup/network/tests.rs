//! Tests in a network namespace of their own, with addresses on its loopback.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::AsFd,
    process::{Command, Stdio},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::{sync::watch, time::timeout};

use super::*;
use crate::not_run::not_run;

const SOON: Duration = Duration::from_secs(10);

/// Longer than the delay of a burst and the interval of checks.
const QUIET: Duration = Duration::from_secs(1);

const HOME: &str = "address add 192.168.1.7/32 dev lo
    route add 10.8.0.0/24 dev lo src 192.168.1.7";

fn peer() -> SocketAddr {
    SocketAddr::from(([10, 8, 0, 1], 60000))
}

/// Runs `test` on a thread in a new network namespace with nothing but a loopback that is up.
fn in_a_network<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    if !rustix::process::geteuid().is_root() {
        return not_run("a network of its own needs root");
    }
    let on_thread = || {
        enter_a_new_network();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            ip("link set lo up").await;
            ip(HOME).await;
            test().await;
        });
    };
    std::thread::scope(|scope| scope.spawn(on_thread).join().unwrap());
}

/// Moves this thread, and the processes that it starts, to a new network namespace.
fn enter_a_new_network() {
    let mut holder = Command::new("unshare")
        .args(["--net", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Its echo shows that it runs in the new namespace.
    holder.stdin.as_mut().unwrap().write_all(b".").unwrap();
    holder.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let network = File::open(format!("/proc/{}/ns/net", holder.id())).unwrap();
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    drop(holder.stdin.take());
    holder.wait().unwrap();
}

/// Runs ip(8) with each line of `commands`.
async fn ip(commands: &str) {
    for command in commands.lines() {
        let status = tokio::process::Command::new("ip")
            .args(command.split_whitespace())
            .status()
            .await
            .unwrap();
        assert!(status.success(), "ip {command}");
    }
}

fn watched(events: Events) -> (watch::Sender<Vec<SocketAddr>>, Network) {
    let (peers, receiver) = watch::channel(vec![peer()]);
    (peers, Network::by(events, receiver))
}

fn heard() -> Events {
    Events::Heard(netlink::Netlink::open().unwrap())
}

#[test]
fn another_address_is_told_soon_and_once() {
    in_a_network(|| async {
        let (_peers, mut network) = watched(heard());
        let moves = ip("address add 192.168.2.7/32 dev lo
            route replace 10.8.0.0/24 dev lo src 192.168.2.7
            address delete 192.168.1.7/32 dev lo");
        let (told, ()) = tokio::join!(timeout(SOON, network.changed()), moves);
        told.unwrap();
        assert!(timeout(QUIET, network.changed()).await.is_err());
    });
}

#[test]
fn a_network_that_is_lost_for_a_moment_is_reported() {
    in_a_network(|| async {
        let (_peers, mut network) = watched(heard());
        ip("route delete 10.8.0.0/24").await;
        let event = network.events.next().await;
        network.look(event);
        ip("route add 10.8.0.0/24 dev lo src 192.168.1.7").await;
        timeout(SOON, network.changed()).await.unwrap();
    });
}

#[test]
fn links_and_addresses_of_containers_are_not_told() {
    in_a_network(|| async {
        let (_peers, mut network) = watched(heard());
        let churns = async {
            for _ in 0..20 {
                ip("address add 172.17.0.1/16 dev lo
                    route add 10.9.0.0/24 dev lo
                    route delete 10.9.0.0/24
                    address delete 172.17.0.1/16 dev lo")
                .await;
            }
        };
        tokio::select! {
            () = network.changed() => panic!("told"),
            () = churns => {}
        }
        assert!(timeout(QUIET, network.changed()).await.is_err());
    });
}

#[test]
fn the_route_to_a_later_peer_is_watched_and_adding_it_is_no_change() {
    in_a_network(|| async {
        let (peers, mut network) = watched(heard());
        peers
            .send(vec![peer(), SocketAddr::from(([10, 9, 0, 1], 60000))])
            .unwrap();
        assert!(timeout(QUIET, network.changed()).await.is_err());
        let (told, ()) = tokio::join!(
            timeout(SOON, network.changed()),
            ip("route add 10.9.0.0/24 dev lo")
        );
        told.unwrap();
    });
}

#[test]
fn more_changes_than_can_be_heard_are_told() {
    in_a_network(|| async {
        let (_peers, mut network) = watched(heard());
        let flood = |verb: &str| -> String {
            let line = |n| format!("route {verb} 10.10.{}.{}/32 dev lo\n", n / 250, n % 250);
            (0..2000).map(line).collect()
        };
        let commands = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&commands, flood("add") + &flood("delete")).unwrap();
        // Nothing is polled meanwhile.
        let status = Command::new("ip").arg("-batch").arg(commands.path()).status();
        assert!(status.unwrap().success());
        timeout(SOON, network.changed()).await.unwrap();
    });
}

#[test]
fn without_reports_of_the_kernel_a_new_address_is_detected_too() {
    in_a_network(|| async {
        let (_peers, mut network) = watched(Events::Polled);
        ip("address add 192.168.2.7/32 dev lo
            route replace 10.8.0.0/24 dev lo src 192.168.2.7")
        .await;
        timeout(SOON, network.changed()).await.unwrap();
    });
}
