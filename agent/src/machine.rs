//! Which machine this is: the folders of an agent belong to one machine, and a home may be shared by several.
//!
//! A host name does not tell: DHCP changes it, and machines made from one image may all have the same. The id of
//! machine-id(5) does, except for machines that were cloned with it. So two machines are the same if their ids are, and one
//! more thing: the name, the running kernel, or a network card.

use std::{collections::BTreeSet, fs, io, os::unix::fs::MetadataExt, path::Path};

use jq_common::{bootstrap::MachineId, protocol::hex};
use rustix::system::uname;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Files with the id that a system got when it was installed; the first that has one counts.
const IDS: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// What is known about a machine. Its JSON form is kept beside what belongs to the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The id of its system, hashed.
    pub(crate) id: String,
    /// Its host name.
    #[serde(default)]
    pub(crate) name: String,
    /// The boot (`random/boot_id`, random(4)).
    #[serde(default)]
    pub(crate) boot: String,
    /// The namespaces of network and processes: parts of one machine that do not reach each other.
    #[serde(default)]
    pub(crate) namespaces: String,
    /// Permanent hardware addresses of its network cards.
    #[serde(default)]
    pub(crate) cards: BTreeSet<String>,
}

impl Machine {
    /// This machine.
    pub(crate) fn this() -> Self {
        let name = safe(&uname().nodename().to_string_lossy());
        let cards = cards(Path::new("/sys/class/net"));
        Self {
            id: id(&IDS.map(|file| fs::read_to_string(file).unwrap_or_default())),
            name,
            boot: first_line("/proc/sys/kernel/random/boot_id"),
            namespaces: ["net", "pid"].map(namespace).join("-"),
            cards,
        }
    }

    /// Whether this is the machine that was recorded. Pure.
    pub(crate) fn is(&self, recorded: &Self) -> bool {
        let is_same_boot = self.boot == recorded.boot;
        let has_same_card = !self.cards.is_disjoint(&recorded.cards);
        self.id == recorded.id
            && (self.name == recorded.name
                || (is_same_boot && self.namespaces == recorded.namespaces)
                || (!is_same_boot && has_same_card))
    }

    /// The name of folders for what runs: it ends with the boot.
    pub(crate) fn running(&self) -> String {
        hashed(&[&self.id, &self.boot, &self.namespaces])
    }

    /// What clients are told.
    pub(crate) fn told(&self) -> MachineId {
        MachineId {
            id: self.id.clone(),
            name: self.name.clone(),
        }
    }
}

/// The id in the first of these texts that has one. All machines without one have the same: the rest tells them apart.
fn id(texts: &[String]) -> String {
    let mut ids = texts.iter().map(|text| text.trim());
    // `uninitialized` is what an image holds before its first boot (machine-id(5)).
    let found = ids.find(|id| !id.is_empty() && *id != "uninitialized");
    hashed(&[found.unwrap_or_default()])
}

/// The first 16 hexadecimal digits of a hash: the id itself is not for others (machine-id(5)).
fn hashed(parts: &[&str]) -> String {
    let mut hash = Sha256::new_with_prefix("jq");
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..8])
}

/// A host name with only characters that are safe in a file name.
fn safe(name: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let name: String = name
        .chars()
        .take(200)
        .map(|c| if is_safe(c) { c } else { '_' })
        .collect();
    if name.is_empty() { "host".to_owned() } else { name }
}

fn first_line(file: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// A namespace of this process, as text (namespaces(7)).
fn namespace(kind: &str) -> String {
    let found = fs::metadata(format!("/proc/self/ns/{kind}"));
    found.map_or_else(|_| String::new(), |found| found.ino().to_string())
}

/// Hardware addresses of the cards in `/sys/class/net`: of devices that are built in (not USB) and have their address for
/// good (`addr_assign_type` 0, sysfs-class-net).
fn cards(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| card(&entry.path()).ok().flatten())
        .collect()
}

fn card(device: &Path) -> io::Result<Option<String>> {
    let bus = fs::canonicalize(device.join("device/subsystem"))?;
    let is_permanent = fs::read_to_string(device.join("addr_assign_type"))?.trim() == "0";
    let address = fs::read_to_string(device.join("address"))?.trim().to_owned();
    Ok((!bus.ends_with("usb") && is_permanent && !address.is_empty()).then_some(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            id: "01".to_owned(),
            name: "gpu".to_owned(),
            boot: "boot".to_owned(),
            namespaces: "1-2".to_owned(),
            cards: ["00:11:22:33:44:55".to_owned()].into(),
        }
    }

    fn other(change: impl FnOnce(&mut Machine)) -> Machine {
        let mut other = machine();
        change(&mut other);
        other
    }

    #[test]
    fn a_machine_stays_the_same_under_another_name_and_after_a_reboot() {
        let renamed = other(|it| it.name = "dhcp-7".to_owned());
        let rebooted = other(|it| {
            it.boot = "another".to_owned();
            it.namespaces = "3-4".to_owned();
        });
        let both = other(|it| {
            it.name = "dhcp-7".to_owned();
            it.boot = "another".to_owned();
        });
        let another_card = other(|it| {
            it.boot = "another".to_owned();
            it.cards.clear();
        });
        for same in [machine(), renamed, rebooted, both, another_card] {
            assert!(machine().is(&same) && same.is(&machine()), "{same:?}");
        }
    }

    #[test]
    fn machines_of_one_image_and_one_home_are_told_apart() {
        let cloned = other(|it| {
            it.name = "login2".to_owned();
            it.boot = "another".to_owned();
            it.cards = ["00:11:22:33:44:66".to_owned()].into();
        });
        let without_cards = other(|it| {
            it.name = "login2".to_owned();
            it.boot = "another".to_owned();
            it.cards.clear();
        });
        let in_another_network = other(|it| {
            it.name = "login2".to_owned();
            it.namespaces = "3-4".to_owned();
        });
        let named_alike = other(|it| it.id = "02".to_owned());
        for another in [cloned, without_cards, in_another_network, named_alike] {
            assert!(!machine().is(&another) && !another.is(&machine()), "{another:?}");
        }
    }

    #[test]
    fn what_runs_belongs_to_one_boot_and_one_network() {
        let running = machine().running();
        assert_eq!(other(|it| it.name = "dhcp-7".to_owned()).running(), running);
        assert_ne!(other(|it| it.boot = "another".to_owned()).running(), running);
        assert_ne!(other(|it| it.namespaces = "3-2".to_owned()).running(), running);
        assert_ne!(other(|it| it.id = "02".to_owned()).running(), running);
    }

    #[test]
    fn an_id_that_was_never_set_is_none() {
        let of = |texts: [&str; 2]| id(&texts.map(str::to_owned));
        assert_eq!(of(["", ""]), of(["uninitialized\n", "\n"]));
        assert_eq!(of(["0123\n", "4567\n"]), of(["0123", ""]));
        assert_eq!(of(["", "4567\n"]), of(["4567", ""]));
        assert_eq!(of(["", ""]).len(), 16);
    }

    #[test]
    fn a_name_is_safe_in_a_path_and_this_machine_is_itself() {
        assert_eq!(safe("gpu.example/.."), "gpu_example___");
        assert_eq!(safe(""), "host");
        let this = Machine::this();
        assert!(this.is(&Machine::this()));
        assert!(MachineId::parse(&this.told().to_string()).is_some());
        let json = serde_json::to_vec(&this).unwrap();
        assert_eq!(serde_json::from_slice::<Machine>(&json).unwrap(), this);
    }

    #[test]
    fn only_built_in_cards_with_a_permanent_address_count() {
        let folder = tempfile::tempdir().unwrap();
        let bus = |name: &str| {
            let bus = folder.path().join("bus").join(name);
            fs::create_dir_all(&bus).unwrap();
            bus
        };
        for (name, on, kind, address) in [
            ("eth0", "pci", "0\n", "00:11:22:33:44:55\n"),
            ("usb0", "usb", "0\n", "00:11:22:33:44:66\n"),
            ("vf0", "pci", "1\n", "00:11:22:33:44:77\n"),
        ] {
            let device = folder.path().join("net").join(name);
            fs::create_dir_all(device.join("device")).unwrap();
            std::os::unix::fs::symlink(bus(on), device.join("device/subsystem")).unwrap();
            fs::write(device.join("addr_assign_type"), kind).unwrap();
            fs::write(device.join("address"), address).unwrap();
        }
        fs::create_dir_all(folder.path().join("net/veth0")).unwrap();
        let found = cards(&folder.path().join("net"));
        assert_eq!(found, BTreeSet::from(["00:11:22:33:44:55".to_owned()]));
        assert!(cards(&folder.path().join("none")).is_empty());
    }
}
