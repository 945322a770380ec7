//! Links: delay, loss, rate and blocking.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use jq_tests::{
    lab::{Conditions, Host, HostName, Lab, Loss},
    require,
};

use super::{MS, reaches, ssh_port};

/// A UDP socket on `near`, connected to one on `far`.
fn udp_pair(near: &Host, far: &Host) -> Result<(UdpSocket, UdpSocket)> {
    let open = |host: &Host| {
        host.enter(|| UdpSocket::bind((host.address, 0)))?
            .context("no UDP socket")
    };
    let (here, there) = (open(near)?, open(far)?);
    here.connect(there.local_addr()?)?;
    there.connect(here.local_addr()?)?;
    Ok((here, there))
}

/// Sends numbered packets and returns the numbers of those that arrived.
fn arrivals(from: &UdpSocket, to: &UdpSocket, count: u32) -> Result<BTreeSet<u32>> {
    let mut arrived = BTreeSet::new();
    let mut receive = |timeout| -> Result<()> {
        to.set_read_timeout(Some(timeout))?;
        let mut number = [0; 4];
        while to.recv(&mut number).is_ok() {
            arrived.insert(u32::from_be_bytes(number));
        }
        Ok(())
    };
    for number in 0..count {
        from.send(&number.to_be_bytes())?;
        // A socket's buffer holds a few hundred packets, so it must be read in between.
        if number % 50 == 49 {
            receive(20 * MS)?;
        }
    }
    receive(200 * MS)?;
    Ok(arrived)
}

#[test]
fn the_round_trip_time_is_as_configured() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().rtt(40 * MS).up()?;
    let (here, there) = udp_pair(lab.laptop(), lab.gateway())?;
    let ping = || -> Result<Duration> {
        let (start, mut buffer) = (Instant::now(), [0; 1]);
        here.send(b"x")?;
        there.recv(&mut buffer)?;
        there.send(b"x")?;
        here.recv(&mut buffer)?;
        Ok(start.elapsed())
    };
    let best = (0..10)
        .map(|_| ping())
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .min()
        .context("no pings")?;
    ensure!(best >= 40 * MS && best < 44 * MS, "{best:?}");
    lab.link().set(|it| it.delay = Duration::ZERO);
    lab.link().set_from(HostName::Laptop, |it| it.delay = 10 * MS);
    let best = (0..10)
        .map(|_| ping())
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .min()
        .context("no pings")?;
    ensure!(best >= 10 * MS && best < 13 * MS, "{best:?}");
    lab.down()
}

#[test]
fn the_same_seed_drops_the_same_packets() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().up()?;
    let (here, there) = udp_pair(lab.laptop(), lab.gateway())?;
    lab.link()
        .set_from(HostName::Laptop, |it| it.loss = Loss::Random(0.1));
    let run = |seed| {
        lab.link().reseed(seed);
        arrivals(&here, &there, 2000)
    };
    let (first, second, other) = (run(7)?, run(7)?, run(8)?);
    assert_eq!(first, second);
    assert_ne!(first, other);
    ensure!(
        (1750..1850).contains(&first.len()),
        "{} of 2000 arrived",
        first.len()
    );
    let counters = lab
        .link()
        .counters_from(HostName::Laptop)
        .context("no counters")?;
    assert_eq!(
        counters.lost,
        6000 - (first.len() + second.len() + other.len()) as u64
    );
    lab.down()
}

#[test]
fn throughput_reaches_the_configured_rate_and_does_not_exceed_it() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    const BYTES: usize = 5_000_000;
    let lab = Lab::builder()
        .rtt(20 * MS)
        .far(|it| it.rate = Some(20_000_000))
        .up()?;
    let address = lab.gateway().address;
    let listener = lab.gateway().enter(|| TcpListener::bind((address, 0)))??;
    let target = listener.local_addr()?;
    let receiver = thread::spawn(move || -> Result<usize> {
        Ok(listener.accept()?.0.read_to_end(&mut Vec::with_capacity(BYTES))?)
    });
    let start = Instant::now();
    let mut stream = lab.laptop().enter(|| TcpStream::connect(target))??;
    stream.write_all(&vec![0; BYTES])?;
    drop(stream);
    let received = receiver
        .join()
        .map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
    assert_eq!(received, BYTES);
    let mbit = BYTES as f64 * 8e-6 / start.elapsed().as_secs_f64();
    ensure!((14.0..20.0).contains(&mbit), "{mbit} Mbit/s");
    lab.down()
}

#[test]
fn links_can_be_down_or_block_udp() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().up()?;
    let (here, there) = udp_pair(lab.laptop(), lab.gateway())?;
    lab.link().set(|it| it.block_udp = true);
    assert_eq!(arrivals(&here, &there, 5)?.len(), 0);
    ensure!(
        reaches(lab.laptop(), ssh_port(lab.gateway()))?,
        "blocked UDP also blocks TCP"
    );
    lab.link().set(|it| *it = Conditions::default());
    assert_eq!(arrivals(&here, &there, 5)?.len(), 5);
    lab.link().set_up(false);
    ensure!(
        !reaches(lab.laptop(), ssh_port(lab.gateway()))?,
        "a link that is down carries TCP"
    );
    lab.link().set_up(true);
    ensure!(
        reaches(lab.laptop(), ssh_port(lab.gateway()))?,
        "the link does not carry TCP after it is up again"
    );
    lab.down()
}
