//! Image pulls from a registry, with faults.

use std::time::Duration;

use anyhow::{Result, ensure};
use jq_tests::{
    eventually,
    lab::{Lab, Registry, Topology},
    product::{Client, Container, Failure},
    require,
};
use serde_json::Value;

/// A small image without Jupyter: a pull consists mostly of the layer that the test adds.
const BASE: &str = "jq-lab/static";

const MIB: usize = 1 << 20;

/// Time limit for dockerd to contact a registry.
const SOON: Duration = Duration::from_secs(60);

fn lab() -> Result<(Lab, Registry)> {
    let lab = Lab::builder().topology(Topology::Direct).docker(true).up()?;
    let registry = Registry::start(&lab)?;
    Ok((lab, registry))
}

fn connect(lab: &Lab, image: &str, options: &[&str]) -> Result<Client> {
    let arguments = [&["gpu", "--image", image, "--jupyter", "none"], options].concat();
    Client::connect(lab.laptop(), &arguments)
}

/// Connects, and returns the session's container.
fn container(lab: &Lab, image: &str, options: &[&str]) -> Result<Container> {
    let mut client = connect(lab, image, options)?;
    let container = client.ready()?.container.expect("a container");
    client.disconnect()?;
    Ok(container)
}

/// The failure of a connect whose image cannot be pulled. Checks that it names the image.
fn unavailable(lab: &Lab, image: &str, options: &[&str]) -> Result<Failure> {
    let failure = connect(lab, image, options)?.failure()?;
    ensure!(
        failure.kind == "image_unavailable" && failure.status == Some(1),
        "{failure:#?}"
    );
    ensure!(failure.what.contains(image), "{failure:#?}");
    ensure!(failure.host.as_deref() == Some("gpu"), "{failure:#?}");
    let made_from = lab.docker(["ps", "-a", "--format", "{{.Image}}"])?;
    ensure!(
        !made_from.contains(image),
        "a container was left behind: {made_from}"
    );
    Ok(failure)
}

/// The progress events of the pull of `image`: bytes done, and bytes in total.
fn progress(events: &[Value], image: &str) -> Vec<(u64, Option<u64>)> {
    let pulling = format!("pulling {image}");
    events
        .iter()
        .skip_while(|event| event["event"] != "step" || event["text"] != pulling.as_str())
        .skip(1)
        .take_while(|event| event["event"] != "step")
        .filter(|event| event["event"] == "progress" && event["unit"] == "bytes")
        .filter_map(|event| Some((event["done"].as_u64()?, event["total"].as_u64())))
        .collect()
}

#[test]
fn a_missing_image_is_pulled_once_and_the_progress_is_reported() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let (lab, registry) = lab()?;
    registry.set(|behaviour| behaviour.rate = Some(4 * MIB as u64));
    let image = registry.publish(&lab, BASE, "team/trainer:1", 8 * MIB)?;
    let mut client = connect(&lab, &image, &[])?;
    let made = client.ready()?.container.expect("a container");
    ensure!(made.origin == "created" && made.image == image, "{made:?}");
    let told = progress(client.events(), &image);
    client.disconnect()?;
    ensure!(told.len() >= 5, "{told:?}");
    ensure!(told.is_sorted_by_key(|(done, _)| *done), "{told:?}");
    // The last bytes may be missing from the progress events.
    let (done, total) = told.last().copied().unwrap_or_default();
    let fetched = registry.traffic().layer_bytes;
    ensure!(
        total == Some(fetched) && done <= fetched && done > fetched / 4 * 3,
        "progress of {fetched} bytes: {told:?}"
    );

    // Neither the session's container nor a new one pulls an image that exists.
    let before = registry.traffic();
    ensure!(container(&lab, &image, &[])?.id == made.id);
    ensure!(container(&lab, &image, &["--name", "other"])?.origin == "created");
    ensure!(registry.traffic() == before, "{:?}", registry.traffic());
    lab.down()
}

#[test]
fn pull_always_affects_new_containers_and_keeps_an_existing_one() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let (lab, registry) = lab()?;
    let image = registry.publish(&lab, BASE, "trainer:latest", MIB)?;
    let old = container(&lab, &image, &[])?;
    let pulled = registry.traffic();

    ensure!(registry.publish(&lab, BASE, "trainer:latest", MIB)? == image);
    let same = container(&lab, &image, &["--pull", "always"])?;
    ensure!(same.id == old.id && same.origin == "found", "{same:?}");
    ensure!(registry.traffic() == pulled, "{:?}", registry.traffic());

    let new = container(&lab, &image, &["--pull", "always", "--name", "new"])?;
    ensure!(new.origin == "created", "{new:?}");
    let made_from = |id: &str| lab.docker(["inspect", "-f", "{{.Image}}", id]);
    ensure!(made_from(&new.id)? != made_from(&old.id)?);
    ensure!(registry.traffic().layer_bytes > pulled.layer_bytes);
    lab.down()
}

#[test]
fn a_private_image_is_pulled_with_the_docker_login_of_the_host() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let (lab, registry) = lab()?;
    let image = registry.publish(&lab, BASE, "private/trainer:1", MIB)?;
    registry.set(|behaviour| behaviour.login = Some(("ada".into(), "first: key?".into())));
    let failure = unavailable(&lab, &image, &[])?;
    ensure!(failure.hint.contains("docker login"), "{failure:#?}");

    lab.gpu().run(&format!(
        "printf %s 'first: key?' | docker login --username ada --password-stdin {}",
        registry.address()
    ))?;
    ensure!(container(&lab, &image, &[])?.origin == "created");
    lab.docker(["rm", "--force", &format!("jq-{}-gpu", lab.gpu().user.name)])?;

    // The stored login is no longer valid.
    registry.set(|behaviour| behaviour.login = Some(("ada".into(), "second".into())));
    let failure = unavailable(&lab, &image, &["--pull", "always"])?;
    ensure!(failure.hint.contains("docker login"), "{failure:#?}");
    lab.down()
}

#[test]
fn an_interrupted_pull_resumes_where_it_stopped_and_so_does_its_progress() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let (lab, registry) = lab()?;
    let image = registry.publish(&lab, BASE, "trainer:1", 8 * MIB)?;
    let half = 4 * MIB as u64;
    registry.set(|behaviour| behaviour.cut = Some(half));
    let mut client = connect(&lab, &image, &[])?;
    eventually("the pull to be interrupted", SOON, || registry.traffic().cuts > 0)?;
    registry.set(|behaviour| (behaviour.cut, behaviour.rate) = (None, Some(half / 2)));
    ensure!(client.ready()?.container.expect("a container").image == image);
    let told = progress(client.events(), &image);
    client.disconnect()?;
    ensure!(told.is_sorted_by_key(|(done, _)| *done), "{told:?}");
    // There is progress between the interruption and the end.
    let whole = 8 * MIB as u64;
    ensure!(
        told.iter()
            .any(|(done, _)| (half + half / 4..whole).contains(done)),
        "{told:?}"
    );
    lab.down()
}

#[test]
fn a_pull_that_is_interrupted_repeatedly_fails_with_the_engines_message() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let (mut lab, registry) = lab()?;
    // The default is five attempts with pauses of several seconds.
    lab.engine().set_options(["--max-download-attempts", "2"]);
    lab.engine().stop()?;
    lab.engine().launch()?;
    let image = registry.publish(&lab, BASE, "trainer:1", 2 * MIB)?;
    registry.set(|behaviour| behaviour.cut = Some(MIB as u64));
    let failure = unavailable(&lab, &image, &[])?;
    ensure!(failure.why.to_lowercase().contains("eof"), "{failure:#?}");
    ensure!(registry.traffic().cuts >= 2, "{:?}", registry.traffic());
    lab.down()
}

#[test]
fn a_tag_or_an_image_that_the_registry_does_not_have_is_reported_as_missing() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let (lab, registry) = lab()?;
    let there = registry.publish(&lab, BASE, "trainer:1", MIB)?;
    for image in [
        there.replace("trainer:1", "trainer:2"),
        there.replace("trainer:1", "no/such/trainer"),
    ] {
        let failure = unavailable(&lab, &image, &[])?;
        ensure!(failure.why.contains("not found"), "{failure:#?}");
        ensure!(failure.hint.contains("name"), "{failure:#?}");
    }
    lab.down()
}

#[test]
fn pulled_images_are_removed_with_the_lab() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let (lab, registry) = lab()?;
    let image = registry.publish(&lab, BASE, "trainer:1", MIB)?;
    lab.docker(["pull", "--quiet", &image])?;
    // The second pull takes the name away from the first image.
    registry.publish(&lab, BASE, "trainer:1", MIB)?;
    lab.docker(["pull", "--quiet", &image])?;
    let repository = format!("{}/trainer", registry.address());
    drop(registry);
    lab.down()?;

    let lab = Lab::builder().topology(Topology::Direct).docker(true).up()?;
    let left = lab.docker(["images", "--format", "{{.Repository}}"])?;
    ensure!(!left.contains(&repository) && !left.contains("<none>"), "{left}");
    ensure!(left.lines().any(|name| name == BASE), "{left}");
    lab.down()
}
