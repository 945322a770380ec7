//! What the engine can give, what was asked for, and what that comes to. Nothing is done here.

use std::collections::BTreeSet;

use jq_common::protocol::workload::{Failure, FailureKind, GpuAsk};

use super::devices::{Gpu, HostGpus};
use crate::{
    engine::{EngineFacts, EngineKind, GpuRequest},
    failure::fail,
};

/// What a request for GPUs comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GpuPlan {
    /// What the engine is asked for.
    pub(crate) request: Option<GpuRequest>,
    /// UUIDs that must be seen inside.
    pub(crate) expected: Vec<String>,
    /// Said loudly.
    pub(crate) warning: Option<String>,
    /// Missing GPUs are an error, not a warning.
    pub(crate) insists: bool,
}

/// The host's GPUs that were asked for; none of them means none were asked for, or that there are none.
///
/// # Errors
/// When a number or an id cannot be satisfied.
pub(crate) fn choose(ask: &GpuAsk, host: &HostGpus) -> Result<Vec<Gpu>, Failure> {
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
pub(crate) fn plan(ask: &GpuAsk, host: &HostGpus, engine: &EngineFacts) -> Result<GpuPlan, Failure> {
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

/// The failure of a request by number or id that the engine cannot fulfil.
#[must_use]
pub(crate) fn refused(why: &str) -> Failure {
    fail(
        FailureKind::GpuUnavailable,
        "the engine cannot give the GPUs asked for",
        why,
        "install the NVIDIA Container Toolkit on the host, or ask for none (`--gpus none`)",
    )
}

/// The failure of a request by number or id that the host cannot fulfil.
#[must_use]
pub(crate) fn unavailable(why: &str, host: &HostGpus) -> Failure {
    fail(
        FailureKind::GpuUnavailable,
        "the GPUs asked for cannot be had",
        format!("{why}; GPUs of the host: {}", host.describe()),
        "ask for what is there (`--gpus all`, `--gpus 1`, an index or a UUID), or for none (`--gpus none`)",
    )
}

#[cfg(test)]
mod tests;
