//! What was asked for meets what there is.

use jq_common::protocol::workload::MOST_LISTED;

use super::*;
use crate::workload::{
    fixtures,
    gpu::devices::{lines, missing, parse_list, parse_proc},
};

const LIST: &str = "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa-1)\n  \
    MIG 1g.5gb      Device  0: (UUID: MIG-cccc-3)\nGPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb-2)\n";

fn host() -> HostGpus {
    HostGpus {
        nvidia: parse_list(LIST),
        ..HostGpus::default()
    }
}

fn engine(kind: EngineKind, version: &str) -> EngineFacts {
    EngineFacts {
        kind,
        version: version.into(),
        ..fixtures::engine()
    }
}

fn ids(list: &[&str]) -> GpuAsk {
    GpuAsk::Ids(list.iter().map(|id| (*id).to_owned()).collect())
}

#[test]
fn lists_are_read() {
    let gpus = parse_list(LIST);
    let read: Vec<_> = gpus.iter().map(|gpu| (gpu.index, gpu.uuid.as_str())).collect();
    assert_eq!(
        read,
        [
            (Some(0), "GPU-aaaa-1"),
            (None, "MIG-cccc-3"),
            (Some(1), "GPU-bbbb-2")
        ]
    );
    assert!(parse_list("No devices found.\nNVIDIA-SMI has failed").is_empty());
    let proc = parse_proc(3, "Model: \t\t NVIDIA T4\nIRQ: 5\nGPU UUID: \t GPU-dd\n").unwrap();
    assert_eq!(proc.line, "GPU 3: NVIDIA T4 (UUID: GPU-dd)");
}

#[test]
fn what_was_asked_for_meets_what_there_is() {
    let uuids = |ask: &GpuAsk, host: &HostGpus| {
        choose(ask, host).map(|gpus| gpus.iter().map(|gpu| gpu.uuid.clone()).collect::<Vec<_>>())
    };
    let two = host();
    assert_eq!(uuids(&GpuAsk::All, &two).unwrap(), ["GPU-aaaa-1", "GPU-bbbb-2"]);
    assert_eq!(uuids(&GpuAsk::Count(1), &two).unwrap(), ["GPU-aaaa-1"]);
    assert_eq!(
        uuids(&ids(&["1", "MIG-cc"]), &two).unwrap(),
        ["GPU-bbbb-2", "MIG-cccc-3"]
    );
    assert_eq!(uuids(&ids(&["gpu-bbbb"]), &two).unwrap(), ["GPU-bbbb-2"]);
    for bad in [
        ids(&["2"]),
        ids(&["GPU-"]),
        ids(&["0", "GPU-aaaa-1"]),
        GpuAsk::Count(3),
        GpuAsk::Count(0),
    ] {
        let failure = choose(&bad, &two).unwrap_err();
        assert_eq!(failure.kind, FailureKind::GpuUnavailable);
        assert!(failure.why.contains("GPU-aaaa-1"), "{}", failure.why);
    }
    assert!(choose(&GpuAsk::Count(1), &HostGpus::default()).is_err());
    assert!(choose(&GpuAsk::All, &HostGpus::default()).unwrap().is_empty());
}

#[test]
fn no_gpu_is_loud_unless_none_were_wanted() {
    let docker = engine(EngineKind::Docker, "20.10.24");
    let none = HostGpus::default();
    assert!(plan(&GpuAsk::Default, &none, &docker).unwrap().warning.is_some());
    assert!(plan(&GpuAsk::All, &none, &docker).unwrap().warning.is_some());
    assert_eq!(plan(&GpuAsk::None, &none, &docker).unwrap(), GpuPlan::default());
    assert_eq!(plan(&GpuAsk::None, &host(), &docker).unwrap(), GpuPlan::default());
    assert!(plan(&GpuAsk::Count(1), &none, &docker).is_err());
}

#[test]
fn each_engine_is_asked_in_its_own_way() {
    let asked = |ask: &GpuAsk, engine: &EngineFacts| plan(ask, &host(), engine).unwrap().request;
    let old = engine(EngineKind::Docker, "20.10.24+dfsg1");
    assert_eq!(asked(&GpuAsk::All, &old), Some(GpuRequest::Nvidia(vec![])));
    assert_eq!(
        asked(&ids(&["1"]), &old),
        Some(GpuRequest::Nvidia(vec!["GPU-bbbb-2".into()]))
    );

    let mut new = engine(EngineKind::Docker, "28.3.0");
    new.cdi = true;
    new.cdi_devices = ["0", "1", "all"]
        .map(|id| format!("nvidia.com/gpu={id}"))
        .to_vec();
    assert_eq!(
        asked(&GpuAsk::All, &new),
        Some(GpuRequest::Cdi(vec!["nvidia.com/gpu=all".into()]))
    );
    assert_eq!(
        asked(&ids(&["GPU-bbbb-2"]), &new),
        Some(GpuRequest::Cdi(vec!["nvidia.com/gpu=1".into()]))
    );
    new.cdi_devices.push("nvidia.com/gpu=GPU-bbbb-2".into());
    assert_eq!(
        asked(&ids(&["1"]), &new),
        Some(GpuRequest::Cdi(vec!["nvidia.com/gpu=GPU-bbbb-2".into()]))
    );

    let podman = engine(EngineKind::Podman, "5.4.1");
    assert_eq!(
        asked(&GpuAsk::All, &podman),
        Some(GpuRequest::Cdi(vec!["nvidia.com/gpu=all".into()]))
    );
    let deaf = engine(EngineKind::Podman, "4.9.3");
    let warned = plan(&GpuAsk::All, &host(), &deaf).unwrap();
    assert!(warned.request.is_none() && warned.warning.is_some());
    assert!(plan(&GpuAsk::Count(1), &host(), &deaf).is_err());
}

#[test]
fn amd_nodes_are_passed_with_their_groups() {
    let amd = HostGpus {
        amd_nodes: vec!["/dev/kfd".into()],
        amd_groups: vec![44],
        ..HostGpus::default()
    };
    let docker = engine(EngineKind::Docker, "27.0.0");
    assert!(matches!(
        plan(&GpuAsk::All, &amd, &docker).unwrap().request,
        Some(GpuRequest::Nodes { .. })
    ));
    assert!(plan(&GpuAsk::Count(1), &amd, &docker).is_err());
}

#[test]
fn proof_is_what_is_seen_inside() {
    let expected = ["GPU-aaaa-1".to_owned(), "GPU-bbbb-2".to_owned()];
    assert_eq!(missing(&expected, &parse_list(LIST)), None);
    assert!(missing(&expected, &[]).unwrap().contains("no GPU"));
    assert!(
        missing(&expected, &parse_list("GPU 0: X (UUID: GPU-aaaa-1)"))
            .unwrap()
            .contains("GPU-bbbb-2")
    );
}

#[test]
fn no_more_gpus_are_told_than_a_message_may_list() {
    let list = |count: usize| -> String {
        (0..count)
            .map(|index| format!("GPU {index}: A (UUID: GPU-{index})\n"))
            .collect()
    };
    for (seen, told) in [(0, 0), (MOST_LISTED, MOST_LISTED), (MOST_LISTED + 1, MOST_LISTED)] {
        let lines = lines(&parse_list(&list(seen)));
        assert_eq!(lines.len(), told);
        assert!(lines.first().is_none_or(|line| line.starts_with("GPU 0:")));
    }
}
