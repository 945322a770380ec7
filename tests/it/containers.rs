//! The container that a user gets: its defaults, its options, and what happens to one that exists already.

use std::os::unix::fs::MetadataExt;

use anyhow::{Result, ensure};
use jq_tests::{
    http,
    lab::{Lab, Topology},
    product::Client,
    require,
};

const IMAGE: &str = "jq-lab/jupyter";

fn lab() -> Result<Lab> {
    Lab::builder().topology(Topology::Direct).docker(true).up()
}

fn inspect(lab: &Lab, container: &str, format: &str) -> Result<String> {
    Ok(lab
        .docker(["inspect", "-f", format, container])?
        .trim()
        .to_owned())
}

#[test]
fn files_made_in_a_volume_belong_to_the_caller() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    for (image, session) in [(IMAGE, "plain"), ("jq-lab/stacks", "stacks")] {
        let arguments = ["gpu", "--image", image, "--name", session, "-v", "~/fresh:/work"];
        let mut client = Client::connect(lab.laptop(), &arguments)?;
        let ready = client.ready()?;
        let dialled = http::dial(lab.laptop(), ready.jupyter_port()?)?;
        let (status, made) = http::request(dialled, "POST", "/api/contents", Some(ready.token()?))?;
        ensure!(status == 201, "{image}: {status} {made}");
        let path = lab
            .gpu()
            .home()
            .join("fresh")
            .join(made["path"].as_str().unwrap_or_default());
        ensure!(
            path.metadata()?.uid() == lab.gpu().user.uid,
            "{image}: {}",
            path.display()
        );
        client.disconnect()?;
    }
    lab.down()
}

#[test]
fn the_defaults_suit_training_and_no_port_is_published() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    let mut client = Client::connect(
        lab.laptop(),
        &["gpu", "--image", IMAGE, "-e", "COLOUR=blue", "-w", "/srv"],
    )?;
    let container = client.ready()?.container.expect("a container");
    ensure!(
        container.name == format!("jq-{}-gpu", lab.gpu().user.name),
        "{}",
        container.name
    );
    let id = &container.id;
    let shm: u64 = inspect(&lab, id, "{{.HostConfig.ShmSize}}")?.parse()?;
    ensure!(shm > 64 << 20, "shared memory of {shm} bytes");
    ensure!(inspect(&lab, id, "{{.HostConfig.Init}}")? == "true");
    ensure!(inspect(&lab, id, "{{.HostConfig.PortBindings}}")? == "map[]");
    ensure!(inspect(&lab, id, "{{.HostConfig.Privileged}}")? == "false");
    ensure!(inspect(&lab, id, "{{.HostConfig.AutoRemove}}")? == "false");
    ensure!(inspect(&lab, id, "{{.Config.WorkingDir}}")? == "/srv");
    // If root on this machine may not raise a limit, the limit stays and the user gets a note.
    let limits = lab.docker(["exec", id, "sh", "-c", "ulimit -l; ulimit -s"])?;
    let refused = client
        .texts("note")
        .iter()
        .any(|note| note.contains("limits") && note.contains("memlock"));
    let (locked, stack) = limits.split_once('\n').unwrap_or_default();
    ensure!((locked != "unlimited") == refused, "memlock: {limits}");
    ensure!(stack == "65536\n", "stack: {limits}");
    let user = lab.docker([
        "exec",
        id,
        "sh",
        "-c",
        "id -u; echo $HOME; touch $HOME/x; echo $COLOUR; whoami",
    ])?;
    let wanted = format!(
        "{}\n/home/jq\nblue\n{}\n",
        lab.gpu().user.uid,
        lab.gpu().user.name
    );
    ensure!(user == wanted, "{user}");
    client.disconnect()?;
    lab.down()
}

#[test]
fn the_token_is_in_no_argument_no_environment_and_no_log() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    let mut client = Client::connect(lab.laptop(), &["gpu", "--image", IMAGE])?;
    let ready = client.ready()?;
    let token = ready.token()?.to_owned();
    let id = ready.container.expect("a container").id;
    ensure!(token.len() >= 32, "a token of {} characters", token.len());
    ensure!(!lab.docker(["inspect", &id])?.contains(&token), "docker inspect");
    ensure!(!lab.docker(["logs", &id])?.contains(&token), "docker logs");
    ensure!(!lab.gpu().run_as_root("ps -eo args")?.contains(&token), "ps");
    let logs = lab.gpu().run("cat .cache/jq/run/*/*/log")?;
    ensure!(!logs.contains(&token), "the agent's log");
    client.disconnect()?;
    lab.down()
}

#[test]
fn a_container_created_with_other_options_is_not_changed_and_each_difference_is_listed() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    let mut client = Client::connect(lab.laptop(), &["gpu", "--image", IMAGE, "-e", "A=1"])?;
    let id = client.ready()?.container.expect("a container").id;
    client.disconnect()?;
    let mut client = Client::connect(lab.laptop(), &["gpu", "--image", "jq-lab/stacks", "-e", "A=2"])?;
    let failure = client.failure()?;
    ensure!(failure.kind == "spec_differs", "{failure:#?}");
    ensure!(
        failure.why.contains("jq-lab/stacks") && failure.why.contains(IMAGE),
        "{failure:#?}"
    );
    ensure!(failure.hint.contains("--name"), "{failure:#?}");
    ensure!(inspect(&lab, &id, "{{.State.Running}}")? == "true");

    // Without `--image`, the session's container is used with the options that it was created with.
    let mut client = Client::connect(lab.laptop(), &["gpu"])?;
    ensure!(client.ready()?.container.expect("a container").id == id);
    client.disconnect()?;
    lab.down()
}

#[test]
fn a_stopped_container_is_started_again_with_the_same_token() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    let arguments = ["gpu", "--image", IMAGE];
    let mut client = Client::connect(lab.laptop(), &arguments)?;
    let first = client.ready()?;
    client.disconnect()?;
    let id = first.container.clone().expect("a container").id;
    lab.docker(["stop", "-t", "2", &id])?;
    let mut client = Client::connect(lab.laptop(), &arguments)?;
    let again = client.ready()?;
    let container = again.container.clone().expect("a container");
    ensure!(
        container.id == id && container.origin == "started" && again.url == first.url,
        "{again:?}"
    );
    client.disconnect()?;
    lab.down()
}

#[test]
fn a_container_that_the_user_created_is_used_unchanged() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    let id = lab
        .docker(["run", "-d", "--name", "mine", IMAGE, "sleep", "600"])?
        .trim()
        .to_owned();
    let mut client = Client::connect(lab.laptop(), &["gpu", "-c", "mine"])?;
    let ready = client.ready()?;
    ensure!(
        ready.container.clone().expect("a container").id == id,
        "{ready:?}"
    );
    let dialled = http::dial(lab.laptop(), ready.jupyter_port()?)?;
    ensure!(http::request(dialled, "GET", "/api/status", Some(ready.token()?))?.0 == 200);
    client.disconnect()?;
    let mut client = Client::connect(lab.laptop(), &["gpu", "-c", "mine"])?;
    ensure!(client.ready()?.jupyter_was_running == Some(true));
    client.disconnect()?;
    ensure!(inspect(&lab, &id, "{{.State.Running}}")? == "true");

    let mut client = Client::connect(lab.laptop(), &["gpu", "-c", "nobodys"])?;
    ensure!(client.failure()?.kind == "container_unavailable");
    lab.down()
}

#[test]
fn a_port_on_the_loopback_of_any_container_can_be_reached() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    use std::io::{Read, Write};
    let lab = lab()?;
    // No shell, a read-only root file system and the user `nobody`: no file can be added to it, and no program run in it.
    lab.docker([
        "run",
        "-d",
        "--name",
        "sealed",
        "--read-only",
        "--user",
        "65534:65534",
        "--cap-drop",
        "ALL",
        "jq-lab/static",
    ])?;
    let mut client = Client::connect(
        lab.laptop(),
        &["gpu", "-c", "sealed", "--jupyter", "none", "-L", "7000"],
    )?;
    client.ready()?;
    let mut stream = http::dial(lab.laptop(), 7000)?;
    stream.write_all(b"through")?;
    let mut heard = [0; 7];
    stream.read_exact(&mut heard)?;
    ensure!(&heard == b"through");
    client.disconnect()?;
    lab.down()
}

#[test]
fn a_missing_folder_is_created_in_the_home_and_is_an_error_elsewhere() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    let mut client = Client::connect(
        lab.laptop(),
        &["gpu", "--image", IMAGE, "-v", "/no/such/data:/data"],
    )?;
    let failure = client.failure()?;
    ensure!(
        failure.kind == "volume_unavailable" && failure.all_words().contains("/no/such/data"),
        "{failure:#?}"
    );
    let mut client = Client::connect(
        lab.laptop(),
        &["gpu", "--image", IMAGE, "-v", "~/new/folder:/data:ro"],
    )?;
    client.ready()?;
    let made = lab.gpu().home().join("new/folder").metadata()?;
    ensure!(made.uid() == lab.gpu().user.uid);
    client.disconnect()?;
    lab.down()
}

#[test]
fn two_connects_at_once_create_one_container() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    let arguments = ["gpu", "--image", IMAGE];
    let mut one = Client::connect(lab.laptop(), &arguments)?;
    let mut other = Client::spawn(lab.laptop().command("jq-client").arg("connect").args(arguments))?;
    let (first, second) = (one.ready()?, other.ready()?);
    ensure!(first.container.expect("a container").id == second.container.expect("a container").id);
    ensure!(first.url != second.url, "both clients have the same port");
    one.disconnect()?;
    other.disconnect()?;
    lab.down()
}
