//! Removes a lab: everything whose name contains its id, whether or not the process that created it is still running.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, getpid, kill_process};

use super::place::{self, LabId};
use super::plan::HostName;
use super::{netns, user};
use crate::eventually::eventually;

/// Describes what still exists of a lab. Empty after its removal.
pub fn remains(id: &LabId) -> Vec<String> {
    let mut found: Vec<_> = netns_of(id)
        .into_iter()
        .map(|name| format!("network namespace {name}"))
        .collect();
    let accounts = user::accounts(&format!("jq{}", id.as_str())).unwrap_or_default();
    found.extend(accounts.into_iter().map(|name| format!("user or group {name}")));
    found.extend(
        mounts_under(&id.dir())
            .into_iter()
            .map(|mount| format!("mount {}", mount.display())),
    );
    found.extend(
        processes(id)
            .into_iter()
            .map(|pid| format!("process {}", pid.as_raw_nonzero())),
    );
    found.extend(
        cgroups(id)
            .into_iter()
            .map(|dir| format!("control group {}", dir.display())),
    );
    if id.dir().exists() {
        found.push(format!("directory {}", id.dir().display()));
    }
    found
}

/// Removes everything of a lab. Continues after a failure, and reports the first one.
pub(crate) fn remove(id: &LabId) -> Result<()> {
    let mut first = kill_all(id);
    let mut then = |result: Result<()>| {
        if first.is_ok() {
            first = result;
        }
    };
    for mount in mounts_under(&id.dir()).into_iter().rev() {
        then(unmount(&mount));
    }
    for name in netns_of(id) {
        then(netns::remove(&name));
    }
    for host in HostName::ALL {
        then(user::remove(&id.user(host)));
    }
    then(user::remove_group(&id.docker_group()));
    for dir in cgroups(id).into_iter().rev() {
        // A control group can be removed when its last process has been reaped, which may take a moment after the kill.
        let what = format!("control group {} to be empty", dir.display());
        then(eventually(&what, Duration::from_secs(5), || {
            fs::remove_dir(&dir).is_ok() || !dir.exists()
        }));
    }
    if id.dir().exists() {
        // Renamed first: a lab without its lock file would look abandoned to another process.
        let removed = id.dir().with_file_name(format!(".removed-{}", id.as_str()));
        let gone = fs::rename(id.dir(), &removed).and_then(|()| fs::remove_dir_all(&removed));
        then(gone.with_context(|| format!("cannot remove {}", id.dir().display())));
    }
    first.with_context(|| format!("lab {} could not be removed completely", id.as_str()))
}

/// Removes labs whose owner died without removing them. Returns their ids.
pub(crate) fn abandoned() -> Result<Vec<LabId>> {
    let _lock = place::labs_lock()?;
    let mut removed = Vec::new();
    for id in place::ids() {
        if let Some(_dead_owner) = place::Lock::try_take(&id.owner_lock())? {
            remove(&id)?;
            removed.push(id);
        }
    }
    Ok(removed)
}

/// Removes namespaces and users that have the name of a lab without a directory. Returns the ids.
pub(crate) fn strays() -> Result<Vec<LabId>> {
    let _lock = place::labs_lock()?;
    let from_netns = netns::names().into_iter().filter_map(|name| {
        let (id, host) = name.strip_prefix("jq-")?.split_once('-')?;
        host.parse::<HostName>().ok().and_then(|_| LabId::parse(id))
    });
    let from_users = user::accounts("jq")?.into_iter().filter_map(|name| {
        let (id, host) = name.strip_prefix("jq")?.split_at_checked(4)?;
        let ours = host == "docker" || host.parse::<HostName>().is_ok();
        if ours { LabId::parse(id) } else { None }
    });
    let living: BTreeSet<_> = place::ids().into_iter().collect();
    let found: BTreeSet<_> = from_netns
        .chain(from_users)
        .filter(|id| !living.contains(id))
        .collect();
    found.into_iter().map(|id| remove(&id).map(|()| id)).collect()
}

fn netns_of(id: &LabId) -> Vec<String> {
    let prefix = id.netns("");
    netns::names()
        .into_iter()
        .filter(|name| name.starts_with(&prefix))
        .collect()
}

/// The processes in the lab's namespaces, of its users, and in its containers.
fn processes(id: &LabId) -> HashSet<Pid> {
    let mut found: HashSet<_> = netns_of(id)
        .iter()
        .flat_map(|name| netns::processes(name))
        .collect();
    let uids = HostName::ALL
        .into_iter()
        .filter_map(|host| user::id_of(&id.user(host)));
    found.extend(uids.flat_map(netns::processes_of));
    found.extend(members(&cgroups(id)));
    found.remove(&getpid());
    found
}

/// The control groups of the lab's containers, in every hierarchy, parents first.
fn cgroups(id: &LabId) -> Vec<PathBuf> {
    groups_below(&[id.netns("engine")])
}

/// Kills the processes in these control groups, whose names are relative to a hierarchy's root.
pub(crate) fn kill_groups(names: &[String]) -> Result<()> {
    eventually(
        "the containers' processes to end",
        Duration::from_secs(10),
        || {
            let living = members(&groups_below(names));
            for pid in &living {
                let _ = kill_process(*pid, Signal::KILL);
            }
            living.is_empty()
        },
    )
}

/// These control groups and those in them, in every hierarchy, parents first.
fn groups_below(names: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    // Version 2 has one hierarchy at the root, version 1 has one for each controller below it.
    let root = PathBuf::from("/sys/fs/cgroup");
    let below: Vec<_> = fs::read_dir(&root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    for hierarchy in std::iter::once(root).chain(below) {
        for name in names {
            collect_dirs(&hierarchy.join(name), &mut found);
        }
    }
    found
}

/// The processes in control groups.
fn members(groups: &[PathBuf]) -> HashSet<Pid> {
    let mut found = HashSet::new();
    for dir in groups {
        let listed = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        found.extend(
            listed
                .lines()
                .filter_map(|line| Pid::from_raw(line.parse().ok()?)),
        );
    }
    found
}

fn collect_dirs(dir: &Path, found: &mut Vec<PathBuf>) {
    if !dir.is_dir() {
        return;
    }
    found.push(dir.into());
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        collect_dirs(&entry.path(), found);
    }
}

fn kill_all(id: &LabId) -> Result<()> {
    let everybody_is_dead = || {
        let living = processes(id);
        for pid in &living {
            let _ = kill_process(*pid, Signal::KILL);
        }
        living.is_empty()
    };
    if eventually(
        "the lab's processes to end",
        Duration::from_secs(10),
        everybody_is_dead,
    )
    .is_err()
    {
        bail!("these processes of the lab do not end: {:?}", processes(id));
    }
    Ok(())
}

/// The mount points under a directory, outermost first.
pub(crate) fn mounts_under(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from);
    let mut found: Vec<_> = points.filter(|point| point.starts_with(dir)).collect();
    found.sort();
    found
}

pub(crate) fn unmount(mount: &Path) -> Result<()> {
    rustix::mount::unmount(mount, UnmountFlags::DETACH)
        .with_context(|| format!("cannot unmount {}", mount.display()))
}
