//! Tests with real sshds on the loopback, each with its own keys and home. They need no privileges.

mod habits;
mod hosts;
mod words;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};

use tokio::time::interval;

use self::hosts::{Heard, Hosts};
use super::*;
use crate::agent::{Agent, Bundle, Role, prepare};

/// Interval of looks at what is waited for.
const LOOK: Duration = Duration::from_millis(5);

async fn says(host: &SshHost, script: &str) -> String {
    let mut shell = host.shell().unwrap();
    shell.write(script.as_bytes()).await.unwrap();
    shell.write(b"\n").await.unwrap();
    shell.end_input();
    shell.line(Duration::from_secs(20)).await.unwrap()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut look = interval(LOOK);
    let all = async {
        while !is_so() {
            look.tick().await;
        }
    };
    timeout(Duration::from_secs(20), all)
        .await
        .unwrap_or_else(|_| panic!("not so after 20 s: {what}"));
}

#[tokio::test]
async fn each_host_of_a_chain_sees_one_login_and_nothing_is_left_at_the_end() {
    let Some(mut hosts) = Hosts::new() else { return };
    hosts.add("first", "", "");
    hosts.add("second", "", "");
    hosts.add(
        "gpu",
        "ProxyJump first,second\n  RemoteCommand id\n  LocalForward 127.0.0.1:1 x:1\n  RequestTTY yes",
        "",
    );
    for terminal in [false, true] {
        let options = SshOptions {
            terminal,
            ..hosts.options()
        };
        let connection = hosts.open(&options).await.unwrap();
        let names: Vec<_> = connection.hosts().iter().map(RemoteHost::name).collect();
        assert_eq!(names, ["first", "second", "gpu"]);
        assert_eq!(connection.gateways()[0].name(), "first");
        for host in connection.hosts() {
            let home = hosts.path(&format!("home-{}", host.name()));
            let said = futures_util::future::join_all((0..4).map(|_| says(host, "echo \"$HOME\""))).await;
            assert!(
                said.iter().all(|line| *line == home.to_str().unwrap()),
                "{said:?}"
            );
        }
        connection.close().await;
        assert!(fs::read_dir(hosts.path("sockets")).unwrap().next().is_none());
    }
    for name in ["first", "second", "gpu"] {
        assert_eq!(hosts.logins(name), 2, "{}", hosts.log(name));
    }
}

#[tokio::test]
async fn an_agent_is_launched_where_one_session_at_a_time_is_allowed() {
    let Some(mut hosts) = Hosts::new() else { return };
    hosts.add("gpu", "", "MaxSessions 1");
    let script = "#!/bin/sh\nprintf '%s\\n' \"$4\"\nread -r line\n";
    let bundle = Bundle::of(["x86_64", "aarch64"].map(|machine| Agent::new(machine, script.into())));
    let connection = hosts.open(&hosts.options()).await.unwrap();
    let heard = Heard::default();
    let prepared = prepare(connection.target(), Role::Serve, &bundle, &heard).await;
    assert!(prepared.is_ok());
    let steps = heard.0.lock().unwrap().clone();
    assert!(steps.iter().any(|step| step.contains("uploading")), "{steps:?}");
    drop(prepared);
    let folder = hosts.path("home-gpu/.cache/jq");
    assert_eq!(
        folder.metadata().unwrap().permissions(),
        Permissions::from_mode(0o40700)
    );
    connection.close().await;
}

#[tokio::test]
async fn a_connection_ends_with_whoever_holds_it() {
    let Some(mut hosts) = Hosts::new() else { return };
    hosts.add("gpu", "", "");
    let mut connection = hosts.open(&hosts.options()).await.unwrap();
    let mut shell = connection.target().shell().unwrap();
    shell.write(b"echo here; cat\n").await.unwrap();
    assert_eq!(shell.line(Duration::from_secs(20)).await.unwrap(), "here");
    // As the kernel does when this process is killed.
    connection.hosts[0].master.as_mut().unwrap().hold = None;
    let failure = timeout(Duration::from_secs(20), shell.line(Duration::from_secs(20)))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(failure.host.as_deref(), Some("gpu"), "{failure}");
    let socket = connection.hosts[0].socket.path().to_owned();
    until("the control socket is gone", || !socket.exists()).await;
    let mut shell = connection.target().shell().unwrap();
    let failure = shell.line(Duration::from_secs(20)).await.unwrap_err();
    assert_eq!(failure.kind, Kind::ConnectionLost, "{failure}");
    assert_eq!(
        hosts.logins("gpu"),
        1,
        "no connection is made behind the user's back"
    );
}

#[tokio::test]
async fn a_gateway_needs_to_allow_no_shell() {
    let Some(mut hosts) = Hosts::new() else { return };
    hosts.add("gw", "", "MaxSessions 0");
    hosts.add("gpu", "ProxyJump gw", "");
    let connection = hosts.open(&hosts.options()).await.unwrap();
    assert_eq!(says(connection.target(), "echo through").await, "through");
    let mut shell = connection.gateways()[0].shell().unwrap();
    let failure = shell.line(Duration::from_secs(20)).await.unwrap_err();
    assert_eq!(
        (failure.kind, failure.host.as_deref()),
        (Kind::NoShell, Some("gw")),
        "{failure}"
    );
}

#[tokio::test]
async fn a_refused_login_an_unknown_key_and_a_closed_port_are_distinguished() {
    let Some(mut hosts) = Hosts::new() else { return };
    hosts.add("gpu", "", "");
    let options = hosts.options();
    let at = hosts.folder.path().display().to_string();
    for (option, kind) in [
        (format!("IdentityFile={at}/other"), Kind::LoginRefused),
        (format!("UserKnownHostsFile={at}/none"), Kind::HostKeyUnknown),
        (format!("UserKnownHostsFile={at}/wrong"), Kind::HostKeyChanged),
        ("HostName=no-such-host.invalid".to_owned(), Kind::UnknownHost),
        ("Port=1".to_owned(), Kind::Unreachable),
        ("ProxyCommand=/no/such/program".to_owned(), Kind::Unreachable),
        ("NoSuchOption=1".to_owned(), Kind::Usage),
    ] {
        let known = fs::read_to_string(hosts.path("known")).unwrap();
        let mine = fs::read_to_string(hosts.path("user.pub")).unwrap();
        fs::write(
            hosts.path("wrong"),
            format!("{} {mine}", known.split(' ').next().unwrap()),
        )
        .unwrap();
        let mut options = options.clone();
        // A key of the command line is added to those of the configuration.
        if option.starts_with("IdentityFile") {
            fs::write(hosts.path("authorized"), "").unwrap();
        }
        options.options.push(option.clone());
        let failure = hosts.fails(&options).await;
        assert_eq!(failure.kind, kind, "{option}: {failure}");
        assert_eq!(failure.host.as_deref(), Some("gpu"));
        fs::copy(hosts.path("user.pub"), hosts.path("authorized")).unwrap();
    }
    let failure = hosts
        .fails(&SshOptions {
            program: "/nowhere/ssh".into(),
            ..options
        })
        .await;
    assert_eq!(failure.kind, Kind::Local, "{failure}");
}

#[tokio::test]
async fn the_failing_host_of_a_chain_is_named() {
    let Some(mut hosts) = Hosts::new() else { return };
    hosts.add("closed", "", "AllowTcpForwarding no");
    hosts.add("open", "", "");
    hosts.add("gpu", "", "");
    for (jump, option, host, kind, why) in [
        (
            "closed",
            "Port=22",
            "closed",
            Kind::Unreachable,
            "does not allow forwarding",
        ),
        (
            "open",
            "Port=1",
            "gpu",
            Kind::Unreachable,
            "open cannot connect to 127.0.0.1: Connection refused",
        ),
        (
            "open",
            "HostName=no-such-host.invalid",
            "gpu",
            Kind::UnknownHost,
            "open cannot connect",
        ),
        (
            "open,no-such-user@closed",
            "Port=22",
            "no-such-user@closed",
            Kind::LoginRefused,
            "it is on the way to gpu",
        ),
    ] {
        let options = SshOptions {
            jump: Some(jump.to_owned()),
            options: vec![option.to_owned()],
            ..hosts.options()
        };
        let failure = hosts.fails(&options).await;
        assert_eq!(
            (failure.kind, failure.host.as_deref()),
            (kind, Some(host)),
            "{jump} {option}: {failure}"
        );
        assert!(failure.why.contains(why), "{failure}");
    }
}

#[tokio::test]
async fn messages_and_prompts_of_ssh_are_reported() {
    let Some(mut hosts) = Hosts::new() else { return };
    let banner = hosts.banner("Authorised \x1b[31musers only\n");
    hosts.add("gpu", "LogLevel INFO", &banner);
    let heard = Arc::new(Heard::default());
    let reporter: Arc<dyn Reporter> = heard.clone();
    let target = Destination::target("gpu").unwrap();
    let connection = Connection::open(&target, &hosts.options(), &reporter)
        .await
        .unwrap();
    let has = |text: &str| heard.0.lock().unwrap().iter().any(|line| line.starts_with(text));
    until("the banner was shown", || has("notice: gpu says: Authorised ")).await;
    let all = heard.0.lock().unwrap().clone();
    assert!(all.iter().all(|line| !line.contains('\x1b')), "{all:?}");
    let asking: Vec<_> = all.iter().filter(|line| !line.starts_with("notice")).collect();
    assert_eq!(asking, ["gpu: connecting", "prompting: true", "prompting: false"]);
    connection.close().await;
}

#[tokio::test]
async fn in_the_background_keys_suffice_and_a_question_becomes_a_needed_login() {
    let Some(mut hosts) = Hosts::new() else { return };
    hosts.add("gw", "", "");
    hosts.add("gpu", "ProxyJump gw", "");
    let mut options = SshOptions {
        batch: true,
        terminal: true,
        ..hosts.options()
    };
    // Everything that would make ssh ask: the user disables BatchMode, and askpass answers.
    let config = fs::read_to_string(hosts.path("config")).unwrap();
    fs::write(
        hosts.path("config"),
        config.replace("BatchMode yes", "BatchMode no"),
    )
    .unwrap();
    let heard = Arc::new(Heard::default());
    let reporter: Arc<dyn Reporter> = heard.clone();
    let target = Destination::target("gpu").unwrap();
    let connection = Connection::open(&target, &options, &reporter).await.unwrap();
    assert_eq!(says(connection.target(), "echo through").await, "through");
    connection.close().await;
    let heard = heard.0.lock().unwrap().clone();
    assert!(!heard.iter().any(|line| line == "prompting: true"), "{heard:?}");

    let at = hosts.folder.path().display().to_string();
    options.options = vec![format!("UserKnownHostsFile={at}/none")];
    let failure = hosts.fails(&options).await;
    assert!(
        failure.needs_user() && failure.kind == Kind::HostKeyUnknown,
        "{failure}"
    );
    options.options.clear();
    fs::write(hosts.path("authorized"), "").unwrap();
    let failure = hosts.fails(&options).await;
    assert!(
        failure.needs_user() && failure.kind == Kind::LoginRefused,
        "{failure}"
    );
    options.options = vec!["Port=1".to_owned()];
    fs::copy(hosts.path("user.pub"), hosts.path("authorized")).unwrap();
    let failure = hosts.fails(&options).await;
    assert!(!failure.needs_user(), "{failure}");
}
