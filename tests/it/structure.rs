//! Checks the sources against ARCHITECTURE.md: which room may import which, and which room may do what. Does not need root.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use jq_tests::structure::{
    Imports, Rooms, Sources, crates_in_manifest, crates_named, defined,
    map::{self, Mention},
    processes_started,
};

/// The client's rooms, and what each may import. No room imports `commands`.
const CLIENT: Rooms<'_> = Rooms {
    roots: "main lib",
    rooms: &[
        ("commands", "settings cli session output browser"),
        // Translates flags into the input of these rooms.
        ("settings", "cli session connection forward output"),
        ("cli", ""),
        ("session", "connection resumable_session forward"),
        ("connection", "resumable_session agent ssh"),
        ("resumable_session", ""),
        ("agent", "ssh"),
        ("ssh", ""),
        ("forward", ""),
        ("output", ""),
        ("browser", ""),
    ],
    leaves: "error reporter signals state status ticker",
};

/// The agent's rooms, and what each may import.
const AGENT: Rooms<'_> = Rooms {
    roots: "main lib fuzzing",
    rooms: &[
        // Translates flags into the input of these rooms.
        ("cli", "bootstrap workload rundir"),
        ("bootstrap", "bootstrap::contract rundir"),
        ("serve", "bootstrap::contract workload role_start rundir"),
        ("relay", "role_start rundir"),
        // The interface between different builds of the agent.
        ("bootstrap::contract", ""),
        ("workload", "engine netns_helper session_store"),
        ("engine", ""),
        ("netns_helper", ""),
        ("session_store", ""),
        ("role_start", "rundir"),
        ("rundir", ""),
    ],
    leaves: "failure fd_passing host_program keyed_mutex log_tail random_hex role run_blocking udp",
};

/// The crates of the product: folder, and crate name.
const CRATES: [(&str, &str); 4] = [
    ("common", "jq_common"),
    ("common/session-core", "jq_session_core"),
    ("agent", "jq_agent"),
    ("client", "jq_client"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &str) -> Result<Sources> {
    Sources::read(&root().join(folder).join("src"))
}

fn ensure_none(what: &str, found: &[String]) -> Result<()> {
    ensure!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
    Ok(())
}

#[test]
fn no_files_of_a_crate_form_an_import_cycle() -> Result<()> {
    let mut cycles = Vec::new();
    for (folder, name) in CRATES {
        let imports = Imports::of(&sources(folder)?, name)?;
        for cycle in imports.cycles() {
            let steps: Vec<_> = cycle.iter().map(|import| format!("\n    {import}")).collect();
            cycles.push(format!("{folder}/src:{}", steps.concat()));
        }
    }
    ensure_none("import cycles", &cycles)
}

#[test]
fn no_room_imports_a_room_above_it() -> Result<()> {
    for (folder, name, rooms) in [("client", "jq_client", CLIENT), ("agent", "jq_agent", AGENT)] {
        let imports = Imports::of(&sources(folder)?, name)?;
        ensure_none(
            &format!("imports of higher rooms in {folder}/src"),
            &rooms.violations(&imports),
        )?;
    }
    Ok(())
}

/// The places outside `room`, that is, neither in its file nor in its folder.
fn outside(folder: &str, room: &str, places: Vec<(String, usize, String)>) -> Vec<String> {
    let (file, inside) = (format!("{room}.rs"), format!("{room}/"));
    places
        .into_iter()
        .filter(|(name, ..)| *name != file && !name.starts_with(&inside))
        .map(|(name, line, word)| format!("{folder}/src/{name}:{line} {word}"))
        .collect()
}

#[test]
fn only_the_engine_room_names_bollard() -> Result<()> {
    let in_agent = crates_named(&sources("agent")?, &["bollard"]);
    ensure!(
        !in_agent.is_empty(),
        "no file names bollard: this test looks for the wrong word"
    );
    let mut places = outside("agent", "engine/docker", in_agent);
    for folder in ["common", "common/session-core", "client"] {
        places.extend(outside(folder, "", crates_named(&sources(folder)?, &["bollard"])));
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml"))?;
        places.extend(crates_in_manifest(&manifest, &["bollard"]));
    }
    ensure_none("bollard outside of agent/src/engine/docker", &places)
}

/// ssh is the only program that the client starts itself, so this test looks for any process.
#[test]
fn only_the_ssh_room_starts_ssh() -> Result<()> {
    let in_client = processes_started(&sources("client")?, "jq_client")?;
    ensure!(
        !in_client.is_empty(),
        "no file starts a process: this test looks for the wrong path"
    );
    let mut places = outside("client", "ssh", in_client);
    places.extend(outside(
        "common",
        "",
        processes_started(&sources("common")?, "jq_common")?,
    ));
    ensure_none("processes started outside of client/src/ssh", &places)
}

#[test]
fn the_session_core_names_neither_tokio_nor_quinn() -> Result<()> {
    let folder = "common/session-core";
    let forbidden = ["tokio", "quinn"];
    let mut places = outside(folder, "", crates_named(&sources(folder)?, &forbidden));
    let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml"))?;
    places.extend(crates_in_manifest(&manifest, &forbidden));
    ensure_none("tokio or quinn in the session core", &places)
}

#[test]
fn every_file_and_type_that_the_to_add_table_names_exists() -> Result<()> {
    let document = fs::read_to_string(root().join("ARCHITECTURE.md"))?;
    let (rooms, to_add) = (map::rooms(&document), map::to_add(&document));
    ensure!(
        rooms.len() > 30 && to_add.len() > 15,
        "this test does not understand the format of ARCHITECTURE.md"
    );
    let (types, paths): (Vec<_>, Vec<_>) = rooms
        .into_iter()
        .chain(to_add)
        .partition(|mention| !mention.is_path());
    let is_there = |mention: &Mention| mention.candidates().iter().any(|path| root().join(path).exists());
    let missing_paths = paths.iter().filter(|mention| !is_there(mention));
    let mut known = BTreeSet::new();
    for (folder, _) in CRATES {
        known.extend(defined(&sources(folder)?));
    }
    let missing_types = types.iter().filter(|mention| !known.contains(&mention.text));
    let missing: Vec<_> = missing_paths
        .chain(missing_types)
        .map(|mention| format!("ARCHITECTURE.md:{} {}", mention.line, mention.text))
        .collect();
    ensure_none("named in ARCHITECTURE.md but missing", &missing)
}
