//! The lab itself: its hosts, links and daemons work as documented, and it leaves nothing behind.

mod engine;
mod links;
mod remains;

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use jq_tests::{
    lab::{Host, HostName, Lab, Topology},
    require,
};

const MS: Duration = Duration::from_millis(1);

/// Whether `host` can open a TCP connection to `address`.
fn reaches(host: &Host, address: SocketAddr) -> Result<bool> {
    host.enter(|| TcpStream::connect_timeout(&address, 500 * MS).is_ok())
}

fn ssh_port(host: &Host) -> SocketAddr {
    (host.address, 22).into()
}

#[test]
fn only_the_gateway_reaches_the_gpu_host() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().up()?;
    ensure!(
        reaches(lab.laptop(), ssh_port(lab.gateway()))?,
        "the laptop does not reach the gateway"
    );
    ensure!(
        reaches(lab.gateway(), ssh_port(lab.gpu()))?,
        "the gateway does not reach the GPU host"
    );
    ensure!(
        !reaches(lab.laptop(), ssh_port(lab.gpu()))?,
        "the laptop reaches the GPU host"
    );
    // A route does not help, because the gateway does not forward packets.
    lab.laptop().run_as_root(&format!(
        "ip route add 10.77.2.0/24 via {}",
        lab.gateway().address
    ))?;
    ensure!(
        !reaches(lab.laptop(), ssh_port(lab.gpu()))?,
        "the gateway forwards packets"
    );
    let v6 = (lab.gateway().address6, 22).into();
    ensure!(
        reaches(lab.laptop(), v6)?,
        "the laptop does not reach the gateway over IPv6"
    );
    lab.down()
}

#[test]
fn ssh_works_through_the_gateway_and_directly() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    for topology in [Topology::Gateway, Topology::Direct] {
        let lab = Lab::builder().topology(topology).up()?;
        let gpu = lab.gpu();
        let said = lab
            .laptop()
            .run("ssh -o BatchMode=yes gpu 'id -un; pwd; echo $PATH'")?;
        let lines: Vec<_> = said.lines().collect();
        let path = format!("{}/bin:/usr/local/bin:/usr/bin:/bin", gpu.dir.display());
        assert_eq!(lines, [&gpu.user.name, &*gpu.home().to_string_lossy(), &path]);
        // Only its owner can read a home, as on separate machines.
        let other = format!("ls {}", gpu.home().display());
        ensure!(
            lab.laptop().run(&other).is_err(),
            "the laptop's user reads the GPU host's files"
        );
        lab.down()?;
    }
    Ok(())
}

#[test]
fn hosts_can_be_given_faults() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let mut lab = Lab::builder().topology(Topology::Direct).up()?;
    let gpu = lab.gpu().clone();
    let ssh = |lab: &Lab, line: &str| lab.laptop().run(&format!("ssh -o BatchMode=yes gpu '{line}'"));
    gpu.print_at_login("Welcome! \x1b[31mred")?;
    ensure!(
        ssh(&lab, "true")?.starts_with("Welcome! \x1b[31mred"),
        "the banner is missing"
    );
    gpu.print_at_login("")?;
    gpu.pretend_machine("riscv64")?;
    assert_eq!(ssh(&lab, "uname -m")?.trim(), "riscv64");
    gpu.uninstall("uname")?;
    gpu.make_home_read_only()?;
    ensure!(ssh(&lab, "touch x").is_err(), "the home is writable");
    gpu.make_home_writable()?;
    ssh(&lab, "touch x")?;
    gpu.limit_home(512)?;
    ssh(&lab, "head -c 300000 /dev/zero > fits")?;
    ensure!(
        ssh(&lab, "head -c 600000 /dev/zero > too-much").is_err(),
        "the home is not full"
    );
    gpu.make_home_noexec()?;
    ensure!(
        ssh(&lab, "cp /bin/true . && ./true").is_err(),
        "programs in the home can be executed"
    );
    lab.sshd(HostName::Gpu).change_host_key()?;
    let refused = format!(
        "{:#}",
        ssh(&lab, "true")
            .err()
            .context("a changed host key is accepted")?
    );
    ensure!(refused.contains("HOST IDENTIFICATION HAS CHANGED"), "{refused}");
    lab.laptop()
        .run("sed -i d ~/.ssh/known_hosts; ssh -o StrictHostKeyChecking=accept-new gpu true")?;
    lab.laptop().forget_key()?;
    let refused = format!(
        "{:#}",
        ssh(&lab, "true").err().context("an unknown key is accepted")?
    );
    ensure!(refused.contains("Permission denied"), "{refused}");
    lab.sshd(HostName::Gpu).stop_all()?;
    ensure!(!reaches(lab.laptop(), ssh_port(&gpu))?, "sshd still listens");
    lab.down()
}
