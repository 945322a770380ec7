//! Unix users of the lab: one for each host, with a home under the lab's directory.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{place, tools};

/// A Unix user of this machine that belongs to a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The user's id.
    pub uid: u32,
    /// The id of the group of the same name.
    pub gid: u32,
    /// The home directory, 0700.
    pub home: PathBuf,
}

/// Adds a user with an empty home. `groups` are additional groups, which must exist.
pub(crate) fn create(name: &str, home: &Path, groups: &[String]) -> Result<User> {
    let _lock = accounts_lock()?;
    let home_text = home.to_string_lossy();
    // The password `*` matches nothing but does not lock the account. sshd without PAM treats the usual `!` as locked.
    let mut args = vec![
        "--no-create-home",
        "--home-dir",
        &home_text,
        "--shell",
        "/bin/bash",
        "--password",
        "*",
    ];
    let groups = groups.join(",");
    if !groups.is_empty() {
        args.extend(["--groups", &groups]);
    }
    args.extend(["--user-group", name]);
    tools::run("useradd", args)?;
    let id = |flag| -> Result<u32> {
        let text = tools::run("id", [flag, name])?;
        text.trim()
            .parse()
            .with_context(|| format!("id {flag} {name} gave {text:?}"))
    };
    let user = User {
        name: name.into(),
        uid: id("-u")?,
        gid: id("-g")?,
        home: home.into(),
    };
    fs::create_dir(home).with_context(|| format!("cannot make {}", home.display()))?;
    user.own(home, 0o700)?;
    Ok(user)
}

impl User {
    /// Writes a file that belongs to the user, and creates its parent directories (0700) if they are in the home.
    pub(crate) fn write(&self, path: &Path, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        if let Some(dir) = path.parent()
            && !dir.exists()
        {
            self.make_dir(dir)?;
        }
        fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?;
        self.own(path, mode)
    }

    /// Creates a directory (0700) that belongs to the user, and its parents.
    pub(crate) fn make_dir(&self, dir: &Path) -> Result<()> {
        if let Some(parent) = dir.parent()
            && !parent.exists()
        {
            self.make_dir(parent)?;
        }
        fs::create_dir(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        self.own(dir, 0o700)
    }

    /// Makes the user the owner of a file or directory.
    pub(crate) fn own(&self, path: &Path, mode: u32) -> Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("cannot make {} belong to {}", path.display(), self.name))?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .with_context(|| format!("cannot set the mode of {}", path.display()))
    }
}

/// Adds a group.
pub(crate) fn create_group(name: &str) -> Result<()> {
    let _lock = accounts_lock()?;
    tools::run("groupadd", [name]).map(drop)
}

/// Removes a user, the group of the same name, and the user's files of the product in temporary folders. Does nothing if
/// the user does not exist. The home stays.
pub(crate) fn remove(name: &str) -> Result<()> {
    let Some(uid) = id_of(name) else {
        return Ok(());
    };
    let _lock = accounts_lock()?;
    for folder in ["/tmp", "/var/tmp", "/dev/shm"] {
        remove_product_files(Path::new(folder), uid)?;
    }
    tools::run("userdel", ["--force", name]).map(drop)
}

/// The next user may get the same id, and must not find its predecessor's agent.
fn remove_product_files(folder: &Path, uid: u32) -> Result<()> {
    for entry in fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .flatten()
    {
        let is_product = entry.file_name().to_string_lossy().starts_with("jq-");
        let is_theirs = entry
            .metadata()
            .is_ok_and(|found| found.is_dir() && found.uid() == uid);
        if is_product && is_theirs {
            fs::remove_dir_all(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Removes a group. Does nothing if it does not exist.
pub(crate) fn remove_group(name: &str) -> Result<()> {
    if tools::run("getent", ["group", name]).is_err() {
        return Ok(());
    }
    let _lock = accounts_lock()?;
    tools::run("groupdel", [name]).map(drop)
}

/// The user's id, if the user exists.
pub(crate) fn id_of(name: &str) -> Option<u32> {
    tools::run("id", ["-u", name]).ok()?.trim().parse().ok()
}

/// The names of all users and groups that begin with `prefix`.
pub(crate) fn accounts(prefix: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in ["/etc/passwd", "/etc/group"] {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
        let found = text.lines().filter_map(|line| line.split(':').next());
        names.extend(found.filter(|name| name.starts_with(prefix)).map(str::to_owned));
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// useradd and similar programs fail if another one holds the system's lock, so labs call them one after the other.
pub(super) fn accounts_lock() -> Result<place::Lock> {
    place::Lock::wait(&place::cache().join("accounts.lock"))
}
