//! Builds the ContainerSpec; all defaults live here.

use std::path::Path;

use jq_common::protocol::workload::{GpuAsk, WorkloadSpec};

use super::{
    entry_point::{self, Launch},
    files,
    injected_user::HOME,
    limits::{HardLimits, limits},
    options::Options,
    ownership,
    user::UserPlan,
};
use crate::{
    engine::{ContainerSpec, EngineFacts, ImageFacts, Mount, MountSource},
    workload::{
        HostContext,
        gpu::GpuPlan,
        jupyter::{self, Listen, Start},
    },
};

/// Most shared memory that a container gets by default, in bytes.
const SHM_MOST: u64 = 16 << 30;
/// The variable by which NVIDIA's runtime learns of a container's GPUs; `void` makes it leave the container alone.
const NVIDIA_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";
/// The home whose owner start.sh of the Jupyter Docker Stacks may change.
const STACKS_HOME: &str = "/home/jovyan";

/// Everything that a container's specification depends on.
pub(crate) struct ContainerInputs<'a> {
    pub(crate) spec: &'a WorkloadSpec,
    pub(crate) options: &'a Options,
    pub(crate) host: &'a HostContext,
    pub(crate) engine: &'a EngineFacts,
    pub(crate) image: &'a ImageFacts,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) user: &'a UserPlan,
    /// Replaces the image's entry point, as `--entrypoint` does.
    pub(crate) entrypoint: Option<&'a str>,
    pub(crate) gpus: &'a GpuPlan,
    /// Paths in the container that are hidden.
    pub(crate) masked: Vec<String>,
    pub(crate) nonce: &'a str,
    pub(crate) hard: HardLimits,
}

/// The command that starts Jupyter in the container, from `folder`; None without Jupyter.
fn jupyter_command(
    spec: &WorkloadSpec,
    folder: &str,
    workdir: Option<&str>,
    user: &UserPlan,
) -> Option<Vec<String>> {
    let start = Start {
        kind: spec.jupyter,
        listen: Listen::Port(jupyter::PORT),
        root: workdir,
        name: &spec.session,
        token: Some(&files::token_file(folder)),
        report: Some(&files::report_file(folder)),
    };
    let program = ["/bin/sh".to_owned(), files::start_file(folder)];
    let words = user.wrapper.iter().cloned().chain(program);
    Some(words.chain(start.arguments()?).collect())
}

/// Builds the specification of the container, and a note for the user about it.
pub(crate) fn build(inputs: ContainerInputs) -> (ContainerSpec, Option<String>) {
    let ContainerInputs {
        spec,
        image,
        user,
        host,
        ..
    } = inputs;
    let workdir = workdir(spec.workdir.as_deref(), &inputs.mounts, user, image);
    let folder = files::jupyter_folder(&inputs.mounts, &image.volumes);
    let command = jupyter_command(spec, folder, workdir.as_deref(), user);
    let Launch {
        entrypoint,
        command,
        note,
    } = entry_point::launch(image, inputs.entrypoint, command);
    let mut env = inputs.engine.proxies.clone();
    for (key, value) in &user.env {
        set(&mut env, key, value);
    }
    if spec.gpus == GpuAsk::None && (inputs.engine.nvidia_by_default || asks_for_gpus(image)) {
        set(&mut env, NVIDIA_DEVICES, "void");
    }
    if inputs.mounts.iter().any(|mount| mount.covers(STACKS_HOME)) {
        // It would change the owner of a folder of the host.
        env.retain(|(key, _)| key != "CHOWN_HOME");
    }
    for (key, value) in &spec.env {
        set(&mut env, key, value);
    }
    let mut labels = ownership::labels(host, &spec.session, inputs.nonce, inputs.options, user.runs_as);
    ownership::label_folder(&mut labels, folder);
    let built = ContainerSpec {
        name: ownership::name(&host.user, &spec.session),
        image: inputs.options.image.clone(),
        init: !has_init(entrypoint.as_ref().unwrap_or(&image.entrypoint)),
        entrypoint,
        command,
        user: user.user.clone(),
        env,
        workdir,
        hostname: Some(host_name(&spec.session)),
        labels,
        mounts: inputs.mounts,
        shm_size: Some(
            spec.shm_size
                .unwrap_or_else(|| shared_memory(inputs.engine.memory)),
        ),
        limits: limits(inputs.engine.rootless, inputs.hard),
        gpus: inputs.gpus.request.clone(),
        host_users: user.host_users,
        masked: inputs.masked,
        // A user that the image does not know is in nobody's sudoers(5), so nothing is lost.
        no_new_privileges: user.injected_user.is_some(),
        ..ContainerSpec::default()
    };
    (built, note)
}

/// Whether NVIDIA's runtime would give a container of this image GPUs without being asked.
fn asks_for_gpus(image: &ImageFacts) -> bool {
    image.env.iter().any(|(key, _)| key == NVIDIA_DEVICES)
}

/// The working directory: `-w`; else the first writable volume that is a folder; else the injected user's home; else
/// the image's own.
fn workdir(asked: Option<&str>, mounts: &[Mount], user: &UserPlan, image: &ImageFacts) -> Option<String> {
    if let Some(workdir) = asked {
        return Some(workdir.to_owned());
    }
    let is_file =
        |source: &MountSource| matches!(source, MountSource::Host(path) if Path::new(path).is_file());
    if let Some(mount) = mounts
        .iter()
        .find(|mount| !mount.read_only && !is_file(&mount.source))
    {
        return Some(mount.destination.clone());
    }
    if user.injected_user.is_some() {
        return Some(HOME.to_owned());
    }
    (!image.workdir.is_empty()).then(|| image.workdir.clone())
}

fn set(env: &mut Vec<(String, String)>, key: &str, value: &str) {
    env.retain(|(other, _)| other != key);
    env.push((key.to_owned(), value.to_owned()));
}

/// Half of the memory, at most 16 GiB. Docker's default of 64 MB is too small for PyTorch's data loaders.
fn shared_memory(memory: u64) -> u64 {
    match memory {
        0 => SHM_MOST / 2,
        memory => (memory / 2).min(SHM_MOST),
    }
}

/// An image with an init of its own needs no second one.
fn has_init(entrypoint: &[String]) -> bool {
    let program = entrypoint.first().and_then(|word| word.rsplit('/').next());
    matches!(program, Some("tini" | "tini-static" | "dumb-init" | "init"))
}

fn host_name(session: &str) -> String {
    let name: String = session
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "jq".into() } else { name.into() }
}

#[cfg(test)]
pub(crate) mod tests;
