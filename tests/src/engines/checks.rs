//! The checks that every engine must pass.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::row::{Devices, Owner};
use super::site::{Connected, Site};
use crate::http;
use crate::lab::Gpus;
use crate::lab::images::{JUPYTER, STATIC};
use crate::product::Client;

/// A check.
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) run: fn(&Site) -> Result<()>,
}

/// All checks, in the order in which they run.
pub(super) const ALL: &[Check] = &[
    check("image", image),
    check("own-container", own_container),
    check("volume", volume),
    check("gpus-none", |site| gpus(site, "no-gpus", "none", &[])),
    check("gpus-all", |site| gpus(site, "all-gpus", "all", &[0, 1])),
    check("gpus-number", |site| gpus(site, "one-gpu", "1", &[0])),
    check("gpus-uuid", |site| gpus(site, "this-gpu", &Gpus::uuid(1), &[1])),
    check("gpus-too-many", too_many_gpus),
    check("forwards", forwards),
    check("second-connect", second_connect),
    check("outage", outage),
];

/// Time limit for the client to notice an outage, and to be connected again after it.
const OUTAGE: Duration = Duration::from_secs(60);

const fn check(name: &'static str, run: fn(&Site) -> Result<()>) -> Check {
    Check { name, run }
}

/// `--image`: a container is created and started, Jupyter answers, and nothing is wrong.
fn image(site: &Site) -> Result<()> {
    let it = site.session("image", &["--gpus", "none"])?;
    ensure!(
        it.ready.engine.starts_with(site.row.title),
        "the engine is {}, not {}",
        it.ready.engine,
        site.row.title
    );
    let container = it.container()?;
    // Podman adds registry and tag.
    ensure!(
        container.origin == "created" && container.image.contains(JUPYTER),
        "{container:?}"
    );
    ensure!(it.warnings.is_empty(), "warnings: {:?}", it.warnings);
    site.jupyter_answers(&it.ready)?;
    it.client.disconnect()
}

/// `-c`: a container that the engine's own command line has created is used and stays as it was.
fn own_container(site: &Site) -> Result<()> {
    let id = site
        .lab
        .docker(["run", "--detach", "--name", "mine", JUPYTER, "sleep", "600"])?;
    let it = site.connect(&["-c", "mine"])?;
    let container = it.container()?;
    ensure!(
        container.id == id.trim() && container.origin == "found",
        "{container:?}, not {id}"
    );
    site.jupyter_answers(&it.ready)?;
    it.client.disconnect()?;
    let running = site
        .lab
        .docker(["inspect", "--format", "{{.State.Running}}", "mine"])?;
    ensure!(running.trim() == "true", "the container is no longer running");
    Ok(())
}

/// `-v`: files in a volume are the caller's, or the caller is warned that they will not be.
fn volume(site: &Site) -> Result<()> {
    let it = site.session("volume", &["--gpus", "none", "-v", "~/fresh:/work"])?;
    if site.row.owner == Owner::Warned {
        ensure!(
            it.notes.iter().any(|note| note.contains("userns-remap")),
            "no note says that users are mapped: {:?}",
            it.notes
        );
        return it.client.disconnect();
    }
    let (status, made) = site.ask(&it.ready, "POST", "/api/contents")?;
    ensure!(status == 201, "Jupyter did not create a file: {status} {made}");
    let file = made["path"].as_str().context("Jupyter named no file")?;
    let path = site.host().home().join("fresh").join(file);
    let owner = path
        .metadata()
        .with_context(|| format!("{} is missing", path.display()))?
        .uid();
    let wanted = site.host().user.uid;
    ensure!(
        owner == wanted,
        "{} belongs to {owner}, not to {wanted}",
        path.display()
    );
    it.client.disconnect()
}

/// `--gpus`: the container has the GPUs with these indices, or the user is told why not.
fn gpus(site: &Site, session: &str, ask: &str, wanted: &[u32]) -> Result<()> {
    let args = ["--gpus", ask];
    let is_number = ask != "all" && ask != "none";
    if site.row.devices == Devices::Refused && is_number {
        return gpus_are_refused(site, session, ask);
    }
    let it = site.session(session, &args)?;
    if site.row.devices == Devices::Refused && ask == "all" {
        ensure!(it.ready.gpus.is_empty(), "GPUs: {:?}", it.ready.gpus);
        ensure!(
            it.warnings.iter().any(|text| text.contains("GPU")),
            "warnings: {:?}",
            it.warnings
        );
        return it.client.disconnect();
    }
    gpus_are(&it, wanted)?;
    it.client.disconnect()
}

fn gpus_are(it: &Connected, wanted: &[u32]) -> Result<()> {
    let seen = &it.ready.gpus;
    let all_there = wanted
        .iter()
        .all(|index| seen.iter().any(|line| line.contains(&Gpus::uuid(*index))));
    ensure!(
        seen.len() == wanted.len() && all_there,
        "GPUs {seen:?}, not {wanted:?}"
    );
    ensure!(it.warnings.is_empty(), "warnings: {:?}", it.warnings);
    Ok(())
}

fn gpus_are_refused(site: &Site, session: &str, ask: &str) -> Result<()> {
    let failure = site.refusal(session, &["--gpus", ask])?;
    ensure!(
        failure.kind == "gpu_unavailable" && failure.status == Some(1),
        "{failure:?}"
    );
    let name = format!("jq-{}-{session}", site.host().user.name);
    let left = site.lab.docker(["ps", "--all", "--format", "{{.Names}}"])?;
    ensure!(
        !left.lines().any(|line| line == name),
        "a container was left behind: {left}"
    );
    Ok(())
}

/// More GPUs than the host has are an error on every engine, and no container is left.
fn too_many_gpus(site: &Site) -> Result<()> {
    gpus_are_refused(site, "too-many", "3")
}

/// Connects to a container that nothing can be added to, and forwards its port 7000, which echoes.
fn forward(site: &Site, container: &str) -> Result<(Client, TcpStream)> {
    site.lab.docker([
        "run",
        "--detach",
        "--name",
        container,
        "--read-only",
        "--user",
        "65534:65534",
        "--cap-drop",
        "ALL",
        STATIC,
    ])?;
    let it = site.connect(&["-c", container, "--jupyter", "none", "-L", "7000"])?;
    let port = it.ready.forwards.first().context("there is no forward")?.port;
    let stream = http::dial(site.lab.laptop(), port)?;
    stream.set_read_timeout(Some(OUTAGE))?;
    Ok((it.client, stream))
}

fn echoes(stream: &mut TcpStream, text: &[u8]) -> Result<()> {
    stream.write_all(text)?;
    let mut heard = vec![0; text.len()];
    stream.read_exact(&mut heard).context("nothing came back")?;
    ensure!(heard == text, "{heard:?} came back");
    Ok(())
}

/// `-L`: a port on the container's own loopback.
fn forwards(site: &Site) -> Result<()> {
    let (client, mut stream) = forward(site, "sealed")?;
    echoes(&mut stream, b"through")?;
    client.disconnect()
}

/// The second connect finds everything as the first one left it.
fn second_connect(site: &Site) -> Result<()> {
    let args = ["--gpus", "none"];
    let first = site.session("again", &args)?;
    let (id, url) = (first.container()?.id.clone(), first.ready.url.clone());
    first.client.disconnect()?;
    let second = site.session("again", &args)?;
    let container = second.container()?;
    ensure!(
        container.id == id && container.origin == "found",
        "{container:?}, not {id}"
    );
    ensure!(
        second.ready.jupyter_was_running == Some(true),
        "Jupyter was started again"
    );
    ensure!(second.ready.url == url, "{:?}, not {url:?}", second.ready.url);
    site.jupyter_answers(&second.ready)?;
    second.client.disconnect()
}

/// A connection stays open while the link is down, and carries on.
fn outage(site: &Site) -> Result<()> {
    let (mut client, mut stream) = forward(site, "outage")?;
    echoes(&mut stream, b"before")?;
    site.lab.link().set_up(false);
    stream.write_all(b"during")?;
    client.wait_for_state("reconnecting", OUTAGE)?;
    site.lab.link().set_up(true);
    let mut heard = [0; 6];
    stream
        .read_exact(&mut heard)
        .context("nothing came back after the outage")?;
    ensure!(&heard == b"during", "{heard:?} came back");
    client.wait_for_state("connected", OUTAGE)?;
    client.disconnect()
}
