//! The options of `-v SOURCE:DESTINATION:OPTION,…`: which there are, and which engine knows them.
//!
//! Sources: docker-run(1), podman-run(1).

/// What an option is about. A volume has at most one option about each subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `ro`, `rw`.
    Access,
    /// `z`, `Z`: the engine relabels the folder for SELinux, for all containers or for this one.
    Label,
    /// `consistent`, `cached`, `delegated`: without effect on Linux.
    Consistency,
    /// `rshared` and its kin, mount_namespaces(7).
    Propagation,
    /// `copy`, `nocopy`: whether a new volume is filled from the image.
    Copy,
    /// `U`: Podman gives the folder to the container's user.
    Owner,
    /// `O`: Podman mounts an overlay, and the folder stays as it is.
    Overlay,
    /// `exec`, `noexec`.
    Programs,
    /// `dev`, `nodev`.
    Devices,
    /// `suid`, `nosuid`.
    SetUid,
    /// `idmap`.
    Mapping,
    /// `bind`, `rbind`.
    Depth,
}

/// An option of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeOption {
    /// As it is written.
    pub word: &'static str,
    /// What it is about.
    pub subject: Subject,
    /// Whether Docker knows it; Podman knows all.
    pub in_docker: bool,
}

/// All options.
pub const VOLUME_OPTIONS: &[VolumeOption] = &[
    docker("ro", Subject::Access),
    docker("rw", Subject::Access),
    docker("z", Subject::Label),
    docker("Z", Subject::Label),
    docker("consistent", Subject::Consistency),
    docker("cached", Subject::Consistency),
    docker("delegated", Subject::Consistency),
    docker("private", Subject::Propagation),
    docker("rprivate", Subject::Propagation),
    docker("shared", Subject::Propagation),
    docker("rshared", Subject::Propagation),
    docker("slave", Subject::Propagation),
    docker("rslave", Subject::Propagation),
    docker("nocopy", Subject::Copy),
    podman("copy", Subject::Copy),
    podman("U", Subject::Owner),
    podman("O", Subject::Overlay),
    podman("exec", Subject::Programs),
    podman("noexec", Subject::Programs),
    podman("dev", Subject::Devices),
    podman("nodev", Subject::Devices),
    podman("suid", Subject::SetUid),
    podman("nosuid", Subject::SetUid),
    podman("idmap", Subject::Mapping),
    podman("bind", Subject::Depth),
    podman("rbind", Subject::Depth),
];

const fn docker(word: &'static str, subject: Subject) -> VolumeOption {
    VolumeOption {
        word,
        subject,
        in_docker: true,
    }
}

const fn podman(word: &'static str, subject: Subject) -> VolumeOption {
    VolumeOption {
        word,
        subject,
        in_docker: false,
    }
}

/// Looks an option up; None when no engine has it.
#[must_use]
pub fn volume_option(word: &str) -> Option<&'static VolumeOption> {
    VOLUME_OPTIONS.iter().find(|option| option.word == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_found_by_its_word_and_no_other_word_is_one() {
        for option in VOLUME_OPTIONS {
            assert_eq!(
                volume_option(option.word),
                Some(option),
                "no word is listed twice"
            );
        }
        for word in ["", "RO", "zz", "ro,z", "cashed"] {
            assert_eq!(volume_option(word), None, "{word}");
        }
    }
}
