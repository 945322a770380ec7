//! Messages above the session layer and messages over SSH. They are JSON.

use std::fmt::Debug;

use jq_common::{
    bootstrap::{
        AdmitReply, AdmitRequest, BootstrapReply, BootstrapRequest, FormatRange, HandOverRequest,
        LoginCompared, MachineId, RelayReply, RelayRequest, Started, UpgradeRequest,
    },
    codec::Frame,
    identity::Fingerprint,
    login::Login,
    protocol::{
        capabilities::Capabilities,
        exec::{ExecSpec, TerminalSize},
        session::Close,
        stream::{Accepted, Opened, ResetCode, StreamHeader},
        target::{Address, Scope, Target, Transport},
        topics::{Topic, WorkloadState, WorkloadStatus},
        version::ALPN,
        workload::{
            ContainerInfo, EngineChoice, Event, Failure, FailureKind, GpuAsk, JupyterInfo, JupyterKind,
            Origin, Progress, PullPolicy, Ready, Request, Unit, UserSpec, Volume, WorkloadSpec,
        },
    },
};

use serde_json::{Map, Value, json};

use crate::golden::{Golden, pretty};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/messages");

fn message<T: Frame + PartialEq + Debug>(golden: &mut Golden, name: &str, message: &T) {
    let json = message.append_to(Vec::new()).unwrap();
    golden.check(&format!("{name}.json"), message, &pretty(&json), |text| {
        T::decode(text.as_bytes()).ok()
    });
}

fn read_as<T: Frame + PartialEq + Debug>(golden: &mut Golden, name: &str, message: &T) {
    golden.is_read_as(&format!("{name}.json"), message, |text| {
        T::decode(text.as_bytes()).ok()
    });
}

fn spec() -> WorkloadSpec {
    WorkloadSpec {
        session: "gpu".to_owned(),
        engine: EngineChoice::Docker,
        existing_container: None,
        image: Some("quay.io/jupyter/pytorch-notebook:latest".to_owned()),
        pull: PullPolicy::Always,
        gpus: GpuAsk::Ids(vec!["0".to_owned(), "GPU-1".to_owned()]),
        volumes: vec![Volume {
            source: "~/data".to_owned(),
            destination: "/data".to_owned(),
            read_only: true,
            options: vec!["z".to_owned()],
        }],
        env: vec![("NAME".to_owned(), "value".to_owned())],
        workdir: Some("/work".to_owned()),
        shm_size: Some(1 << 30),
        user: Some(UserSpec {
            uid: 1000,
            gid: Some(100),
        }),
        entrypoint: Some("/bin/bash".to_owned()),
        jupyter: JupyterKind::Notebook,
    }
}

fn start(spec: WorkloadSpec) -> StreamHeader {
    StreamHeader::Request(Request::Start(Box::new(spec)))
}

fn headers(golden: &mut Golden) {
    message(golden, "header_request_start", &start(spec()));
    read_as(
        golden,
        "older_header_request_start",
        &start(WorkloadSpec {
            session: "gpu".to_owned(),
            ..WorkloadSpec::default()
        }),
    );
    read_as(golden, "newer_header_request_start", &start(spec()));
    let workload = StreamHeader::forward(Target::workload(8888));
    message(golden, "header_forward_workload", &workload);
    read_as(golden, "older_header_forward_workload", &workload);
    let host = StreamHeader::Forward {
        target: Target::host("db.lan", 5432),
        confirm: true,
    };
    message(golden, "header_forward_host", &host);
    let unix = Target {
        scope: Scope::Host,
        address: Address::Unix {
            path: "/var/run/docker.sock".to_owned(),
        },
        transport: Transport::Tcp,
    };
    message(golden, "header_forward_unix", &StreamHeader::forward(unix));
    message(golden, "header_wait", &StreamHeader::Wait { forward: 3 });
    let exec = ExecSpec {
        argv: vec!["ls".to_owned(), "-l".to_owned()],
        env: vec![("TERM".to_owned(), "xterm".to_owned())],
        cwd: Some("/work".to_owned()),
        user: Some("ada".to_owned()),
        terminal: Some(TerminalSize {
            columns: 80,
            rows: 24,
            width: 640,
            height: 480,
        }),
    };
    message(golden, "header_exec", &StreamHeader::Exec(Box::new(exec)));
    let shell = StreamHeader::Exec(Box::default());
    read_as(golden, "older_header_exec", &shell);
    let datagrams = StreamHeader::Datagrams {
        flow: 9,
        target: Target {
            transport: Transport::Udp,
            ..Target::workload(5004)
        },
    };
    message(golden, "header_datagrams", &datagrams);
}

fn replies(golden: &mut Golden) {
    message(golden, "opened", &Opened::default());
    let peer = Some(([127, 0, 0, 1], 40_000).into());
    message(golden, "accepted", &Accepted { peer });
}

fn ready() -> Ready {
    Ready {
        engine: "Docker 28".to_owned(),
        container: Some(ContainerInfo {
            id: "0123456789ab".to_owned(),
            name: "jq-ada-gpu".to_owned(),
            image: "quay.io/jupyter/pytorch-notebook:latest".to_owned(),
            origin: Origin::Created,
        }),
        jupyter: Some(JupyterInfo {
            port: 8888,
            token: "0123456789abcdef0123456789abcdef".to_owned(),
            path: "/lab".to_owned(),
            was_running: true,
            host: Some("gpu.localhost".to_owned()),
        }),
        gpus: vec!["GPU 0: NVIDIA H100".to_owned()],
    }
}

fn failure() -> Failure {
    Failure {
        kind: FailureKind::EngineStopped,
        what: "cannot ask the engine".to_owned(),
        why: "it does not answer".to_owned(),
        hint: "start it".to_owned(),
    }
}

fn events(golden: &mut Golden) {
    message(golden, "event_step", &Event::Step("pulling".to_owned()));
    let progress = Progress {
        done: 1,
        total: Some(2),
        unit: Unit::Bytes,
        detail: "layer".to_owned(),
    };
    message(golden, "event_progress", &Event::Progress(progress));
    message(golden, "event_note", &Event::Note("note".to_owned()));
    message(golden, "event_warning", &Event::Warning("warning".to_owned()));
    message(golden, "event_ready", &Event::Ready(Box::new(ready())));
    read_as(golden, "older_event_ready", &Event::Ready(Box::default()));
    let newer = Ready {
        container: Some(ContainerInfo {
            origin: Origin::Found,
            ..ready().container.unwrap()
        }),
        ..ready()
    };
    read_as(golden, "newer_event_ready", &Event::Ready(Box::new(newer)));
    message(golden, "event_failed", &Event::Failed(failure()));
    let newer = Failure {
        kind: FailureKind::Internal,
        ..failure()
    };
    read_as(golden, "newer_event_failed", &Event::Failed(newer));
}

fn topics(golden: &mut Golden) {
    let status = WorkloadStatus {
        state: WorkloadState::Running,
        engine: "Docker 28".to_owned(),
        container: Some("jq-ada-gpu".to_owned()),
        restarts: 1,
        note: "jq-ada-gpu was restarted".to_owned(),
    };
    message(golden, "topic_workload", &status);
    read_as(golden, "older_topic_workload", &WorkloadStatus::default());
    let newer = WorkloadStatus {
        state: WorkloadState::Unknown,
        ..status
    };
    read_as(golden, "newer_topic_workload", &newer);
}

fn fingerprint() -> Fingerprint {
    Fingerprint::of(&b"a certificate".as_slice().into())
}

fn bootstrap_requests(golden: &mut Golden) {
    let admit = AdmitRequest {
        client: fingerprint(),
        linger_s: 86_400,
    };
    let requests = [
        ("admit", BootstrapRequest::Admit(admit.clone())),
        (
            "admit_and_tunnel",
            BootstrapRequest::AdmitAndTunnel(admit.clone()),
        ),
        (
            "relay",
            BootstrapRequest::Relay(RelayRequest {
                pair: [1; 16],
                secret: [2; 32],
                agent: ([192, 0, 2, 1], 60_000).into(),
            }),
        ),
        (
            "upgrade",
            BootstrapRequest::Upgrade(UpgradeRequest {
                successor: "/home/ada/.cache/jq/agent-0123".into(),
                run_dir: "/home/ada/.cache/jq/run/gpu/agent-0123.serve".into(),
                version: "0.1.0".to_owned(),
                handshake: "jq/4".to_owned(),
                formats: FormatRange { oldest: 2, newest: 2 },
            }),
        ),
        ("compare_login", BootstrapRequest::CompareLogin(login())),
        (
            "hand_over",
            BootstrapRequest::HandOver(HandOverRequest {
                handshake: "jq/4".to_owned(),
                formats: FormatRange { oldest: 2, newest: 2 },
            }),
        ),
    ];
    for (name, request) in requests {
        message(golden, &format!("bootstrap_{name}"), &request);
    }
    let older = AdmitRequest { linger_s: 0, ..admit };
    read_as(golden, "older_bootstrap_admit", &BootstrapRequest::Admit(older));
}

fn login() -> Login {
    Login {
        group: 1000,
        groups: vec![27, 999, 1000],
        umask: Some(0o022),
        limits: [("nofile".to_owned(), Some(524_288)), ("stack".to_owned(), None)].into(),
        environment: [("PATH".to_owned(), "0123456789abcdef".to_owned())].into(),
    }
}

fn bootstrap_replies(golden: &mut Golden) {
    let serve = AdmitReply {
        agent: fingerprint(),
        port: 60_000,
        address: Some([192, 0, 2, 1].into()),
        others: vec!["2001:db8::1".parse().unwrap()],
        machine: Some(MachineId {
            id: "0123456789abcdef".to_owned(),
            name: "gpu".to_owned(),
        }),
        notes: vec!["note".to_owned()],
    };
    let differs = vec!["groups".to_owned(), "DOCKER_HOST".to_owned()];
    message(golden, "login_compared", &LoginCompared { differs });
    let told: BootstrapReply = Ok(Started::Serve(serve.clone()));
    message(golden, "bootstrap_reply_serve", &told);
    let serve = AdmitReply {
        machine: None,
        notes: Vec::new(),
        ..serve
    };
    let older: BootstrapReply = Ok(Started::Serve(AdmitReply {
        address: None,
        others: Vec::new(),
        ..serve.clone()
    }));
    read_as(golden, "older_bootstrap_reply_serve", &older);
    let newer: BootstrapReply = Ok(Started::Serve(AdmitReply {
        others: (1..=4).map(|last| [192, 0, 2, last].into()).collect(),
        ..serve
    }));
    read_as(golden, "newer_bootstrap_reply_serve", &newer);
    let relay: BootstrapReply = Ok(Started::Relay(RelayReply {
        port: 60_001,
        address: None,
    }));
    message(golden, "bootstrap_reply_relay", &relay);
    let failed: BootstrapReply = Err(failure());
    message(golden, "bootstrap_reply_failed", &failed);
}

#[test]
fn every_message_equals_its_golden_file() {
    let mut golden = Golden::open(FOLDER);
    headers(&mut golden);
    replies(&mut golden);
    events(&mut golden);
    topics(&mut golden);
    bootstrap_requests(&mut golden);
    bootstrap_replies(&mut golden);
    golden.finish();
}

/// Numbers with a meaning for both ends.
fn numbers() -> Value {
    let bits = [
        Capabilities::COMPRESSION,
        Capabilities::SUBSCRIBE,
        Capabilities::OPENED,
        Capabilities::REVERSE,
        Capabilities::EXEC,
        Capabilities::DATAGRAMS,
    ];
    let topics = [
        Topic::Workload,
        Topic::ListeningPorts,
        Topic::Gpus,
        Topic::TimeLeft,
    ];
    let named = |name: String, number: u64| (name, Value::from(number));
    json!({
        "alpn": String::from_utf8_lossy(ALPN),
        "capabilities": bits.map(|bit| serde_json::to_value(bit).unwrap()),
        "close_codes": Map::from_iter(Close::ALL.map(|code| named(format!("{code:?}"), code as u64))),
        "reset_codes": Map::from_iter(ResetCode::ALL.map(|code| named(format!("{code:?}"), code as u64))),
        "topics": Map::from_iter(topics.map(|topic| named(format!("{topic:?}"), u32::from(topic).into()))),
    })
}

#[test]
fn every_number_equals_its_golden_file() {
    let mut golden = Golden::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/numbers"));
    let text = pretty(&serde_json::to_vec(&numbers()).unwrap());
    golden.check("numbers.json", &numbers(), &text, |text| {
        serde_json::from_str(text).ok()
    });
    golden.finish();
}
