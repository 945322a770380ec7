//! Daemons that are set up in other ways than usual.

use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result, ensure};
use jq_tests::{http, lab::Lab, product::Client, require};

use super::{ECHO, JUPYTER, echo, echoes, inspect, lab, ready};

/// A lab whose dockerd was started again after `change`.
fn lab_with(change: impl FnOnce(&mut Lab) -> Result<()>) -> Result<Lab> {
    let mut lab = lab()?;
    change(&mut lab)?;
    lab.engine().stop()?;
    lab.engine().launch()?;
    Ok(lab)
}

#[test]
fn a_daemon_with_another_tmp_gets_by_without_it() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab_with(|lab| {
        lab.engine().hide_tmp();
        Ok(())
    })?;
    let mut client = echo(&lab, &["-v", "~/work:/work"])?;
    ready(&mut client)?;
    echoes(lab.laptop())?;
    client.disconnect()?;
    // What only the login sees cannot be mounted, and that is said.
    let folder = lab.gpu().run("mktemp -d /tmp/jq-lab-XXXXXX")?.trim().to_owned();
    let volume = format!("{folder}:/x");
    let mut client = Client::connect(
        lab.laptop(),
        &[
            "gpu",
            "--image",
            ECHO,
            "--name",
            "other",
            "--jupyter",
            "none",
            "-v",
            &volume,
        ],
    )?;
    let failure = client.failure()?;
    lab.gpu().run(&format!("rmdir {folder}"))?;
    ensure!(failure.kind == "volume_unavailable", "{failure:#?}");
    for word in [folder.as_str(), "does not see it", "PrivateTmp"] {
        ensure!(failure.all_words().contains(word), "no {word} in {failure:#?}");
    }
    lab.down()
}

#[test]
fn where_no_program_gains_privileges_files_belong_to_the_caller_all_the_same() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab_with(|lab| {
        lab.engine().set_options(["--no-new-privileges"]);
        Ok(())
    })?;
    let mut client = Client::connect(lab.laptop(), &["gpu", "--image", JUPYTER, "-v", "~/fresh:/work"])?;
    let ready = client.ready()?;
    let dialled = http::dial(lab.laptop(), ready.jupyter_port()?)?;
    let (status, made) = http::request(dialled, "POST", "/api/contents", Some(ready.token()?))?;
    ensure!(status == 201, "{status} {made}");
    let name = made["path"].as_str().context("no path")?;
    let file = lab.gpu().home().join("fresh").join(name);
    ensure!(file.metadata()?.uid() == lab.gpu().user.uid, "{}", file.display());
    client.disconnect()?;
    lab.down()
}

#[test]
fn where_users_are_mapped_a_container_with_the_callers_folder_runs_as_the_caller() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let mut lab = lab()?;
    let image = lab.gpu().dir.join("image.tar").display().to_string();
    lab.docker(["save", "-o", &image, ECHO])?;
    let user = lab.gpu().user.name.clone();
    // A daemon that maps users has images of its own.
    lab.engine().set_options([format!("--userns-remap={user}")]);
    lab.engine().stop()?;
    lab.engine().launch()?;
    lab.docker(["load", "-q", "-i", &image])?;
    let mut client = echo(&lab, &["-v", "~/work:/work"])?;
    let id = ready(&mut client)?.id;
    echoes(lab.laptop())?;
    let notes = client.texts("note").join("\n");
    ensure!(notes.contains("--userns=host"), "{notes}");
    client.disconnect()?;
    ensure!(runs_as(&lab, &id)? == lab.gpu().user.uid, "it runs as the caller");
    // Without a folder of the caller's, the mapping stays.
    let mut client = Client::connect(
        lab.laptop(),
        &[
            "gpu",
            "--image",
            ECHO,
            "--jupyter",
            "none",
            "--name",
            "other",
            "-L",
            "7000",
        ],
    )?;
    let other = ready(&mut client)?.id;
    echoes(lab.laptop())?;
    client.disconnect()?;
    ensure!(runs_as(&lab, &other)? >= 100_000, "it runs as a mapped user");
    lab.docker(["rm", "-f", &id, &other])?;
    lab.docker(["rmi", "-f", ECHO])?;
    lab.down()
}

/// The host's number of the user of a container's first process.
fn runs_as(lab: &Lab, container: &str) -> Result<u32> {
    let pid = inspect(lab, container, "{{.State.Pid}}")?;
    Ok(std::fs::metadata(format!("/proc/{pid}"))?.uid())
}

#[test]
fn a_rootful_engine_whose_socket_belongs_to_the_user_does_not_make_the_container_root() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let mut lab = lab()?;
    let (socket, user) = (lab.engine().socket(), lab.gpu().user.clone());
    lab.gpu()
        .run_as_root(&format!("chown {} '{}'", user.uid, socket.display()))?;
    let mut client = echo(&lab, &["-v", "~/work:/work"])?;
    let id = ready(&mut client)?.id;
    client.disconnect()?;
    ensure!(runs_as(&lab, &id)? == user.uid, "it runs as the caller");
    lab.down()
}
