//! Embeds the agents of the folder `JQ_AGENT_DIR` (files `jq-agent-MACHINE`; relative to the workspace) in the client,
//! compressed. Without that variable the client embeds none and looks for agents at run time.

use std::{
    env,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

const MACHINES: [&str; 2] = ["x86_64", "aarch64"];

#[expect(
    clippy::disallowed_methods,
    reason = "Cargo passes settings to a build script in its environment"
)]
fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=JQ_AGENT_DIR");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    let mut table = String::from("&[\n");
    if let Some(folder) = env::var_os("JQ_AGENT_DIR").filter(|folder| !folder.is_empty()) {
        let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?);
        let folder = package.join("..").join(folder);
        for machine in MACHINES {
            embed(machine, &folder, &out, &mut table)?;
        }
    }
    table.push(']');
    fs::write(out.join("agents.rs"), table)
}

fn embed(machine: &str, folder: &Path, out: &Path, table: &mut String) -> io::Result<()> {
    let path = folder.join(format!("jq-agent-{machine}"));
    println!("cargo::rerun-if-changed={}", path.display());
    let raw = match fs::read(&path) {
        Ok(raw) => raw,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&raw)?;
    let name = format!("jq-agent-{machine}.gz");
    fs::write(out.join(&name), packed.finish()?)?;
    let digest = Sha256::digest(&raw).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let _ = writeln!(
        table,
        "Embedded {{ machine: {machine:?}, sha256: {digest:?}, length: {}, packed: include_bytes!({name:?}) }},",
        raw.len(),
    );
    Ok(())
}
