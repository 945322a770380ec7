//! Habits of users: open master connections, and settings for every host.

use std::process::{Child, Command as Program, Stdio};

use super::*;

/// A master connection that the user has opened.
struct Theirs {
    ssh: Child,
    config: std::path::PathBuf,
}

impl Theirs {
    /// Opens one to `name`, whose configuration has a ControlPath in the folder `cm` of the test.
    async fn open(hosts: &Hosts, name: &str) -> Self {
        let config = hosts.options().config.unwrap();
        let ssh = Program::new("ssh")
            .arg("-F")
            .arg(&config)
            .args(["-M", "-N", "-o", "ControlPersist=no", name])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let theirs = Self { ssh, config };
        until("the user's connection is open", || theirs.is_open(name)).await;
        theirs
    }

    fn is_open(&self, name: &str) -> bool {
        let check = Program::new("ssh")
            .arg("-F")
            .arg(&self.config)
            .args(["-O", "check", name])
            .output()
            .unwrap();
        check.status.success()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.ssh), signal).unwrap();
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}

/// A line of the configuration.
fn control_path(hosts: &Hosts) -> String {
    let folder = hosts.path("cm");
    fs::create_dir(&folder).unwrap();
    format!(
        "ControlMaster auto\n  ControlPath {}/%C\n  ControlPersist 10m",
        folder.display()
    )
}

#[tokio::test]
async fn a_connection_that_the_user_has_open_is_used_asks_nothing_and_stays() {
    let Some(mut hosts) = Hosts::new() else { return };
    let habit = control_path(&hosts);
    hosts.add("gpu", &habit, "");
    let theirs = Theirs::open(&hosts, "gpu").await;
    hosts.close_doors();
    for batch in [false, true] {
        let options = SshOptions {
            batch,
            ..hosts.options()
        };
        let (opened, heard) = hosts.open_and_hear(&options).await;
        let connection = opened.unwrap();
        let said =
            futures_util::future::join_all((0..3).map(|_| says(connection.target(), "echo here"))).await;
        assert_eq!(said, ["here"; 3]);
        assert!(
            heard.all().iter().any(|line| line.contains("that you have open")),
            "{:?}",
            heard.all()
        );
        assert!(!heard.all().iter().any(|line| line == "prompting: true"));
        connection.close().await;
        assert!(theirs.is_open("gpu"), "the user's connection stays");
    }
    assert_eq!(hosts.logins("gpu"), 1, "{}", hosts.log("gpu"));

    let connection = hosts.open(&hosts.options()).await.unwrap();
    theirs.signal(rustix::process::Signal::TERM);
    until("the user's connection is gone", || !theirs.is_open("gpu")).await;
    connection.target().shell().unwrap().close().await;
    let mut shell = connection.target().shell().unwrap();
    let failure = shell.line(Duration::from_secs(20)).await.unwrap_err();
    assert_eq!(failure.kind, Kind::ConnectionLost, "{failure}");
    connection.close().await;
    let failure = hosts.fails(&hosts.options()).await;
    assert!(failure.needs_user(), "without it a login is needed: {failure}");
}

#[tokio::test]
async fn a_connection_of_the_users_leads_past_a_jump_host_that_would_ask() {
    let Some(mut hosts) = Hosts::new() else { return };
    let habit = control_path(&hosts);
    hosts.add("gw", "", "");
    hosts.add("gpu", &format!("ProxyJump gw\n  {habit}"), "");
    let _theirs = Theirs::open(&hosts, "gpu").await;
    let connection = hosts.open(&hosts.options()).await.unwrap();
    assert_eq!(connection.gateways().len(), 1, "a relay needs no question here");
    assert!(!connection.passes_gateways());
    connection.close().await;
    hosts.close_doors();
    let connection = hosts.open(&hosts.options()).await.unwrap();
    assert_eq!(says(connection.target(), "echo past").await, "past");
    assert!(connection.passes_gateways() && connection.gateways().is_empty() && !connection.is_straight());
    connection.close().await;
    // Who insists on a relay logs in everywhere.
    let options = SshOptions {
        needs_gateways: true,
        ..hosts.options()
    };
    let failure = hosts.fails(&options).await;
    assert_eq!(failure.host.as_deref(), Some("gw"), "{failure}");
}

#[tokio::test]
async fn a_jump_host_to_which_the_user_has_a_connection_open_is_not_asked_again() {
    let Some(mut hosts) = Hosts::new() else { return };
    let habit = control_path(&hosts);
    // It passes connections on, and has no session to spare.
    hosts.add("gw", &habit, "MaxSessions 0");
    hosts.add("gpu", "ProxyJump gw", "");
    let _theirs = Theirs::open(&hosts, "gw").await;
    let connection = hosts.open(&hosts.options()).await.unwrap();
    assert_eq!(says(connection.target(), "echo through").await, "through");
    assert_eq!((hosts.logins("gw"), hosts.logins("gpu")), (1, 1));
    connection.close().await;
}

#[tokio::test]
async fn a_connection_of_the_users_that_is_of_no_use_is_left_alone() {
    let Some(mut hosts) = Hosts::new() else { return };
    let habit = control_path(&hosts);
    hosts.add("gpu", &habit, "");
    let theirs = Theirs::open(&hosts, "gpu").await;
    // It hangs, as with a network that is gone.
    theirs.signal(rustix::process::Signal::STOP);
    let connection = hosts.open(&hosts.options()).await.unwrap();
    assert_eq!(says(connection.target(), "echo ours").await, "ours");
    connection.close().await;
    theirs.signal(rustix::process::Signal::CONT);
    assert_eq!(hosts.logins("gpu"), 2);
    assert!(theirs.is_open("gpu"));
}

#[tokio::test]
async fn where_one_session_is_allowed_and_the_user_has_it_we_log_in_ourselves() {
    let Some(mut hosts) = Hosts::new() else { return };
    let habit = control_path(&hosts);
    hosts.add("gpu", &habit, "MaxSessions 1");
    let theirs = Theirs::open(&hosts, "gpu").await;
    let session = Program::new("ssh")
        .arg("-F")
        .arg(&theirs.config)
        .args(["gpu", "echo at work; cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut session = session.unwrap();
    let mut said = String::new();
    let mut output = std::io::BufReader::new(session.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut said).unwrap();
    assert_eq!(said, "at work\n");
    let connection = hosts.open(&hosts.options()).await.unwrap();
    assert_eq!(says(connection.target(), "echo ours").await, "ours");
    assert_eq!(hosts.logins("gpu"), 2);
    connection.close().await;
    drop(session.stdin.take());
    assert!(session.wait().unwrap().success(), "the user's session goes on");
}

#[tokio::test]
async fn settings_for_every_host_neither_change_a_connection_nor_outlive_it() {
    let Some(mut hosts) = Hosts::new() else { return };
    hosts.add(
        "gpu",
        "ForkAfterAuthentication yes\n  StdinNull yes\n  RemoteCommand sleep 600\n  RequestTTY force\n  ControlPersist yes\n  \
         SessionType subsystem\n  PermitLocalCommand yes\n  LocalCommand touch %d/../touched\n  Tunnel no\n  \
         RemoteForward 127.0.0.1:1 x:1\n  ExitOnForwardFailure yes\n  VisualHostKey yes\n  UpdateHostKeys ask\n  \
         SetEnv BASH_ENV=/nowhere\n  SendEnv *",
        "",
    );
    let connection = hosts.open(&hosts.options()).await.unwrap();
    let said = says(
        connection.target(),
        "if [ -t 0 ]; then echo a terminal; else echo works; fi",
    )
    .await;
    assert_eq!(said, "works");
    let socket = connection.target().socket.path().to_owned();
    assert!(socket.exists());
    drop(connection);
    until("ssh has ended, and has not gone to the background", || {
        !socket.exists()
    })
    .await;
    assert!(!hosts.path("touched").exists());
}

#[tokio::test]
async fn includes_with_globs_and_matches_decide_as_for_ssh() {
    let Some(mut hosts) = Hosts::new() else { return };
    hosts.add("gw", "", "");
    hosts.add("gpu", "", "PermitTTY no");
    let options = hosts.options();
    let config = options.config.clone().unwrap();
    let at = hosts.folder.path().display().to_string();
    let more = hosts.path("conf.d");
    fs::create_dir(&more).unwrap();
    let jump = "Match originalhost gpu exec \"test %n = gpu\"\n  ProxyJump gw\n";
    fs::write(more.join("10-jump.conf"), jump).unwrap();
    let last = "Match final originalhost gpu\n  ConnectTimeout 7\n";
    fs::write(more.join("30-final.conf"), last).unwrap();
    let never = "Match originalhost gpu exec false\n  ProxyJump nowhere\n";
    fs::write(more.join("05-never.conf"), never).unwrap();
    let rest = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("Include {at}/conf.d/*.conf\n{rest}")).unwrap();
    let connection = hosts.open(&options).await.unwrap();
    assert_eq!(connection.gateways().len(), 1);
    assert!(connection.target().hop().resolved.has_connect_timeout);
    assert_eq!(says(connection.target(), "echo matched").await, "matched");
    connection.close().await;
}

#[tokio::test]
async fn a_proxy_command_that_is_a_jump_is_seen_as_one() {
    let Some(mut hosts) = Hosts::new() else { return };
    hosts.add("gw", "", "");
    hosts.add("gpu", "ProxyCommand ssh -q %r@gw -W [%h]:%p", "");
    let connection = hosts.open(&hosts.options()).await.unwrap();
    let names: Vec<_> = connection.hosts().iter().map(RemoteHost::name).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0].ends_with("@gw"), "{names:?}");
    assert_eq!(says(connection.target(), "echo through").await, "through");
    connection.close().await;
}

#[tokio::test]
async fn a_command_on_the_gateway_that_passes_connections_on_is_run_there() {
    let Some(mut hosts) = Hosts::new() else { return };
    // Where nc is used, forwarding is often forbidden.
    hosts.add("gw", "", "AllowTcpForwarding no");
    let sshd = hosts.path("sshd-gpu").display().to_string();
    // In place of nc: an sshd of its own, which is told as much.
    hosts.add(
        "gpu",
        &format!("ProxyCommand ssh gw /usr/sbin/sshd -i -f {sshd} -o PidFile=/nowhere/%h-%p"),
        "",
    );
    let connection = hosts.open(&hosts.options()).await.unwrap();
    assert_eq!(connection.gateways().len(), 1);
    assert_eq!(
        says(connection.target(), "echo by a command").await,
        "by a command"
    );
    connection.close().await;
}

#[tokio::test]
async fn a_proxy_command_may_take_its_time() {
    let Some(mut hosts) = Hosts::new() else { return };
    let sshd = hosts.path("sshd-gpu").display().to_string();
    hosts.add(
        "gpu",
        &format!("ProxyCommand sh -c 'sleep 17; exec /usr/sbin/sshd -i -f {sshd}'"),
        "",
    );
    let options = hosts.options();
    let in_background = SshOptions {
        batch: true,
        ..hosts.options()
    };
    let (attended, background) = tokio::join!(hosts.open(&options), hosts.open(&in_background));
    for connection in [attended.unwrap(), background.unwrap()] {
        assert_eq!(says(connection.target(), "echo woken").await, "woken");
        connection.close().await;
    }
}
