//! Faults of a host that a test can inject.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::host::Host;
use super::{ssh, sweep, tools, user};

impl Host {
    /// Makes the shell print `text` whenever it reads its start-up files, in logins and in commands over SSH. The text may
    /// contain escape sequences, but no line `JQ_LAB_END`.
    pub fn print_at_login(&self, text: &str) -> Result<()> {
        let script = format!("cat <<'JQ_LAB_END'\n{text}\nJQ_LAB_END\n");
        self.write(".bashrc", &script)?;
        self.write(".profile", &script)
    }

    /// Makes the home read-only; SSH still works. [`Self::make_home_writable`] undoes it.
    pub fn make_home_read_only(&self) -> Result<()> {
        let home = self.home().to_string_lossy();
        // A read-only mount, because the user could undo a file mode.
        tools::run("mount", ["--bind", &home, &home])?;
        tools::run("mount", ["-o", "remount,bind,ro", &home]).map(drop)
    }

    /// Removes the last mount on the home: that of [`Self::make_home_read_only`] or [`Self::limit_home`].
    pub fn make_home_writable(&self) -> Result<()> {
        sweep::unmount(self.home())
    }

    /// Mounts a separate file system on the home, with `free_kib` KiB free and a copy of `~/.ssh`. It hides all other files in
    /// the home until the lab is removed.
    pub fn limit_home(&self, free_kib: u64) -> Result<()> {
        let home = self.home().to_string_lossy().into_owned();
        let kept = self.dir.join("kept-ssh");
        let kept = kept.to_string_lossy();
        tools::run("cp", ["-a", &format!("{home}/.ssh"), &kept])?;
        let options = format!(
            "size={}k,mode=0700,uid={},gid={}",
            free_kib + 64,
            self.user.uid,
            self.user.gid
        );
        tools::run("mount", ["-t", "tmpfs", "-o", &options, "jq-lab", &home])?;
        tools::run("cp", ["-a", &kept, &format!("{home}/.ssh")])?;
        fs::remove_dir_all(&*kept).context("cannot remove the copy of the keys")
    }

    /// Makes a folder of the home one that its user may enter and root may not, as on NFS with `root_squash`. Undone by
    /// [`Self::let_root_into`].
    pub fn keep_root_out_of(&self, folder: &str) -> Result<()> {
        // As every distribution has it.
        self.run_as_root("chmod 666 /dev/fuse")?;
        let line =
            format!("mkdir -p .kept/{folder} {folder} && bindfs --no-allow-other .kept/{folder} {folder}");
        self.run(&line).map(drop)
    }

    /// Makes the folder an ordinary one again.
    pub fn let_root_into(&self, folder: &str) -> Result<()> {
        self.run(&format!("fusermount -u {folder}")).map(drop)
    }

    /// Mounts a file system with `noexec` on the home, empty except for `~/.ssh`.
    pub fn make_home_noexec(&self) -> Result<()> {
        self.limit_home(256 * 1024)?;
        tools::run("mount", ["-o", "remount,noexec", &*self.home().to_string_lossy()]).map(drop)
    }

    /// Makes `uname -m` print `machine`.
    pub fn pretend_machine(&self, machine: &str) -> Result<()> {
        let script = [
            "#!/bin/sh".into(),
            "case $* in".into(),
            format!("-m) echo {machine} ;;"),
            format!("'-s -m' | -sm | -ms) echo Linux {machine} ;;"),
            "*) exec /usr/bin/uname \"$@\" ;;".into(),
            "esac\n".into(),
        ];
        self.install_script("uname", &script.join("\n"))
    }

    /// Sets the user's login shell.
    pub fn set_shell(&self, shell: &Path) -> Result<()> {
        let _lock = user::accounts_lock()?;
        tools::run("usermod", ["--shell", &*shell.to_string_lossy(), &self.user.name]).map(drop)
    }

    /// Replaces the user's key by one that no host accepts.
    pub fn forget_key(&self) -> Result<()> {
        let key = self.home().join(".ssh/id_ed25519");
        ssh::make_key(&key, "unknown")?;
        self.user.own(&key, 0o600)?;
        self.user.own(&key.with_extension("pub"), 0o644)
    }

    /// Sets a passphrase for the user's key. No ssh-agent remembers it.
    pub fn lock_key(&self, passphrase: &str) -> Result<()> {
        let key = self.home().join(".ssh/id_ed25519");
        let file = key.to_string_lossy();
        tools::run(
            "ssh-keygen",
            ["-q", "-p", "-P", "", "-N", passphrase, "-f", &file],
        )?;
        self.user.own(&key, 0o600)
    }

    /// Sets the user's password on this host. It must not contain quotes. The host's sshd accepts passwords only if it is
    /// configured to.
    pub fn set_password(&self, password: &str) -> Result<()> {
        let _lock = user::accounts_lock()?;
        self.run_as_root(&format!("echo '{}:{password}' | chpasswd", self.user.name))
            .map(drop)
    }

    /// Empties the user's known_hosts, so that every host is unknown.
    pub fn forget_hosts(&self) -> Result<()> {
        self.user.write(&self.home().join(".ssh/known_hosts"), "", 0o600)
    }
}
