//! Registries that want credentials, and the helpers that have them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use jq_tests::{
    eventually,
    lab::{Lab, Registry},
    product::Client,
    require,
};

use super::{ECHO, lab, ready};

const MIB: usize = 1 << 20;

fn connect(lab: &Lab, image: &str) -> Result<Client> {
    Client::connect(lab.laptop(), &["gpu", "--image", image, "--jupyter", "none"])
}

#[test]
fn a_private_image_is_pulled_with_what_the_credential_helper_knows() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    let registry = Registry::start(&lab)?;
    let image = registry.publish(&lab, ECHO, "team/private:1", MIB)?;
    registry.set(|manner| manner.login = Some(("ada".into(), "secret".into())));
    let host = lab.gpu();

    host.write(".docker/config.json", r#"{"credsStore": "locked"}"#)?;
    host.install_script(
        "docker-credential-locked",
        "#!/bin/sh\necho 'the keychain is locked' >&2\nexit 1\n",
    )?;
    let mut client = connect(&lab, &image)?;
    let failure = client.failure()?;
    let warnings = client.texts("warning").join("\n");
    ensure!(
        warnings.contains("`docker-credential-locked` failed: the keychain is locked"),
        "{warnings}"
    );
    ensure!(
        failure.kind == "image_unavailable" && failure.hint.contains("credential helper"),
        "{failure:#?}"
    );

    let config = format!(r#"{{"credHelpers": {{"{}": "lab"}}}}"#, registry.address());
    host.write(".docker/config.json", config)?;
    let script = "#!/bin/sh\nread -r server\nprintf '{\"ServerURL\":\"%s\",\"Username\":\"ada\",\"Secret\":\"secret\"}' \"$server\"\n";
    host.install_script("docker-credential-lab", script)?;
    let mut client = connect(&lab, &image)?;
    ensure!(ready(&mut client)?.image == image);
    client.disconnect()?;
    lab.down()
}

#[test]
fn without_credentials_docker_login_for_that_registry_is_advised() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    let registry = Registry::start(&lab)?;
    let image = registry.publish(&lab, ECHO, "team/private:1", MIB)?;
    registry.set(|manner| manner.login = Some(("ada".into(), "secret".into())));
    let failure = connect(&lab, &image)?.failure()?;
    let advice = format!("docker login {}", registry.address());
    ensure!(failure.hint.contains(&advice), "{failure:#?}");
    lab.down()
}

#[test]
fn a_credential_helper_that_hangs_is_named_ended_and_done_without() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    let registry = Registry::start(&lab)?;
    let image = registry.publish(&lab, ECHO, "team/open:1", MIB)?;
    lab.gpu()
        .write(".docker/config.json", r#"{"credsStore": "slow"}"#)?;
    lab.gpu()
        .install_script("docker-credential-slow", "#!/bin/sh\nsleep 1234\n")?;
    let started = Instant::now();
    let mut client = connect(&lab, &image)?;
    ready(&mut client)?;
    ensure!(started.elapsed() < Duration::from_secs(60));
    let (steps, warnings) = (client.texts("step"), client.texts("warning").join("\n"));
    ensure!(
        warnings.contains("`docker-credential-slow` did not answer within 10 seconds"),
        "{warnings}"
    );
    ensure!(
        steps.iter().any(|step| step.contains("credential helper")),
        "the wait has a name: {steps:?}"
    );
    client.disconnect()?;
    eventually("the helper's children are ended", Duration::from_secs(10), || {
        lab.gpu().run(r#"! pgrep -u "$(id -u)" -f '^sleep 1234'"#).is_ok()
    })?;
    lab.down()
}
