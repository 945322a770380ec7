//! `-L`: a forwarded TCP connection keeps its half-close, its resets and its bytes.

mod container;

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use jq_tests::{
    http::dial,
    lab::{Lab, Topology},
    product::Client,
    require,
};
use rustix::process::Signal;

struct Forwarding {
    client: Client,
    lab: Lab,
}

/// Forwards local port 7000 to an echo service on the GPU host's loopback, and 9000 to the host's port 9000. There is no container.
fn forwarding() -> Result<Forwarding> {
    let lab = Lab::builder().topology(Topology::Direct).up()?;
    let echo = lab.gpu().enter(|| TcpListener::bind("127.0.0.1:7000"))??;
    thread::spawn(move || {
        for stream in echo.incoming().flatten() {
            thread::spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    });
    let ports = ["-L", "7000", "-L", "9000:127.0.0.1:9000"];
    let arguments = ["gpu", "--engine", "process", "--jupyter", "none"];
    let mut client = Client::connect(lab.laptop(), &[&arguments[..], &ports].concat())?;
    client.ready()?;
    Ok(Forwarding { client, lab })
}

fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (seed.wrapping_mul(31).wrapping_add(at.wrapping_mul(7)) % 251) as u8)
        .collect()
}

#[test]
fn a_half_closed_connection_still_carries_data_in_the_other_direction() -> Result<()> {
    if !require::lab() {
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
        "the reply after the half-close is incomplete: {} bytes",
        heard.len()
    );
    ensure!(replying.join().expect("no panic")? == 100_000);
    client.disconnect()?;
    lab.down()
}

/// Closes the connection with a reset instead of a FIN.
fn reset(stream: TcpStream) -> Result<()> {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    drop(stream);
    Ok(())
}

#[test]
fn a_reset_from_either_side_arrives_as_a_reset() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let Forwarding { client, lab } = forwarding()?;
    let service = lab.gpu().enter(|| TcpListener::bind("127.0.0.1:9000"))??;

    let mut stream = dial(lab.laptop(), 9000)?;
    stream.write_all(b"x")?;
    let (mut accepted, _) = service.accept()?;
    accepted.read_exact(&mut [0])?;
    reset(accepted)?;
    let seen = stream.read(&mut [0; 8]).expect_err("the end must be a reset");
    ensure!(seen.kind() == ErrorKind::ConnectionReset, "{seen}");

    let mut stream = dial(lab.laptop(), 9000)?;
    stream.write_all(b"x")?;
    let (mut accepted, _) = service.accept()?;
    accepted.set_read_timeout(Some(Duration::from_secs(30)))?;
    accepted.read_exact(&mut [0])?;
    reset(stream)?;
    let seen = accepted.read(&mut [0; 8]).expect_err("the end must be a reset");
    ensure!(seen.kind() == ErrorKind::ConnectionReset, "{seen}");
    client.disconnect()?;
    lab.down()
}

#[test]
fn a_port_without_a_listener_resets_each_connection_and_is_reported_once() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let Forwarding { mut client, lab } = forwarding()?;
    for _ in 0..3 {
        let mut stream = dial(lab.laptop(), 9000)?;
        let seen = stream.read(&mut [0; 8]).expect_err("the end must be a reset");
        ensure!(seen.kind() == ErrorKind::ConnectionReset, "{seen}");
    }
    client.wait_for(&["note"], Duration::from_secs(10))?;
    let said = client
        .texts("note")
        .iter()
        .filter(|note| note.contains("nothing listens there"))
        .count();
    ensure!(said == 1, "the closed port was reported {said} times");
    client.disconnect()?;
    lab.down()
}

/// Open connections, each of which has carried a byte in both directions.
fn open_connections(lab: &Lab, count: usize) -> Result<Vec<TcpStream>> {
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

/// Checks that each connection was reset: a FIN would make incomplete data look complete.
fn all_reset(streams: Vec<TcpStream>) -> Result<()> {
    let ends = streams.into_iter().map(|mut stream| stream.read(&mut [0; 8]));
    let clean = ends
        .filter(|end| {
            !end.as_ref()
                .is_err_and(|e| e.kind() == ErrorKind::ConnectionReset)
        })
        .count();
    ensure!(clean == 0, "{clean} connections ended without a reset");
    Ok(())
}

#[test]
fn connections_stay_open_while_the_host_is_unreachable_and_resume_when_it_is_back() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let Forwarding { mut client, lab } = forwarding()?;
    let mut streams = open_connections(&lab, 100)?;
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
fn every_open_connection_is_reset_however_the_client_ends() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let Forwarding { mut client, lab } = forwarding()?;
        let streams = open_connections(&lab, 100)?;
        client.signal(signal)?;
        client.wait()?;
        all_reset(streams)?;
        lab.down()?;
    }
    Ok(())
}
