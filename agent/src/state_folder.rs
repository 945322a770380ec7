//! The folder of this machine among those of all machines that share a home: tokens and records that outlive the agent.
//!
//! Each folder says in `machine.json` which machine it belongs to. Its name is for people only: a machine keeps its folder
//! under another host name too. Earlier builds had a folder for each host name; the one of this name is taken over once.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jq_common::private_files::{create_folder, create_new, replace};

use crate::machine::Machine;

/// The record in each folder.
const RECORD: &str = "machine.json";

/// Most folders that are tried under one name.
const MOST: u32 = 1000;

/// Finds this machine's folder below `hosts`, or makes one.
///
/// # Errors
/// When none can be made.
pub(crate) fn of(machine: &Machine, hosts: &Path) -> io::Result<PathBuf> {
    create_folder(hosts)?;
    if let Some((folder, recorded)) = find(machine, hosts) {
        create_folder(&folder)?;
        if recorded != *machine
            && let Err(error) = replace(&folder.join(RECORD), &serde_json::to_vec(machine)?)
        {
            // The record of before still leads here, as long as one thing in it stays the same.
            tracing::warn!(%error, "the machine's record is not renewed");
        }
        return Ok(folder);
    }
    for number in 1..=MOST {
        let folder = match number {
            1 => hosts.join(&machine.name),
            number => hosts.join(format!("{}-{number}", machine.name)),
        };
        create_folder(&folder)?;
        match create_new(&folder.join(RECORD), &serde_json::to_vec(machine)?) {
            Ok(()) => return Ok(folder),
            // It belongs to another machine, or to this one since a moment ago.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if recorded(&folder).is_some_and(|recorded| machine.is(&recorded)) {
                    return Ok(folder);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!(
        "too many folders in {}",
        hosts.display()
    )))
}

/// The folder that belongs to this machine; the one of its present name first.
fn find(machine: &Machine, hosts: &Path) -> Option<(PathBuf, Machine)> {
    let entries = fs::read_dir(hosts).ok()?.flatten();
    let known = entries.filter_map(|entry| Some((entry.path(), recorded(&entry.path())?)));
    let ours = known.filter(|(_, recorded)| machine.is(recorded));
    ours.min_by_key(|(folder, recorded)| (recorded.name != machine.name, folder.clone()))
}

fn recorded(folder: &Path) -> Option<Machine> {
    serde_json::from_slice(&fs::read(folder.join(RECORD)).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{Golden, pretty};

    fn machine(id: &str, name: &str, boot: &str) -> Machine {
        Machine {
            id: id.to_owned(),
            name: name.to_owned(),
            boot: boot.to_owned(),
            ..Machine::default()
        }
    }

    #[test]
    fn a_machine_keeps_its_folder_under_another_name() {
        let hosts = tempfile::tempdir().unwrap();
        let folder = of(&machine("01", "gpu", "a"), hosts.path()).unwrap();
        assert_eq!(folder, hosts.path().join("gpu"));
        fs::write(folder.join("token"), "t").unwrap();
        let renamed = of(&machine("01", "dhcp-7", "a"), hosts.path()).unwrap();
        assert_eq!(renamed, folder);
        let rebooted = of(&machine("01", "dhcp-7", "b"), hosts.path()).unwrap();
        assert_eq!(rebooted, folder, "its new name is recorded");
    }

    #[test]
    fn machines_that_share_a_home_have_folders_of_their_own() {
        let hosts = tempfile::tempdir().unwrap();
        let first = machine("01", "localhost", "a");
        let second = machine("02", "localhost", "b");
        let cloned = machine("01", "login2", "c");
        let folders = [&first, &second, &cloned].map(|machine| of(machine, hosts.path()).unwrap());
        assert_eq!(folders[1], hosts.path().join("localhost-2"));
        assert_eq!(folders[2], hosts.path().join("login2"));
        for (machine, folder) in [&first, &second, &cloned].into_iter().zip(folders) {
            assert_eq!(of(machine, hosts.path()).unwrap(), folder);
        }
    }

    #[test]
    fn the_folder_of_an_earlier_build_is_taken_over_by_one_machine() {
        let hosts = tempfile::tempdir().unwrap();
        fs::create_dir_all(hosts.path().join("gpu/sessions")).unwrap();
        fs::write(hosts.path().join("gpu/sessions/a.token"), "t").unwrap();
        let ours = of(&machine("01", "gpu", "a"), hosts.path()).unwrap();
        assert_eq!(fs::read_to_string(ours.join("sessions/a.token")).unwrap(), "t");
        let other = of(&machine("02", "gpu", "b"), hosts.path()).unwrap();
        assert!(!other.join("sessions/a.token").exists());
    }

    #[test]
    fn a_damaged_record_is_nobodys_and_nothing_in_its_folder_is_touched() {
        let hosts = tempfile::tempdir().unwrap();
        let ours = machine("01", "gpu", "a");
        fs::create_dir(hosts.path().join("gpu")).unwrap();
        fs::write(hosts.path().join("gpu").join(RECORD), "{").unwrap();
        assert_eq!(of(&ours, hosts.path()).unwrap(), hosts.path().join("gpu-2"));
        assert_eq!(
            fs::read_to_string(hosts.path().join("gpu").join(RECORD)).unwrap(),
            "{"
        );
    }

    #[test]
    fn a_record_is_what_its_golden_file_says() {
        let machine = Machine {
            namespaces: "4026531840-4026531836".to_owned(),
            cards: ["00:11:22:33:44:55".to_owned()].into(),
            ..machine("0123456789abcdef", "gpu", "b0075e1d-0000-4000-8000-000000000000")
        };
        let read = |text: &str| serde_json::from_str::<Machine>(text).ok();
        let mut golden = Golden::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/machine"));
        let written = pretty(&serde_json::to_vec(&machine).unwrap());
        golden.check("machine.json", &machine, &written, read);
        golden.is_read_as("newer_machine.json", &machine, read);
        let older = Machine {
            id: machine.id.clone(),
            ..Machine::default()
        };
        golden.is_read_as("older_machine.json", &older, read);
        golden.finish();
    }
}
