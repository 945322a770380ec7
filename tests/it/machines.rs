//! Which machine is meant: what runs and what is kept belongs to one machine, whatever it is called and whoever else has its
//! home, its address or its alias.

use std::time::Duration;

use anyhow::{Result, ensure};
use jq_tests::{
    eventually,
    lab::{HostName, Lab, Topology},
    product::Client,
    require,
};

use crate::follows::{agent, agents, another, begun};

const SOON: Duration = Duration::from_secs(60);

/// The id of a machine that is none of ours.
const ANOTHER: &str = "0123456789abcdef0123456789abcdef";

/// How many folders for state there are in the GPU host's home.
fn state_folders(lab: &Lab) -> Result<usize> {
    let listed = lab.gpu().run("ls .local/state/jq/hosts")?;
    Ok(listed.lines().count())
}

#[test]
fn a_host_that_gets_another_name_keeps_its_agent_and_what_it_kept() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let mut lab = Lab::builder().topology(Topology::Direct).up()?;
    let (client, mut conversation) = begun(&lab)?;
    let before = agent(lab.gpu())?;
    lab.sshd(HostName::Gpu).pretend_to_be("dhcp-7", "")?;
    let second = another(&lab, "second")?;
    ensure!(agent(lab.gpu())? == before, "another agent runs for another name");
    ensure!(
        state_folders(&lab)? == 1,
        "its state is looked for under another name"
    );
    conversation.goes_on(b"after")?;
    second.disconnect()?;
    client.disconnect()?;
    lab.down()
}

#[test]
fn machines_that_share_a_home_have_an_agent_and_a_state_each() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let mut lab = Lab::builder().topology(Topology::Direct).up()?;
    let (client, mut conversation) = begun(&lab)?;
    let first = agent(lab.gpu())?;
    for (name, id) in [
        ("login2", ANOTHER),
        ("login3", "fedcba98765432100123456789abcdef"),
    ] {
        lab.sshd(HostName::Gpu).pretend_to_be(name, id)?;
        another(&lab, name)?.disconnect()?;
    }
    ensure!(agents(lab.gpu())?.len() == 3, "{:?}", agents(lab.gpu())?);
    ensure!(state_folders(&lab)? == 3, "{} folders", state_folders(&lab)?);
    lab.sshd(HostName::Gpu).launch_under(&[])?;
    let again = another(&lab, "again")?;
    ensure!(agents(lab.gpu())?.contains(&first) && agents(lab.gpu())?.len() == 3);
    conversation.goes_on(b"after")?;
    again.disconnect()?;
    client.disconnect()?;
    lab.down()
}

#[test]
fn what_an_earlier_build_kept_under_the_hosts_name_is_taken_over() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).up()?;
    let token = "0123456789abcdef0123456789abcdef0123456789abcdef";
    lab.gpu().run(&format!(
        "name=$(uname -n | tr -c 'A-Za-z0-9-\\n' _) && mkdir -p -m 700 .local/state/jq/hosts/$name/sessions && \
         printf {token} >.local/state/jq/hosts/$name/sessions/default.token"
    ))?;
    let (client, _conversation) = begun(&lab)?;
    ensure!(state_folders(&lab)? == 1, "it has another folder");
    let kept = lab
        .gpu()
        .run("cat .local/state/jq/hosts/*/sessions/default.token")?;
    ensure!(kept == token, "{kept}");
    client.disconnect()?;
    lab.down()
}

#[test]
fn a_session_waits_for_its_own_machine_where_several_have_one_name() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let mut lab = Lab::builder().topology(Topology::Direct).up()?;
    let (mut client, mut conversation) = begun(&lab)?;
    let own = agent(lab.gpu())?;
    lab.sshd(HostName::Gpu).pretend_to_be("login2", ANOTHER)?;
    lab.link().set(|conditions| conditions.block_udp = true);
    conversation.asks(b"meanwhile")?;
    let said = |client: &mut Client| {
        let notes = client.texts("note").into_iter();
        notes.filter(|note| note.contains("login2 answers")).count()
    };
    eventually("a note about the other machine", SOON, || said(&mut client) == 1)?;
    ensure!(
        agents(lab.gpu())? == [own],
        "something was started on the other machine"
    );

    lab.sshd(HostName::Gpu).launch_under(&[])?;
    lab.laptop().run("jq-client status --json")?;
    conversation.is_answered(b"meanwhile")?;
    conversation.goes_on(b"after")?;
    ensure!(said(&mut client) == 1, "it is said once");
    client.disconnect()?;
    lab.down()
}

#[test]
fn an_alias_that_became_another_host_is_not_reached_by_the_old_way_back() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Gateway).up()?;
    let config = lab.laptop().run("cat .ssh/config")?;
    let is_called_box =
        |name: &str| config.replacen(&format!("Host {name}\n"), &format!("Host {name} box\n"), 1);
    let arguments = ["box", "--engine", "process", "--jupyter", "none"];
    let connect = |name: &str| -> Result<()> {
        lab.laptop().write(".ssh/config", is_called_box(name))?;
        lab.laptop().run("chmod 600 .ssh/config")?;
        let mut client = Client::connect(lab.laptop(), &arguments)?;
        client.ready()?;
        client.disconnect()
    };
    connect("gateway")?;
    ensure!(agents(lab.gateway())?.len() == 1 && agents(lab.gpu())?.is_empty());
    connect("gpu")?;
    ensure!(
        agents(lab.gpu())?.len() == 1,
        "the session went to where the alias led before"
    );
    lab.down()
}
