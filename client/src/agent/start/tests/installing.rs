//! Tests of the installation, and of what can prevent it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use super::{
    home::{names, write_executable},
    *,
};

#[tokio::test]
async fn ten_clients_can_install_at_once() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    let home = Home::sh();
    let (host, heard) = (home.host(), Heard::default());
    let all = futures_util::future::join_all((0..10).map(|_| launch(&host, &bundle, &heard))).await;
    assert!(all.iter().all(|one| *one == Ok(reply())), "{all:?}");
    installed(&home.cache(), &bundle);
}

#[tokio::test]
async fn a_host_with_only_the_required_commands_suffices() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    let home = Home::sh();
    let host = home.host_with(&["sh", "cat", "chmod", "mv", "mkdir", "uname", "dd"]);
    assert_eq!(launch(&host, &bundle, &Heard::default()).await, Ok(reply()));
    let file = home.cache().join(bundle.agents()[0].file_name());
    assert!(fs::read(file).unwrap() == bundle.agents()[0].raw().unwrap());
}

#[tokio::test]
async fn without_sha256sum_the_client_verifies_the_upload() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    let home = Home::sh();
    home.set("gzip", "/bin/gzip \"$@\"; echo more");
    let host = home.host_with(&["sh", "cat", "chmod", "mv", "mkdir", "uname", "dd", "rm", "gzip"]);
    assert_eq!(launch(&host, &bundle, &Heard::default()).await, Ok(reply()));
    installed(&home.cache(), &bundle);
}

#[tokio::test]
async fn a_corrupted_upload_is_repeated_once() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    let home = Home::sh();
    home.set("gzip", "/bin/gzip \"$@\"; echo more");
    assert_eq!(
        launch(&home.host(), &bundle, &Heard::default()).await,
        Ok(reply())
    );
    installed(&home.cache(), &bundle);
}

#[tokio::test]
async fn an_agent_that_is_always_corrupted_is_never_run() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    let home = Home::sh();
    home.set("id", ":");
    home.set("cat", "/bin/cat \"$@\"; echo more");
    home.set("gzip", "exit 1");
    let failure = launch(&home.host(), &bundle, &Heard::default())
        .await
        .unwrap_err();
    assert_eq!(failure.kind, Kind::InstallFailed);
    assert!(failure.why.contains("corrupted"), "{failure}");
    assert_eq!(names(&home.cache()), [""; 0]);
}

#[tokio::test]
async fn an_unusable_home_is_skipped() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    for words in shells() {
        let home = Home::new(&words);
        fs::write(home.path("home/.cache"), "a file in the way").unwrap();
        assert_eq!(
            launch(&home.host(), &bundle, &Heard::default()).await,
            Ok(reply()),
            "{words:?}"
        );
        installed(&home.temporary(), &bundle);
    }
}

#[tokio::test]
async fn a_folder_that_others_could_have_made_is_not_used() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    let name = bundle.agents()[0].file_name();
    let home = Home::sh();
    fs::write(home.path("home/.cache"), "a file in the way").unwrap();
    fs::create_dir(home.path("elsewhere")).unwrap();
    symlink(home.path("elsewhere"), home.temporary()).unwrap();
    write_executable(&home.path("elsewhere").join(&name), "#!/bin/sh\nexit 99\n");
    assert_eq!(
        launch(&home.host(), &bundle, &Heard::default()).await,
        Ok(reply())
    );
    assert_eq!(names(&home.path("elsewhere")), [name]);
    installed(&Path::new("/var/tmp").join(format!("jq-{}", home.id)), &bundle);
}

#[tokio::test]
async fn if_no_folder_is_suitable_each_is_named_with_its_cause() {
    let home = Home::sh();
    fs::write(home.path("home/.cache"), "a file in the way").unwrap();
    home.set("id", ":");
    let failure = launch(&home.host(), &script(""), &Heard::default())
        .await
        .unwrap_err();
    assert_eq!(failure.kind, Kind::InstallFailed);
    assert!(failure.why.contains("/home/.cache/jq: "), "{failure}");
    assert!(failure.why.contains("no id command"), "{failure}");
}

#[tokio::test]
async fn a_full_folder_leaves_nothing_and_the_next_is_taken() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    let home = Home::sh();
    // The disk is full at the first attempt.
    home.set(
        "gzip",
        &format!(
            "[ -e {0} ] && exec /bin/gzip \"$@\"; : >{0}; cat >/dev/null; echo half\n\
             echo 'gzip: stdout: No space left on device' >&2; exit 1",
            home.path("once").display(),
        ),
    );
    assert_eq!(
        launch(&home.host(), &bundle, &Heard::default()).await,
        Ok(reply())
    );
    assert_eq!(names(&home.cache()), [""; 0], "nothing partial is left");
    installed(&home.temporary(), &bundle);
}

/// Hosts whose home is a separate file system with these mount options, visible to one shell only.
fn home_mounted(options: &str) -> Option<Home> {
    let unshare = if rustix::process::geteuid().is_root() {
        "-m"
    } else {
        "-rm"
    };
    let may_mount = std::process::Command::new("unshare")
        .args([unshare, "mount", "-t", "tmpfs", "none", "/mnt"])
        .output();
    if !may_mount.is_ok_and(|output| output.status.success()) {
        crate::not_run::not_run("this user may mount nothing");
        return None;
    }
    let script: &'static str = format!(
        "mount -t tmpfs -o {options} none \"$HOME\" || exit 9
mkdir -p \"$HOME/.cache/jq\" 2>&-
exec /bin/sh -s"
    )
    .leak();
    Some(Home::new(&["unshare", unshare, "/bin/sh", "-c", script]))
}

#[tokio::test]
async fn a_full_read_only_or_noexec_home_is_skipped() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    for (options, uploads) in [
        ("ro", 1),
        ("noexec", 1),
        ("size=32k", 2),
        ("size=4k,nr_inodes=2", 1),
    ] {
        let Some(home) = home_mounted(options) else { return };
        let heard = Heard::default();
        assert_eq!(
            launch(&home.host(), &bundle, &heard).await,
            Ok(reply()),
            "{options}"
        );
        installed(&home.temporary(), &bundle);
        assert_eq!(heard.uploads(), uploads, "{options}");
    }
}

#[tokio::test]
async fn a_full_home_is_reported_with_the_needed_and_the_free_space() {
    let Some(home) = home_mounted("size=32k") else {
        return;
    };
    home.set("id", ":");
    let failure = launch(
        &home.host(),
        &agent(&Ok(Started::Serve(reply()))),
        &Heard::default(),
    )
    .await
    .unwrap_err();
    assert_eq!(failure.kind, Kind::InstallFailed);
    assert!(failure.why.contains("/home/.cache/jq: "), "{failure}");
    assert!(
        failure.why.contains("No space left on device") && failure.why.contains("KiB are free"),
        "{failure}"
    );
    assert!(failure.hint.contains("free 1 MB"), "{}", failure.hint);
}

#[tokio::test]
async fn a_truncated_agent_is_uploaded_again() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    for words in shells() {
        let home = Home::new(&words);
        fs::create_dir_all(home.cache()).unwrap();
        let file = home.cache().join(bundle.agents()[0].file_name());
        for broken in [
            &b"\x7fELF\x02\x01\x01\x00cut"[..],
            b"",
            b"#!/no/such/interpreter\n",
        ] {
            fs::write(&file, broken).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
            assert_eq!(
                launch(&home.host(), &bundle, &Heard::default()).await,
                Ok(reply()),
                "{words:?}"
            );
            installed(&home.cache(), &bundle);
        }
    }
}

#[tokio::test]
async fn two_other_versions_are_kept() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    let home = Home::sh();
    fs::create_dir_all(home.cache()).unwrap();
    let others: Vec<_> = (0..5).map(|i| format!("agent-{i:016x}")).collect();
    for (age, name) in others.iter().rev().enumerate() {
        let file = fs::File::create(home.cache().join(name)).unwrap();
        let time = std::time::SystemTime::now() - Duration::from_secs(3600 * (age as u64 + 1));
        file.set_modified(time).unwrap();
    }
    fs::write(home.cache().join("agent-of-mine"), "").unwrap();
    launch(&home.host(), &bundle, &Heard::default()).await.unwrap();
    let mut want = vec![
        others[3].clone(),
        others[4].clone(),
        "agent-of-mine".into(),
        bundle.agents()[0].file_name(),
    ];
    want.sort();
    assert_eq!(names(&home.cache()), want);
}
