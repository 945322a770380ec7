//! The lab's address changes, NAT and silenced flows work as documented.

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

/// Sends a packet and gives where it seems to come from, if it arrives.
fn sender(from: &UdpSocket, to: &UdpSocket, at: IpAddr) -> Result<Option<SocketAddr>> {
    from.send_to(b"x", (at, to.local_addr()?.port()))?;
    match to.recv_from(&mut [0; 8]) {
        Ok((_, sender)) => Ok(Some(sender)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[test]
fn a_nat_hides_the_laptop_and_rebinds_and_forgets_its_flows() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Gateway).up()?;
    let mut nat = Nat::start(lab.laptop(), lab.gateway(), lab.gpu())?;
    let (inside, outside) = (socket(lab.laptop(), NEVER)?, socket(lab.gpu(), SOON)?);
    let there = IpAddr::from(lab.gpu().address);
    let first = sender(&inside, &outside, there)?.context("nothing gets through")?;
    ensure!(
        first.ip() != IpAddr::from(lab.laptop().address),
        "the laptop is seen: {first}"
    );
    let same = sender(&inside, &outside, there)?;
    ensure!(
        same == Some(first),
        "a flow keeps its port: {same:?} after {first}"
    );
    let answered = |to: SocketAddr| -> Result<bool> {
        outside.send_to(b"y", to)?;
        Ok(inside.recv(&mut [0; 8]).is_ok())
    };
    ensure!(answered(first)?, "answers find their way");
    nat.rebind()?;
    ensure!(!answered(first)?, "the old port leads nowhere");
    let second = sender(&inside, &outside, there)?.context("nothing gets through")?;
    ensure!(second != first, "another port: {second}");
    ensure!(answered(second)?);
    nat.forget()?;
    ensure!(!answered(second)?, "a forgotten flow lets nothing in");
    let old = IpAddr::from(lab.laptop().address);
    lab.laptop().change_address(old, [10, 77, 1, 100].into())?;
    ensure!(
        sender(&inside, &outside, there)?.is_some(),
        "a laptop that moved finds its way"
    );
    lab.down()
}

#[test]
fn a_host_that_moved_is_heard_from_its_new_address_only() -> Result<()> {
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
    ensure!(sender(&inside, &outside, there).is_err(), "no address, no way");
    ensure!(inside.send_to(b"x", (there, 9)).is_err(), "no address, no way");
    lab.laptop().gain_address(old, &device)?;
    ensure!(sender(&inside, &outside, there)?.map(|from| from.ip()) == Some(old));
    lab.down()
}

#[test]
fn silenced_sockets_send_nothing_while_new_ones_do() -> Result<()> {
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
        "a silenced socket was heard: {sent:?}"
    );
    let new = socket(lab.laptop(), NEVER)?;
    ensure!(
        sender(&new, &outside, there)?.is_some(),
        "a new socket is not concerned"
    );
    lab.laptop().carry_again()?;
    ensure!(sender(&inside, &outside, there)?.is_some());
    lab.down()
}
