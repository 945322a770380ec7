//! A connection that the user has open is used, and nothing is asked.

use std::{fs, net::TcpListener, time::Duration};

use anyhow::{Result, ensure};
use jq_tests::{
    http,
    lab::{HostName, Lab, Topology},
    product::Client,
    require,
    terminal::Terminal,
};

use super::{PROCESS, configure, lab};

/// What only the user knows.
const SECRET: &str = "correct horse";

/// How long what is no matter of computing may take.
const SOON: Duration = Duration::from_secs(30);

const PORT: u16 = 9000;
const FORWARD: &str = "9000:127.0.0.1:9000";

const HABIT: &str = "Host *\n    ControlMaster auto\n    ControlPath ~/.ssh/%n\n    ControlPersist 1h";

/// How often anybody has logged in on a host.
fn logins(lab: &mut Lab, host: HostName) -> Result<usize> {
    let log = fs::read_to_string(lab.sshd(host).log())?;
    Ok(log
        .lines()
        .filter(|line| line.starts_with("Accepted publickey "))
        .count())
}

/// The user logs in as every morning, and leaves the connection open.
fn open_by_hand(lab: &Lab, host: &str) -> Result<()> {
    // The shell stays until ssh is in the background: the end of a terminal's session ends what is in its foreground.
    let line = format!("ssh -fN {host} && until ssh -O check {host}; do :; done");
    let mut terminal = Terminal::open(lab.laptop(), &["sh", "-c", &line])?;
    terminal.shows("Enter passphrase for key", SOON)?;
    terminal.types(&format!("{SECRET}\n"))?;
    ensure!(terminal.wait()?.success(), "{}", terminal.text());
    Ok(())
}

fn is_open(lab: &Lab, host: &str) -> bool {
    lab.laptop().run(&format!("ssh -O check {host} 2>&1")).is_ok()
}

#[test]
fn an_open_connection_of_the_users_spares_a_question_and_outlives_ours_and_its_end_is_survived() -> Result<()>
{
    if !require::lab() {
        return Ok(());
    }
    let mut lab = lab(Topology::Direct)?;
    configure(&lab, HABIT)?;
    lab.laptop().lock_key(SECRET)?;
    open_by_hand(&lab, "gpu")?;

    let service = lab.gpu().enter(|| TcpListener::bind(("127.0.0.1", PORT)))??;
    let mut client = Client::connect(lab.laptop(), &[&PROCESS[..], &["-L", FORWARD]].concat())?;
    client.ready()?;
    let steps = client.texts("step");
    ensure!(
        steps
            .iter()
            .any(|step| step.contains("the ssh connection that you have open")),
        "{steps:?}"
    );
    ensure!(
        logins(&mut lab, HostName::Gpu)? == 1,
        "nobody has logged in again"
    );

    // Only ssh is left, and the user's connection carries the session.
    lab.link().set(|conditions| conditions.block_udp = true);
    client.wait_for_path(SOON, |path| path.contains("ssh"))?;
    ensure!(logins(&mut lab, HostName::Gpu)? == 1);
    let near = http::dial(lab.laptop(), PORT)?;
    let (far, _) = service.accept()?;

    lab.laptop().run("ssh -O exit gpu 2>&1")?;
    client.wait_for_state("login_needed", SOON)?;
    lab.link().set(|conditions| conditions.block_udp = false);
    client.wait_for_path(SOON, |path| path == "directly" || path == "direct")?;
    client.wait_for_state("connected", SOON)?;
    drop((near, far));

    open_by_hand(&lab, "gpu")?;
    client.disconnect()?;
    ensure!(is_open(&lab, "gpu"), "ours has ended, theirs has not");
    lab.laptop().run("ssh -O exit gpu 2>&1")?;
    lab.down()
}

#[test]
fn a_gateway_to_which_a_connection_is_open_asks_nothing_again() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let mut lab = lab(Topology::Gateway)?;
    configure(&lab, HABIT)?;
    // The gateway wants the key that has a passphrase; the GPU host takes another one.
    lab.laptop()
        .run("cp .ssh/id_ed25519 .ssh/plain && cp .ssh/id_ed25519.pub .ssh/plain.pub")?;
    lab.laptop()
        .run("sed -i '/^Host gpu/,$ s|~/.ssh/id_ed25519|~/.ssh/plain|' .ssh/config")?;
    lab.laptop().lock_key(SECRET)?;
    open_by_hand(&lab, "gateway")?;
    let mut client = Client::connect(lab.laptop(), &[&PROCESS[..], &["--path", "relay"]].concat())?;
    let ready = client.ready()?;
    ensure!(ready.path == "through gateway", "{}", ready.path);
    ensure!(
        logins(&mut lab, HostName::Gateway)? == 1,
        "nobody has logged in again"
    );
    client.disconnect()?;
    ensure!(is_open(&lab, "gateway"));
    lab.laptop().run("ssh -O exit gateway 2>&1")?;
    lab.down()
}
