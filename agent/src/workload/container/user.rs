//! Chooses the user of a new container: the caller, where the image allows it, so that files in mounts belong to the
//! caller.

use jq_common::protocol::workload::UserSpec;

use super::{
    etc_passwd::is_root,
    injected_user::{HOME, InjectedUser},
};
use crate::{
    engine::{EngineFacts, ImageFacts, Mount, MountSource},
    workload::HostContext,
};

/// The user of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UserPlan {
    /// The container's user; none for the image's own.
    pub(crate) user: Option<String>,
    /// The user that Jupyter finally runs as; None when the image decides.
    pub(crate) runs_as: Option<(u32, u32)>,
    /// Variables in addition to the image's environment.
    pub(crate) env: Vec<(String, String)>,
    /// A user who needs a home and a line in the image's list of users.
    pub(crate) injected_user: Option<InjectedUser>,
    /// A program of the image that the command is handed to; none where the entry point does that.
    pub(crate) wrapper: Option<String>,
    /// The host's user ids are used, though the engine maps those of every other container.
    pub(crate) host_users: bool,
    /// A note for the user when files may not belong to the caller.
    pub(crate) note: Option<String>,
}

/// Chooses the user. `asked` is `--user`.
pub(crate) fn plan(
    asked: Option<UserSpec>,
    host: &HostContext,
    engine: &EngineFacts,
    image: &ImageFacts,
    mounts: &[Mount],
) -> UserPlan {
    let has_volumes = !mounts.is_empty();
    if let Some(user) = asked {
        let gid = user.gid.unwrap_or(user.uid);
        return exactly(user.uid, gid, &login_name(host, user.uid));
    }
    if engine.rootless {
        // Root in the container is the caller on the host; other users are mapped to ids that the caller cannot use.
        let note = (has_volumes && !is_root(&image.user)).then(|| {
            format!(
                "the image runs as `{}`, whom a rootless engine maps to another user of the host; \
                 if files in volumes are not writable, use `--user 0:0`",
                image.user
            )
        });
        return UserPlan {
            note,
            ..UserPlan::default()
        };
    }
    let starter = stacks_starter(image);
    if engine.remapped
        && host.uid != 0
        && (is_root(&image.user) || starter.is_some())
        && mounts
            .iter()
            .any(|mount| matches!(mount.source, MountSource::Host(_)))
    {
        return UserPlan {
            host_users: true,
            note: Some(
                "the engine maps users (userns-remap); this container has the host's, as with `--userns=host`, so \
                 that what it writes to your folders is yours"
                    .into(),
            ),
            ..exactly(host.uid, host.gid, &login_name(host, host.uid))
        };
    }
    if host.uid == 0 || engine.remapped {
        let note = if !has_volumes {
            None
        } else if engine.remapped {
            Some("the engine maps users (userns-remap): files in volumes may not be writable".into())
        } else {
            (!is_root(&image.user)).then(|| {
                format!(
                    "you are root on the host and the image runs as `{}`, which may not write to root's folders; \
                     `--user 0:0` changes that",
                    image.user
                )
            })
        };
        return UserPlan {
            note,
            ..UserPlan::default()
        };
    }
    if let (Some(starter), false) = (&starter, engine.no_new_privileges) {
        let (uid, gid) = (host.uid, host.gid);
        return UserPlan {
            // The image's start.sh changes its user to the caller's ids and then runs as that user.
            user: Some("0:0".into()),
            runs_as: Some((uid, gid)),
            env: vec![
                ("NB_UID".into(), uid.to_string()),
                ("NB_GID".into(), gid.to_string()),
                ("CHOWN_HOME".into(), "yes".into()),
            ],
            wrapper: starter.clone(),
            ..UserPlan::default()
        };
    }
    // Without new privileges start.sh cannot become another user, but it runs as any.
    if is_root(&image.user) || starter.is_some() {
        return exactly(host.uid, host.gid, &login_name(host, host.uid));
    }
    let note = has_volumes.then(|| {
        format!(
            "the image runs as `{}`, so files it writes to volumes are not yours; `--user {}:{}` changes that",
            image.user, host.uid, host.gid
        )
    });
    UserPlan {
        note,
        ..UserPlan::default()
    }
}

/// Runs as this user from the first process on.
fn exactly(uid: u32, gid: u32, name: &str) -> UserPlan {
    let mut plan = UserPlan {
        user: Some(format!("{uid}:{gid}")),
        runs_as: Some((uid, gid)),
        ..UserPlan::default()
    };
    if uid != 0 {
        plan.env = vec![
            ("HOME".into(), HOME.into()),
            ("USER".into(), name.into()),
            ("LOGNAME".into(), name.into()),
        ];
        plan.injected_user = Some(InjectedUser {
            name: name.into(),
            uid,
            gid,
        });
    }
    plan
}

/// The caller's name if it is valid in a list of users; `jq` for other users.
fn login_name(host: &HostContext, uid: u32) -> String {
    let fit = !host.user.is_empty()
        && host
            .user
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if uid == host.uid && fit {
        host.user.clone()
    } else {
        "jq".into()
    }
}

/// Whether this is an image of the Jupyter Docker Stacks, whose start.sh applies NB_UID and NB_GID when it starts as
/// root, and the program that our command must be passed to. None inside when the entry point already is start.sh; in
/// older images it is part of the command, which ours replaces.
#[expect(
    clippy::option_option,
    reason = "no such image, or one with or without a starter of its own"
)]
fn stacks_starter(image: &ImageFacts) -> Option<Option<String>> {
    let named = |word: &String, name: &str| word.rsplit('/').next() == Some(name);
    if image.entrypoint.iter().any(|word| named(word, "start.sh")) {
        return Some(None);
    }
    let has = |name: &str| image.env.iter().any(|(key, _)| key == name);
    let starts = image.command.first().and_then(|word| word.rsplit('/').next());
    let is_older = has("NB_USER") && has("NB_UID") && starts.is_some_and(|name| name.starts_with("start"));
    is_older.then(|| Some("start.sh".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::fixtures::{engine, host};

    fn image(user: &str, env: &[&str], entrypoint: &[&str]) -> ImageFacts {
        ImageFacts {
            user: user.into(),
            env: env
                .iter()
                .map(|key| ((*key).to_owned(), "x".to_owned()))
                .collect(),
            entrypoint: entrypoint.iter().map(|word| (*word).to_owned()).collect(),
            ..ImageFacts::default()
        }
    }

    #[test]
    fn the_user_of_a_container_follows_from_image_and_engine() {
        let plain = image("", &[], &[]);
        let root = image("root:root", &[], &[]);
        let other = image("app", &[], &[]);
        let stacks = image("1000", &["NB_USER", "NB_UID"], &["tini", "-g", "--", "start.sh"]);
        let script = image("jovyan", &[], &["tini", "--", "/usr/local/bin/start.sh"]);
        let asked = Some(UserSpec { uid: 5, gid: Some(6) });
        let (caller, as_root) = (host(), {
            let mut host = host();
            (host.uid, host.gid) = (0, 0);
            host
        });
        let rootful = engine();
        let rootless = EngineFacts {
            rootless: true,
            ..engine()
        };
        let me = Some("1234:1235".to_owned());
        let start_as_root = Some("0:0".to_owned());
        for (what, asked, host, engine, image, expected) in [
            ("plain image", None, &caller, &rootful, &plain, me.clone()),
            ("root by name", None, &caller, &rootful, &root, me),
            ("someone else's", None, &caller, &rootful, &other, None),
            (
                "docker-stacks",
                None,
                &caller,
                &rootful,
                &stacks,
                start_as_root.clone(),
            ),
            ("its script", None, &caller, &rootful, &script, start_as_root),
            ("caller is root", None, &as_root, &rootful, &plain, None),
            ("caller is root, stacks", None, &as_root, &rootful, &stacks, None),
            ("rootless", None, &caller, &rootless, &plain, None),
            ("rootless, stacks", None, &caller, &rootless, &stacks, None),
            ("asked", asked, &caller, &rootful, &stacks, Some("5:6".into())),
            (
                "asked, rootless",
                asked,
                &caller,
                &rootless,
                &plain,
                Some("5:6".into()),
            ),
        ] {
            assert_eq!(plan(asked, host, engine, image, &[]).user, expected, "{what}");
        }
    }

    #[test]
    fn a_caller_that_the_image_does_not_know_gets_a_home() {
        let plan = plan(None, &host(), &engine(), &image("", &[], &[]), &[folder()]);
        assert_eq!(plan.runs_as, Some((1234, 1235)));
        assert!(plan.env.contains(&("HOME".into(), HOME.into())));
        assert_eq!(plan.injected_user.unwrap().name, "ada");
        assert_eq!(plan.note, None);
    }

    #[test]
    fn files_that_may_not_belong_to_the_caller_are_noted() {
        let noted = plan(None, &host(), &engine(), &image("app", &[], &[]), &[folder()]);
        assert!(noted.note.unwrap().contains("--user 1234:1235"));
        let remapped = EngineFacts {
            remapped: true,
            ..engine()
        };
        let other = plan(None, &host(), &remapped, &image("app", &[], &[]), &[folder()]);
        assert!(other.note.is_some() && !other.host_users);
    }

    #[test]
    fn an_engine_that_maps_users_leaves_the_owner_of_the_callers_folders_alone() {
        let remapped = EngineFacts {
            remapped: true,
            ..engine()
        };
        let stacks = image("1000", &["NB_USER", "NB_UID"], &["tini", "-g", "--", "start.sh"]);
        for image in [image("", &[], &[]), stacks] {
            let with = plan(None, &host(), &remapped, &image, &[folder()]);
            assert_eq!(with.user.as_deref(), Some("1234:1235"));
            assert!(with.host_users && with.note.unwrap().contains("--userns=host"));
            let without = plan(None, &host(), &remapped, &image, &[]);
            assert!(!without.host_users && without.user.is_none());
        }
    }

    #[test]
    fn where_no_privileges_are_gained_start_sh_runs_as_the_caller_itself() {
        let strict = EngineFacts {
            no_new_privileges: true,
            ..engine()
        };
        let stacks = image("1000", &["NB_USER", "NB_UID"], &["tini", "-g", "--", "start.sh"]);
        let plan = plan(None, &host(), &strict, &stacks, &[folder()]);
        assert_eq!(plan.user.as_deref(), Some("1234:1235"));
        assert!(plan.injected_user.is_some() && plan.wrapper.is_none());
    }

    fn folder() -> Mount {
        Mount {
            source: MountSource::Host("/home/ada/work".into()),
            destination: "/work".into(),
            read_only: false,
            options: Vec::new(),
        }
    }
}
