//! The agent follows the login: what is changed on the host counts from the next connect on, and open streams stay.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use jq_tests::{
    eventually,
    lab::{Host, HostName, Lab, Topology},
    product::Client,
    require,
};

use crate::conversation::{Conversation, FORWARD, service};

const SOON: Duration = Duration::from_secs(30);

/// A group of every Debian that means nothing here.
const GROUP: &str = "games";

/// The numbers of the agents that run on a host.
pub(crate) fn agents(host: &Host) -> Result<Vec<u32>> {
    let found = host.run("pgrep -u \"$(id -u)\" -f 'agent-[0-9a-f]* serve --run-dir' || true")?;
    Ok(found
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect())
}

/// The number of the only agent.
pub(crate) fn agent(host: &Host) -> Result<u32> {
    let found = agents(host)?;
    ensure!(found.len() == 1, "the agents that run: {found:?}");
    Ok(found[0])
}

fn groups(pid: u32) -> Result<Vec<u32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    let groups = line.context("no groups")?.split_whitespace();
    Ok(groups.filter_map(|group| group.parse().ok()).collect())
}

fn environment(pid: u32) -> Result<Vec<String>> {
    let all = fs::read(format!("/proc/{pid}/environ"))?;
    let variables = all.split(|byte| *byte == 0);
    Ok(variables
        .map(|one| String::from_utf8_lossy(one).into_owned())
        .collect())
}

/// The number of a group.
fn number(group: &str) -> Result<u32> {
    let all = fs::read_to_string("/etc/group")?;
    let line = all.lines().find(|line| line.split(':').next() == Some(group));
    let number = line.and_then(|line| line.split(':').nth(2)?.parse().ok());
    number.with_context(|| format!("no group {group}"))
}

const ARGUMENTS: [&str; 5] = ["gpu", "--engine", "process", "--jupyter", "none"];

/// Connects under a name of its own, so that no ticket spares the login.
pub(crate) fn another(lab: &Lab, name: &str) -> Result<Client> {
    let mut client = Client::connect(lab.laptop(), &[&ARGUMENTS[..], &["--name", name]].concat())?;
    client.ready()?;
    Ok(client)
}

/// A session with a connection in it.
pub(crate) fn begun(lab: &Lab) -> Result<(Client, Conversation)> {
    let service = service(lab)?;
    let mut client = Client::connect(lab.laptop(), &[&ARGUMENTS[..], &["-L", FORWARD]].concat())?;
    client.ready()?;
    let mut conversation = Conversation::begin(lab, &service)?;
    conversation.goes_on(b"before")?;
    Ok((client, conversation))
}

#[test]
fn a_new_group_and_a_new_variable_count_from_the_next_connect_on_and_open_streams_stay() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).up()?;
    let (client, mut conversation) = begun(&lab)?;
    let before = agent(lab.gpu())?;
    ensure!(
        !groups(before)?.contains(&number(GROUP)?),
        "a new user has one group"
    );

    lab.gpu().user.join(GROUP)?;
    lab.gpu().write(
        ".bashrc",
        "export DOCKER_HOST=unix:///put/right.sock\numask 027\n",
    )?;
    let begin = Instant::now();
    let second = another(&lab, "second")?;
    conversation.goes_on(b"across")?;
    let after = agent(lab.gpu())?;
    ensure!(
        after != before,
        "it works with the earlier login; {:?}",
        begin.elapsed()
    );
    ensure!(groups(after)?.contains(&number(GROUP)?), "{:?}", groups(after)?);
    ensure!(
        environment(after)?.contains(&"DOCKER_HOST=unix:///put/right.sock".to_owned()),
        "{:?}",
        environment(after)?
    );
    let command = fs::read_to_string(format!("/proc/{after}/cmdline"))?;
    ensure!(command.contains("--umask\u{0}27"), "{command:?}");

    let third = another(&lab, "third")?;
    ensure!(
        agent(lab.gpu())? == after,
        "a login that is the same replaces nothing"
    );
    conversation.goes_on(b"still")?;
    for client in [third, second, client] {
        client.disconnect()?;
    }
    lab.down()
}

#[test]
fn a_client_that_comes_back_over_ssh_replaces_no_agent() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).up()?;
    let (mut client, mut conversation) = begun(&lab)?;
    let before = agent(lab.gpu())?;
    lab.gpu().write(".bashrc", "export LANG=de_DE.UTF-8\n")?;
    lab.link().set(|conditions| conditions.block_udp = true);
    conversation.goes_on(b"meanwhile")?;
    client.wait_for_path(SOON, |path| path == "ssh")?;
    ensure!(agent(lab.gpu())? == before, "two laptops would take turns");
    client.disconnect()?;
    lab.down()
}

#[test]
fn an_engine_that_was_put_right_after_a_failure_is_found_by_the_next_connect() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).docker(true).up()?;
    let arguments = ["gpu", "--image", "jq-lab/jupyter"];
    lab.gpu()
        .write(".bashrc", "export DOCKER_HOST=unix:///nowhere/docker.sock\n")?;
    for attempt in 0..2 {
        let failure = Client::connect(lab.laptop(), &arguments)?.failure()?;
        ensure!(
            failure.all_words().contains("/nowhere/docker.sock"),
            "{attempt}: {failure:?}"
        );
    }
    lab.gpu().run("rm .bashrc")?;
    let mut client = Client::connect(lab.laptop(), &arguments)?;
    let ready = client.ready()?;
    let container = ready.container.context("a container")?;
    client.disconnect()?;

    // The ticket of a connect that worked leads to an agent whose engine is gone; a login leads to the one that is there.
    lab.docker(["rm", "--force", &container.id])?;
    lab.gpu()
        .run("rm .local/state/jq/hosts/*/sessions/gpu.container")?;
    lab.gpu()
        .write(".bashrc", "export DOCKER_HOST=unix:///nowhere/docker.sock\n")?;
    another(&lab, "other")?.disconnect()?;
    lab.gpu().run("rm .bashrc")?;
    let mut client = Client::connect(lab.laptop(), &arguments)?;
    client.ready()?;
    let notes = client.texts("note");
    ensure!(
        notes.iter().any(|note| note.contains("tried again with one")),
        "{notes:?}"
    );
    client.disconnect()?;
    lab.down()
}

#[test]
fn a_file_system_that_hangs_holds_up_the_session_that_needs_it_and_no_stream() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).up()?;
    let (client, mut conversation) = begun(&lab)?;
    // Whoever opens it to write waits until somebody reads, as on a file server that does not answer.
    lab.gpu()
        .run("cd .local/state/jq/hosts/*/ && mkdir -p sessions && mkfifo sessions/second.lock")?;
    let mut second = Client::connect(lab.laptop(), &[&ARGUMENTS[..], &["--name", "second"]].concat())?;
    eventually("the wait has a name", SOON, || {
        let steps = second.texts("step");
        steps
            .iter()
            .any(|step| step.contains("waiting for the host's file system"))
    })?;
    let begin = Instant::now();
    for round in 0..20_u8 {
        conversation.goes_on(&[round; 100])?;
    }
    ensure!(
        begin.elapsed() < SOON,
        "the stream waits too: {:?}",
        begin.elapsed()
    );
    lab.gpu()
        .run("cat .local/state/jq/hosts/*/sessions/second.lock >/dev/null 2>&1 & sleep 0")?;
    second.ready()?;
    second.disconnect()?;
    client.disconnect()?;
    lab.down()
}

#[test]
fn a_process_in_a_container_is_no_bootstrap_though_it_reaches_the_socket_as_the_same_user() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).up()?;
    let (client, mut conversation) = begun(&lab)?;
    lab.gpu().write(
        "ask.py",
        "import glob, json, os, socket, struct\n\
         os.chdir(glob.glob(os.path.expanduser('~/.cache/jq/run/*/agent-*.serve'))[0])\n\
         peer = socket.socket(socket.AF_UNIX)\n\
         peer.settimeout(10)\n\
         peer.connect('control')\n\
         message = json.dumps({'of_a_newer_version': {}}).encode()\n\
         answer = b''\n\
         try:\n\
         \x20   peer.sendall(struct.pack('>I', len(message)) + message)\n\
         \x20   answer = peer.recv(1000)\n\
         except ConnectionError:\n\
         \x20   pass\n\
         print('answered' if answer else 'ignored')\n",
    )?;
    let user = &lab.gpu().user;
    let as_user = format!(
        "HOME={} exec setpriv --reuid {} --regid {} --clear-groups /usr/bin/python3 {}",
        user.home.display(),
        user.uid,
        user.gid,
        user.home.join("ask.py").display()
    );
    let asks = |launcher: &str| {
        lab.gpu()
            .run_as_root(&format!("{launcher} /bin/sh -c '{as_user}'"))
    };
    ensure!(
        asks("")?.trim() == "answered",
        "a process of the host is answered"
    );
    // What a bootstrap has on a host with pam_namespace.
    ensure!(
        asks("unshare --mount")?.trim() == "answered",
        "another /tmp is no container"
    );
    ensure!(
        asks("unshare --mount --pid --fork --mount-proc")?.trim() == "ignored",
        "a container is ignored"
    );
    conversation.goes_on(b"after")?;
    client.disconnect()?;
    lab.down()
}

/// Starts a program for which flock(2) fails, as on a file system without it (seccomp(2), x86-64).
const WITHOUT_FLOCK: &str = "import ctypes, os, sys
class Instruction(ctypes.Structure):
    _fields_ = [('code', ctypes.c_ushort), ('jt', ctypes.c_ubyte), ('jf', ctypes.c_ubyte), ('k', ctypes.c_uint)]
class Program(ctypes.Structure):
    _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.POINTER(Instruction))]
load_number, is_flock = Instruction(0x20, 0, 0, 0), Instruction(0x15, 0, 1, 73)
enosys, allow = Instruction(0x06, 0, 0, 0x00050000 | 38), Instruction(0x06, 0, 0, 0x7fff0000)
program = Program(4, (Instruction * 4)(load_number, is_flock, enosys, allow))
assert ctypes.CDLL(None).prctl(22, 2, ctypes.byref(program)) == 0
os.execv(sys.argv[1], sys.argv[1:])
";

#[test]
fn a_host_whose_files_cannot_be_locked_has_one_agent_all_the_same() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let mut lab = Lab::builder().topology(Topology::Direct).up()?;
    let script = lab.gpu().dir.join("without-flock.py");
    fs::write(&script, WITHOUT_FLOCK)?;
    let script = script.to_string_lossy().into_owned();
    lab.sshd(HostName::Gpu)
        .launch_under(&["/usr/bin/python3", &script])?;
    ensure!(
        lab.laptop()
            .run("ssh gpu 'flock . true' 2>&1 || echo refused")?
            .contains("refused")
    );
    let (client, mut conversation) = begun(&lab)?;
    let before = agent(lab.gpu())?;
    let second = another(&lab, "second")?;
    ensure!(agent(lab.gpu())? == before, "another agent was started");
    lab.gpu().write(".bashrc", "export NO_PROXY=localhost\n")?;
    let third = another(&lab, "third")?;
    ensure!(agent(lab.gpu())? != before, "it works with the earlier login");
    conversation.goes_on(b"across")?;
    for client in [third, second, client] {
        client.disconnect()?;
    }
    lab.down()
}

#[test]
fn a_login_that_differs_is_followed_on_a_host_where_each_login_has_another_tmp() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let mut lab = Lab::builder().topology(Topology::Direct).up()?;
    let (client, mut conversation) = begun(&lab)?;
    let before = agent(lab.gpu())?;
    let other_tmp = "mount -t tmpfs -o mode=1777 none /tmp && exec \"$0\" \"$@\"";
    lab.sshd(HostName::Gpu)
        .launch_under(&["unshare", "--mount", "/bin/sh", "-c", other_tmp])?;
    lab.gpu()
        .write(".bashrc", "export HTTPS_PROXY=http://proxy:3128\n")?;
    let second = another(&lab, "second")?;
    ensure!(agent(lab.gpu())? != before, "it works with the earlier login");
    conversation.goes_on(b"across")?;
    second.disconnect()?;
    client.disconnect()?;
    lab.down()
}
