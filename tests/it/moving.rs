//! The lab's address changes, its NAT and its silently dropped flows work as documented.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use jq_tests::{
    lab::{Host, Lab, Nat, Topology},
    require,
};
use rustix::process::getpid;

const SOON: Duration = Duration::from_secs(2);
const NEVER: Duration = Duration::from_millis(300);

fn socket(host: &Host, timeout: Duration) -> Result<UdpSocket> {
    let socket = host.enter(|| UdpSocket::bind("0.0.0.0:0"))??;
    socket.set_read_timeout(Some(timeout))?;
    Ok(socket)
}

/// Sends a packet and returns the source address that the receiver sees, if it arrives.
fn sender(from: &UdpSocket, to: &UdpSocket, at: IpAddr) -> Result<Option<SocketAddr>> {
    from.send_to(b"x", (at, to.local_addr()?.port()))?;
    match to.recv_from(&mut [0; 8]) {
        Ok((_, sender)) => Ok(Some(sender)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[test]
fn a_nat_hides_the_laptop_and_can_change_or_drop_its_mappings() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Gateway).up()?;
    let mut nat = Nat::start(lab.laptop(), lab.gateway(), lab.gpu())?;
    let (inside, outside) = (socket(lab.laptop(), NEVER)?, socket(lab.gpu(), SOON)?);
    let there = IpAddr::from(lab.gpu().address);
    let first = sender(&inside, &outside, there)?.context("no packet arrives")?;
    ensure!(
        first.ip() != IpAddr::from(lab.laptop().address),
        "the laptop's own address is visible: {first}"
    );
    let same = sender(&inside, &outside, there)?;
    ensure!(
        same == Some(first),
        "the flow's port changed: {same:?} after {first}"
    );
    let answered = |to: SocketAddr| -> Result<bool> {
        outside.send_to(b"y", to)?;
        Ok(inside.recv(&mut [0; 8]).is_ok())
    };
    ensure!(answered(first)?, "a reply does not arrive");
    nat.rebind()?;
    ensure!(!answered(first)?, "a reply to the old port arrives");
    let second = sender(&inside, &outside, there)?.context("no packet arrives")?;
    ensure!(second != first, "the port did not change: {second}");
    ensure!(answered(second)?);
    nat.forget()?;
    ensure!(!answered(second)?, "a reply arrives without a mapping");
    let old = IpAddr::from(lab.laptop().address);
    lab.laptop().change_address(old, [10, 77, 1, 100].into())?;
    ensure!(
        sender(&inside, &outside, there)?.is_some(),
        "a laptop with a new address sends nothing through the NAT"
    );
    lab.down()
}

#[test]
fn a_host_with_a_new_address_sends_from_that_address_only() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).up()?;
    let (inside, outside) = (socket(lab.laptop(), NEVER)?, socket(lab.gpu(), SOON)?);
    let (old, new) = (IpAddr::from(lab.laptop().address), IpAddr::from([10, 77, 3, 100]));
    let there = lab.gpu().address.into();
    ensure!(sender(&inside, &outside, there)?.map(|from| from.ip()) == Some(old));
    lab.laptop().change_address(old, new)?;
    ensure!(sender(&inside, &outside, there)?.map(|from| from.ip()) == Some(new));
    outside.send_to(b"y", (old, inside.local_addr()?.port()))?;
    ensure!(inside.recv(&mut [0; 8]).is_err(), "the old address still answers");
    let device = lab.laptop().lose_address(new)?;
    ensure!(
        sender(&inside, &outside, there).is_err(),
        "a host without an address sends packets"
    );
    ensure!(
        inside.send_to(b"x", (there, 9)).is_err(),
        "a host without an address sends packets"
    );
    lab.laptop().gain_address(old, &device)?;
    ensure!(sender(&inside, &outside, there)?.map(|from| from.ip()) == Some(old));
    lab.down()
}

#[test]
fn silenced_sockets_send_nothing_but_new_sockets_do() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).up()?;
    let (inside, outside) = (socket(lab.laptop(), NEVER)?, socket(lab.gpu(), NEVER)?);
    let there = lab.gpu().address.into();
    ensure!(sender(&inside, &outside, there)?.is_some());
    lab.laptop().silence_udp_of(getpid())?;
    let sent = sender(&inside, &outside, there);
    ensure!(
        !matches!(sent, Ok(Some(_))),
        "a packet of a silenced socket arrived: {sent:?}"
    );
    let new = socket(lab.laptop(), NEVER)?;
    ensure!(
        sender(&new, &outside, there)?.is_some(),
        "a new socket is silenced too"
    );
    lab.laptop().restore_udp()?;
    ensure!(sender(&inside, &outside, there)?.is_some());
    lab.down()
}
