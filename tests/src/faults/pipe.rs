//! Corruption that no network checksum detects: on the pipe between ssh and the client.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Bench, Limit, Outcome, Scenario, clock::last, site::Plan, trio::Trio};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    id: "F2-pipe",
    name: "bits flipped on the pipe between ssh and the client",
    bar: "every flip is detected, all streams continue",
    quick: true,
    engine: false,
    run: flips,
}];

/// A wrapper around the real ssh. Once the file `~/flip` exists, it flips one bit per second in each direction and counts
/// the flips in `~/flips`.
const SSH: &str = r#"#!/usr/bin/python3
import ctypes, os, random, subprocess, sys, threading, time
home, rng = os.environ["HOME"], random.Random(1)
command = ["/usr/bin/ssh"] + sys.argv[1:]
if "-M" in command or "-G" in command:
    os.execv(command[0], command)
# Killing this process must also kill ssh.
with_this = lambda: ctypes.CDLL(None).prctl(1, 9)
real = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=with_this)
def carry(source, sink):
    due = 0.0
    while True:
        data = os.read(source, 65536)
        if not data:
            break
        if time.monotonic() > due and os.path.exists(home + "/flip") and len(data) > 200:
            due = time.monotonic() + 1
            data = bytearray(data)
            # A reproducible random position, which may also be in the length of a packet: lengths have their own check.
            data[rng.randrange(len(data))] ^= 8
            with open(home + "/flips", "a") as log:
                log.write("x")
        while data:
            data = data[os.write(sink, data):]
    os.close(sink)
def up():
    try:
        carry(0, real.stdin.fileno())
    except OSError:
        pass
threading.Thread(target=up, daemon=True).start()
try:
    carry(real.stdout.fileno(), 1)
except OSError:
    real.kill()
os._exit(real.wait())
"#;

fn flips(_: &Bench) -> Result<Outcome> {
    let plan = Plan::default().with("--path").with("ssh");
    let lab = plan.lab()?;
    lab.laptop().install_script("ssh", SSH)?;
    let mut site = plan.up_in(lab)?;
    let trio = Trio::start(&site)?;
    let laptop = site.lab.laptop();
    laptop.write("flip", "")?;
    last(Duration::from_secs(8));
    let mark = trio.mark();
    let usable = trio.moved_since(&mark, 200_000)?;
    std::fs::remove_file(laptop.home().join("flip"))?;
    trio.end()?;
    let count = std::fs::read(laptop.home().join("flips"))
        .context("no bit was flipped")?
        .len();
    let states = site.states();
    site.finish()?;
    Ok(Outcome::default()
        .with("bits flipped", count as f64, "", Limit::AtLeast(4.0))
        .seconds("usable during the flips", usable, 20.0)
        .noting(states))
}
