//! Uploads of the agent that are interrupted, concurrent, or made with a wrong clock.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use sha2::{Digest as _, Sha256};

use super::{
    Bench, Limit, Outcome, Scenario,
    process::Process,
    site::{PORT, Plan},
    trio::Trio,
};
use crate::{
    eventually,
    lab::{Host, HostName, Lab, netns, tools},
    product::{Client, agent_binary, client_binary},
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "F20",
        name: "an upload is interrupted at any offset",
        bar: "an incomplete upload is never executed; the next connect works",
        quick: true,
        engine: false,
        run: cut,
    },
    Scenario {
        id: "F21",
        name: "20 clients upload the agent at the same time",
        bar: "all succeed",
        quick: true,
        engine: false,
        run: concurrent_uploads,
    },
    Scenario {
        id: "F23",
        name: "the laptop's clock is 10 years ahead, or 10 years behind",
        bar: "no effect",
        quick: true,
        engine: false,
        run: clocks,
    },
];

/// Bytes of the upload before the interruption. The upload is compressed and has 3.4 MB.
const OFFSETS: [u64; 5] = [50_000, 400_000, 1_000_000, 2_000_000, 3_000_000];

fn cut(_: &Bench) -> Result<Outcome> {
    let mut plan = Plan::default();
    plan.link.rate = Some(30_000_000);
    let lab = plan.lab()?;
    let words = plan.words();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    for (offset, whom) in OFFSETS
        .into_iter()
        .zip([HostName::Laptop, HostName::Gpu].into_iter().cycle())
    {
        let sent = || {
            lab.link()
                .counters_from(HostName::Laptop)
                .map_or(0, |counters| counters.bytes)
        };
        let before = sent();
        let mut client = Client::connect(lab.laptop(), &words)?;
        eventually("the upload to reach the offset", Duration::from_secs(30), || {
            sent() > before + offset
        })?;
        match whom {
            // Kills the client, as if the laptop's battery were empty, ...
            HostName::Laptop => client.signal(Signal::KILL)?,
            // ... or the login on the host.
            _ => kill_all(&lab, whom),
        }
        if whom == HostName::Laptop {
            client.wait()?;
            kill_all(&lab, HostName::Laptop);
        } else {
            // The login has ended, and the upload with it.
            let failure = client.failure()?;
            ensure!(failure.kind == "connection_lost", "{failure:?}");
            kill_all(&lab, HostName::Laptop);
        }
        no_partial(&lab)?;
        kill_all(&lab, HostName::Gpu);
        // The next upload starts from the beginning.
        lab.gpu().run("rm -rf ~/.cache/jq")?;
    }
    let site = plan.up_in(lab)?;
    no_partial(&site.lab)?;
    Trio::start(&site)?.end()?;
    site.finish()?;
    Ok(Outcome::default().with("cuts", OFFSETS.len() as f64, "", Limit::Told))
}

fn kill_all(lab: &Lab, host: HostName) {
    let uid = lab.host(host).user.uid;
    let _ = eventually("the user's processes to end", Duration::from_secs(5), || {
        let left = netns::processes_of(uid);
        for pid in &left {
            let _ = Process(*pid).signal(Signal::KILL);
        }
        left.is_empty()
    });
}

/// Checks that every file with an agent's name on the GPU host is the complete agent.
fn no_partial(lab: &Lab) -> Result<()> {
    let folder = lab.gpu().home().join(".cache/jq");
    let whole = Sha256::digest(fs::read(agent_binary())?);
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("agent-") {
            let found = Sha256::digest(fs::read(entry.path())?);
            ensure!(found == whole, "{name} is not the agent that was sent");
        }
    }
    Ok(())
}

fn concurrent_uploads(_: &Bench) -> Result<Outcome> {
    const CLIENTS: u16 = 20;
    let lab = Plan::default().lab()?;
    lab.laptop().install(&client_binary(), "jq-client")?;
    let start = Instant::now();
    let mut clients = (0..CLIENTS)
        .map(|n| {
            let (name, port) = (format!("s{n}"), format!("{}:127.0.0.1:{PORT}", PORT + 1 + n));
            let mut command = lab.laptop().command("jq-client");
            command.args(["connect", "gpu", "--jupyter", "none", "--engine", "process"]);
            command.args(["--name", &name, "-L", &port]);
            Client::spawn(&mut command)
        })
        .collect::<Result<Vec<_>>>()?;
    let results: Vec<_> = thread::scope(|scope| {
        let waiting: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(|| client.ready().map(drop)))
            .collect();
        waiting
            .into_iter()
            .map(|one| one.join().expect("no panic"))
            .collect()
    });
    let took = start.elapsed();
    let failed: Vec<_> = results
        .into_iter()
        .enumerate()
        .filter_map(|(n, result): (_, Result<()>)| Some(format!("client {n}: {:#}", result.err()?)))
        .collect();
    ensure!(
        failed.is_empty(),
        "{} of {CLIENTS} failed after {took:?}:\n{}\n{}",
        failed.len(),
        failed.join("\n"),
        agents_on(lab.gpu()),
    );
    ensure!(
        Process::agents(lab.gpu(), "serve").len() == 1,
        "there must be exactly one agent:\n{}",
        agents_on(lab.gpu())
    );
    no_partial(&lab)?;
    for client in clients {
        client.disconnect()?;
    }
    lab.down()?;
    Ok(Outcome::default().with("all connected after", took.as_secs_f64(), "s", Limit::Told))
}

/// The agents on a host: files, processes, logs.
fn agents_on(host: &Host) -> String {
    let look = r#"ls -la "$HOME"/.cache/jq; ps -o pid,etime,args -U "$(id -u)"; tail -n 20 "$HOME"/.cache/jq/run/*/*/log"#;
    host.run(&format!("{{ {look}; }} 2>&1 || true"))
        .unwrap_or_else(|error| format!("{error:#}"))
}

/// A library that replaces the C library's clock in programs that load it (ld.so(8)). It shifts only the time of day,
/// which is what dates are compared with.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long shift(void) { const char *text = getenv("JQ_LAB_CLOCK"); return text ? atol(text) : 0; }
int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    if (id == CLOCK_REALTIME) now->tv_sec += shift();
    return result;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"#;

fn clocks(_: &Bench) -> Result<Outcome> {
    const TEN_YEARS: i64 = 10 * 365 * 86_400;
    let plan = Plan::default();
    let mut site = plan.up()?;
    let library = build_clock(&site.lab.laptop().dir)?;
    for shift in [TEN_YEARS, -TEN_YEARS] {
        site.client.signal(Signal::INT)?;
        ensure!(site.client.wait()?.success());
        let shifted = |program: &str| {
            let mut command = site.lab.laptop().command(program);
            command
                .env("LD_PRELOAD", &library)
                .env("JQ_LAB_CLOCK", shift.to_string());
            command
        };
        let year = tools::output(shifted("/usr/bin/date").arg("+%Y"))?;
        let now = tools::output(site.lab.laptop().command("/usr/bin/date").arg("+%Y"))?;
        ensure!(year != now, "the clock was not shifted: {year}");
        let mut command = shifted("jq-client");
        command.arg("connect").args(plan.words());
        site.client = Client::spawn(&mut command)?;
        site.client.ready()?;
        let trio = Trio::start(&site)?;
        trio.end()?;
    }
    site.finish()?;
    Ok(Outcome::default().with("clocks tried", 2.0, "", Limit::Told))
}

fn build_clock(folder: &Path) -> Result<std::path::PathBuf> {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    fs::write(&source, CLOCK)?;
    let (from, to) = (source.to_string_lossy(), library.to_string_lossy());
    tools::run("cc", ["-shared", "-fPIC", "-O1", "-o", &*to, &*from, "-ldl"]).context("no C compiler")?;
    Ok(library)
}
