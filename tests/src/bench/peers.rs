//! The peers: connections from the laptop to the service on the GPU host, through the product or through an alternative.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Options,
    clock::last,
    dumbpipe::{self, Dumbpipe},
    place::{Control, Place},
    target::{PORT, Wish},
    wire::Kind,
};
use crate::{eventually, eventually_some, product::Client};

/// Time limit for starting a tunnel.
const START: Duration = Duration::from_secs(60);

/// Time limit of a response through a tunnel.
const ANSWER: Duration = Duration::from_secs(30);

/// The fastest cipher on every hop, as a line of ssh's configuration.
const FAST_CIPHER: &str = "Ciphers aes128-gcm@openssh.com";

/// The product's name in the results.
pub(super) const PRODUCT: &str = "jq";

/// What carries the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// No tunnel: TCP directly to the GPU host.
    Raw,
    RawBbr,
    /// `ssh -L`, as OpenSSH is packaged.
    Ssh,
    /// With the fastest cipher on processors with AES instructions.
    SshAes,
    SshAesBbr,
    /// With compression.
    SshCompressed,
    /// A QUIC tunnel from crates.io.
    Dumbpipe,
    Product,
    /// Without compression.
    ProductPlain,
}

impl Who {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw TCP",
            Self::RawBbr => "raw TCP, BBR",
            Self::Ssh => "ssh -L",
            Self::SshAes => "ssh -L, aes128-gcm",
            Self::SshAesBbr => "ssh -L, aes128-gcm, BBR",
            Self::SshCompressed => "ssh -L -C",
            Self::Dumbpipe => dumbpipe::NAME,
            Self::Product => PRODUCT,
            Self::ProductPlain => "jq --no-compression",
        }
    }

    fn control(self) -> Control {
        match self {
            Self::RawBbr | Self::SshAesBbr => Control::Bbr,
            _ => Control::Cubic,
        }
    }

    /// The local port of the tunnel.
    fn port(self) -> u16 {
        match self {
            Self::Raw | Self::RawBbr => PORT,
            Self::Ssh => 9101,
            Self::SshAes => 9102,
            Self::SshAesBbr => 9103,
            Self::Product => 9104,
            Self::Dumbpipe => 9105,
            Self::SshCompressed => 9106,
            Self::ProductPlain => 9107,
        }
    }
}

/// A running peer. Dropping it stops its tunnel.
pub(super) struct Peer {
    pub(super) who: Who,
    pub(super) tunnel: Tunnel,
}

/// The processes of a [`Peer`] on the laptop.
pub(super) enum Tunnel {
    None,
    Ssh(Child),
    Dumbpipe(#[expect(dead_code, reason = "the tunnel runs until it is dropped")] Dumbpipe),
    Product(#[expect(dead_code, reason = "the tunnel runs until it is dropped")] Box<Client>),
}

impl Peer {
    pub(super) fn start(place: &Place, who: Who) -> Result<Self> {
        place.control(who.control())?;
        let tunnel = match who {
            Who::Raw | Who::RawBbr => Tunnel::None,
            Who::Ssh => ssh(place, who.port(), PORT, "")?,
            Who::SshAes | Who::SshAesBbr => ssh(place, who.port(), PORT, FAST_CIPHER)?,
            Who::SshCompressed => ssh(place, who.port(), PORT, "Compression yes")?,
            Who::Dumbpipe => Tunnel::Dumbpipe(dumbpipe::start(place, who.port())?),
            Who::Product => product(place, who.port(), &[])?,
            Who::ProductPlain => product(place, who.port(), &["--name", "plain", "--no-compression"])?,
        };
        let peer = Self { who, tunnel };
        let started = eventually_some("a tunnel to carry data", START, || {
            peer.call(place, Wish::Once).map(Some)
        });
        started.with_context(|| who.name())?;
        place.control(Control::Cubic)?;
        Ok(peer)
    }

    /// Starts those peers of `all` that were requested and are installed.
    pub(super) fn start_all(options: &Options, place: &Place, all: &[Who]) -> Result<Vec<Self>> {
        let asked_for =
            |who: &&Who| options.peers.is_empty() || options.peers.iter().any(|name| name == who.name());
        let installed = |who: &&Who| **who != Who::Dumbpipe || dumbpipe::binary().is_some();
        all.iter()
            .filter(asked_for)
            .filter(installed)
            .map(|who| Self::start(place, *who))
            .collect()
    }

    /// The address to which its streams connect.
    pub(super) fn entrance(&self, place: &Place) -> SocketAddr {
        let address = match self.tunnel {
            Tunnel::None => place.address(),
            Tunnel::Ssh(_) | Tunnel::Dumbpipe(_) | Tunnel::Product(_) => Ipv4Addr::LOCALHOST,
        };
        (address, self.who.port()).into()
    }

    /// Opens a stream to the service and sends this wish. For [`Wish::Once`] and [`Wish::Hold`], waits for the
    /// response.
    pub(super) fn call(&self, place: &Place, wish: Wish) -> Result<TcpStream> {
        let own_control = self.who == Who::RawBbr;
        if own_control {
            place.control(self.who.control())?;
        }
        let entrance = self.entrance(place);
        let socket = place.lab.laptop().enter(|| call(entrance, wish))?;
        if own_control {
            // The other end creates its socket when the last packet of the handshake arrives.
            last(place.wire.rtt * 2);
            place.control(Control::Cubic)?;
        }
        socket.with_context(|| format!("no stream over {}", self.who.name()))
    }
}

/// As [`Peer::call`], on a thread in the laptop's network namespace.
pub(super) fn call(entrance: SocketAddr, wish: Wish) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(entrance)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(ANSWER))?;
    socket.write_all(&wish.encode())?;
    if matches!(wish, Wish::Once | Wish::Hold) {
        let mut answer = [0];
        socket.read_exact(&mut answer)?;
        ensure!(answer == [1], "the response is wrong");
    }
    Ok(socket)
}

/// Waits until a local port accepts connections.
pub(super) fn await_port(place: &Place, port: u16, within: Duration) -> Result<()> {
    let open = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
    eventually("a tunnel to listen", within, || {
        place.lab.laptop().enter(open).unwrap_or(false)
    })
}

/// `ssh -L` from a local port to a port of the GPU host's loopback. `option` overrides the user's configuration.
pub(super) fn ssh(place: &Place, port: u16, to: u16, option: &str) -> Result<Tunnel> {
    let laptop = place.lab.laptop();
    let own = std::fs::read_to_string(laptop.home().join(".ssh/config"))?;
    let configuration = format!(".ssh/config-{port}");
    laptop.write(&configuration, format!("{option}\n{own}"))?;
    let mut command = laptop.command("ssh");
    command.args(["-F", &laptop.home().join(configuration).to_string_lossy()]);
    command.args(["-N", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes"]);
    command.args(["-L", &format!("127.0.0.1:{port}:127.0.0.1:{to}"), "gpu"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    Ok(Tunnel::Ssh(child.context("cannot start ssh")?))
}

/// The arguments of `jq-client connect` for a tunnel from this local port.
pub(super) fn product_words(place: &Place, port: u16) -> Vec<String> {
    let path = match place.wire.kind {
        Kind::Veth | Kind::Direct => "direct",
        Kind::Gateway => "relay",
    };
    let spec = format!("{port}:127.0.0.1:{PORT}");
    let words = [
        "gpu",
        "--jupyter",
        "none",
        "--engine",
        "process",
        "--path",
        path,
        "-L",
        &spec,
    ];
    words.map(str::to_owned).into()
}

fn product(place: &Place, port: u16, flags: &[&str]) -> Result<Tunnel> {
    let words = product_words(place, port);
    let words: Vec<_> = words
        .iter()
        .map(String::as_str)
        .chain(flags.iter().copied())
        .collect();
    let mut client = Client::connect(place.lab.laptop(), &words)?;
    let path = client.ready()?.path;
    let is_right = match place.wire.kind {
        Kind::Veth | Kind::Direct => path == "direct",
        Kind::Gateway => path.starts_with("through "),
    };
    ensure!(is_right, "the path is {path}");
    Ok(Tunnel::Product(Box::new(client)))
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if let Self::Ssh(child) = self {
            // Fails only if the process has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
