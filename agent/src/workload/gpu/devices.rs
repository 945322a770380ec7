//! GPUs as `nvidia-smi` and the kernel list them.

use jq_common::protocol::workload::MOST_LISTED;

/// The GPUs of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostGpus {
    /// NVIDIA GPUs, by index.
    pub(crate) nvidia: Vec<Gpu>,
    /// AMD's device nodes (`/dev/kfd`, `/dev/dri`); empty when there are none.
    pub(crate) amd_nodes: Vec<String>,
    /// The groups that may open these nodes.
    pub(crate) amd_groups: Vec<u32>,
    /// There is a CDI specification for NVIDIA where engines look for it.
    pub(crate) cdi_described: bool,
    /// Why `nvidia-smi` lists none, for the user; none when it answered or is not there.
    pub(crate) problem: Option<String>,
}

impl HostGpus {
    /// Whether there are none.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.nvidia.is_empty() && self.amd_nodes.is_empty()
    }

    /// Why there are none, for the user.
    #[must_use]
    pub(crate) fn why_none(&self) -> String {
        let problem = self.problem.clone();
        let why = problem.unwrap_or_else(|| "`nvidia-smi -L` lists none".into());
        format!("no GPU was found on the host ({why})")
    }

    /// A list for the user.
    #[must_use]
    pub(crate) fn describe(&self) -> String {
        if !self.nvidia.is_empty() {
            let list: Vec<&str> = self.nvidia.iter().map(|gpu| gpu.line.as_str()).collect();
            list.join("; ")
        } else if !self.amd_nodes.is_empty() {
            "AMD GPUs".into()
        } else {
            match &self.problem {
                Some(problem) => format!("none ({problem})"),
                None => "none".into(),
            }
        }
    }
}

/// An NVIDIA GPU, or a MIG device of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gpu {
    /// Its index; none for a MIG device.
    pub(crate) index: Option<u32>,
    /// `GPU-…` or `MIG-…`.
    pub(crate) uuid: String,
    /// Its line of `nvidia-smi -L`.
    pub(crate) line: String,
}

/// Parses the output of `nvidia-smi -L`: `GPU 0: NVIDIA A100 (UUID: GPU-…)`, and indented lines for MIG devices.
#[must_use]
pub(crate) fn parse_list(text: &str) -> Vec<Gpu> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            let (_, rest) = line.rsplit_once("(UUID: ")?;
            let uuid = rest.strip_suffix(')')?.trim();
            let index = line
                .strip_prefix("GPU ")
                .and_then(|rest| rest.split(':').next()?.parse().ok());
            (index.is_some() || line.starts_with("MIG ")).then(|| Gpu {
                index,
                uuid: uuid.to_owned(),
                line: line.to_owned(),
            })
        })
        .collect()
}

/// Parses `/proc/driver/nvidia/gpus/*/information`, for hosts where `nvidia-smi` is missing or broken.
#[must_use]
pub(crate) fn parse_proc(index: u32, information: &str) -> Option<Gpu> {
    let uuid = field(information, "GPU UUID")?;
    let model = field(information, "Model").unwrap_or("NVIDIA GPU");
    Some(Gpu {
        index: Some(index),
        uuid: uuid.to_owned(),
        line: format!("GPU {index}: {model} (UUID: {uuid})"),
    })
}

/// Parses what a container's own kernel driver shows: for each GPU the word `GPU` and its information, then the device
/// nodes. A GPU without a node is one of the host's that the container does not have.
#[must_use]
pub(crate) fn parse_inside(text: &str) -> Vec<Gpu> {
    let nodes: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("/dev/nvidia"))
        .collect();
    let has_node =
        |information: &str| field(information, "Device Minor").is_some_and(|minor| nodes.contains(&minor));
    let all = text.split("GPU\n").filter(|information| has_node(information));
    (0..)
        .zip(all)
        .filter_map(|(index, information)| parse_proc(index, information))
        .collect()
}

/// A field of a GPU's information.
fn field<'a>(information: &'a str, name: &str) -> Option<&'a str> {
    information
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().strip_prefix(':'))
        .map(str::trim)
}

/// Their lines for the user, as many as a message may have.
#[must_use]
pub(crate) fn lines(gpus: &[Gpu]) -> Vec<String> {
    let lines = gpus.iter().map(|gpu| gpu.line.clone());
    lines.take(MOST_LISTED).collect()
}

/// Describes which of `expected` are not among the GPUs seen inside; None when all are.
#[must_use]
pub(crate) fn missing(expected: &[String], seen: &[Gpu]) -> Option<String> {
    let absent: Vec<&str> = expected
        .iter()
        .filter(|uuid| !seen.iter().any(|gpu| gpu.uuid == **uuid))
        .map(String::as_str)
        .collect();
    if absent.is_empty() {
        None
    } else if seen.is_empty() {
        Some("no GPU is visible inside the container".into())
    } else {
        Some(format!("not visible inside the container: {}", absent.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFORMATION: &str =
        "Model: \t\t NVIDIA A100\nIRQ:   \t\t 7\nGPU UUID: \t GPU-@\nDevice Minor: \t @\n";

    #[test]
    fn without_nvidia_smi_the_gpus_with_a_device_node_are_those_of_the_container() {
        let gpu = |minor: &str| format!("GPU\n{}", INFORMATION.replace('@', minor));
        // With CDI, a container sees what the driver knows of all GPUs.
        let text = format!("{}{}/dev/nvidia1\n", gpu("0"), gpu("1"));
        let seen = parse_inside(&text);
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].uuid.as_str(), seen[0].index), ("GPU-1", Some(0)));
        assert_eq!(seen[0].line, "GPU 0: NVIDIA A100 (UUID: GPU-1)");
        assert!(parse_inside(&gpu("0")).is_empty());
        assert!(parse_inside("").is_empty());
        let two = format!("{}{}/dev/nvidia0\n/dev/nvidia1\n", gpu("0"), gpu("1"));
        assert_eq!(parse_inside(&two).len(), 2);
    }
}
