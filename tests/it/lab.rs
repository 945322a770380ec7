//! The lab itself: that its hosts, links and daemons are what they say, and that nothing of them stays.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jq_tests::lab::{
    Browser, Conditions, Gpus, Host, HostName, Lab, LabId, Loss, State, Topology, images, remains,
};
use jq_tests::{eventually, lab, require};

const MS: Duration = Duration::from_millis(1);

/// Whether `host` gets a TCP connection to `address`.
fn reaches(host: &Host, address: SocketAddr) -> Result<bool> {
    host.enter(|| TcpStream::connect_timeout(&address, 500 * MS).is_ok())
}

fn ssh_port(host: &Host) -> SocketAddr {
    (host.address, 22).into()
}

/// A UDP socket of the laptop's that is connected to one of its neighbour's.
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

/// Sends numbered packets and gives the numbers of those that arrived.
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
        // A socket's buffer holds some hundreds of packets, so it must be emptied on the way.
        if number % 50 == 49 {
            receive(20 * MS)?;
        }
    }
    receive(200 * MS)?;
    Ok(arrived)
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
    // Not even with a route, since the gateway forwards nothing.
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
fn ssh_leads_through_the_gateway_and_straight() -> Result<()> {
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
        // Homes are their owners' alone, as on machines of their own.
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
fn the_round_trip_takes_as_long_as_set() -> Result<()> {
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
fn the_same_seed_loses_the_same_packets() -> Result<()> {
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
fn the_rate_is_kept_and_reached() -> Result<()> {
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
fn links_go_down_and_block_udp() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().up()?;
    let (here, there) = udp_pair(lab.laptop(), lab.gateway())?;
    lab.link().set(|it| it.block_udp = true);
    assert_eq!(arrivals(&here, &there, 5)?.len(), 0);
    ensure!(
        reaches(lab.laptop(), ssh_port(lab.gateway()))?,
        "TCP is blocked too"
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
        "the link does not come back"
    );
    lab.down()
}

#[test]
fn hosts_can_be_troubled() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let mut lab = Lab::builder().topology(Topology::Direct).up()?;
    let gpu = lab.gpu().clone();
    let ssh = |lab: &Lab, line: &str| lab.laptop().run(&format!("ssh -o BatchMode=yes gpu '{line}'"));
    gpu.print_at_login("Welcome! \x1b[31mred")?;
    ensure!(
        ssh(&lab, "true")?.starts_with("Welcome! \x1b[31mred"),
        "no banner"
    );
    gpu.print_at_login("")?;
    gpu.pretend_machine("riscv64")?;
    assert_eq!(ssh(&lab, "uname -m")?.trim(), "riscv64");
    gpu.uninstall("uname")?;
    gpu.make_home_read_only()?;
    ensure!(ssh(&lab, "touch x").is_err(), "the home can be written to");
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
        "programs in the home can be started"
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

#[test]
fn the_gpu_host_has_an_engine() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let mut lab = Lab::builder().docker(true).gpus(Gpus::Working(2)).up()?;
    let run = |lab: &Lab, line: &str| lab.laptop().run(&format!("ssh -o BatchMode=yes gpu '{line}'"));
    let list = "docker run --rm --gpus device=1 jq-lab/nojupyter nvidia-smi -L";
    assert_eq!(
        run(&lab, list)?.trim(),
        format!("GPU 1: NVIDIA H100 80GB HBM3 (UUID: {})", Gpus::uuid(1))
    );
    assert_eq!(run(&lab, "nvidia-smi -L")?.lines().count(), 2);
    let other = "docker run --rm jq-lab/nojupyter nvidia-smi -L";
    ensure!(
        run(&lab, other).is_err(),
        "a container has GPUs that nobody asked for"
    );
    ensure!(run(&lab, "docker run --rm jq-lab/jupyter jupyter lab --version")?.starts_with('4'));
    let uid = "docker run --rm --user 0 --env NB_UID=2345 jq-lab/stacks id -u";
    assert_eq!(run(&lab, uid)?.trim(), "2345");
    run(&lab, "docker run --detach --init --name echo jq-lab/static")?;
    ensure!(
        run(&lab, "docker exec echo /bin/sh").is_err(),
        "the static image has a shell"
    );
    // The socket is for the GPU host's user, as on machines of their own.
    let socket = lab.state().engine.clone().context("no engine")?;
    let knock = format!("DOCKER_HOST=unix://{} docker ps", socket.display());
    ensure!(
        lab.laptop().run(&knock).is_err(),
        "the laptop's user talks to the engine"
    );
    lab.engine().stop()?;
    ensure!(run(&lab, "docker ps").is_err(), "dockerd still answers");
    lab.engine().launch()?;
    lab.docker(["tag", images::STATIC, "somebody/else:1"])?;
    let id = lab.id().clone();
    lab.down()?;
    assert_eq!(remains(&id), [""; 0]);
    let lab = Lab::builder()
        .topology(Topology::Direct)
        .docker(true)
        .gpus(Gpus::NoHook(1))
        .up()?;
    assert_eq!(lab.docker(["ps", "--all", "--quiet"])?, "");
    assert_eq!(lab.docker(["images", "--quiet", "somebody/else"])?, "");
    let refused = lab.gpu().run("docker run --rm --gpus all jq-lab/nojupyter true");
    ensure!(refused.is_err(), "an engine without hook gives GPUs");
    lab.down()
}

#[test]
fn a_browser_uses_jupyter_over_a_plain_ssh_tunnel() -> Result<()> {
    if !require::browser() {
        return Ok(());
    }
    let browser = Browser::install()?;
    let lab = Lab::builder().rtt(40 * MS).docker(true).up()?;
    let jupyter = "jupyter lab --allow-root --no-browser --port 8888 --IdentityProvider.token=t";
    lab.gpu().run(&format!(
        "docker run --detach --init --network host {} {jupyter}",
        images::JUPYTER
    ))?;
    let mut tunnel = lab
        .laptop()
        .command("ssh")
        .args(["-N", "-L", "8888:127.0.0.1:8888", "gpu"])
        .spawn()?;
    let url = "http://127.0.0.1:8888/lab?token=t";
    eventually("Jupyter to answer", Duration::from_secs(30), || {
        lab.laptop()
            .run("curl --fail --silent http://127.0.0.1:8888/api")
            .is_ok()
    })?;
    let picture = tempfile::NamedTempFile::new()?;
    let first = browser.use_jupyter(lab.laptop(), url, picture.path())?;
    ensure!(
        std::fs::read(picture.path())?.starts_with(b"\x89PNG"),
        "no picture"
    );
    let again = browser.use_jupyter_again(lab.laptop(), url, &first.notebook, picture.path())?;
    assert_eq!(again.notebook, first.notebook);
    tunnel.kill()?;
    tunnel.wait()?;
    lab.down()
}

#[test]
fn nothing_stays_after_a_panic() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let (say, hear) = std::sync::mpsc::channel();
    let failing = thread::spawn(move || {
        let lab = Lab::builder().up().expect("a lab");
        lab.laptop()
            .run("sleep 600 >/dev/null 2>&1 &")
            .expect("a process");
        say.send(lab.id().clone()).expect("a listener");
        panic!("as a failing test does");
    });
    let id = hear.recv()?;
    ensure!(failing.join().is_err(), "the thread did not panic");
    assert_eq!(remains(&id), [""; 0]);
    Ok(())
}

#[test]
fn what_a_killed_lab_left_is_swept() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let said = lab::tools::output(Command::new(env!("CARGO_BIN_EXE_jq-lab")).args(["up", "--no-docker"]))?;
    let id = said
        .split_whitespace()
        .nth(1)
        .and_then(LabId::parse)
        .with_context(|| format!("no id: {said}"))?;
    let state = State::load(&id)?;
    let show = Command::new(env!("CARGO_BIN_EXE_jq-lab"))
        .args([
            "--lab",
            id.as_str(),
            "run",
            "laptop",
            "--",
            "ssh",
            "gpu",
            "id",
            "-un",
        ])
        .output()?;
    assert_eq!(
        String::from_utf8_lossy(&show.stdout).trim(),
        format!("jq{}gpu", id.as_str())
    );
    let owner = i32::try_from(state.owner)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .context("no owner")?;
    rustix::process::kill_process(owner, rustix::process::Signal::KILL)?;
    eventually("the owner's lock to be free", Duration::from_secs(5), || {
        !state.is_owned()
    })?;
    ensure!(!remains(&id).is_empty(), "there is nothing to sweep");
    // Another test that brings a lab up may have done the sweeping already.
    lab::sweep_all()?;
    assert_eq!(remains(&id), [""; 0]);
    ensure!(!Path::new(&state.hosts[0].dir).exists(), "the directory stays");
    Ok(())
}
