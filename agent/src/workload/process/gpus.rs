//! The GPUs that a process may use.

use jq_common::protocol::workload::{Failure, GpuAsk, WorkloadSpec};

use crate::workload::{
    EventSink, HostContext,
    gpu::{self, Gpu, detect::of_host},
};

/// The GPUs that Jupyter may use: all of the host's, or those that were requested, which must exist.
pub(crate) async fn chosen(
    host: &HostContext,
    spec: &WorkloadSpec,
    events: &EventSink,
) -> Result<Vec<Gpu>, Failure> {
    let there = events
        .waiting(
            "asking nvidia-smi for the host's GPUs",
            of_host(&spec.gpus, &host.path),
        )
        .await;
    let chosen = gpu::choose(&spec.gpus, &there)?;
    if there.is_empty() && spec.gpus != GpuAsk::None {
        events.warning(there.why_none()).await;
    }
    Ok(chosen)
}

/// The variable that selects the GPUs of CUDA programs.
pub(crate) const CUDA_DEVICES: &str = "CUDA_VISIBLE_DEVICES";

/// Variables that restrict a process to its GPUs. None when it may use all: then the user's own environment decides.
pub(crate) fn variables(ask: &GpuAsk, chosen: &[Gpu]) -> Vec<(&'static str, String)> {
    match ask {
        GpuAsk::Default | GpuAsk::All => Vec::new(),
        GpuAsk::None => vec![(CUDA_DEVICES, String::new())],
        GpuAsk::Count(_) | GpuAsk::Ids(_) => {
            let uuids: Vec<&str> = chosen.iter().map(|gpu| gpu.uuid.as_str()).collect();
            vec![
                (CUDA_DEVICES, uuids.join(",")),
                ("CUDA_DEVICE_ORDER", "PCI_BUS_ID".into()),
            ]
        }
    }
}

/// A note for the user when a running Jupyter, whose [`CUDA_DEVICES`] is `has`, has other GPUs than requested.
pub(crate) fn difference(spec: &WorkloadSpec, chosen: &[Gpu], has: Option<&str>) -> Option<String> {
    // `-e` takes precedence.
    let by_hand = spec.env.iter().any(|(key, _)| key == CUDA_DEVICES);
    if spec.gpus == GpuAsk::Default || by_hand {
        return None;
    }
    let wanted = variables(&spec.gpus, chosen);
    let wanted = wanted.iter().find(|(key, _)| *key == CUDA_DEVICES);
    if has == wanted.map(|(_, value)| value.as_str()) {
        return None;
    }
    let sees = match has {
        None => "all GPUs of the host".to_owned(),
        Some("") => "no GPUs".to_owned(),
        Some(list) => format!("the GPUs {list}"),
    };
    Some(format!(
        "Jupyter is running already, with {sees}; stop it to change that"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::fixtures;

    #[test]
    fn a_process_is_restricted_to_its_gpus() {
        let gpus = gpu::devices::parse_list("GPU 0: A (UUID: GPU-a)\nGPU 1: A (UUID: GPU-b)");
        assert!(variables(&GpuAsk::All, &gpus).is_empty());
        assert_eq!(variables(&GpuAsk::None, &[]), [(CUDA_DEVICES, String::new())]);
        assert_eq!(
            variables(&GpuAsk::Count(2), &gpus),
            [
                (CUDA_DEVICES, "GPU-a,GPU-b".to_owned()),
                ("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned())
            ]
        );
    }

    #[test]
    fn other_gpus_than_requested_are_noted() {
        let gpus = gpu::devices::parse_list("GPU 0: A (UUID: GPU-a)");
        let mut spec = fixtures::spec();
        let differ = |spec: &WorkloadSpec, has| difference(spec, &gpus, has);
        spec.gpus = GpuAsk::Default;
        assert_eq!(differ(&spec, Some("")), None);
        spec.gpus = GpuAsk::Count(1);
        assert_eq!(differ(&spec, Some("GPU-a")), None);
        assert!(differ(&spec, None).unwrap().contains("all GPUs"));
        assert!(differ(&spec, Some("GPU-b")).unwrap().contains("GPU-b"));
        spec.gpus = GpuAsk::All;
        assert_eq!(differ(&spec, None), None);
        assert!(differ(&spec, Some("")).unwrap().contains("no GPUs"));
        spec.env = vec![(CUDA_DEVICES.into(), "0".into())];
        assert_eq!(differ(&spec, Some("0")), None);
    }
}
