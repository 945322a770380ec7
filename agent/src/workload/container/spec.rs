//! The container made for a request: the defaults that one would choose after a year of error, in one place.

use std::path::Path;

use jq_common::protocol::workload::WorkloadSpec;

use super::{
    etc_passwd,
    options::Options,
    ownership,
    user::{HOME, UserPlan},
};
use crate::{
    engine::{ContainerSpec, EngineFacts, Entry, ImageFacts, Limit, Mount, MountSource},
    workload::{HostContext, gpu::GpuPlan, jupyter},
};

/// The most shared memory that is given unasked, in bytes.
const SHM_MOST: u64 = 16 << 30;
/// Open files.
const NOFILE: u64 = 1 << 20;
/// Stack in bytes.
const STACK: u64 = 64 << 20;
/// The home whose owner start.sh of the Jupyter Docker Stacks may change.
const STACKS_HOME: &str = "/home/jovyan";

/// All that decides what a container is.
pub(crate) struct ContainerInputs<'a> {
    pub(crate) spec: &'a WorkloadSpec,
    pub(crate) options: &'a Options,
    pub(crate) host: &'a HostContext,
    pub(crate) engine: &'a EngineFacts,
    pub(crate) image: &'a ImageFacts,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) user: &'a UserPlan,
    pub(crate) gpus: &'a GpuPlan,
    pub(crate) nonce: &'a str,
    pub(crate) hard: HardLimits,
}

/// The container to be made.
pub(crate) fn container(inputs: ContainerInputs) -> ContainerSpec {
    let ContainerInputs {
        spec,
        image,
        user,
        host,
        ..
    } = inputs;
    let workdir = workdir(spec.workdir.as_deref(), &inputs.mounts, user, image);
    let as_root = user.runs_as.map_or(is_root(&image.user), |(uid, _)| uid == 0);
    let command = jupyter::command(spec.jupyter, jupyter::PORT, workdir.as_deref(), as_root);
    let command = command.map(|command| user.wrapper.iter().cloned().chain(command).collect());
    let mut env = user.env.clone();
    if inputs
        .mounts
        .iter()
        .any(|mount| covers(&mount.destination, STACKS_HOME))
    {
        // It would change the owner of a folder of the host.
        env.retain(|(key, _)| key != "CHOWN_HOME");
    }
    if command.is_some() {
        set(&mut env, jupyter::TOKEN_FILE_VARIABLE, jupyter::TOKEN_FILE);
    }
    for (key, value) in &spec.env {
        set(&mut env, key, value);
    }
    ContainerSpec {
        name: ownership::name(&host.user, &spec.session),
        image: inputs.options.image.clone(),
        command,
        user: user.user.clone(),
        env,
        workdir,
        hostname: Some(host_name(&spec.session)),
        labels: ownership::labels(host, &spec.session, inputs.nonce, inputs.options, user.runs_as),
        mounts: inputs.mounts,
        shm_size: Some(
            spec.shm_size
                .unwrap_or_else(|| shared_memory(inputs.engine.memory)),
        ),
        limits: limits(inputs.engine.rootless, inputs.hard),
        init: !has_init(&image.entrypoint),
        gpus: inputs.gpus.request.clone(),
        ..ContainerSpec::default()
    }
}

/// `-w`; else the first volume that is a folder to write to; else a newcomer's home, where it can write; else the image's own.
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

pub(crate) fn is_root(user: &str) -> bool {
    matches!(user.split(':').next().unwrap_or_default(), "" | "0" | "root")
}

/// Half of the memory, 16 GiB at most: with Docker's 64 MB PyTorch's loaders die.
fn shared_memory(memory: u64) -> u64 {
    match memory {
        0 => SHM_MOST / 2,
        memory => (memory / 2).min(SHM_MOST),
    }
}

/// Hard limits that bound what may be asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HardLimits {
    /// The kernel's bound on open files.
    pub(crate) kernel_files: u64,
    /// This process's own, which a rootless engine of the same user shares; none is unlimited.
    pub(crate) own_files: Option<u64>,
    pub(crate) own_stack: Option<u64>,
    pub(crate) own_memlock: Option<u64>,
}

fn limits(rootless: bool, hard: HardLimits) -> Vec<Limit> {
    let bounded = |wanted: u64, own: Option<u64>| {
        let own = if rootless { own } else { None };
        wanted.min(own.unwrap_or(u64::MAX))
    };
    let mut limits = Vec::new();
    if !rootless || hard.own_memlock.is_none() {
        limits.push(limit("memlock", -1));
    }
    limits.push(limit("stack", saturate(bounded(STACK, hard.own_stack))));
    let files = bounded(NOFILE.min(hard.kernel_files.max(1024)), hard.own_files);
    limits.push(limit("nofile", saturate(files)));
    limits
}

fn limit(name: &'static str, value: i64) -> Limit {
    Limit {
        name,
        soft: value,
        hard: value,
    }
}

fn saturate(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Images that bring an init of their own need no second one.
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

/// The token's file, for who Jupyter runs as.
pub(crate) fn token_entries(token: &str, (uid, gid): (u32, u32)) -> Vec<Entry> {
    let (folder, _) = jupyter::TOKEN_FILE.rsplit_once('/').unwrap_or_default();
    vec![
        folder_entry(folder, 0o755, (0, 0)),
        file_entry(jupyter::TOKEN_FILE, token, 0o400, (uid, gid)),
    ]
}

/// What a newcomer needs: a home, unless a mount is in its place, and a name.
pub(crate) fn injected_user_entries(
    user: &UserPlan,
    mounts: &[Mount],
    lists: (Option<&str>, Option<&str>),
) -> Vec<Entry> {
    let Some(injected_user) = &user.injected_user else {
        return Vec::new();
    };
    let mut entries = Vec::new();
    if !mounts.iter().any(|mount| covers(&mount.destination, HOME)) {
        entries.push(folder_entry(HOME, 0o700, (injected_user.uid, injected_user.gid)));
    }
    let (passwd, group) = lists;
    // A list that cannot be read (a link, or none at all) is left as it is: one with our line alone would lose root.
    if let Some(list) = passwd.and_then(|list| etc_passwd::with_user(list, injected_user)) {
        entries.push(file_entry("/etc/passwd", &list, 0o644, (0, 0)));
    }
    if let Some(list) = group.and_then(|list| etc_passwd::with_group(list, injected_user)) {
        entries.push(file_entry("/etc/group", &list, 0o644, (0, 0)));
    }
    entries
}

fn covers(destination: &str, path: &str) -> bool {
    Path::new(path).starts_with(destination)
}

fn folder_entry(path: &str, mode: u32, (uid, gid): (u32, u32)) -> Entry {
    Entry {
        path: path.to_owned(),
        content: None,
        mode,
        uid,
        gid,
    }
}

fn file_entry(path: &str, content: &str, mode: u32, owner: (u32, u32)) -> Entry {
    Entry {
        content: Some(content.to_owned().into()),
        ..folder_entry(path, mode, owner)
    }
}

#[cfg(test)]
pub(crate) mod tests;
