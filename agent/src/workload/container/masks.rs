//! Hides jq's own folders from a container whose volumes cover them: whoever reaches the agent's control socket, its
//! binary or a client's tickets is the user.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jq_common::protocol::workload::{Failure, FailureKind};

use crate::{
    engine::{Mount, MountSource},
    failure::fail,
    workload::HostContext,
};

/// The paths in the container that are to be hidden. Reads the file system: blocks.
///
/// # Errors
/// When a volume is one of jq's own folders, or lies in one.
pub(crate) fn masked(mounts: &[Mount], host: &HostContext) -> Result<Vec<String>, Failure> {
    let resolved = |path: PathBuf| fs::canonicalize(&path).unwrap_or(path);
    let private: Vec<PathBuf> = own_folders(host)
        .into_iter()
        .filter(|folder| folder.exists())
        .map(resolved)
        .collect();
    let mut masked = Vec::new();
    for mount in mounts {
        if let MountSource::Host(source) = &mount.source {
            covered(&resolved(source.into()), mount, &private, &mut masked)?;
        }
    }
    // What another volume covers is hidden already.
    masked.retain(|path| !mounts.iter().any(|mount| mount.destination == *path));
    masked.sort();
    masked.dedup();
    Ok(masked)
}

fn covered(
    source: &Path,
    mount: &Mount,
    private: &[PathBuf],
    masked: &mut Vec<String>,
) -> Result<(), Failure> {
    for folder in private {
        if source.starts_with(folder) {
            return Err(fail(
                FailureKind::BadRequest,
                format!("cannot mount {}", source.display()),
                format!("jq keeps its own files in {}", folder.display()),
                "mount another folder: whoever can read that one can act as you",
            ));
        }
        if let Ok(below) = folder.strip_prefix(source) {
            let inside = Path::new(&mount.destination).join(below);
            masked.push(inside.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

/// Folders with sockets, binaries, tokens or tickets of this user's agents and clients.
fn own_folders(host: &HostContext) -> Vec<PathBuf> {
    let runtime = host.runtime_dir().join("jq");
    let clients = host.home.join(".local/state/jq");
    [root_of(&host.run_dir), root_of(&host.state_dir), runtime, clients].into()
}

/// The folder of jq's that `path` is in: the nearest one named `jq` or `jq-…`, else the path itself.
fn root_of(path: &Path) -> PathBuf {
    let is_ours = |folder: &&Path| {
        folder
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name == "jq" || name.starts_with("jq-"))
    };
    path.ancestors().find(is_ours).unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::fixtures;

    fn bench() -> (tempfile::TempDir, HostContext) {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let mut host = fixtures::host();
        host.run_dir = home.join(".cache/jq/run/gpu/agent-1.serve");
        host.state_dir = home.join(".local/state/jq/hosts/gpu");
        host.xdg_runtime_dir = Some(dir.path().join("run"));
        host.home = home;
        for folder in [
            &host.run_dir,
            &host.state_dir,
            &dir.path().join("run/jq"),
            &host.home.join("work"),
        ] {
            fs::create_dir_all(folder).unwrap();
        }
        (dir, host)
    }

    fn mount(source: &Path, destination: &str, read_only: bool) -> Mount {
        Mount {
            source: MountSource::Host(source.to_string_lossy().into_owned()),
            destination: destination.into(),
            read_only,
            options: Vec::new(),
        }
    }

    #[test]
    fn jqs_own_folders_are_hidden_wherever_a_volume_covers_them() {
        let (dir, host) = bench();
        let all = masked(&[mount(&host.home, "/d", true)], &host).unwrap();
        assert_eq!(all, ["/d/.cache/jq", "/d/.local/state/jq"]);
        let cache = masked(&[mount(&host.home.join(".cache"), "/c", false)], &host).unwrap();
        assert_eq!(cache, ["/c/jq"]);
        let everything = masked(&[mount(dir.path(), "/all", false)], &host).unwrap();
        assert_eq!(
            everything,
            ["/all/home/.cache/jq", "/all/home/.local/state/jq", "/all/run/jq"]
        );
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&host.home, &link).unwrap();
        assert_eq!(
            masked(&[mount(&link, "/d", true)], &host).unwrap(),
            all,
            "through a link"
        );
        let beside = [mount(&host.home.join("work"), "/work", false)];
        assert!(masked(&beside, &host).unwrap().is_empty());
        let volume = Mount {
            source: MountSource::Volume("cache".into()),
            ..mount(&host.home, "/d", false)
        };
        assert!(masked(&[volume], &host).unwrap().is_empty());
    }

    #[test]
    fn a_volume_in_one_of_jqs_own_folders_is_refused() {
        let (_dir, host) = bench();
        for folder in [&host.run_dir, &host.state_dir, &host.home.join(".cache/jq")] {
            let failure = masked(&[mount(folder, "/x", true)], &host).unwrap_err();
            assert_eq!(failure.kind, FailureKind::BadRequest);
        }
    }

    #[test]
    fn a_folder_in_a_temporary_folder_is_known_by_its_name() {
        assert_eq!(
            root_of(Path::new("/tmp/jq-1000/run/gpu/x")),
            Path::new("/tmp/jq-1000")
        );
        assert_eq!(
            root_of(Path::new("/srv/agents/run")),
            Path::new("/srv/agents/run")
        );
    }
}
