//! The rows: which engine, and what is right for it.

use crate::lab::Generation;

/// A row of the matrix.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The engine.
    pub generation: Generation,
    /// How the product names it to the user, up to the minor version.
    pub title: &'static str,
    /// What `--gpus` must do.
    pub devices: Devices,
    /// Whose the files are that Jupyter creates in a volume.
    pub owner: Owner,
}

/// Whether an engine can pass GPUs to containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Devices {
    /// It can: the container has exactly the requested ones.
    Given,
    /// It cannot: a warning, and an error if a number or an id was requested.
    Refused,
}

/// The owner of files in a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The user of the host.
    Caller,
    /// The engine maps users to others, so the user is warned before anything is written.
    Warned,
}

impl Row {
    /// All rows, the cheap ones first.
    pub const ALL: [Self; 6] = [
        row(
            Generation::Docker20,
            "Docker 20.10",
            Devices::Given,
            Owner::Caller,
        ),
        // It ignores requests for GPUs over its API.
        row(Generation::Podman4, "Podman 4.3", Devices::Refused, Owner::Caller),
        row(Generation::Docker28, "Docker 28.", Devices::Given, Owner::Caller),
        row(Generation::Podman5, "Podman 5.", Devices::Given, Owner::Caller),
        row(Generation::Remapped, "Docker 28.", Devices::Given, Owner::Warned),
        row(Generation::Rootless, "Docker 28.", Devices::Given, Owner::Caller),
    ];

    /// Its name on command lines and in reports.
    pub fn name(&self) -> &'static str {
        self.generation.name()
    }
}

const fn row(generation: Generation, title: &'static str, devices: Devices, owner: Owner) -> Row {
    Row {
        generation,
        title,
        devices,
        owner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_generation_has_one_row() {
        assert_eq!(Row::ALL.map(|row| row.generation), Generation::ALL);
    }

    #[test]
    fn a_row_is_found_by_its_name() {
        for row in &Row::ALL {
            assert_eq!(row.name().parse::<Generation>().unwrap(), row.generation);
        }
        assert!("docker".parse::<Generation>().is_err());
    }
}
