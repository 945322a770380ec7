//! Volumes: resolves their sources on this host, and creates missing folders.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

use jq_common::protocol::{
    volume::{Subject, volume_option},
    workload::{Failure, FailureKind, Volume},
};

use crate::{
    engine::{EngineFacts, EngineKind, Mount, MountSource},
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
            options: volume.options.clone(),
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

/// Refuses options that this engine does not know, before it is asked.
///
/// # Errors
/// Naming the option.
pub(crate) fn check_options(mounts: &[Mount], engine: EngineKind) -> Result<(), Failure> {
    for word in mounts.iter().flat_map(|mount| &mount.options) {
        let known =
            volume_option(word).is_some_and(|option| option.in_docker || engine == EngineKind::Podman);
        if !known {
            return Err(fail(
                FailureKind::BadRequest,
                format!("{} has no volume option `{word}`", engine.name()),
                "`-v` passes its options on to the engine",
                "leave the option out, or use the engine that has it (`--engine podman`)",
            ));
        }
    }
    Ok(())
}

/// A note where SELinux may keep a container from the user's folders.
pub(crate) fn selinux_note(mounts: &[Mount], engine: &EngineFacts) -> Option<String> {
    let is_label =
        |option: &String| volume_option(option).is_some_and(|option| option.subject == Subject::Label);
    let unlabelled = mounts
        .iter()
        .find(|mount| matches!(mount.source, MountSource::Host(_)) && !mount.options.iter().any(is_label))?;
    engine.selinux.then(|| {
        format!(
            "SELinux is on in {}: if {} is denied inside, add `:z` to its `-v` (all containers may use the folder \
             then) or `:Z` (only this one)",
            engine.kind.name(),
            unlabelled.destination
        )
    })
}

/// The failure when the engine refuses a mount of a folder that this user has.
pub(crate) fn refused(mounts: &[Mount], why: &str, engine: &EngineFacts) -> Failure {
    let sources = mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Host(path) => Some(path.as_str()),
        MountSource::Volume(_) => None,
    });
    // The engine may name a folder above it.
    let is_named = |path: &&str| {
        Path::new(path)
            .ancestors()
            .filter(|folder| folder.parent().is_some())
            .any(|folder| why.contains(&*folder.to_string_lossy()))
    };
    let named = sources
        .clone()
        .find(|path| why.contains(path))
        .or_else(|| sources.clone().find(is_named));
    let low = why.to_lowercase();
    let says = |words: &str| low.contains(words);
    // What it may not look at, it takes for missing, and fails to create it.
    let denied = says("permission denied")
        || says("operation not permitted")
        || (says("creating mount source path") && says("file exists"));
    let (what, hint) = match named {
        Some(path) if denied => (
            format!("the engine may not enter {path}"),
            may_not_enter(engine.rootless),
        ),
        Some(path) if says("does not exist") || says("no such file") => (
            format!(
                "{path} is on the host, but {} does not see it",
                engine.kind.name()
            ),
            "an engine from snap sees no hidden folders of a home, and one whose service has PrivateTmp sees another \
             /tmp, as does a login with pam_namespace: use a folder elsewhere, for example one in your home whose \
             name has no dot",
        ),
        _ => (
            "the engine refuses a volume".to_owned(),
            "check the sources and options of `-v`: the sources are paths of the GPU host",
        ),
    };
    fail(FailureKind::VolumeUnavailable, what, why, hint)
}

fn may_not_enter(rootless: bool) -> &'static str {
    if rootless {
        "the engine runs as you, in a user namespace: make the folder one that you may enter without a further group"
    } else {
        "the engine is root on the host, and this file system does not let root in (NFS with root_squash, FUSE): use \
         a folder on a local disk, let others pass (`chmod o+x` on the folder and those above it), or use rootless \
         Docker or Podman, which enter it as you"
    }
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
    use crate::workload::fixtures;

    fn volume(source: &str, destination: &str) -> Volume {
        Volume {
            source: source.into(),
            destination: destination.into(),
            ..Volume::default()
        }
    }

    #[test]
    fn an_option_that_the_engine_lacks_is_named() {
        let with = |option: &str| {
            let mut volume = volume("/data", "/x");
            volume.options = vec![option.to_owned()];
            resolve(&[volume], Path::new("/home/ada")).unwrap()
        };
        for option in ["z", "Z", "cached", "rslave", "nocopy"] {
            check_options(&with(option), EngineKind::Docker).unwrap();
        }
        check_options(&with("U"), EngineKind::Podman).unwrap();
        for (option, engine) in [
            ("U", EngineKind::Docker),
            ("of-a-newer-client", EngineKind::Docker),
            ("a:b", EngineKind::Podman),
        ] {
            let failure = check_options(&with(option), engine).unwrap_err();
            assert!(failure.what.contains(&format!("`{option}`")), "{}", failure.what);
        }
    }

    #[test]
    fn a_folder_that_the_engine_may_not_enter_or_does_not_see_is_named_with_what_helps() {
        let mounts = resolve(
            &[volume("/data", "/data"), volume("~/work", "/work")],
            Path::new("/home/ada"),
        )
        .unwrap();
        let engine = fixtures::engine();
        for why in [
            r#"invalid mount config for type "bind": stat /home/ada/work: permission denied"#,
            "error while creating mount source path '/home/ada/work': mkdir /home/ada: permission denied",
            r#"invalid mount config for type "bind": stat /home/ada: permission denied"#,
            "error while creating mount source path '/home/ada/work': mkdir /home/ada/work: file exists",
        ] {
            let failure = refused(&mounts, why, &engine);
            assert_eq!(failure.kind, FailureKind::VolumeUnavailable);
            assert_eq!(failure.what, "the engine may not enter /home/ada/work", "{why}");
            assert_eq!(failure.why, why);
            assert!(failure.hint.contains("root_squash") && failure.hint.contains("local disk"));
        }
        let hidden = r#"invalid mount config for type "bind": bind source path does not exist: /data"#;
        let failure = refused(&mounts, hidden, &engine);
        assert_eq!(failure.what, "/data is on the host, but Docker does not see it");
        assert!(failure.hint.contains("snap") && failure.hint.contains("PrivateTmp"));
        let other = refused(&mounts, "invalid mode: rslave", &engine);
        assert_eq!(other.what, "the engine refuses a volume");
    }

    #[test]
    fn selinux_is_noted_where_no_label_was_asked_for() {
        let on = EngineFacts {
            selinux: true,
            ..fixtures::engine()
        };
        let mut labelled = volume("/data", "/x");
        labelled.options = vec!["z".to_owned()];
        let mounts = |volumes: &[Volume]| resolve(volumes, Path::new("/home/ada")).unwrap();
        let plain = mounts(&[volume("/data", "/x")]);
        assert!(selinux_note(&plain, &on).unwrap().contains("`:z`"));
        assert_eq!(selinux_note(&plain, &fixtures::engine()), None);
        assert_eq!(
            selinux_note(&mounts(&[labelled, volume("name", "/y")]), &on),
            None
        );
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
