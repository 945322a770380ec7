//! A host for one test: this machine with its own home and commands.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use jq_common::bootstrap::Nonce;
use tempfile::TempDir;

use crate::{agent::Bundle, ssh::Local};

/// A separate home and a separate `id` command, which determines the names of temporary folders.
pub(super) struct Home {
    folder: TempDir,
    words: Vec<&'static str>,
    pub(super) id: String,
}

impl Home {
    pub(super) fn new(words: &[&'static str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["home", "tmp", "own"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let home = Self {
            folder,
            words: words.to_vec(),
            id: Nonce::generate().unwrap().to_string(),
        };
        home.set("id", &format!("echo {}", home.id));
        home
    }

    pub(super) fn sh() -> Self {
        Self::new(&["/bin/sh", "-s"])
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The preferred folder for agents.
    pub(super) fn cache(&self) -> PathBuf {
        self.path("home/.cache/jq")
    }

    /// The second folder for agents. busybox has a built-in `id`, which PATH does not replace.
    pub(super) fn temporary(&self) -> PathBuf {
        let made = names(&self.path("tmp")).pop();
        self.path("tmp")
            .join(made.unwrap_or_else(|| format!("jq-{}", self.id)))
    }

    /// Installs a command that takes precedence over the system's.
    pub(super) fn set(&self, command: &str, script: &str) {
        write_executable(&self.path("own").join(command), &format!("#!/bin/sh\n{script}\n"));
    }

    pub(super) fn host(&self) -> Local {
        self.host_with_path(&format!("{}:/usr/bin:/bin", self.path("own").display()))
    }

    fn host_with_path(&self, path: &str) -> Local {
        Local::new()
            .with_shell(self.words.iter().copied())
            .with_variable("HOME", self.path("home"))
            .with_variable("TMPDIR", self.path("tmp"))
            .with_variable("PATH", path)
    }

    /// The host with only these commands.
    pub(super) fn host_with(&self, commands: &[&str]) -> Local {
        let bin = self.path("bin");
        fs::create_dir(&bin).unwrap();
        for command in commands {
            let own = self.path("own").join(command);
            let places = [
                own,
                Path::new("/usr/bin").join(command),
                Path::new("/bin").join(command),
            ];
            symlink(
                places.iter().find(|path| path.exists()).unwrap(),
                bin.join(command),
            )
            .unwrap();
        }
        self.host_with_path(bin.to_str().unwrap())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for parent in ["/var/tmp", "/dev/shm"] {
            let _ = fs::remove_dir_all(Path::new(parent).join(format!("jq-{}", self.id)));
        }
    }
}

pub(super) fn write_executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

pub(super) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(super) fn installed(folder: &Path, bundle: &Bundle) {
    let agent = &bundle.agents()[0];
    assert_eq!(
        names(folder),
        [agent.file_name()],
        "nothing but the agent is left"
    );
    assert_eq!(
        fs::read(folder.join(agent.file_name())).unwrap(),
        agent.raw().unwrap()
    );
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}
