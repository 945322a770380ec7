//! `-v`: its options, folders that the engine does not get, and folders that no container gets.

use anyhow::{Result, ensure};
use jq_tests::{product::Client, require};

use super::{ECHO, JUPYTER, echo, inspect, lab, ready};

#[test]
fn volume_options_are_passed_on_and_a_wrong_one_is_named() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    let home = lab.gpu().home().display().to_string();
    let mut client = echo(
        &lab,
        &[
            "-v",
            "~/a:/a:ro,z",
            "-v",
            "~/b:/b:rprivate,cached",
            "-v",
            "~/c:/c:Z",
            "-v",
            "~/d:/d:delegated",
            "-v",
            "cache:/e:nocopy",
            "-v",
            "~/f:/f:ro",
        ],
    )?;
    let id = ready(&mut client)?.id;
    client.disconnect()?;
    let binds = inspect(&lab, &id, "{{range .HostConfig.Binds}}{{println .}}{{end}}")?;
    for wanted in [
        format!("{home}/a:/a:ro,z"),
        format!("{home}/b:/b:cached,rprivate"),
        format!("{home}/c:/c:Z"),
        format!("{home}/d:/d:delegated"),
        "cache:/e:nocopy".into(),
    ] {
        ensure!(binds.lines().any(|line| line == wanted), "no {wanted} in {binds}");
    }
    let mounted = inspect(&lab, &id, "{{range .Mounts}}{{.Destination}} {{.RW}}\n{{end}}")?;
    for wanted in ["/a false", "/b true", "/e true", "/f false"] {
        ensure!(
            mounted.lines().any(|line| line == wanted),
            "no {wanted} in {mounted}"
        );
    }

    let refused = |option: &str| -> Result<_> {
        let volume = format!("~/a:/a:{option}");
        let words = ["gpu", "--image", ECHO, "--name", "other", "-v", &volume];
        Client::connect(lab.laptop(), &words)?.failure()
    };
    let podmans = refused("U")?;
    ensure!(
        podmans.kind == "bad_request" && podmans.what.contains("Docker has no volume option `U`"),
        "{podmans:#?}"
    );
    let nobodys = refused("zz")?;
    ensure!(
        nobodys.kind == "usage" && nobodys.why.contains("`zz`"),
        "{nobodys:#?}"
    );
    ensure!(
        lab.docker(["ps", "-a", "-q", "--filter", "label=dev.jq.session=other"])?
            .is_empty()
    );
    lab.down()
}

#[test]
fn no_container_sees_the_agents_own_folders_in_a_volume_that_covers_them() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    lab.gpu().write("notes.txt", "mine")?;
    let mut client = Client::connect(lab.laptop(), &["gpu", "--image", JUPYTER, "-v", "~:/d:ro"])?;
    let id = ready(&mut client)?.id;
    let inside = |line: &str| lab.docker(["exec", &id, "sh", "-c", line]);
    ensure!(inside("cat /d/notes.txt")? == "mine");
    for folder in ["/d/.cache/jq", "/d/.local/state/jq"] {
        let kind = inside(&format!("stat -f -c %T {folder}"))?;
        ensure!(kind.trim() == "tmpfs", "{folder} is on {kind}");
        let seen = inside(&format!("find {folder} -mindepth 1 2>/dev/null || true"))?;
        ensure!(seen.is_empty(), "it sees {seen}");
    }
    ensure!(
        lab.gpu().run("find .cache/jq -name control")?.lines().count() == 1,
        "there is a control socket"
    );
    let sockets = inside("find /d -name control -type s 2>/dev/null || true")?;
    ensure!(sockets.is_empty(), "it reaches {sockets}");
    client.disconnect()?;
    let mut client = Client::connect(
        lab.laptop(),
        &["gpu", "--image", ECHO, "--name", "other", "-v", "~/.cache/jq:/x"],
    )?;
    let failure = client.failure()?;
    ensure!(failure.kind == "bad_request", "{failure:#?}");
    lab.down()
}

#[test]
fn a_folder_that_root_may_not_enter_is_named_with_what_helps() -> Result<()> {
    if !require::fuse() {
        return Ok(());
    }
    let lab = lab()?;
    lab.gpu().keep_root_out_of("work")?;
    lab.gpu().run("touch work/mine")?;
    let failures = ["~/work:/work", "~/work/deeper:/work", "~/work:/work:z"].map(|volume| {
        let mut client = echo(&lab, &["-v", volume])?;
        client.failure()
    });
    lab.gpu().let_root_into("work")?;
    let folder = lab.gpu().home().join("work").display().to_string();
    for failure in failures {
        let failure = failure?;
        ensure!(failure.kind == "volume_unavailable", "{failure:#?}");
        for word in [folder.as_str(), "may not enter", "root_squash", "local disk"] {
            ensure!(failure.all_words().contains(word), "no {word} in {failure:#?}");
        }
    }
    ensure!(lab.docker(["ps", "-a", "-q"])?.is_empty(), "no container is left");
    lab.down()
}
