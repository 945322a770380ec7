//! Requests on an engine in memory, with a stand-in for Jupyter on a real port.

mod again;
mod beside;
mod gpus;
mod remedies;

use std::{path::Path, sync::Mutex};

use futures_util::future::BoxFuture;
use jq_common::protocol::workload::{Event, JupyterKind};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};

use super::*;
use crate::{
    engine::{EngineError, Exit, GpuRequest, ImageFacts, Phase},
    workload::{
        RunningWorkload,
        container::fake_engine::Fake,
        fixtures::{self, engine, host},
        gpu,
        jupyter::probe::tests::{answer, stand_in},
        running::StandIn,
    },
};

const IMAGE: &str = "quay.io/jupyter/base-notebook";
const NAME: &str = "jq-ada-gpu";

/// All ports of every container lead to one port of this machine.
struct Stand(Mutex<u16>);

impl ContainerAccess for Stand {
    fn open<'a>(
        &'a self,
        _: &'a Arc<dyn ContainerEngine>,
        _: &'a ContainerState,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn RunningWorkload>, Failure>> {
        let port = *self.0.lock().unwrap();
        Box::pin(async move { Ok(Arc::new(StandIn(port)) as Arc<dyn RunningWorkload>) })
    }
}

/// A host with an engine in memory.
struct Bench {
    engine: Arc<Fake>,
    host: HostContext,
    store: SessionStore,
    access: Stand,
    gpus: HostGpus,
    spec: WorkloadSpec,
    tasks: JoinSet<()>,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut host = host();
        host.state_dir = dir.path().join("state");
        host.home = dir.path().to_owned();
        let store = SessionStore::new(&host.state_dir);
        let mut tasks = JoinSet::new();
        // Knows whatever token the session's container has at the moment.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let knows = store.clone();
        let lets_in = move |request: &str| {
            let token = std::fs::read_to_string(knows.token_file("gpu", TokenOf::Container)).ok();
            token.is_some_and(|token| request.contains(&format!("authorization: token {token}\r\n")))
        };
        let port = answer(listener, lets_in, &mut tasks);
        let engine = Fake::new(engine());
        engine.state().programs.push("/usr/bin/jupyter".into());
        engine
            .state()
            .registry
            .insert(IMAGE.into(), ImageFacts::default());
        Self {
            engine,
            host,
            store,
            access: Stand(Mutex::new(port)),
            gpus: HostGpus::default(),
            spec: fixtures::spec(),
            tasks,
            _dir: dir,
        }
    }

    /// Nothing listens in any container.
    fn without_jupyter(self) -> Self {
        // Bound and dropped, so that nobody listens there.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        *self.access.0.lock().unwrap() = free.local_addr().unwrap().port();
        self
    }

    async fn run(&self) -> (Result<Started, Failure>, Vec<Event>) {
        let (sender, mut receiver) = mpsc::channel(256);
        let events = EventSink::new(sender);
        let run = Run {
            engine: self.engine.clone(),
            host: &self.host,
            store: &self.store,
            access: &self.access,
            gpus: &self.gpus,
            spec: &self.spec,
            events: &events,
        };
        let result = run.container().await;
        drop(events);
        let mut told = Vec::new();
        while let Some(event) = receiver.recv().await {
            told.push(event);
        }
        (result, told)
    }

    async fn ready(&self) -> (Ready, Vec<Event>) {
        let (result, events) = self.run().await;
        match result {
            Ok(started) => (started.ready, events),
            Err(failure) => panic!("{failure:?}"),
        }
    }

    async fn failure(&self) -> Failure {
        match self.run().await.0 {
            Ok(started) => panic!("{:?}", started.ready),
            Err(failure) => failure,
        }
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.engine.state().calls)
    }
}

fn origin(ready: &Ready) -> Origin {
    ready.container.as_ref().unwrap().origin
}

fn warned(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(event, Event::Warning(_)))
}

#[tokio::test]
async fn a_container_is_created_then_found_then_started_again() {
    let bench = Bench::new().await;
    let (made, events) = bench.ready().await;
    assert_eq!(origin(&made), Origin::Created);
    assert_eq!(
        bench.calls(),
        [
            format!("pull {IMAGE}"),
            format!("create {NAME}"),
            "start id0".into()
        ]
    );
    assert!(events.contains(&Event::Step(format!("pulling {IMAGE}"))));
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Progress(progress) if progress.total == Some(2)))
    );
    let jupyter = made.jupyter.unwrap();
    assert_eq!(
        (jupyter.port, jupyter.path.as_str(), jupyter.was_running),
        (8888, "/lab", false)
    );

    let (found, _) = bench.ready().await;
    assert_eq!(origin(&found), Origin::Found);
    let again = found.jupyter.unwrap();
    assert!(again.was_running && again.token == jupyter.token);
    assert!(bench.calls().is_empty());

    bench.engine.end("id0", Exit::default());
    let (started, _) = bench.ready().await;
    assert_eq!(origin(&started), Origin::Started);
    assert_eq!(bench.calls(), ["start id0"]);
}

#[tokio::test]
async fn the_token_is_in_a_file_that_only_the_user_can_read() {
    let bench = Bench::new().await;
    let (ready, _) = bench.ready().await;
    let state = bench.engine.state();
    let container = &state.containers["id0"];
    let file = &container.files["/run/jq/token"];
    assert_eq!((file.mode, file.uid, file.gid), (0o400, 1234, 1235));
    let token = ready.jupyter.unwrap().token;
    assert_eq!(file.content.as_deref(), Some(token.as_bytes()));
    assert!(!format!("{:?}", container.spec).contains(&token));
    assert!(container.files.contains_key("/home/jq"));
}

#[tokio::test]
async fn a_container_that_is_not_ours_is_left_alone() {
    let bench = Bench::new().await;
    bench.engine.add("theirs", NAME, Phase::Exited);
    assert_eq!(bench.failure().await.kind, FailureKind::NameTaken);
    assert!(bench.calls().is_empty());
}

#[tokio::test]
async fn a_request_with_other_options_is_refused_and_changes_nothing() {
    let mut bench = Bench::new().await;
    bench.ready().await;
    bench.calls();
    bench.spec.workdir = Some("/work".into());
    let failure = bench.failure().await;
    assert_eq!(failure.kind, FailureKind::SpecDiffers);
    assert!(failure.why.contains("workdir: default, asked for /work"));
    assert!(bench.calls().is_empty());
    // Without an image, the existing container is used whatever its options.
    bench.spec.image = None;
    bench.spec.workdir = None;
    assert_eq!(origin(&bench.ready().await.0), Origin::Found);
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_named() {
    let mut bench = Bench::new().await;
    bench.spec.image = Some("nowhere/nothing".into());
    let failure = bench.failure().await;
    assert_eq!(failure.kind, FailureKind::ImageUnavailable);
    assert!(failure.what.contains("nowhere/nothing") && failure.why.contains("manifest unknown"));
}

#[tokio::test]
async fn a_container_that_cannot_start_is_removed() {
    let bench = Bench::new().await;
    let missing = "exec: \"jupyter\": executable file not found in $PATH";
    bench.engine.state().refuse_start = vec![EngineError::CommandMissing(missing.into())];
    let failure = bench.failure().await;
    assert_eq!(failure.kind, FailureKind::CommandMissing);
    assert!(failure.what.contains("has no JupyterLab"));
    assert!(bench.engine.state().containers.is_empty());
}

#[tokio::test]
async fn a_jupyter_that_ends_is_reported_with_its_output_and_removed_only_when_new() {
    let bench = Bench::new().await.without_jupyter();
    bench.engine.state().log = vec!["Traceback".into(), "ValueError: bad".into()];
    bench.engine.state().ends_at_once = Some(Exit {
        code: Some(1),
        ..Exit::default()
    });
    let failure = bench.failure().await;
    assert_eq!(failure.kind, FailureKind::StartFailed);
    assert!(failure.why.contains("ValueError: bad"));
    assert!(bench.engine.state().containers.is_empty());

    let bench = Bench::new().await;
    bench.ready().await;
    let bench = bench.without_jupyter();
    bench.engine.end("id0", Exit::default());
    bench.engine.state().ends_at_once = Some(Exit {
        code: Some(1),
        ..Exit::default()
    });
    assert_eq!(bench.failure().await.kind, FailureKind::StartFailed);
    assert_eq!(bench.engine.state().containers.len(), 1);
}

#[tokio::test]
async fn an_entry_point_that_fails_on_jupyter_is_reported_as_an_image_without_it() {
    let bench = Bench::new().await.without_jupyter();
    bench.engine.state().programs.clear();
    bench.engine.state().log = vec!["not a number".into()];
    bench.engine.state().ends_at_once = Some(Exit {
        code: Some(101),
        ..Exit::default()
    });
    let failure = bench.failure().await;
    assert_eq!(failure.kind, FailureKind::CommandMissing);
    assert!(failure.why.contains("not a number"));
    assert!(bench.engine.state().containers.is_empty());
}

#[tokio::test]
async fn a_container_whose_creation_was_interrupted_is_created_again() {
    let bench = Bench::new().await;
    bench.ready().await;
    bench.engine.state().containers.get_mut("id0").unwrap().phase = Phase::Created;
    bench.calls();
    assert_eq!(origin(&bench.ready().await.0), Origin::Created);
    assert_eq!(bench.calls(), ["remove id0", "create jq-ada-gpu", "start id0"]);
}

#[tokio::test]
async fn what_the_engine_cannot_provide_is_left_out_and_reported() {
    let mut bench = Bench::new().await;
    bench.gpus.nvidia = gpu::devices::parse_list("GPU 0: A (UUID: GPU-a)");
    bench.spec.gpus = GpuAsk::All;
    bench.engine.state().refuse_start = vec![
        EngineError::InitMissing("docker-init".into()),
        EngineError::LimitRefused("rlimit".into()),
        EngineError::GpuRefused("could not select device driver".into()),
    ];
    let (ready, events) = bench.ready().await;
    assert_eq!(origin(&ready), Origin::Created);
    assert!(warned(&events));
    let state = bench.engine.state();
    assert_eq!(state.containers.len(), 1);
    let spec = &state.containers.values().next().unwrap().spec;
    assert!(!spec.init && spec.limits.is_empty() && spec.gpus.is_none());
}

#[tokio::test]
async fn without_jupyter_the_images_own_command_must_keep_running() {
    let mut bench = Bench::new().await;
    bench.spec.jupyter = JupyterKind::None;
    let (ready, _) = bench.ready().await;
    assert!(ready.jupyter.is_none());
    assert!(
        !bench.engine.state().containers["id0"]
            .files
            .contains_key("/run/jq/token")
    );

    let mut bench = Bench::new().await;
    bench.spec.jupyter = JupyterKind::None;
    bench.engine.state().ends_at_once = Some(Exit {
        code: Some(0),
        ..Exit::default()
    });
    let failure = bench.failure().await;
    assert!(failure.what.contains("ended at once"));
    assert!(bench.engine.state().containers.is_empty());
}

#[tokio::test]
async fn a_jupyter_that_does_not_know_our_token_is_refused() {
    let mut bench = Bench::new().await;
    let port = stand_in("another", &mut bench.tasks).await;
    *bench.access.0.lock().unwrap() = port;
    let failure = bench.failure().await;
    assert_eq!(failure.kind, FailureKind::StartFailed);
    assert!(failure.what.contains("token"));
}

#[tokio::test]
async fn a_missing_volume_is_refused_before_anything_is_created() {
    let mut bench = Bench::new().await;
    bench.spec.volumes = vec![jq_common::protocol::workload::Volume {
        source: "/nonexistent/data".into(),
        destination: "/data".into(),
        ..Default::default()
    }];
    assert_eq!(bench.failure().await.kind, FailureKind::VolumeUnavailable);
    assert!(bench.engine.state().containers.is_empty());
    assert!(!Path::new("/nonexistent/data").exists());
}
