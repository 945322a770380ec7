//! `-L`: what a TCP connection keeps when it is carried over QUIC.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use jq_tests::{
    http::dial,
    lab::{Lab, Topology},
    product::Client,
    require,
};
use rustix::process::Signal;

/// An image without a shell, whose one program echoes on ports 7000 and 7001 of its loopback.
const IMAGE: &str = "jq-lab/static";

struct Forwarding {
    client: Client,
    lab: Lab,
}

/// A container without a shell, with ports 7000 and 7001 here, and 9000 leading to the GPU host's own 9000.
fn forwarding() -> Result<Forwarding> {
    let lab = Lab::builder().topology(Topology::Direct).docker(true).up()?;
    let mut client = Client::connect(
        lab.laptop(),
        &[
            "gpu",
            "--image",
            IMAGE,
            "--jupyter",
            "none",
            "-L",
            "7000",
            "-L",
            "17001:7001",
            "-L",
            "9000:127.0.0.1:9000",
        ],
    )?;
    client.ready()?;
    Ok(Forwarding { client, lab })
}

fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (seed.wrapping_mul(31).wrapping_add(at.wrapping_mul(7)) % 251) as u8)
        .collect()
}

#[test]
fn two_hundred_connections_at_once_each_get_their_own_bytes_back() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let Forwarding { client, lab } = forwarding()?;
    let streams = (0..200)
        .map(|n| dial(lab.laptop(), if n % 2 == 0 { 7000 } else { 17001 }))
        .collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let echoes: Vec<_> = streams
            .into_iter()
            .enumerate()
            .map(|(n, mut stream)| {
                scope.spawn(move || -> Result<()> {
                    let sent = pattern(n, 20_000);
                    let mut heard = vec![0; sent.len()];
                    stream.write_all(&sent)?;
                    stream
                        .read_exact(&mut heard)
                        .with_context(|| format!("connection {n}"))?;
                    ensure!(heard == sent, "connection {n} got other bytes");
                    Ok(())
                })
            })
            .collect();
        echoes
            .into_iter()
            .try_for_each(|echo| echo.join().expect("no panic"))
    })?;
    client.disconnect()?;
    lab.down()
}

#[test]
fn an_end_of_data_one_way_leaves_the_other_way_open() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let Forwarding { client, lab } = forwarding()?;
    let service = lab.gpu().enter(|| TcpListener::bind("127.0.0.1:9000"))??;
    let replying = thread::spawn(move || -> Result<usize> {
        let (mut stream, _) = service.accept()?;
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard)?;
        stream.write_all(&pattern(1, 3_000_000))?;
        Ok(heard.len())
    });
    let mut stream = dial(lab.laptop(), 9000)?;
    stream.write_all(&pattern(2, 100_000))?;
    stream.shutdown(Shutdown::Write)?;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard)?;
    ensure!(
        heard == pattern(1, 3_000_000),
        "the reply after the end is whole: {} bytes",
        heard.len()
    );
    ensure!(replying.join().expect("no panic")? == 100_000);
    client.disconnect()?;
    lab.down()
}

/// Closes with a reset instead of an end.
fn reset(stream: TcpStream) -> Result<()> {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    drop(stream);
    Ok(())
}

#[test]
fn a_reset_of_either_side_arrives_as_a_reset_and_not_as_an_end() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let Forwarding { client, lab } = forwarding()?;
    let service = lab.gpu().enter(|| TcpListener::bind("127.0.0.1:9000"))??;

    let mut stream = dial(lab.laptop(), 9000)?;
    stream.write_all(b"x")?;
    let (mut accepted, _) = service.accept()?;
    accepted.read_exact(&mut [0])?;
    reset(accepted)?;
    let seen = stream.read(&mut [0; 8]).expect_err("a reset, not an end");
    ensure!(seen.kind() == ErrorKind::ConnectionReset, "{seen}");

    let mut stream = dial(lab.laptop(), 9000)?;
    stream.write_all(b"x")?;
    let (mut accepted, _) = service.accept()?;
    accepted.set_read_timeout(Some(Duration::from_secs(30)))?;
    accepted.read_exact(&mut [0])?;
    reset(stream)?;
    let seen = accepted.read(&mut [0; 8]).expect_err("a reset, not an end");
    ensure!(seen.kind() == ErrorKind::ConnectionReset, "{seen}");
    client.disconnect()?;
    lab.down()
}

#[test]
fn a_port_that_nobody_serves_is_refused_and_said_once() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let Forwarding { mut client, lab } = forwarding()?;
    for _ in 0..3 {
        let mut stream = dial(lab.laptop(), 9000)?;
        let seen = stream.read(&mut [0; 8]).expect_err("a reset, not an end");
        ensure!(seen.kind() == ErrorKind::ConnectionReset, "{seen}");
    }
    client.wait_for(&["note"], Duration::from_secs(10))?;
    let said = client
        .texts("note")
        .iter()
        .filter(|note| note.contains("nothing listens there"))
        .count();
    ensure!(said == 1, "said {said} times");
    client.disconnect()?;
    lab.down()
}

/// Connections on which a byte has gone both ways.
fn talking(lab: &Lab, count: usize) -> Result<Vec<TcpStream>> {
    (0..count)
        .map(|_| {
            let mut stream = dial(lab.laptop(), 7000)?;
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            stream.write_all(b"x")?;
            stream.read_exact(&mut [0])?;
            Ok(stream)
        })
        .collect()
}

/// That each connection was reset: an end would make what came so far look like everything.
fn all_reset(streams: Vec<TcpStream>) -> Result<()> {
    let ends = streams.into_iter().map(|mut stream| stream.read(&mut [0; 8]));
    let clean = ends
        .filter(|end| {
            !end.as_ref()
                .is_err_and(|e| e.kind() == ErrorKind::ConnectionReset)
        })
        .count();
    ensure!(clean == 0, "{clean} connections ended otherwise than by a reset");
    Ok(())
}

#[test]
fn a_lost_host_keeps_every_connection_open_until_it_is_back() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let Forwarding { mut client, lab } = forwarding()?;
    let mut streams = talking(&lab, 100)?;
    lab.link().set_up(false);
    for stream in &mut streams {
        stream.write_all(b"y")?;
    }
    client.wait_for_state("reconnecting", Duration::from_secs(30))?;
    lab.link().set_up(true);
    for stream in &mut streams {
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        ensure!(answer == *b"y");
    }
    client.wait_for_state("connected", Duration::from_secs(30))?;
    client.disconnect()?;
    lab.down()
}

#[test]
fn a_killed_agent_resets_every_open_connection() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let Forwarding { client, lab } = forwarding()?;
    let streams = talking(&lab, 100)?;
    lab.gpu().run(r#"pkill -KILL -u "$(id -u)" -f '[-]-run-dir'"#)?;
    all_reset(streams)?;
    drop(talking(&lab, 1)?);
    client.disconnect()?;
    lab.down()
}

#[test]
fn however_the_client_ends_every_open_connection_is_reset() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let Forwarding { mut client, lab } = forwarding()?;
        let streams = talking(&lab, 100)?;
        client.signal(signal)?;
        client.wait()?;
        all_reset(streams)?;
        lab.down()?;
    }
    Ok(())
}
