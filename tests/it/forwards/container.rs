//! Connections into a container without a shell, opened by the agent's helper.

use std::{
    io::{Read, Write},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use jq_tests::{
    http::dial,
    lab::{Lab, Topology},
    product::Client,
    require,
};

use super::{Forwarding, all_reset, open_connections, pattern};

/// An image with a single program, which echoes on ports 7000 and 7001 of its loopback.
const IMAGE: &str = "jq-lab/static";

/// Forwards local ports 7000 and 17001 to the container's ports 7000 and 7001.
fn forwarding() -> Result<Forwarding> {
    let lab = Lab::builder().topology(Topology::Direct).docker(true).up()?;
    let ports = ["-L", "7000", "-L", "17001:7001"];
    let arguments = ["gpu", "--image", IMAGE, "--jupyter", "none"];
    let mut client = Client::connect(lab.laptop(), &[&arguments[..], &ports].concat())?;
    client.ready()?;
    Ok(Forwarding { client, lab })
}

#[test]
fn each_of_two_hundred_concurrent_connections_gets_its_own_bytes_back() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let Forwarding { client, lab } = forwarding()?;
    let streams = (0..200)
        .map(|n| dial(lab.laptop(), if n % 2 == 0 { 7000 } else { 17001 }))
        .collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let echoes: Vec<_> = streams
            .into_iter()
            .enumerate()
            .map(|(n, mut stream)| {
                scope.spawn(move || -> Result<()> {
                    let sent = pattern(n, 20_000);
                    let mut heard = vec![0; sent.len()];
                    stream.write_all(&sent)?;
                    stream
                        .read_exact(&mut heard)
                        .with_context(|| format!("connection {n}"))?;
                    ensure!(heard == sent, "connection {n} received wrong bytes");
                    Ok(())
                })
            })
            .collect();
        echoes
            .into_iter()
            .try_for_each(|echo| echo.join().expect("no panic"))
    })?;
    client.disconnect()?;
    lab.down()
}

#[test]
fn a_killed_agent_resets_every_open_connection() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let Forwarding { client, lab } = forwarding()?;
    let streams = open_connections(&lab, 100)?;
    lab.gpu().run(r#"pkill -KILL -u "$(id -u)" -f '[-]-run-dir'"#)?;
    all_reset(streams)?;
    drop(open_connections(&lab, 1)?);
    client.disconnect()?;
    lab.down()
}
