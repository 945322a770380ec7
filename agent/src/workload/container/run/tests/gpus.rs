//! GPUs that are asked for, and what is seen of them inside.

use super::*;

#[tokio::test]
async fn gpus_requested_by_number_are_provided_or_an_error() {
    let mut bench = Bench::new().await;
    bench.gpus.nvidia = gpu::devices::parse_list("GPU 0: A (UUID: GPU-a)\nGPU 1: A (UUID: GPU-b)");
    bench.spec.gpus = GpuAsk::Ids(vec!["1".into()]);
    bench.engine.state().refuse_start = vec![EngineError::GpuRefused("no driver".into())];
    assert_eq!(bench.failure().await.kind, FailureKind::GpuUnavailable);
    assert!(bench.engine.state().containers.is_empty());

    // The engine accepts the request but provides another GPU.
    bench.engine.state().gpus_inside = "GPU 0: A (UUID: GPU-a)".into();
    let failure = bench.failure().await;
    assert_eq!(failure.kind, FailureKind::GpuUnavailable);
    assert!(failure.why.contains("GPU-b"));
    assert!(bench.engine.state().containers.is_empty());

    bench.engine.state().gpus_inside = "GPU 0: A (UUID: GPU-b)".into();
    assert_eq!(bench.ready().await.0.gpus, ["GPU 0: A (UUID: GPU-b)"]);
    let state = bench.engine.state();
    let spec = &state.containers.values().next().unwrap().spec;
    assert_eq!(spec.gpus, Some(GpuRequest::Nvidia(vec!["GPU-b".into()])));
}

#[tokio::test]
async fn without_nvidia_smi_inside_the_driver_is_the_proof_and_the_container_is_kept() {
    let mut bench = Bench::new().await;
    bench.gpus.nvidia = gpu::devices::parse_list("GPU 0: A (UUID: GPU-a)\nGPU 1: A (UUID: GPU-b)");
    bench.spec.gpus = GpuAsk::Count(2);
    let gpu = |minor, uuid| format!("GPU\nModel: A\nGPU UUID: {uuid}\nDevice Minor: {minor}\n");
    let nodes = "/dev/nvidia0\n/dev/nvidia1\n";
    bench.engine.state().driver_inside = format!("{}{}{nodes}", gpu(0, "GPU-a"), gpu(1, "GPU-b"));
    let (ready, events) = bench.ready().await;
    assert_eq!(ready.gpus.len(), 2);
    assert!(!warned(&events));
    assert_eq!(bench.engine.state().containers.len(), 1);
}

#[tokio::test]
async fn an_nvidia_smi_that_hangs_is_the_reason_that_is_told() {
    let mut bench = Bench::new().await;
    let hangs = "nvidia-smi on the host did not answer within 5 seconds";
    bench.gpus.problem = Some(hangs.into());
    bench.spec.gpus = GpuAsk::Count(1);
    let failure = bench.failure().await;
    assert_eq!(failure.kind, FailureKind::GpuUnavailable);
    assert!(failure.why.contains(hangs), "{failure:?}");
    bench.spec.gpus = GpuAsk::Default;
    let (_, events) = bench.ready().await;
    let says_so = |event: &Event| matches!(event, Event::Warning(text) if text.contains(hangs));
    assert!(events.iter().any(says_so), "{events:?}");
}

#[tokio::test]
async fn gpus_that_are_not_visible_inside_are_a_warning() {
    let mut bench = Bench::new().await;
    bench.gpus.nvidia = gpu::devices::parse_list("GPU 0: A (UUID: GPU-a)");
    bench.spec.gpus = GpuAsk::Default;
    let (ready, events) = bench.ready().await;
    assert!(warned(&events) && ready.gpus.is_empty());
    // An existing container without them is reported again, unless none are requested.
    assert!(warned(&bench.ready().await.1));
}
