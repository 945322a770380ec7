//! A lab whose owner was killed or panicked leaves nothing behind.

use std::{path::Path, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use jq_tests::{
    eventually,
    lab::{self, Lab, LabId, State, remains},
    require,
};

#[test]
fn nothing_remains_after_a_panic() -> Result<()> {
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
fn the_remains_of_a_killed_lab_are_removed() -> Result<()> {
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
    ensure!(!remains(&id).is_empty(), "nothing remains of the killed lab");
    // Another test that starts a lab may have removed the remains already.
    lab::sweep_all()?;
    assert_eq!(remains(&id), [""; 0]);
    ensure!(
        !Path::new(&state.hosts[0].dir).exists(),
        "the lab's directory was not removed"
    );
    Ok(())
}
