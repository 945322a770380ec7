//! Network namespaces: create, enter, list their processes, remove.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::tools;

/// The directory of named network namespaces.
const DIRECTORY: &str = "/run/netns";

/// The file of a namespace.
pub(crate) fn file(netns: &str) -> PathBuf {
    PathBuf::from(DIRECTORY).join(netns)
}

/// Creates a namespace with loopback up, in which TCP has the usual settings and every user may ping.
pub(crate) fn create(netns: &str) -> Result<()> {
    tools::run("ip", ["netns", "add", netns])?;
    tools::run("ip", ["-n", netns, "link", "set", "lo", "up"])?;
    // Laptops and servers use Cubic. The default of some cloud machines (BBR) would distort measurements on lossy links.
    let settings = [
        "net.ipv4.tcp_congestion_control=cubic",
        "net.ipv4.ping_group_range=0 2147483647",
        "net.ipv4.ip_forward=0",
        // No autoconfigured addresses and no router solicitations.
        "net.ipv6.conf.default.addr_gen_mode=1",
        "net.ipv6.conf.default.router_solicitations=0",
        "net.ipv6.conf.default.accept_ra=0",
    ];
    for setting in settings {
        tools::run(
            "nsenter",
            [
                &format!("--net={}", file(netns).display()),
                "sysctl",
                "-qw",
                setting,
            ],
        )?;
    }
    Ok(())
}

/// Allows Cubic in namespaces. Root must do this once for the machine.
pub(crate) fn allow_cubic() -> Result<()> {
    const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
    let allowed = fs::read_to_string(ALLOWED).context("cannot read the allowed TCP congestion controls")?;
    if allowed.split_whitespace().any(|name| name == "cubic") {
        return Ok(());
    }
    fs::write(ALLOWED, format!("{} cubic", allowed.trim())).context("cannot allow TCP cubic")
}

/// Runs `act` on a separate thread in the namespace. What it opens there (sockets, TUN devices) stays in the namespace.
pub(crate) fn enter<T: Send>(netns: &str, act: impl FnOnce() -> T + Send) -> Result<T> {
    enter_file(&file(netns), act)
}

/// As [`enter`], for the namespace of a file: a named one, or that of a process (`/proc/PID/ns/net`).
pub(crate) fn enter_file<T: Send>(netns: &Path, act: impl FnOnce() -> T + Send) -> Result<T> {
    let name = netns.display();
    thread::scope(|scope| {
        let inside = scope.spawn(|| -> Result<T> {
            let handle = fs::File::open(netns).with_context(|| format!("no network namespace {name}"))?;
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&handle), network)
                .with_context(|| format!("cannot enter the network namespace {name}"))?;
            Ok(act())
        });
        inside.join().map_err(|panic| match panic.downcast::<String>() {
            Ok(message) => anyhow!("panicked in {name}: {message}"),
            Err(_) => anyhow!("panicked in {name}"),
        })?
    })
}

/// The processes that are in the namespace now.
pub(crate) fn processes(netns: &str) -> Vec<Pid> {
    let Ok(wanted) = fs::metadata(file(netns)) else {
        return Vec::new();
    };
    let stands_in = |pid: &i32| {
        let own = fs::metadata(format!("/proc/{pid}/ns/net"));
        own.is_ok_and(|own| (own.dev(), own.ino()) == (wanted.dev(), wanted.ino()))
    };
    all_pids()
        .into_iter()
        .filter(stands_in)
        .filter_map(Pid::from_raw)
        .collect()
}

/// The processes of a user, by real or effective id, without zombies.
pub(crate) fn processes_of(uid: u32) -> Vec<Pid> {
    let is_theirs = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        if status.lines().any(|line| line.starts_with("State:\tZ")) {
            return false;
        }
        let ids = status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:"))
            .unwrap_or_default();
        ids.split_whitespace().any(|id| id.parse() == Ok(uid))
    };
    all_pids()
        .into_iter()
        .filter(is_theirs)
        .filter_map(Pid::from_raw)
        .collect()
}

fn all_pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The names of all namespaces on this machine.
pub(crate) fn names() -> Vec<String> {
    let entries = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Removes a namespace. Does nothing if it does not exist.
pub(crate) fn remove(netns: &str) -> Result<()> {
    if !file(netns).exists() {
        return Ok(());
    }
    tools::run("ip", ["netns", "del", netns]).map(drop)
}
