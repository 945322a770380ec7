//! Detects GPUs: on the host, and inside a container.

use std::{ffi::OsStr, fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use jq_common::protocol::workload::GpuAsk;
use tokio::time::timeout;

use super::{
    HostGpus,
    devices::{Gpu, parse_list, parse_proc},
};
use crate::{
    engine::{ContainerEngine, Exec},
    host_program,
    log_tail::Tail,
};

/// Time limit for `nvidia-smi`; the driver may have to wake sleeping GPUs.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Path of `nvidia-smi` under WSL, where it is not on PATH.
const WSL: &str = "/usr/lib/wsl/lib/nvidia-smi";

/// The host's GPUs. Empty without looking when none are wanted.
pub(crate) async fn of_host(ask: &GpuAsk, path: &OsStr) -> HostGpus {
    if *ask == GpuAsk::None {
        return HostGpus::default();
    }
    let mut gpus = HostGpus {
        nvidia: nvidia_smi(path).await,
        cdi_described: ["/etc/cdi", "/var/run/cdi"]
            .iter()
            .any(|dir| describes_nvidia(dir)),
        ..HostGpus::default()
    };
    if gpus.nvidia.is_empty() {
        gpus.nvidia = nvidia_proc();
    }
    if gpus.nvidia.is_empty() && Path::new("/dev/kfd").exists() {
        gpus.amd_nodes = ["/dev/kfd", "/dev/dri"]
            .into_iter()
            .filter(|node| Path::new(node).exists())
            .map(str::to_owned)
            .collect();
        gpus.amd_groups = amd_groups();
    }
    gpus
}

async fn nvidia_smi(path: &OsStr) -> Vec<Gpu> {
    let wsl = || Path::new(WSL).exists().then(|| WSL.into());
    let Some(program) = host_program::find("nvidia-smi", path).or_else(wsl) else {
        return Vec::new();
    };
    match host_program::output(&program, &["-L"], TIMEOUT).await {
        Ok(output) => parse_list(&String::from_utf8_lossy(&output.stdout)),
        Err(error) => {
            tracing::warn!(%error, "nvidia-smi failed");
            Vec::new()
        }
    }
}

fn nvidia_proc() -> Vec<Gpu> {
    let Ok(folders) = fs::read_dir("/proc/driver/nvidia/gpus") else {
        return Vec::new();
    };
    // The directories are named by PCI address, whose order is that of the indices.
    let mut paths: Vec<_> = folders.filter_map(|folder| Some(folder.ok()?.path())).collect();
    paths.sort();
    (0..)
        .zip(paths)
        .filter_map(|(index, path)| parse_proc(index, &fs::read_to_string(path.join("information")).ok()?))
        .collect()
}

fn amd_groups() -> Vec<u32> {
    let nodes = fs::read_dir("/dev/dri")
        .into_iter()
        .flatten()
        .filter_map(|node| Some(node.ok()?.path()))
        .chain(["/dev/kfd".into()]);
    let mut groups: Vec<u32> = nodes
        .filter_map(|node| fs::metadata(node).ok())
        .filter(|node| !node.is_dir())
        .map(|node| node.gid())
        .filter(|gid| *gid != 0)
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn describes_nvidia(dir: &str) -> bool {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .any(|file| file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("nvidia")))
}

/// The GPUs visible inside a running container to its own user.
pub(crate) async fn inside(engine: &dyn ContainerEngine, id: &str) -> Vec<Gpu> {
    let list = Exec {
        command: vec!["nvidia-smi".into(), "-L".into()],
        ..Exec::default()
    };
    let output = Tail::default();
    match timeout(TIMEOUT, engine.exec(id, &list, &output)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "nvidia-smi failed in the container"),
        Err(_) => tracing::warn!("nvidia-smi in the container timed out"),
    }
    parse_list(&output.last(usize::MAX).join("\n"))
}
