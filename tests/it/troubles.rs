//! Errors: each message says what failed, where, why and what to do, and has an exit status.

mod engine;
mod host;
mod way;

use std::net::TcpListener;

use anyhow::{Result, ensure};
use jq_tests::{
    lab::{Lab, Topology},
    product::{Client, Failure},
    require,
};

const IMAGE: &str = "jq-lab/jupyter";

/// A lab without an engine, for failures that happen before one is needed.
fn hosts(topology: Topology) -> Result<Lab> {
    Lab::builder().topology(topology).up()
}

fn with_engine() -> Result<Lab> {
    Lab::builder().topology(Topology::Direct).docker(true).up()
}

fn fails(lab: &Lab, arguments: &[&str]) -> Result<Failure> {
    Client::connect(lab.laptop(), arguments)?.failure()
}

/// Checks that a failure has this kind and status, names this host, and says why and what to do.
fn says(failure: &Failure, kind: &str, status: i32, host: &str, words: &[&str]) -> Result<()> {
    let all = failure.all_words();
    ensure!(
        failure.kind == kind && failure.status == Some(status),
        "{failure:#?}"
    );
    ensure!(
        failure.host.as_deref().is_some_and(|named| named.contains(host)),
        "host: {failure:#?}"
    );
    ensure!(
        !failure.what.is_empty() && !failure.hint.is_empty(),
        "{failure:#?}"
    );
    for word in words {
        ensure!(
            all.to_lowercase().contains(&word.to_lowercase()),
            "`{word}` is missing: {failure:#?}"
        );
    }
    Ok(())
}

#[test]
fn if_a_hundred_local_ports_are_taken_the_error_names_them() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = hosts(Topology::Direct)?;
    let taken: Vec<TcpListener> = lab.laptop().enter(|| {
        (20_000..=20_100)
            .map(|port| TcpListener::bind(("127.0.0.1", port)))
            .collect::<Result<_, _>>()
    })??;
    let mut client = Client::connect(
        lab.laptop(),
        &[
            "gpu",
            "--engine",
            "process",
            "--jupyter",
            "none",
            "-L",
            "20000:7000",
        ],
    )?;
    let failure = client.failure()?;
    ensure!(
        failure.kind == "local" && failure.status == Some(1) && failure.what.contains("20000"),
        "{failure:#?}"
    );
    drop(taken);
    lab.down()
}

#[test]
fn wrong_flags_end_with_2_before_anything_is_started() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = hosts(Topology::Direct)?;
    for arguments in [
        &["gpu", "-L", "99999"][..],
        &["gpu", "-v", "work"],
        &["gpu", "--gpus", "some"],
        &["gpu", "--name", "a/b"],
        &["ann@-oProxyCommand=id", "--image", IMAGE],
    ] {
        let failure = fails(&lab, arguments)?;
        ensure!(
            failure.kind == "usage" && failure.status == Some(2),
            "{arguments:?}: {failure:#?}"
        );
    }
    lab.down()
}
