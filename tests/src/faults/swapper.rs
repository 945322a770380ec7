//! Another user of the host swaps the folder that the agent is started from, between the checks and the start. Needs no lab.

use std::{
    fs::{self, Permissions},
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, chown, lchown, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use sha2::{Digest as _, Sha256};

use super::{Bench, Limit, Outcome, Scenario};
use crate::lab::tools;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    id: "T28",
    name: "the agent's folder is swapped by another user while it is started",
    bar: "no program of the other user runs, in 300 tries; 5,000 with --long",
    quick: true,
    engine: false,
    run: swapped,
}];

/// The script that starts the agent on a host, as the client sends it.
const SCRIPT: &str = concat!(
    include_str!("../../../client/src/agent/enter.sh"),
    include_str!("../../../client/src/agent/start.sh")
);

/// Numbers that no account has.
const VICTIM: u32 = 65_431;
const ATTACKER: u32 = 65_432;
const GROUP: u32 = 65_433;

/// What the script needs. There is no sha256sum, so that only the folder's own checks keep the other program out.
const COMMANDS: [&str; 6] = ["id", "mkdir", "chmod", "uname", "cat", "rm"];

const OWN: &str = "the agent runs";
const FOREIGN: &str = "a program of another user runs";

/// A folder that two users share. The kernel protects no links in it, because not everybody may write there
/// (`fs.protected_symlinks`, proc_sys_fs(5)); the sticky bit keeps them from each other's files.
struct Shared {
    base: tempfile::TempDir,
    agent: String,
    sha256: String,
}

impl Shared {
    fn new() -> Result<Self> {
        let base = tempfile::tempdir()?;
        let program = format!("#!/bin/sh\necho {OWN}\n");
        let sha256 = Sha256::digest(&program)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>();
        let shared = Self {
            agent: format!("agent-{}", &sha256[..16]),
            sha256,
            base,
        };
        fs::set_permissions(shared.base.path(), Permissions::from_mode(0o755))?;
        shared.folder("shared", (0, GROUP), 0o1770)?;
        shared.folder("bin", (0, 0), 0o755)?;
        for command in COMMANDS {
            symlink(Path::new("/bin").join(command), shared.path("bin").join(command))?;
        }
        shared.folder("shared/own", (VICTIM, VICTIM), 0o700)?;
        shared.program("shared/own", VICTIM, &program)?;
        Ok(shared)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    /// Where the script looks.
    fn place(&self) -> PathBuf {
        self.path("shared").join(format!("jq-{VICTIM}"))
    }

    fn folder(&self, name: &str, (user, group): (u32, u32), mode: u32) -> Result<()> {
        let path = self.path(name);
        fs::create_dir(&path)?;
        chown(&path, Some(user), Some(group))?;
        Ok(fs::set_permissions(&path, Permissions::from_mode(mode))?)
    }

    fn program(&self, folder: &str, user: u32, text: &str) -> Result<()> {
        let file = self.path(folder).join(&self.agent);
        fs::write(&file, text)?;
        chown(&file, Some(user), Some(user))?;
        Ok(fs::set_permissions(&file, Permissions::from_mode(0o755))?)
    }

    /// Runs the script as the one user. Gives what it prints.
    fn start(&self) -> Result<String> {
        let (machine, agent, sha256) = (std::env::consts::ARCH, &self.agent, &self.sha256);
        let variables = format!(
            "nonce=n role=serve agents={machine}={agent}:{sha256} conditions= distrusted= \
             refused='/var/tmp/jq-{VICTIM}\n/dev/shm/jq-{VICTIM}'\n"
        );
        let mut child = Command::new(tools::must_find("setpriv")?)
            .args(["--reuid", &VICTIM.to_string(), "--regid", &VICTIM.to_string()])
            .args(["--groups", &GROUP.to_string(), "--", "/bin/sh", "-s"])
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("TMPDIR", self.path("shared"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut input = child.stdin.take().context("no stdin")?;
        input.write_all(variables.as_bytes())?;
        input.write_all(SCRIPT.as_bytes())?;
        drop(input);
        Ok(String::from_utf8_lossy(&child.wait_with_output()?.stdout).into_owned())
    }
}

fn swapped(bench: &Bench) -> Result<Outcome> {
    let tries = if bench.long { 5000 } else { 300 };
    let shared = Shared::new()?;
    // Unharmed, the agent is found and runs.
    fs::rename(shared.path("shared/own"), shared.place())?;
    let said = shared.start()?;
    ensure!(said.contains(OWN), "the script does not start the agent: {said}");
    fs::rename(shared.place(), shared.path("shared/own"))?;

    // A link to the folder that passes every check, and a folder with another program.
    let other = shared.path("shared/other");
    shared.folder("shared/other", (ATTACKER, ATTACKER), 0o755)?;
    shared.program("shared/other", ATTACKER, &format!("#!/bin/sh\necho {FOREIGN}\n"))?;
    symlink(shared.path("shared/own"), shared.place())?;
    lchown(shared.place(), Some(ATTACKER), Some(ATTACKER))?;
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let ran = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if renameat_with(CWD, shared.place(), CWD, &other, RenameFlags::EXCHANGE).is_ok() {
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let ran = (0..tries).try_fold(0_u32, |ran, _| -> Result<u32> {
            Ok(ran + u32::from(shared.start()?.contains(FOREIGN)))
        });
        stop.store(true, Ordering::Relaxed);
        ran
    })?;
    let swaps = swaps.into_inner();
    ensure!(swaps > tries, "it was swapped {swaps} times only");
    Ok(Outcome::default()
        .with(
            "programs of the other user",
            f64::from(ran),
            "",
            Limit::AtMost(0.0),
        )
        .noting(format!("{tries} starts, {swaps} swaps")))
}
