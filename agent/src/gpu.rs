//! GPUs: what the host has, what the engine can give, what was asked for, and what that comes to. Nothing is done here.

use std::collections::BTreeSet;

use jq_common::protocol::workload::{Failure, FailureKind, GpuAsk, MOST_LISTED};

use crate::engine::{EngineFacts, EngineKind, GpuRequest};

/// The GPUs of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostGpus {
    /// NVIDIA's, by index.
    pub nvidia: Vec<Gpu>,
    /// AMD's device nodes (`/dev/kfd`, `/dev/dri`); empty when there are none.
    pub amd_nodes: Vec<String>,
    /// The groups that may open those.
    pub amd_groups: Vec<u32>,
    /// An NVIDIA CDI description lies where engines look for it.
    pub cdi_described: bool,
}

impl HostGpus {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nvidia.is_empty() && self.amd_nodes.is_empty()
    }

    /// What there is, for the user.
    #[must_use]
    pub fn describe(&self) -> String {
        if !self.nvidia.is_empty() {
            let list: Vec<&str> = self.nvidia.iter().map(|gpu| gpu.line.as_str()).collect();
            list.join("; ")
        } else if !self.amd_nodes.is_empty() {
            "AMD GPUs".into()
        } else {
            "none".into()
        }
    }
}

/// An NVIDIA GPU, or a part of one (MIG).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its index; none for a part of one.
    pub index: Option<u32>,
    /// `GPU-…` or `MIG-…`.
    pub uuid: String,
    /// Its line of `nvidia-smi -L`.
    pub line: String,
}

/// The GPUs in what `nvidia-smi -L` prints: `GPU 0: NVIDIA A100 (UUID: GPU-…)`, and indented lines for MIG devices.
#[must_use]
pub fn parse_list(text: &str) -> Vec<Gpu> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            let (_, rest) = line.rsplit_once("(UUID: ")?;
            let uuid = rest.strip_suffix(')')?.trim();
            let index = line
                .strip_prefix("GPU ")
                .and_then(|rest| rest.split(':').next()?.parse().ok());
            (index.is_some() || line.starts_with("MIG ")).then(|| Gpu {
                index,
                uuid: uuid.to_owned(),
                line: line.to_owned(),
            })
        })
        .collect()
}

/// A GPU from `/proc/driver/nvidia/gpus/*/information`, for hosts whose `nvidia-smi` is missing or broken.
#[must_use]
pub fn parse_proc(index: u32, information: &str) -> Option<Gpu> {
    let field = |name: &str| {
        information
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().strip_prefix(':'))
            .map(str::trim)
    };
    let uuid = field("GPU UUID")?;
    let model = field("Model").unwrap_or("NVIDIA GPU");
    Some(Gpu {
        index: Some(index),
        uuid: uuid.to_owned(),
        line: format!("GPU {index}: {model} (UUID: {uuid})"),
    })
}

/// Their lines for the user, as many as a message may list.
#[must_use]
pub fn lines(gpus: &[Gpu]) -> Vec<String> {
    let lines = gpus.iter().map(|gpu| gpu.line.clone());
    lines.take(MOST_LISTED).collect()
}

/// What a request for GPUs comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuPlan {
    /// What the engine is asked for.
    pub request: Option<GpuRequest>,
    /// UUIDs that must be seen inside.
    pub expected: Vec<String>,
    /// Said loudly.
    pub warning: Option<String>,
    /// Missing GPUs are an error, not a warning.
    pub insists: bool,
}

/// The host's GPUs that were asked for; none of them means none were asked for, or that there are none.
///
/// # Errors
/// When a number or an id cannot be satisfied.
pub fn choose(ask: &GpuAsk, host: &HostGpus) -> Result<Vec<Gpu>, Failure> {
    let whole = || host.nvidia.iter().filter(|gpu| gpu.index.is_some());
    match ask {
        GpuAsk::None => Ok(Vec::new()),
        GpuAsk::Default | GpuAsk::All => Ok(whole().cloned().collect()),
        GpuAsk::Count(0) => Err(unavailable(
            "0 GPUs make no sense; `--gpus none` asks for none",
            host,
        )),
        GpuAsk::Count(count) => {
            let chosen: Vec<Gpu> = whole().take(*count as usize).cloned().collect();
            if chosen.len() < *count as usize {
                return Err(unavailable(&format!("{count} were asked for"), host));
            }
            Ok(chosen)
        }
        GpuAsk::Ids(ids) => {
            let mut seen = BTreeSet::new();
            ids.iter()
                .map(|id| {
                    let gpu = find(id, &host.nvidia)
                        .ok_or_else(|| unavailable(&format!("there is no GPU `{id}`"), host))?;
                    if !seen.insert(gpu.uuid.clone()) {
                        return Err(unavailable(&format!("GPU `{id}` is named twice"), host));
                    }
                    Ok(gpu.clone())
                })
                .collect()
        }
    }
}

/// By index, or by a UUID's beginning that fits one only.
fn find<'a>(id: &str, gpus: &'a [Gpu]) -> Option<&'a Gpu> {
    if let Ok(index) = id.parse::<u32>() {
        return gpus.iter().find(|gpu| gpu.index == Some(index));
    }
    let low = id.to_lowercase();
    let mut fitting = gpus
        .iter()
        .filter(|gpu| low.len() >= "GPU-0".len() && gpu.uuid.to_lowercase().starts_with(&low));
    fitting.next().filter(|_| fitting.next().is_none())
}

/// What to ask the engine for.
///
/// # Errors
/// When GPUs were asked for by number or id and cannot be had.
pub fn plan(ask: &GpuAsk, host: &HostGpus, engine: &EngineFacts) -> Result<GpuPlan, Failure> {
    let insists = matches!(ask, GpuAsk::Count(_) | GpuAsk::Ids(_));
    let chosen = choose(ask, host)?;
    let warned = |text: String| {
        Ok(GpuPlan {
            warning: Some(text),
            ..GpuPlan::default()
        })
    };
    if *ask == GpuAsk::None {
        return Ok(GpuPlan::default());
    }
    if host.is_empty() {
        return warned(
            "no GPU was found on the host (`nvidia-smi -L` lists none): the container runs without".into(),
        );
    }
    if chosen.is_empty() {
        let request = GpuRequest::Nodes {
            paths: host.amd_nodes.clone(),
            groups: host.amd_groups.clone(),
        };
        return Ok(GpuPlan {
            request: Some(request),
            ..GpuPlan::default()
        });
    }
    let request = match request(ask, &chosen, host, engine) {
        Ok(request) => request,
        Err(why) if insists => return Err(refused(&why)),
        Err(why) => return warned(format!("the container runs without GPUs: {why}")),
    };
    Ok(GpuPlan {
        request: Some(request),
        expected: chosen.into_iter().map(|gpu| gpu.uuid).collect(),
        warning: None,
        insists,
    })
}

/// NVIDIA GPUs in this engine's way.
fn request(
    ask: &GpuAsk,
    chosen: &[Gpu],
    host: &HostGpus,
    engine: &EngineFacts,
) -> Result<GpuRequest, String> {
    let all = matches!(ask, GpuAsk::Default | GpuAsk::All);
    let listed = engine
        .cdi_devices
        .iter()
        .any(|device| device.starts_with("nvidia.com/gpu="));
    match engine.kind {
        // Older ones take the request, give nothing and say nothing.
        EngineKind::Podman if engine.version_pair() < (5, 4) => Err(format!(
            "Podman {} ignores requests for GPUs over its API; Podman 5.4 does not",
            engine.version
        )),
        EngineKind::Podman => Ok(cdi(all, chosen, engine)),
        EngineKind::Docker if listed => Ok(cdi(all, chosen, engine)),
        // Between 25 and 28.2 an engine may take CDI devices without listing them.
        EngineKind::Docker if engine.cdi && host.cdi_described && !engine.nvidia_runtime => {
            Ok(cdi(all, chosen, engine))
        }
        // Whether NVIDIA's hook is there shows at the start only.
        EngineKind::Docker => Ok(GpuRequest::Nvidia(if all {
            Vec::new()
        } else {
            chosen.iter().map(|gpu| gpu.uuid.clone()).collect()
        })),
    }
}

/// CDI names: by UUID where the engine lists that or nothing, by index where it lists only those.
fn cdi(all: bool, chosen: &[Gpu], engine: &EngineFacts) -> GpuRequest {
    let name = |id: &str| format!("nvidia.com/gpu={id}");
    let lists = |id: &str| engine.cdi_devices.contains(&name(id));
    if all && (engine.cdi_devices.is_empty() || lists("all")) {
        return GpuRequest::Cdi(vec![name("all")]);
    }
    let names = chosen.iter().map(|gpu| match gpu.index {
        Some(index) if !lists(&gpu.uuid) && lists(&index.to_string()) => name(&index.to_string()),
        _ => name(&gpu.uuid),
    });
    GpuRequest::Cdi(names.collect())
}

/// What is missing of `expected` among the GPUs seen inside, for the user; none when all are there.
#[must_use]
pub fn missing(expected: &[String], seen: &[Gpu]) -> Option<String> {
    let absent: Vec<&str> = expected
        .iter()
        .filter(|uuid| !seen.iter().any(|gpu| gpu.uuid == **uuid))
        .map(String::as_str)
        .collect();
    if absent.is_empty() {
        None
    } else if seen.is_empty() {
        Some("no GPU is seen inside the container".into())
    } else {
        Some(format!("not seen inside the container: {}", absent.join(", ")))
    }
}

/// The failure of a request by number or id that the engine cannot fulfil.
#[must_use]
pub fn refused(why: &str) -> Failure {
    Failure {
        kind: FailureKind::GpuUnavailable,
        what: "the engine cannot give the GPUs asked for".into(),
        why: why.into(),
        hint: "install the NVIDIA Container Toolkit on the host, or ask for none (`--gpus none`)".into(),
    }
}

/// The failure of a request by number or id that the host cannot fulfil.
#[must_use]
pub fn unavailable(why: &str, host: &HostGpus) -> Failure {
    Failure {
        kind: FailureKind::GpuUnavailable,
        what: "the GPUs asked for cannot be had".into(),
        why: format!("{why}; GPUs of the host: {}", host.describe()),
        hint: "ask for what is there (`--gpus all`, `--gpus 1`, an index or a UUID), or for none (`--gpus none`)"
            .into(),
    }
}

#[cfg(test)]
mod tests;
