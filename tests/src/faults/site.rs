//! A lab with a connected client, and oracles at both ends of its forward.

use std::{fmt::Write as _, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde_json::Value;

use super::process::Process;
use crate::{
    eventually,
    lab::{Conditions, Host, HostName, Lab, Nat, Topology, images, netns, tools},
    oracle::{Caller, Ledger, NetThread, Server},
    product::{Client, Ready},
};

/// The port of the oracle, on the laptop and on the GPU host.
pub(super) const PORT: u16 = 9000;

/// Time limit for releasing descriptors, sockets and processes.
const TIDY: Duration = Duration::from_secs(20);

/// How many more descriptors a process may have than before: another path has other sockets, and ssh has pipes.
const OTHER_PATH: usize = 8;

/// The workload on the GPU host, which determines the target of the oracle's forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// No container. The target is on the host's loopback.
    Process,
    /// A container without Jupyter. The target is on its loopback, to which the agent's helper connects.
    Container,
    /// A container in which the agent starts Jupyter. The target is on its loopback.
    Jupyter,
}

/// The configuration of a site.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) topology: Topology,
    pub(super) rtt: Duration,
    pub(super) link: Conditions,
    /// Whether the gateway forwards the laptop's packets with network address translation.
    pub(super) nat: bool,
    pub(super) work: Work,
    /// The seed of the link's random events.
    pub(super) seed: u64,
    pub(super) arguments: Vec<String>,
}

impl Default for Plan {
    fn default() -> Self {
        let link = Conditions {
            rate: Some(100_000_000),
            queue: 500_000,
            ..Conditions::default()
        };
        Self {
            topology: Topology::Direct,
            rtt: Duration::from_millis(20),
            link,
            nat: false,
            work: Work::Process,
            seed: 1,
            arguments: Vec::new(),
        }
    }
}

impl Plan {
    pub(super) fn gateway() -> Self {
        Self {
            topology: Topology::Gateway,
            ..Self::default()
        }
    }

    pub(super) fn container() -> Self {
        Self {
            work: Work::Container,
            ..Self::default()
        }
    }

    /// The laptop reaches the GPU host directly, but through network address translation.
    pub(super) fn nat() -> Self {
        Self {
            nat: true,
            ..Self::gateway()
        }
    }

    /// Sets the round-trip time of the link.
    pub(super) fn rtt(rtt: Duration) -> Self {
        Self {
            rtt,
            ..Self::default()
        }
    }

    pub(super) fn with(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(super) fn lab(&self) -> Result<Lab> {
        raise_descriptors()?;
        let mut link = self.link.clone();
        link.delay = self.rtt / 2;
        Lab::builder()
            .topology(self.topology)
            .docker(self.work != Work::Process)
            .seed(self.seed)
            .far(|far| *far = link)
            .up()
    }

    /// The arguments of `jq-client connect`.
    pub(super) fn words(&self) -> Vec<String> {
        let (host, container) = (format!("{PORT}:127.0.0.1:{PORT}"), PORT.to_string());
        let work = match self.work {
            Work::Process => vec!["--engine", "process", "--jupyter", "none", "-L", &host],
            Work::Container => vec!["--image", images::STATIC, "--jupyter", "none", "-L", &container],
            Work::Jupyter => vec!["--image", images::JUPYTER, "-L", &container],
        };
        let work = work.into_iter().map(str::to_owned);
        let words = std::iter::once("gpu".to_owned()).chain(work);
        words.chain(self.arguments.iter().cloned()).collect()
    }

    pub(super) fn connect(&self, lab: &Lab) -> Result<(Client, Ready)> {
        let words = self.words();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let mut client = Client::connect(lab.laptop(), &words)?;
        let ready = client.ready()?;
        Ok((client, ready))
    }

    pub(super) fn up(&self) -> Result<Site> {
        self.up_in(self.lab()?)
    }

    pub(super) fn up_in(&self, lab: Lab) -> Result<Site> {
        let nat = self
            .nat
            .then(|| Nat::start(lab.laptop(), lab.gateway(), lab.gpu()))
            .transpose()?;
        let ledger = Ledger::default();
        let caller = Caller::new(NetThread::on(lab.laptop())?, &ledger, PORT);
        let (client, ready) = self.connect(&lab)?;
        let served = match &ready.container {
            Some(container) => NetThread::in_container(&lab, &container.id)?,
            None => NetThread::on(lab.gpu())?,
        };
        let server = Server::start(served, &ledger, PORT)?;
        caller
            .try_once(TIDY)
            .context("the forward does not work even before the fault")?;
        let mut site = Site {
            client,
            ready,
            caller,
            ledger,
            before: Vec::new(),
            nat,
            server,
            lab,
        };
        site.before = site.count()?;
        Ok(site)
    }
}

/// A lab with a client connected.
pub(super) struct Site {
    pub(super) client: Client,
    pub(super) ready: Ready,
    pub(super) caller: Caller,
    pub(super) ledger: Ledger,
    pub(super) nat: Option<Nat>,
    /// The number of descriptors of client and agent directly after the connect.
    before: Vec<(Process, usize)>,
    #[expect(dead_code, reason = "the service runs until it is dropped")]
    server: Server,
    pub(super) lab: Lab,
}

impl Site {
    pub(super) fn client_process(&self) -> Process {
        Process(self.client.pid())
    }

    pub(super) fn agent(&self) -> Result<Process> {
        Process::agent(self.lab.gpu(), "serve")
    }

    /// The states that the client has reported so far, in one line.
    pub(super) fn states(&mut self) -> String {
        let told = |event: &Value| {
            let field = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            let outage = event["outage_s"].as_f64();
            let outage = outage
                .map(|outage| format!(" after {outage:.1} s"))
                .unwrap_or_default();
            format!("{} {}{outage}", field("state"), field("path"))
        };
        let states = self
            .client
            .events()
            .iter()
            .filter(|event| event["event"] == "state");
        states.map(told).collect::<Vec<_>>().join(", ")
    }

    /// Connects again with a new client. The previous one must have ended.
    pub(super) fn reconnect(&mut self, plan: &Plan) -> Result<()> {
        (self.client, self.ready) = plan.connect(&self.lab)?;
        Ok(())
    }

    /// Fails if the oracle has seen a violation.
    pub(super) fn check_no_violation(&self) -> Result<()> {
        let found = self.ledger.violations();
        let mut text = String::new();
        for violation in found.iter().take(5) {
            let _ = write!(text, "; {violation}");
        }
        ensure!(found.is_empty(), "{} violations{text}", found.len());
        Ok(())
    }

    /// Checks the conditions that must hold after every fault, and removes the lab. All streams must have ended before.
    pub(super) fn finish(mut self) -> Result<()> {
        self.check_no_violation()?;
        self.check_nothing_leaked()?;
        self.client.signal(Signal::INT)?;
        let status = self.client.wait()?;
        ensure!(status.success(), "the client ended with {status}");
        self.check_all_processes_end()?;
        self.check_no_violation()?;
        self.lab.down()
    }

    /// Checks that no descriptor and no half-closed socket of an ended stream is left.
    pub(super) fn check_nothing_leaked(&self) -> Result<()> {
        for (process, before) in &self.before {
            let most = before + OTHER_PATH;
            let mut now = None;
            let given_back = eventually("descriptors to be closed", TIDY, || {
                now = process.descriptors();
                now.is_none_or(|now| now <= most)
            });
            given_back
                .with_context(|| format!("{process:?} had {before} descriptors and now has {now:?}"))?;
        }
        for host in [self.lab.laptop(), self.lab.gpu()] {
            let list = || host.enter(half_closed)?;
            none_left(list).with_context(|| format!("on {}", host.name))?;
        }
        if let Some(container) = &self.ready.container {
            let list = || self.lab.enter_container(&container.id, half_closed)?;
            none_left(list).context("in the container")?;
        }
        Ok(())
    }

    /// Checks that all processes end on SIGTERM.
    fn check_all_processes_end(&mut self) -> Result<()> {
        for host in hosts(&self.lab) {
            for role in ["serve", "relay"] {
                for agent in Process::agents(host, role) {
                    // Fails if the process has ended in the meantime, which is fine.
                    let _ = agent.signal(Signal::TERM);
                }
            }
        }
        if self.lab.state().engine.is_some() {
            let helpers = || {
                self.lab
                    .docker(["ps", "-aq", "--filter", "label=dev.jq.role=inside"])
            };
            eventually("helpers to end", TIDY, || {
                helpers().is_ok_and(|left| left.is_empty())
            })?;
            // The user's containers stay by design. They are not needed any more.
            for container in self.lab.docker(["ps", "-aq"])?.lines() {
                self.lab.docker(["rm", "-f", container])?;
            }
        }
        for host in hosts(&self.lab) {
            let left = || netns::processes_of(host.user.uid);
            eventually("all processes to end", TIDY, || left().is_empty())
                .with_context(|| format!("on {}: {}", host.name, describe(host)))?;
        }
        Ok(())
    }

    fn count(&self) -> Result<Vec<(Process, usize)>> {
        let counted = |process: Process| -> Result<_> {
            Ok((process, process.descriptors().context("a process has ended")?))
        };
        Ok(vec![counted(self.client_process())?, counted(self.agent()?)?])
    }
}

/// The sockets in the caller's network namespace that are in CLOSE_WAIT: only the peer has closed.
fn half_closed() -> Result<String> {
    tools::output(Command::new("ss").args(["-Htan", "state", "close-wait"]))
}

fn none_left(list: impl Fn() -> Result<String>) -> Result<()> {
    let none = || list().is_ok_and(|left| left.is_empty());
    eventually("no CLOSE_WAIT", TIDY, none).with_context(|| format!("{:?}", list()))
}

fn describe(host: &Host) -> String {
    let listed = host.run_as_root(&format!("ps -o pid,stat,args -U {} || true", host.user.uid));
    listed.unwrap_or_default()
}

fn hosts(lab: &Lab) -> Vec<&Host> {
    HostName::ALL
        .into_iter()
        .filter_map(|name| lab.state().host(name))
        .collect()
}

/// For this process and its children: agents inherit the limit from sshd.
fn raise_descriptors() -> Result<()> {
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: now.maximum,
        maximum: now.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("cannot raise the limit of descriptors")
}
