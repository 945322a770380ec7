//! Creates a lab.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::conditions::Conditions;
use super::engine::Engine;
use super::gpu::Gpus;
use super::host::Host;
use super::link::{End, Link};
use super::place::{LabId, Lock};
use super::plan::{HostName, Topology, Wire};
use super::sshd::Sshd;
use super::state::State;
use super::watch::LogWatch;
use super::{Lab, netns, ssh, sweep, tools, user};

/// The description of a lab. [`Self::up`] creates it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Builder {
    topology: Topology,
    far: Conditions,
    near: Conditions,
    seed: u64,
    docker: bool,
    gpus: Gpus,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            topology: Topology::Gateway,
            far: Conditions::default(),
            near: Conditions::default(),
            seed: 1,
            docker: false,
            gpus: Gpus::None,
        }
    }
}

impl Builder {
    /// How the hosts are connected. Default: through the gateway.
    #[must_use]
    pub fn topology(mut self, topology: Topology) -> Self {
        self.topology = topology;
        self
    }

    /// The round-trip time of the laptop's link, half of it in each direction. Default: none.
    #[must_use]
    pub fn rtt(mut self, rtt: Duration) -> Self {
        self.far.delay = rtt / 2;
        self
    }

    /// Sets the initial conditions of the laptop's link, in both directions.
    #[must_use]
    pub fn far(mut self, change: impl FnOnce(&mut Conditions)) -> Self {
        change(&mut self.far);
        self
    }

    /// Sets the initial conditions of the link between gateway and GPU host, in both directions.
    #[must_use]
    pub fn near(mut self, change: impl FnOnce(&mut Conditions)) -> Self {
        change(&mut self.near);
        self
    }

    /// The seed of all random events on the links. The same seed gives the same result for each packet. Default: 1.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Whether the GPU host has a dockerd, with the images of [`super::images`]. Only one lab with a dockerd runs at a time.
    /// The first one on a machine builds the images, which takes minutes. Default: no.
    #[must_use]
    pub fn docker(mut self, docker: bool) -> Self {
        self.docker = docker;
        self
    }

    /// The simulated GPUs of the GPU host. Default: none.
    #[must_use]
    pub fn gpus(mut self, gpus: Gpus) -> Self {
        self.gpus = gpus;
        self
    }

    /// Creates the lab. First removes the remains of labs whose owner has died.
    pub fn up(self) -> Result<Lab> {
        sweep::abandoned()?;
        let (id, owner) = LabId::fresh()?;
        self.up_as(id, owner)
    }

    fn up_as(self, id: LabId, owner: Lock) -> Result<Lab> {
        let state = State {
            id,
            owner: std::process::id(),
            topology: self.topology,
            hosts: Vec::new(),
            engine: None,
        };
        // From here on, a failure drops the lab, which removes everything that was created.
        let mut lab = Lab {
            state,
            links: Vec::new(),
            sshds: Vec::new(),
            engine: None,
            watch: None,
            _owner: owner,
        };
        let id = lab.state.id.clone();
        fs::set_permissions(id.dir(), fs::Permissions::from_mode(0o755))
            .context("cannot open the lab's directory")?;
        netns::allow_cubic()?;
        if self.docker {
            user::create_group(&id.docker_group())?;
        }
        for name in self.topology.hosts() {
            let host = self.make_host(&id, *name)?;
            lab.state.hosts.push(host);
        }
        lab.watch = Some(LogWatch::start(&lab.state.hosts, self.docker));
        for (wire, salt) in self.topology.wires().iter().zip(1..) {
            let conditions = if wire.ends[0] == HostName::Laptop {
                &self.far
            } else {
                &self.near
            };
            let link = join(
                &id,
                wire,
                self.seed.wrapping_mul(1000).wrapping_add(salt * 10),
                conditions,
            )?;
            lab.links.push(link);
        }
        ssh::create_keys(self.topology, &lab.state.hosts)?;
        for host in lab
            .state
            .hosts
            .iter()
            .filter(|host| host.name != HostName::Laptop)
        {
            lab.sshds.push((host.name, Sshd::start(host)?));
        }
        let gpu = lab.gpu().clone();
        self.gpus.equip_host(&gpu)?;
        if self.docker {
            let engine = Engine::start(&id, &gpu, self.gpus)?;
            lab.state.engine = Some(engine.socket());
            lab.engine = Some(engine);
        }
        lab.state.save()?;
        Ok(lab)
    }

    fn make_host(&self, id: &LabId, name: HostName) -> Result<Host> {
        let netns = id.netns(name.as_str());
        netns::create(&netns)?;
        let dir = id.dir().join(name.as_str());
        fs::create_dir_all(dir.join("bin")).with_context(|| format!("cannot make {}", dir.display()))?;
        let has_engine = self.docker && name == HostName::Gpu;
        let groups = if has_engine {
            vec![id.docker_group()]
        } else {
            Vec::new()
        };
        let user = user::create(&id.user(name), &dir.join("home"), &groups)?;
        let mut env = Vec::new();
        if has_engine {
            // All hosts share one /var/run/docker.sock, so the user finds this host's engine by DOCKER_HOST, as with any
            // engine at another path.
            env.push((
                "DOCKER_HOST".into(),
                format!("unix://{}", dir.join("docker.sock").display()),
            ));
        }
        let (address, address6) = self.topology.addresses(name);
        let host = Host {
            name,
            netns,
            user,
            dir,
            address,
            address6,
            env,
        };
        host.user.make_dir(&host.runtime_dir())?;
        Ok(host)
    }
}

fn join(id: &LabId, wire: &Wire, seed: u64, conditions: &Conditions) -> Result<Link> {
    let [first, second] = wire.ends;
    let (netns, devices) = (
        wire.ends.map(|host| id.netns(host.as_str())),
        wire.ends.map(|host| wire.device(host)),
    );
    let ends = [
        End {
            host: first,
            netns: &netns[0],
            device: &devices[0],
        },
        End {
            host: second,
            netns: &netns[1],
            device: &devices[1],
        },
    ];
    let link = Link::open(&ends, seed, conditions)?;
    for end in &ends {
        let (v4, v6) = wire.addresses(end.host);
        let (v4, v6) = (format!("{v4}/24"), format!("{v6}/64"));
        tools::run("ip", ["-n", end.netns, "addr", "add", &v4, "dev", end.device])?;
        tools::run(
            "ip",
            ["-n", end.netns, "addr", "add", &v6, "dev", end.device, "nodad"],
        )?;
    }
    Ok(link)
}
