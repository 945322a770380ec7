//! From the GPUs that were requested to what the engine is asked for. Pure.

use std::collections::BTreeSet;

use jq_common::protocol::workload::{Failure, FailureKind, GpuAsk};

use super::devices::{Gpu, HostGpus};
use crate::{
    engine::{EngineFacts, EngineKind, GpuRequest},
    failure::fail,
};

/// The result of planning a request for GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GpuPlan {
    /// What to ask the engine for.
    pub(crate) request: Option<GpuRequest>,
    /// UUIDs that must be visible inside the container.
    pub(crate) expected: Vec<String>,
    /// A warning for the user.
    pub(crate) warning: Option<String>,
    /// Missing GPUs are an error rather than a warning.
    pub(crate) required: bool,
}

/// Selects the requested GPUs of the host. Empty when none were requested, or when the host has none.
///
/// # Errors
/// When a requested number or id is not available.
pub(crate) fn choose(ask: &GpuAsk, host: &HostGpus) -> Result<Vec<Gpu>, Failure> {
    let whole = || host.nvidia.iter().filter(|gpu| gpu.index.is_some());
    match ask {
        GpuAsk::None => Ok(Vec::new()),
        GpuAsk::Default | GpuAsk::All => Ok(whole().cloned().collect()),
        GpuAsk::Count(0) => Err(unavailable(
            "0 GPUs were requested; `--gpus none` requests none",
            host,
        )),
        GpuAsk::Count(count) => {
            let chosen: Vec<Gpu> = whole().take(*count as usize).cloned().collect();
            if chosen.len() < *count as usize {
                return Err(unavailable(&format!("{count} were requested"), host));
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

/// Finds a GPU by index, or by a prefix of a UUID that matches only one.
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

/// Plans what to ask the engine for.
///
/// # Errors
/// When GPUs were requested by number or id and are not available.
pub(crate) fn plan(ask: &GpuAsk, host: &HostGpus, engine: &EngineFacts) -> Result<GpuPlan, Failure> {
    let required = matches!(ask, GpuAsk::Count(_) | GpuAsk::Ids(_));
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
        return warned(format!("{}: the container runs without GPUs", host.why_none()));
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
        Err(why) if required => return Err(refused(&why)),
        Err(why) => return warned(format!("the container runs without GPUs: {why}")),
    };
    Ok(GpuPlan {
        request: Some(request),
        expected: chosen.into_iter().map(|gpu| gpu.uuid).collect(),
        // The driver lists them nevertheless.
        warning: host.problem.clone(),
        required,
    })
}

/// The request for NVIDIA GPUs in the form that this engine understands.
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
        // Older versions accept the request and silently ignore it.
        EngineKind::Podman if engine.version_pair() < (5, 4) => Err(format!(
            "Podman {} ignores requests for GPUs over its API; Podman 5.4 does not",
            engine.version
        )),
        EngineKind::Podman => Ok(cdi(all, chosen, engine)),
        EngineKind::Docker if listed => Ok(cdi(all, chosen, engine)),
        // Versions 25 to 28.2 may support CDI devices without listing them.
        EngineKind::Docker if engine.cdi && host.cdi_described && !engine.nvidia_runtime => {
            Ok(cdi(all, chosen, engine))
        }
        // Whether NVIDIA's hook is installed shows only at the start.
        EngineKind::Docker => Ok(GpuRequest::Nvidia(if all {
            Vec::new()
        } else {
            chosen.iter().map(|gpu| gpu.uuid.clone()).collect()
        })),
    }
}

/// CDI device names: by UUID where the engine lists that or lists nothing, by index where it lists only indices.
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

/// The failure when the engine cannot provide GPUs that were requested by number or id.
#[must_use]
pub(crate) fn refused(why: &str) -> Failure {
    fail(
        FailureKind::GpuUnavailable,
        "the engine cannot provide the requested GPUs",
        why,
        "install the NVIDIA Container Toolkit on the host, or request none (`--gpus none`)",
    )
}

/// The failure when the host does not have GPUs that were requested by number or id.
#[must_use]
pub(crate) fn unavailable(why: &str, host: &HostGpus) -> Failure {
    fail(
        FailureKind::GpuUnavailable,
        "the requested GPUs are not available",
        format!("{why}; GPUs of the host: {}", host.describe()),
        "request GPUs that the host has (`--gpus all`, `--gpus 1`, an index or a UUID), or none (`--gpus none`)",
    )
}

#[cfg(test)]
mod tests;
