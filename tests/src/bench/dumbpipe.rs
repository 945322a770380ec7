//! dumbpipe from crates.io: TCP connections as streams of QUIC, by iroh. The tunnel of the registry that does the same
//! work as the product on a way that is straight.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{place::Place, target::PORT};
use crate::eventually_some;

/// What it is called, in results, as a file and as a process.
pub(super) const NAME: &str = "dumbpipe";

/// How long it may look for relays in the internet, of which a lab has none, before it says how it is reached.
const ONLINE: Duration = Duration::from_secs(60);

/// Both ends. Dropped, they are ended.
pub(super) struct Dumbpipe(Vec<Child>);

/// Where `deploy/bench` puts it; none when it is not there.
pub(super) fn binary() -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/peers/bin")).join(NAME);
    path.canonicalize().ok()
}

/// Streams from a local port of the laptop to the service.
pub(super) fn start(place: &Place, port: u16) -> Result<Dumbpipe> {
    let binary = binary().context("dumbpipe is not installed: deploy/bench does that")?;
    let (laptop, gpu) = (place.lab.laptop(), place.lab.gpu());
    let said = gpu.home().join("dumbpipe.log");
    let mut listen = gpu.command(&binary);
    listen.args(["listen-tcp", "--host", &format!("127.0.0.1:{PORT}")]);
    listen.stderr(File::create(&said)?);
    let listening = spawn(&mut listen)?;
    let ticket = eventually_some("a ticket of dumbpipe's", ONLINE, || {
        let said = fs::read_to_string(&said)?;
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix("dumbpipe connect-tcp "));
        Ok(line.map(str::to_owned))
    });
    let mut connect = laptop.command(&binary);
    connect.args(["connect-tcp", "--addr", &format!("127.0.0.1:{port}")]);
    let mut ends = Dumbpipe(vec![listening]);
    ends.0.push(spawn(connect.arg(ticket?).stderr(Stdio::null()))?);
    Ok(ends)
}

fn spawn(command: &mut Command) -> Result<Child> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    child.context("cannot start dumbpipe")
}

impl Drop for Dumbpipe {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Fails only when it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
