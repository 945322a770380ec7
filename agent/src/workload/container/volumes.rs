//! Volumes: resolves their sources on this host, and creates missing folders.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

use jq_common::protocol::workload::{Failure, FailureKind, Volume};

use crate::{
    engine::{Mount, MountSource},
    failure::fail,
    workload::validate::is_name,
};

/// Converts volumes to mounts. `~` is the caller's home on this host.
///
/// # Errors
/// When a source is neither a path nor a name, or two volumes have the same destination.
pub(crate) fn resolve(volumes: &[Volume], home: &Path) -> Result<Vec<Mount>, Failure> {
    let mut mounts: Vec<Mount> = Vec::with_capacity(volumes.len());
    for volume in volumes {
        let destination = trimmed(&volume.destination);
        if mounts.iter().any(|mount| mount.destination == destination) {
            return Err(fail(
                FailureKind::BadRequest,
                "two volumes have the same destination",
                format!("`{destination}`"),
                "give each `-v` a destination of its own",
            ));
        }
        mounts.push(Mount {
            source: source(&volume.source, home)?,
            destination,
            read_only: volume.read_only,
        });
    }
    Ok(mounts)
}

fn source(text: &str, home: &Path) -> Result<MountSource, Failure> {
    let path = |path: PathBuf| Ok(MountSource::Host(trimmed(&path.to_string_lossy())));
    if text == "~" {
        return path(home.to_owned());
    }
    if let Some(rest) = text.strip_prefix("~/") {
        return path(home.join(rest.trim_start_matches('/')));
    }
    if text.starts_with('/') {
        return path(text.into());
    }
    if is_name(text) {
        return Ok(MountSource::Volume(text.to_owned()));
    }
    Err(fail(
        FailureKind::BadRequest,
        "a volume's source cannot be used",
        format!("`{text}` is neither a path of the GPU host nor the name of a volume"),
        "write an absolute path, `~/…` for your home there, or a name without slashes",
    ))
}

fn trimmed(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    }
}

/// Creates the missing sources under the caller's home, and returns those that were created.
///
/// # Errors
/// When a source elsewhere is missing, or one cannot be created.
pub(crate) fn prepare(mounts: &[Mount], home: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut created = Vec::new();
    for mount in mounts {
        let MountSource::Host(path) = &mount.source else {
            continue;
        };
        let path = Path::new(path);
        match fs::metadata(path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_under(path, home) => {
                create(path).map_err(|error| unusable(path, &error.to_string()))?;
                created.push(path.to_owned());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(unusable(path, "it does not exist on the host"));
            }
            // The engine may have access where the caller does not; it decides.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(unusable(path, &error.to_string())),
        }
    }
    Ok(created)
}

/// Creates a folder and its missing parents with mode 0755, independently of the umask.
fn create(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent()
        && !parent.exists()
    {
        create(parent)?;
    }
    fs::create_dir(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

fn is_under(path: &Path, home: &Path) -> bool {
    path.starts_with(home) && !path.components().any(|part| part == Component::ParentDir)
}

fn unusable(path: &Path, why: &str) -> Failure {
    fail(
        FailureKind::VolumeUnavailable,
        format!("cannot mount {}", path.display()),
        why,
        "the source of `-v SOURCE:DESTINATION` is a path of the GPU host: create it there, correct it, \
         or use one under `~/`, which is created for you",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(source: &str, destination: &str) -> Volume {
        Volume {
            source: source.into(),
            destination: destination.into(),
            read_only: false,
        }
    }

    #[test]
    fn sources_are_paths_of_the_host_or_names_of_volumes() {
        let home = Path::new("/home/ada");
        for (text, expected) in [
            ("~/work", MountSource::Host("/home/ada/work".into())),
            ("~//work/", MountSource::Host("/home/ada/work".into())),
            ("~", MountSource::Host("/home/ada".into())),
            ("/data/", MountSource::Host("/data".into())),
            ("cache", MountSource::Volume("cache".into())),
        ] {
            let mounts = resolve(&[volume(text, "/x/")], home).unwrap();
            assert_eq!(
                (&mounts[0].source, mounts[0].destination.as_str()),
                (&expected, "/x"),
                "{text}"
            );
        }
        for bad in ["work/data", "~bob/x", "", "./x", "-x"] {
            assert_eq!(
                resolve(&[volume(bad, "/x")], home).unwrap_err().kind,
                FailureKind::BadRequest,
                "{bad}"
            );
        }
        assert!(resolve(&[volume("/a", "/x"), volume("/b", "/x/")], home).is_err());
    }

    #[test]
    fn a_missing_folder_is_created_only_under_the_home() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        fs::create_dir(&home).unwrap();
        let mounts = resolve(&[volume("~/new/deep", "/x"), volume("name", "/y")], &home).unwrap();
        assert_eq!(prepare(&mounts, &home).unwrap(), [home.join("new/deep")]);
        let made = fs::metadata(home.join("new/deep")).unwrap();
        assert_eq!(made.permissions().mode() & 0o777, 0o755);
        assert!(prepare(&mounts, &home).unwrap().is_empty());

        let elsewhere = dir.path().join("missing").display().to_string();
        let outside = resolve(&[volume(&elsewhere, "/x")], &home).unwrap();
        let failure = prepare(&outside, &home).unwrap_err();
        assert_eq!(failure.kind, FailureKind::VolumeUnavailable);
        assert!(failure.what.contains(&elsewhere));
        let escaping = resolve(&[volume("~/../missing", "/x")], &home).unwrap();
        assert!(prepare(&escaping, &home).is_err());
    }
}
