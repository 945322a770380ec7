//! dumbpipe from crates.io: a tunnel that carries TCP connections as QUIC streams, by iroh. On direct paths it does the same
//! work as the product.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{place::Place, target::PORT};
use crate::eventually_some;

/// Its name in the results, and of its file and process.
pub(super) const NAME: &str = "dumbpipe";

/// Time limit for its ticket. It first looks for relays in the internet, which a lab does not have.
const ONLINE: Duration = Duration::from_secs(60);

/// The processes of both ends. Dropping this kills them.
pub(super) struct Dumbpipe(Vec<Child>);

/// The path at which `deploy/bench` installs it; none if it is not installed.
pub(super) fn binary() -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/peers/bin")).join(NAME);
    path.canonicalize().ok()
}

/// Starts a tunnel from a local port of the laptop to the service.
pub(super) fn start(place: &Place, port: u16) -> Result<Dumbpipe> {
    let binary = binary().context("dumbpipe is not installed: run deploy/bench")?;
    let (laptop, gpu) = (place.lab.laptop(), place.lab.gpu());
    let said = gpu.home().join("dumbpipe.log");
    let mut listen = gpu.command(&binary);
    listen.args(["listen-tcp", "--host", &format!("127.0.0.1:{PORT}")]);
    listen.stderr(File::create(&said)?);
    let listening = spawn(&mut listen)?;
    let ticket = eventually_some("dumbpipe's ticket", ONLINE, || {
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
            // Fails only if the process has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
