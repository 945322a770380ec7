//! The settings of the user's own `docker`: proxies and contexts.

use anyhow::{Result, ensure};
use jq_tests::{
    lab::{HostName, Lab},
    product::Client,
    require,
};

use super::{ECHO, echo, inspect, lab, ready};

#[test]
fn the_proxies_of_the_users_docker_are_in_the_container_and_e_wins() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    let config =
        r#"{"proxies": {"default": {"httpProxy": "http://proxy.lab:3128", "noProxy": "localhost,.lab"}}}"#;
    lab.gpu().write(".docker/config.json", config)?;
    let mut client = echo(&lab, &["-e", "HTTP_PROXY=http://mine:1"])?;
    let id = ready(&mut client)?.id;
    client.disconnect()?;
    let env = inspect(&lab, &id, "{{range .Config.Env}}{{println .}}{{end}}")?;
    for wanted in [
        "HTTP_PROXY=http://mine:1",
        "http_proxy=http://proxy.lab:3128",
        "NO_PROXY=localhost,.lab",
        "no_proxy=localhost,.lab",
    ] {
        ensure!(env.lines().any(|line| line == wanted), "no {wanted} in {env}");
    }
    ensure!(!inspect(&lab, &id, "{{json .Config.Labels}}")?.contains("proxy.lab"));
    lab.down()
}

/// A login on the GPU host has this variable, and no DOCKER_HOST.
fn log_in_with(lab: &mut Lab, variable: &str) -> Result<()> {
    let line = lab
        .gpu()
        .run(r#"printf 'SetEnv "PATH=%s" "XDG_RUNTIME_DIR=%s"' "$PATH" "$XDG_RUNTIME_DIR""#)?;
    lab.sshd(HostName::Gpu)
        .configure(&format!("{line} \"{variable}\""))
}

#[test]
fn a_docker_context_of_this_host_is_used_and_one_of_another_host_is_refused_by_name() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let mut lab = lab()?;
    let socket = format!("unix://{}", lab.engine().socket().display());
    for (name, address) in [("here", socket.as_str()), ("far", "ssh://ada@far.example")] {
        lab.gpu()
            .run(&format!("docker context create {name} --docker host={address}"))?;
    }
    for (name, words) in [
        (
            "far",
            &[
                "docker context far",
                "ssh://ada@far.example",
                "docker context use default",
            ][..],
        ),
        ("gone", &["`gone`", "docker context ls"]),
    ] {
        log_in_with(&mut lab, &format!("DOCKER_CONTEXT={name}"))?;
        let mut client = Client::connect(
            lab.laptop(),
            &["gpu", "--image", ECHO, "--jupyter", "none", "--linger", "1s"],
        )?;
        let failure = client.failure()?;
        ensure!(failure.kind == "engine_missing", "{failure:#?}");
        for word in words {
            ensure!(failure.all_words().contains(word), "no {word} in {failure:#?}");
        }
        no_agent(&lab)?;
    }
    log_in_with(&mut lab, "DOCKER_CONTEXT=here")?;
    let mut client = echo(&lab, &[])?;
    let ready = client.ready()?;
    let note = client.texts("note").join("\n");
    ensure!(note.contains("docker context here"), "{note} {}", ready.engine);
    client.disconnect()?;
    lab.down()
}

/// Waits until the agent has ended, which knows the environment of its first login.
fn no_agent(lab: &Lab) -> Result<()> {
    let none = r#"! pgrep -u "$(id -u)" -f '[-]-run-dir'"#;
    jq_tests::eventually("the agent ends", std::time::Duration::from_secs(20), || {
        lab.gpu().run(none).is_ok()
    })
}
