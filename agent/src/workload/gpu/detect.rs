//! Detects GPUs: on the host, and inside a container.

use std::{ffi::OsStr, fs, io, os::unix::fs::MetadataExt, path::Path, time::Duration};

use jq_common::protocol::workload::GpuAsk;
use tokio::time::timeout;

use super::{
    HostGpus,
    devices::{Gpu, parse_inside, parse_list, parse_proc},
};
use crate::{
    engine::{ContainerEngine, Exec},
    host_program,
    log_tail::Tail,
};

/// Time limit for `nvidia-smi`, which hangs when a GPU or its driver does.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Most characters of what `nvidia-smi` says about a failure.
const COMPLAINT: usize = 200;

/// Lists what the kernel's driver shows of its GPUs, and the device nodes: with
/// `NVIDIA_DRIVER_CAPABILITIES=compute` a container has no `nvidia-smi`.
const LIST_NODES: &str =
    "for gpu in /proc/driver/nvidia/gpus/*; do echo GPU; cat $gpu/information; done; ls -d /dev/nvidia[0-9]*";

/// Path of `nvidia-smi` under WSL, where it is not on PATH.
const WSL: &str = "/usr/lib/wsl/lib/nvidia-smi";

/// The host's GPUs. Empty without looking when none are wanted.
pub(crate) async fn of_host(ask: &GpuAsk, path: &OsStr) -> HostGpus {
    if *ask == GpuAsk::None {
        return HostGpus::default();
    }
    let (nvidia, problem) = match nvidia_smi(path).await {
        Ok(nvidia) => (nvidia, None),
        Err(problem) => (Vec::new(), Some(problem)),
    };
    let mut gpus = HostGpus {
        nvidia,
        problem,
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

/// The GPUs that `nvidia-smi` lists; none without one.
///
/// # Errors
/// Why it lists none, for the user.
async fn nvidia_smi(path: &OsStr) -> Result<Vec<Gpu>, String> {
    let wsl = || Path::new(WSL).exists().then(|| WSL.into());
    let Some(program) = host_program::find("nvidia-smi", path).or_else(wsl) else {
        return Ok(Vec::new());
    };
    let output = host_program::output(&program, &["-L"], TIMEOUT)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => no_answer("on the host"),
            _ => format!("nvidia-smi on the host cannot be run: {error}"),
        })?;
    let said = String::from_utf8_lossy(&output.stdout);
    let gpus = parse_list(&said);
    if gpus.is_empty() && !output.status.success() {
        let line = said.lines().find(|line| !line.trim().is_empty());
        let line: String = line
            .unwrap_or("no reason given")
            .chars()
            .take(COMPLAINT)
            .collect();
        return Err(format!("nvidia-smi on the host failed: {line}"));
    }
    Ok(gpus)
}

fn no_answer(place: &str) -> String {
    format!(
        "nvidia-smi {place} did not answer within {} seconds",
        TIMEOUT.as_secs()
    )
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

/// What was found out about the GPUs inside a container.
#[derive(Default)]
pub(crate) struct Inside {
    /// Those that are visible to its own user.
    pub(crate) gpus: Vec<Gpu>,
    /// Why `nvidia-smi` did not list them, for the user.
    pub(crate) problem: Option<String>,
}

/// The GPUs visible inside a running container to its own user: as `nvidia-smi` lists them, else as the driver does.
pub(crate) async fn inside(engine: &dyn ContainerEngine, id: &str) -> Inside {
    let (listed, problem) = output_inside(engine, id, &["nvidia-smi", "-L"]).await;
    let gpus = parse_list(&listed);
    if !gpus.is_empty() {
        return Inside { gpus, problem: None };
    }
    let (nodes, _) = output_inside(engine, id, &["sh", "-c", LIST_NODES]).await;
    Inside {
        gpus: parse_inside(&nodes),
        problem,
    }
}

/// What a command in the container wrote, and why that is not all.
async fn output_inside(engine: &dyn ContainerEngine, id: &str, words: &[&str]) -> (String, Option<String>) {
    let command = Exec {
        command: words.iter().map(|&word| word.to_owned()).collect(),
        ..Exec::default()
    };
    let output = Tail::default();
    let problem = match timeout(TIMEOUT, engine.exec(id, &command, &output)).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => {
            tracing::debug!(%error, ?words, "a command failed in the container");
            None
        }
        Err(_) => Some(no_answer("in the container")),
    };
    (output.last(usize::MAX).join("\n"), problem)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// The host's GPUs where `nvidia-smi` is this script.
    async fn with_script(script: &str) -> HostGpus {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("nvidia-smi");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        of_host(&GpuAsk::All, dir.path().as_os_str()).await
    }

    #[tokio::test]
    async fn an_nvidia_smi_that_hangs_is_given_up_after_five_seconds_and_named() {
        let started = std::time::Instant::now();
        let gpus = with_script("sleep 600").await;
        assert!(started.elapsed() < Duration::from_secs(10));
        let problem = gpus.problem.unwrap();
        assert_eq!(problem, "nvidia-smi on the host did not answer within 5 seconds");
    }

    #[tokio::test]
    async fn an_nvidia_smi_that_fails_is_quoted() {
        let gpus = with_script("echo 'NVIDIA-SMI has failed: no driver'; exit 9").await;
        assert!(
            gpus.problem
                .unwrap()
                .ends_with("failed: NVIDIA-SMI has failed: no driver")
        );
        let gpus = with_script("echo 'GPU 0: A (UUID: GPU-a)'").await;
        assert_eq!((gpus.nvidia.len(), gpus.problem), (1, None));
    }
}
