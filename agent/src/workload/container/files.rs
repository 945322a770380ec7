//! Files that are put into a container before it starts.

use std::path::Path;

use super::{
    etc_passwd,
    injected_user::{HOME, InjectedUser},
};
use crate::{
    engine::{Entry, Mount},
    workload::jupyter,
};

/// The folder for what starts Jupyter, unless a mount lies over it.
pub(crate) const JUPYTER_FOLDER: &str = "/run/jq";

/// Folders to be used instead, in this order.
const OTHER_FOLDERS: [&str; 4] = ["/opt/jq", "/srv/jq", "/var/lib/jq", "/.jq"];

/// The folder for what starts Jupyter in a container with these mounts, of an image with these volumes: what is put
/// into a folder of the container must not be hidden by a mount, nor land in a folder of the host.
pub(crate) fn jupyter_folder(mounts: &[Mount], volumes: &[String]) -> &'static str {
    let is_covered = |folder: &str| {
        mounts.iter().any(|mount| mount.covers(folder))
            || volumes.iter().any(|volume| Path::new(folder).starts_with(volume))
    };
    [JUPYTER_FOLDER]
        .into_iter()
        .chain(OTHER_FOLDERS)
        .find(|folder| !is_covered(folder))
        .unwrap_or(JUPYTER_FOLDER)
}

/// The program that starts Jupyter, in its folder.
pub(crate) fn start_file(folder: &str) -> String {
    format!("{folder}/start")
}

/// The token's file, in its folder.
pub(crate) fn token_file(folder: &str) -> String {
    format!("{folder}/token")
}

/// The file in which the program that starts Jupyter reports, in its folder.
pub(crate) fn report_file(folder: &str) -> String {
    format!("{folder}/report")
}

/// What starts Jupyter, for the user that it runs as.
pub(crate) fn jupyter_entries(folder: &str, token: &str, owner: (u32, u32)) -> Vec<Entry> {
    vec![
        folder_entry(folder, 0o755, (0, 0)),
        file_entry(&start_file(folder), jupyter::START, 0o444, (0, 0)),
        file_entry(&token_file(folder), token, 0o400, owner),
        file_entry(&report_file(folder), "", 0o600, owner),
    ]
}

/// What an injected user needs: a home, unless a mount covers it, and a name.
pub(crate) fn injected_user_entries(
    injected_user: &InjectedUser,
    mounts: &[Mount],
    lists: (Option<&str>, Option<&str>),
) -> Vec<Entry> {
    let mut entries = Vec::new();
    if !mounts.iter().any(|mount| mount.covers(HOME)) {
        entries.push(folder_entry(HOME, 0o700, (injected_user.uid, injected_user.gid)));
    }
    let (passwd, group) = lists;
    // A list that cannot be read (a link, or missing) is left alone: a list with only our line would lose root.
    if let Some(list) = passwd.and_then(|list| etc_passwd::with_user(list, injected_user)) {
        entries.push(file_entry("/etc/passwd", &list, 0o644, (0, 0)));
    }
    if let Some(list) = group.and_then(|list| etc_passwd::with_group(list, injected_user)) {
        entries.push(file_entry("/etc/group", &list, 0o644, (0, 0)));
    }
    entries
}

/// Opens what belongs to a user for everybody in the container: where the engine maps the owners of files and not the
/// users of this container, the owner cannot be set.
pub(crate) fn open_to_all(entries: &mut [Entry]) {
    for entry in entries.iter_mut().filter(|entry| entry.uid != 0) {
        let owners = entry.mode >> 6 & 0o7;
        entry.mode |= owners << 3 | owners;
    }
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
mod tests {
    use super::*;
    use crate::engine::MountSource;

    #[test]
    fn an_injected_user_gets_a_name_and_a_home_unless_a_mount_covers_it() {
        let user = InjectedUser {
            name: "ada".into(),
            uid: 1234,
            gid: 1235,
        };
        let paths = |mounts: &[Mount]| {
            injected_user_entries(
                &user,
                mounts,
                (Some("root:x:0:0::/root:/bin/sh\n"), Some("root:x:0:\n")),
            )
            .into_iter()
            .map(|entry| entry.path)
            .collect::<Vec<_>>()
        };
        assert_eq!(paths(&[]), ["/home/jq", "/etc/passwd", "/etc/group"]);
        let covering = Mount {
            source: MountSource::Volume("homes".into()),
            destination: "/home".into(),
            read_only: false,
            options: Vec::new(),
        };
        assert_eq!(paths(&[covering]), ["/etc/passwd", "/etc/group"]);
        // A list with only our line, in place of one that could not be read, would lose root.
        let unreadable = injected_user_entries(&user, &[], (None, None));
        assert!(unreadable.iter().all(|entry| entry.path == HOME));
    }

    #[test]
    fn the_token_is_readable_only_by_the_user_of_jupyter() {
        let entries = jupyter_entries(JUPYTER_FOLDER, "secret", (1234, 1235));
        let secrets: Vec<_> = entries
            .iter()
            .filter(|entry| entry.content.as_deref() == Some(b"secret".as_slice()))
            .collect();
        let [file] = secrets[..] else {
            panic!("{secrets:?}")
        };
        assert_eq!(file.path, "/run/jq/token");
        assert_eq!((file.mode, file.uid, file.gid), (0o400, 1234, 1235));
    }

    #[test]
    fn nothing_is_put_where_a_mount_lies_over_it() {
        let mount = |destination: &str| Mount {
            source: MountSource::Host("/data".into()),
            destination: destination.into(),
            read_only: false,
            options: Vec::new(),
        };
        assert_eq!(jupyter_folder(&[], &[]), "/run/jq");
        assert_eq!(jupyter_folder(&[mount("/running")], &[]), "/run/jq");
        assert_eq!(jupyter_folder(&[mount("/run")], &[]), "/opt/jq");
        let (mounts, volumes) = ([mount("/opt"), mount("/run/jq")], ["/srv".to_owned()]);
        assert_eq!(jupyter_folder(&mounts, &volumes), "/var/lib/jq");
    }

    #[test]
    fn what_cannot_be_given_to_its_owner_is_open_to_all_in_the_container() {
        let mut entries = jupyter_entries("/run/jq", "secret", (1234, 1235));
        entries.push(folder_entry(HOME, 0o700, (1234, 1235)));
        open_to_all(&mut entries);
        let modes: Vec<_> = entries.iter().map(|entry| entry.mode).collect();
        assert_eq!(modes, [0o755, 0o444, 0o444, 0o666, 0o777]);
    }
}
