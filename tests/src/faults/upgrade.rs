//! Agents of other builds: upgrades in place, and agents that are refused.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Bench, Outcome, Scenario,
    process::Process,
    site::{Plan, Site, Work},
    trio::Trio,
};
use crate::{
    eventually_some,
    http::{self, Kept},
    product::{Client, agent_binary},
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "F12",
        name: "the agent is upgraded in place under load",
        bar: "no reset, pause < 2 s",
        quick: true,
        engine: false,
        run: taken_over,
    },
    Scenario {
        id: "F12-jupyter",
        name: "the agent is upgraded in place, with streams into a container with Jupyter",
        bar: "no reset, pause < 2 s; container, Jupyter and kernel keep running, and new connections reach them",
        quick: true,
        engine: true,
        run: taken_over_with_jupyter,
    },
    Scenario {
        id: "F22",
        name: "unsuitable agents: another version, garbage, no output, not executable",
        bar: "each works or is refused within 45 s",
        quick: true,
        engine: false,
        run: unsuitable,
    },
];

/// Time limit of a new connection.
const SOON: Duration = Duration::from_secs(10);

/// A folder on the laptop with an agent that `make` writes.
fn folder(site: &Site, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = site.lab.laptop().dir.join(name);
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, PermissionsExt::from_mode(0o755))?;
    let file = folder.join(agent_binary().file_name().context("no name")?);
    make(&file)?;
    fs::set_permissions(&file, PermissionsExt::from_mode(0o755))?;
    Ok(folder)
}

/// The same agent with additional bytes at its end, which have no effect: a different build by its hash.
fn other_build(site: &Site, salt: &str) -> Result<PathBuf> {
    folder(site, &format!("agents-{salt}"), |file| {
        fs::copy(agent_binary(), file)?;
        let mut file = fs::File::options().append(true).open(file)?;
        Ok(file.write_all(salt.as_bytes())?)
    })
}

fn another(site: &Site, name: &str, agents: &Path) -> Result<Client> {
    let agents = agents.to_string_lossy();
    let words = [
        "gpu",
        "--jupyter",
        "none",
        "--engine",
        "process",
        "--name",
        name,
        "--agent-dir",
        &*agents,
    ];
    Client::connect(site.lab.laptop(), &words)
}

fn taken_over(_: &Bench) -> Result<Outcome> {
    let site = Plan::default().up()?;
    let outcome = take_over(&site)?;
    site.finish()?;
    Ok(outcome)
}

/// Upgrades the agent to another build during three transfers, which must all continue.
fn take_over(site: &Site) -> Result<Outcome> {
    let trio = Trio::start(site)?;
    let (agent, agents) = (site.agent()?, other_build(site, "another build")?);
    let old = agent.program()?;
    for stream in [&trio.down, &trio.up, &trio.echo] {
        stream.near().forget_silence();
        stream.far().forget_silence();
    }
    let mut client = another(site, "second", &agents)?;
    client.ready()?;
    let new = eventually_some(
        "the agent's process to run another program",
        Duration::from_secs(15),
        || Ok(agent.program().ok().filter(|program| *program != old)),
    );
    let pause = [trio.down.near(), trio.up.far(), trio.echo.near()].map(|side| side.longest_silence());
    trio.alive()?;
    let new = new.with_context(|| {
        let running = Process::agents(site.lab.gpu(), "serve")
            .into_iter()
            .map(Process::program);
        format!("the running agents are {:?}", running.collect::<Vec<_>>())
    })?;
    let mark = trio.mark();
    trio.moved_since(&mark, 1_000_000)?;
    ensure!(
        Process::agents(site.lab.gpu(), "serve").len() == 1,
        "two agents are running"
    );
    client.disconnect()?;
    trio.end()?;
    let name = Path::new(&new)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    Ok(Outcome::default()
        .seconds("pause", pause.into_iter().max().unwrap_or_default(), 2.0)
        .noting(format!("running now: {}", name.unwrap_or_default())))
}

fn taken_over_with_jupyter(_: &Bench) -> Result<Outcome> {
    let plan = Plan {
        work: Work::Jupyter,
        ..Plan::default()
    };
    let site = plan.up()?;
    let (token, port) = (site.ready.token()?, site.ready.jupyter_port()?);
    let dial = || http::dial(site.lab.laptop(), port);
    let (status, kernel) = http::request(dial()?, "POST", "/api/kernels", Some(token))?;
    ensure!(status == 201, "no kernel: {status} {kernel}");
    let mut open = Kept::new(dial()?);
    let started = open.get("/api/status", token)?["started"].clone();
    let container = container_start(&site)?;

    let outcome = take_over(&site)?;

    let same = open
        .get("/api/status", token)
        .context("on a connection from before the upgrade")?;
    ensure!(same["started"] == started, "Jupyter was restarted: {same}");
    let kernels = Kept::new(dial()?).get("/api/kernels", token)?;
    ensure!(
        kernels[0]["id"] == kernel["id"],
        "the kernel has changed: {kernels}"
    );
    ensure!(
        container_start(&site)? == container,
        "the container was restarted"
    );
    site.caller
        .try_once(SOON)
        .context("a new connection into the container")?;
    site.finish()?;
    Ok(outcome)
}

/// The id of the container, and the time of its start.
fn container_start(site: &Site) -> Result<String> {
    let id = &site.ready.container.as_ref().context("no container")?.id;
    site.lab
        .docker(["inspect", "-f", "{{.Id}} {{.State.StartedAt}}", id])
}

fn unsuitable(_: &Bench) -> Result<Outcome> {
    let site = Plan::default().up()?;
    let trio = Trio::start(&site)?;
    let scripts = [
        ("older", "#!/bin/sh\necho 'jq-agent 0.0.1'\nexit 0\n"),
        ("garbage", "#!/bin/sh\nexec head -c 100000 /dev/urandom\n"),
        ("silent", "#!/bin/sh\nexec cat >/dev/null\n"),
        ("broken", "\u{7f}ELF and nothing that a kernel could run"),
    ];
    let start = Instant::now();
    let mut clients = Vec::new();
    for (name, script) in scripts {
        let agents = folder(&site, name, |file| Ok(fs::write(file, script)?))?;
        clients.push((name, another(&site, name, &agents)?));
    }
    let mut refusals = Vec::new();
    for (name, client) in &mut clients {
        let failure = client
            .failure()
            .with_context(|| format!("with an agent that is {name}"))?;
        ensure!(
            !failure.what.contains('\n'),
            "the message has more than one line: {failure:?}"
        );
        refusals.push(format!("{name}: {}", failure.what));
    }
    let slowest = start.elapsed();
    trio.alive()?;
    trio.end()?;
    site.finish()?;
    Ok(Outcome::default()
        .seconds("slowest refusal", slowest, 45.0)
        .noting(refusals.join("; ")))
}
