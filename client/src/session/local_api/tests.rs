use tempfile::TempDir;

use jq_common::protocol::topics::{WorkloadState, WorkloadStatus};

use super::*;
use crate::{
    golden::{Golden, pretty},
    status::{Port, State, Status},
};

fn snapshot() -> Snapshot {
    Snapshot {
        session: "gpu".to_owned(),
        target: "ann@gpu".to_owned(),
        pid: std::process::id(),
        status: Status {
            host: "ann@gpu".to_owned(),
            state: State::Reconnecting,
            logging_in: false,
            path: Some("through gw".to_owned()),
            round_trip: Some(Duration::from_micros(43_100)),
            down_per_s: 1,
            up_per_s: 2,
            connections: 3,
            outage: Some(Duration::from_millis(34_200)),
            lost: None,
        },
        ports: vec![Port {
            local: 8888,
            target: "port 8888".to_owned(),
        }],
        engine: "Docker".to_owned(),
        container: None,
        gpus: Vec::new(),
        workload: None,
        workload_failure: None,
        url: Some("http://127.0.0.1:8888/lab?token=secret".to_owned()),
    }
}

/// A session that serves its socket during a test.
struct Running {
    folder: TempDir,
    newest: watch::Sender<Snapshot>,
    poke: Arc<Notify>,
    serving: JoinSet<Infallible>,
}

fn running() -> Running {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let control = LocalApi::bind(folder.path(), "gpu").unwrap().unwrap();
    let (newest, snapshots) = watch::channel(snapshot());
    let poke = Arc::new(Notify::new());
    let mut serving = JoinSet::new();
    serving.spawn(control.serve(snapshots, poke.clone()));
    Running {
        folder,
        newest,
        poke,
        serving,
    }
}

#[tokio::test]
async fn a_query_returns_the_current_status_and_triggers_a_retry() {
    let running = running();
    assert_eq!(sessions(running.folder.path()), ["gpu"]);
    running
        .newest
        .send_modify(|newest| newest.status.state = State::Connected);
    let answered = ask(running.folder.path(), "gpu").await.unwrap();
    let told = Snapshot {
        url: Some("http://127.0.0.1:8888/lab".to_owned()),
        ..running.newest.borrow().clone()
    };
    assert_eq!(answered, told);
    timeout(DEADLINE, running.poke.notified()).await.unwrap();
}

#[tokio::test]
async fn the_token_never_leaves_the_process() {
    let running = running();
    let mut stream = UnixStream::connect(socket(running.folder.path(), "gpu"))
        .await
        .unwrap();
    stream.write_all(b"\"status\"\n").await.unwrap();
    let line = read_line(&mut stream, ANSWER).await.unwrap();
    let line = String::from_utf8(line).unwrap();
    assert!(line.contains("/lab") && !line.contains("secret"), "{line}");
}

#[tokio::test]
async fn only_the_user_may_reach_the_socket() {
    let running = running();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(running.folder.path()), 0o700);
    assert_eq!(mode(&socket(running.folder.path(), "gpu")), 0o600);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_socket_of_another_user_is_not_asked() {
    if !geteuid().is_root() {
        return crate::not_run::not_run("only root can be another user");
    }
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let path = socket(folder.path(), "gpu");
    let theirs = std::thread::spawn(move || {
        // Of this thread alone.
        let nobody = rustix::process::Uid::from_raw(65_534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        unix::UnixListener::bind(path).unwrap()
    });
    let theirs = theirs.join().unwrap();
    let refused = ask(folder.path(), "gpu").await.unwrap_err();
    assert!(refused.to_string().contains("another user"), "{refused}");
    let (mut stream, _) = theirs.accept().unwrap();
    assert_eq!(
        io::Read::read(&mut stream, &mut [0]).unwrap(),
        0,
        "nothing was sent"
    );
}

#[tokio::test]
async fn peers_that_send_nothing_or_invalid_data_block_nobody() {
    let running = running();
    let path = socket(running.folder.path(), "gpu");
    let _silent = UnixStream::connect(&path).await.unwrap();
    let mut other = UnixStream::connect(&path).await.unwrap();
    other.write_all(b"{\"from_the_future\":1}\n").await.unwrap();
    let line = read_line(&mut other, ANSWER).await.unwrap();
    assert!(matches!(
        serde_json::from_slice(&line).unwrap(),
        Answer::Refused(_)
    ));
    let mut endless = UnixStream::connect(&path).await.unwrap();
    endless.write_all(&[b'x'; 5000]).await.unwrap();
    assert!(read_line(&mut endless, ANSWER).await.is_err());
    assert!(ask(running.folder.path(), "gpu").await.is_ok());
}

#[tokio::test]
async fn a_dead_process_s_socket_is_replaced_and_a_living_one_s_is_left_alone() {
    let running = running();
    let folder = running.folder.path();
    assert!(LocalApi::bind(folder, "gpu").unwrap().is_none());
    drop(unix::UnixListener::bind(socket(folder, "dead")).unwrap());
    assert!(matches!(ask(folder, "dead").await, Err(AskError::NotRunning)));
    assert!(LocalApi::bind(folder, "dead").unwrap().is_some());
    assert!(ask(folder, "gpu").await.is_ok());
}

#[tokio::test]
async fn a_session_that_ends_removes_its_own_socket_and_no_other() {
    let mut ended = running();
    ended.serving.shutdown().await;
    assert!(sessions(ended.folder.path()).is_empty());

    let mut replaced = running();
    let path = socket(replaced.folder.path(), "gpu");
    fs::remove_file(&path).unwrap();
    let newer = unix::UnixListener::bind(&path).unwrap();
    replaced.serving.shutdown().await;
    assert!(unix::UnixStream::connect(&path).is_ok());
    drop(newer);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_process_is_identified() {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let _listens = unix::UnixListener::bind(socket(folder.path(), "gpu")).unwrap();
    let own = i32::try_from(std::process::id()).unwrap();
    match ask(folder.path(), "gpu").await {
        Err(AskError::Silent { pid: Some(pid) }) => assert_eq!(pid, own),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_long_runtime_folder_is_replaced_by_a_short_one() {
    let usual = Path::new("/run/user/1000/jq");
    assert_eq!(folders(usual), [usual]);
    let long = PathBuf::from(format!("/home/{}", "x".repeat(60)));
    let name = "n".repeat(profile::LONGEST);
    for short in folders(&long) {
        assert!(socket(&short, &name).as_os_str().len() <= SOCKET_PATH_LIMIT);
    }
    assert!(folders(&long)[0].starts_with("/tmp"));
}

#[test]
fn a_folder_that_another_user_made_beforehand_is_not_used_and_another_is_taken() {
    let parent = tempfile::tempdir().unwrap();
    let folders = ["squatted", "free", "unneeded"].map(|name| parent.path().join(name));
    // Whoever made it may make it a link, or a folder of his own.
    std::os::unix::fs::symlink("/", &folders[0]).unwrap();
    assert_eq!(own(&folders).unwrap(), folders[1]);
    assert_eq!(own(&folders).unwrap(), folders[1], "by everyone who looks");
    assert!(!folders[2].exists());
    assert_eq!(sessions(&folders[0]), [""; 0]);
    assert!(own(&folders[..1]).is_err());
}

#[test]
fn an_answer_is_what_its_golden_file_says() {
    let newest = Snapshot {
        pid: 4242,
        workload: Some(WorkloadStatus {
            state: WorkloadState::Running,
            engine: "Docker 28".to_owned(),
            container: Some("jq-ann-gpu".to_owned()),
            ..WorkloadStatus::default()
        }),
        workload_failure: Some("gpu: Docker does not run".to_owned()),
        ..snapshot()
    };
    let text = pretty(&serde_json::to_vec(&newest).unwrap());
    let read = |json: &str| serde_json::from_str(json).ok();
    let mut golden = Golden::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/local_api"));
    golden.check("status.json", &newest, &text, read);
    let older = Snapshot {
        workload: None,
        workload_failure: None,
        ..newest.clone()
    };
    golden.is_read_as("older_status.json", &older, read);
    golden.is_read_as("newer_status.json", &newest, read);
    golden.finish();
}
