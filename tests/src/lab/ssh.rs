//! SSH files of the users: keys, `~/.ssh/config`, known_hosts, authorized_keys.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::host::Host;
use super::plan::{HostName, Topology};
use super::tools;

/// Creates an ed25519 key without a passphrase at `path`, replacing an existing one. Returns the public key as one line.
pub(crate) fn make_key(path: &Path, comment: &str) -> Result<String> {
    let public = path.with_extension("pub");
    for old in [path, &public] {
        if old.exists() {
            fs::remove_file(old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    let file = path.to_string_lossy();
    tools::run(
        "ssh-keygen",
        ["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", &file],
    )?;
    let line = fs::read_to_string(&public).with_context(|| format!("cannot read {}", public.display()))?;
    Ok(line.trim().to_owned())
}

/// The path of a host's private host key.
pub(crate) fn host_key(host: &Host) -> PathBuf {
    host.dir.join("ssh_host_ed25519_key")
}

/// Creates the keys of hosts and users, and authorises the users: each user may log in on all hosts that are further from
/// the laptop than its own.
pub(crate) fn create_keys(topology: Topology, hosts: &[Host]) -> Result<()> {
    let mut known = String::new();
    for host in hosts.iter().filter(|host| host.name != HostName::Laptop) {
        let line = make_key(&host_key(host), &host.name.to_string())?;
        let key = line.rsplit_once(' ').map_or(line.as_str(), |(key, _comment)| key);
        let _ = writeln!(known, "{},{} {key}", host.address, host.address6);
    }
    let mut authorized_keys = String::new();
    for host in hosts {
        if host.name != HostName::Laptop {
            host.user
                .write(&host.home().join(".ssh/authorized_keys"), &authorized_keys, 0o600)?;
        }
        if host.name != HostName::Gpu {
            let _ = writeln!(authorized_keys, "{}", make_user(topology, host, hosts, &known)?);
        }
    }
    Ok(())
}

fn make_user(topology: Topology, host: &Host, hosts: &[Host], known: &str) -> Result<String> {
    let ssh = host.home().join(".ssh");
    if !ssh.exists() {
        host.user.make_dir(&ssh)?;
    }
    let key = ssh.join("id_ed25519");
    let public = make_key(&key, &format!("{}@{}", host.user.name, host.name))?;
    host.user.own(&key, 0o600)?;
    host.user.own(&key.with_extension("pub"), 0o644)?;
    host.user
        .write(&ssh.join("config"), config(topology, host, hosts), 0o600)?;
    host.user.write(&ssh.join("known_hosts"), known, 0o600)?;
    Ok(public)
}

/// An ordinary `~/.ssh/config`: an alias for each host, with ProxyJump where the topology has a gateway.
fn config(topology: Topology, from: &Host, hosts: &[Host]) -> String {
    let mut text = String::new();
    for host in hosts
        .iter()
        .filter(|host| host.name != HostName::Laptop && host.name != from.name)
    {
        let _ = writeln!(
            text,
            "Host {}\n    HostName {}\n    User {}",
            host.name, host.address, host.user.name
        );
        let _ = writeln!(text, "    IdentityFile ~/.ssh/id_ed25519");
        if let Some(jump) = topology.jump(from.name, host.name) {
            let _ = writeln!(text, "    ProxyJump {jump}");
        }
        let _ = writeln!(text);
    }
    text
}
