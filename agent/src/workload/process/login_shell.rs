//! Asks the user's own shell, as a terminal has it: conda and its kin are often set up there only, and not in the
//! environment of `ssh HOST COMMAND`.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
    time::timeout,
};

use crate::workload::HostContext;

/// Time limit for the shell, with all that the user has it do.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes read of what it prints.
const OUTPUT: u64 = 64 * 1024;
/// What stands before the answer, among whatever the shell prints.
const MARK: &str = "jq-jupyter-is";
/// Shells that understand the question.
const SHELLS: [&str; 7] = ["bash", "zsh", "fish", "ksh", "mksh", "dash", "sh"];

/// The `jupyter` that an interactive login shell of the user finds. None when it finds none, or does not answer in time.
pub(super) async fn find_jupyter(host: &HostContext) -> Option<PathBuf> {
    let shell = host.shell.as_deref()?;
    let name = shell.file_name()?.to_str()?;
    if !SHELLS.contains(&name) {
        return None;
    }
    // bash(1) as a login shell reads .bashrc only where the profile says so.
    for options in [&["-l", "-i"][..], &["-i"]] {
        let found = answer(&ask(shell, options, &host.home).await?);
        if let Some(program) = found.filter(|program| program.is_file()) {
            return Some(program);
        }
    }
    None
}

/// What the shell says in time.
async fn ask(shell: &Path, options: &[&str], home: &Path) -> Option<String> {
    let mut child = Command::new(shell)
        .args(options)
        .args(["-c", &format!("echo; echo {MARK}; command -v jupyter")])
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let mut said = Vec::new();
    let read = async {
        let mut stdout = child.stdout.take()?.take(OUTPUT);
        stdout.read_to_end(&mut said).await.ok()
    };
    if timeout(PATIENCE, read).await.is_err() {
        tracing::info!(shell = %shell.display(), "the login shell does not answer");
    }
    end(&mut child).await;
    Some(String::from_utf8_lossy(&said).into_owned())
}

/// Ends the shell with all that it has started.
async fn end(child: &mut Child) {
    if let Some(group) = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)) {
        // Fails only when the group is empty.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait().await;
}

fn answer(said: &str) -> Option<PathBuf> {
    let (_, after) = said.rsplit_once(&format!("{MARK}\n"))?;
    let line = after.lines().next()?.trim();
    line.starts_with('/').then(|| line.into())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::workload::fixtures::host;

    #[test]
    fn the_answer_is_found_among_what_a_shell_prints() {
        let said = "Welcome!\n\njq-jupyter-is\n/home/ada/conda/bin/jupyter\nbye\n";
        assert_eq!(answer(said), Some("/home/ada/conda/bin/jupyter".into()));
        for none in [
            "",
            "jq-jupyter-is\n",
            "jq-jupyter-is\nalias jupyter=x\n",
            "/usr/bin/jupyter\n",
        ] {
            assert_eq!(answer(none), None, "{none:?}");
        }
    }

    #[tokio::test]
    async fn what_only_an_interactive_shell_has_on_its_path_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("conda/bin");
        fs::create_dir_all(&bin).unwrap();
        let jupyter = bin.join("jupyter");
        fs::write(&jupyter, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&jupyter, fs::Permissions::from_mode(0o755)).unwrap();
        // As Debian's .bashrc, which does nothing unless the shell is interactive.
        let rc = format!(
            "case $- in *i*) ;; *) return ;; esac\nPATH={}:$PATH\n",
            bin.display()
        );
        fs::write(dir.path().join(".bashrc"), rc).unwrap();
        // A login shell reads the profile, which reads the other one.
        fs::write(dir.path().join(".bash_profile"), ". ~/.bashrc\n").unwrap();
        let shell = dir.path().join("bash");
        fs::write(
            &shell,
            format!("#!/bin/sh\nHOME={} exec /bin/bash \"$@\"\n", dir.path().display()),
        )
        .unwrap();
        fs::set_permissions(&shell, fs::Permissions::from_mode(0o755)).unwrap();
        let mut host = host();
        host.home = dir.path().into();
        host.shell = Some(shell);
        assert_eq!(find_jupyter(&host).await, Some(jupyter));
        host.shell = Some("/bin/false".into());
        assert_eq!(find_jupyter(&host).await, None);
    }
}
