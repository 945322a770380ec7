//! Volumes: what their sources mean on this host, and the folders that are made for them.

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

/// What the volumes mean to the engine. `~` is the caller's home on this host.
///
/// # Errors
/// A source that is neither a path nor a name, or two at the same place.
pub(crate) fn resolve(volumes: &[Volume], home: &Path) -> Result<Vec<Mount>, Failure> {
    let mut mounts: Vec<Mount> = Vec::with_capacity(volumes.len());
    for volume in volumes {
        let destination = trimmed(&volume.destination);
        if mounts.iter().any(|mount| mount.destination == destination) {
            return Err(fail(
                FailureKind::BadRequest,
                "two volumes have the same place in the container",
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

/// Makes the missing sources that lie under the caller's home, as the caller, and returns those that were made.
///
/// # Errors
/// A missing source elsewhere, or one that cannot be made.
pub(crate) fn prepare(mounts: &[Mount], home: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut made = Vec::new();
    for mount in mounts {
        let MountSource::Host(path) = &mount.source else {
            continue;
        };
        let path = Path::new(path);
        match fs::metadata(path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_under(path, home) => {
                make(path).map_err(|error| unusable(path, &error.to_string()))?;
                made.push(path.to_owned());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(unusable(path, "it does not exist on the host"));
            }
            // The engine may see what the caller may not; it decides.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(unusable(path, &error.to_string())),
        }
    }
    Ok(made)
}

/// Makes a folder and those on the way, 0755 whatever this process's umask is.
fn make(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent()
        && !parent.exists()
    {
        make(parent)?;
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
         or use one under `~/`, which is made for you",
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
    fn a_missing_folder_is_made_under_the_home_only() {
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
