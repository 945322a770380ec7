//! The agent is one static file that runs in an empty root file system.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use jq_agent::netns_helper::HelperConnection;
use jq_tests::{product::agent_binary, require};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A root directory that contains only the agent.
fn empty_root() -> Result<tempfile::TempDir> {
    let root = tempfile::tempdir()?;
    fs::copy(agent_binary(), root.path().join("jq-agent"))?;
    fs::set_permissions(root.path().join("jq-agent"), fs::Permissions::from_mode(0o755))?;
    Ok(root)
}

fn in_root(root: &Path) -> Command {
    let mut command = Command::new("/usr/sbin/chroot");
    command.arg(root).arg("/jq-agent").env_clear();
    command
}

#[test]
fn the_agent_starts_in_an_empty_root() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let root = empty_root()?;
    let output = in_root(root.path()).arg("--version").output()?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(String::from_utf8(output.stdout)?.starts_with("jq-agent "));
    Ok(())
}

#[test]
fn the_agent_needs_no_library_and_no_interpreter() -> Result<()> {
    let file = fs::read(agent_binary())?;
    // ELF64 program headers: e_phoff at 32, e_phnum at 56, 56 bytes each, p_type first (elf(5)).
    let word = |at: usize, size: usize| {
        file[at..at + size]
            .iter()
            .rev()
            .fold(0, |n, byte| n << 8 | usize::from(*byte))
    };
    let headers = (0..word(56, 2)).map(|n| word(word(32, 8) + n * 56, 4));
    const PT_INTERP: usize = 3;
    ensure!(
        headers.into_iter().all(|kind| kind != PT_INTERP),
        "the agent has an ELF interpreter"
    );
    // This build has assertions and no link-time optimisation. deploy/build-agent checks the size of a release.
    ensure!(
        file.len() < 13_000_000,
        "the agent is too large: {} bytes",
        file.len()
    );
    Ok(())
}

#[tokio::test]
async fn the_inside_role_connects_from_an_empty_root_and_passes_the_socket_out() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let root = empty_root()?;
    let mut role = in_root(root.path())
        .args(["inside", "--socket", "/inside.sock"])
        .spawn()?;
    let socket = root.path().join("inside.sock");
    let inside = HelperConnection::connect(&socket, Some(role.id()), Duration::from_secs(10)).await?;
    let service = TcpListener::bind("127.0.0.1:0").await?;
    let mut dialled = inside.dial(service.local_addr()?.port()).await?;
    let (mut accepted, _) = service.accept().await?;
    accepted.write_all(b"hello").await?;
    let mut heard = [0; 5];
    dialled.read_exact(&mut heard).await?;
    ensure!(&heard == b"hello");
    drop(inside);
    let ended = tokio::task::spawn_blocking(move || role.wait())
        .await?
        .context("the role has not ended")?;
    ensure!(
        ended.success(),
        "the role must end with 0 when its agent ends: {ended}"
    );
    Ok(())
}
