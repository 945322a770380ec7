//! Writes the initial corpus: valid messages, one per file, in a subfolder for each target.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jq_common::{
    bootstrap::{
        AdmitReply, AdmitRequest, BootstrapReply, BootstrapRequest, MachineId, RelayReply, RelayRequest,
        Started,
    },
    codec::{self, Frame},
    identity::Identity,
    login::Login,
    protocol::{
        capabilities::Capabilities,
        exec::{ExecInput, ExecOutput, ExecSpec, TerminalSize},
        limits,
        session::{Attach, AttachReply, Control, Entry, Open, StreamAck},
        stream::{Accepted, Header, Opened, StreamHeader},
        target::{Target, Transport},
        topics::{Topic, Value, WorkloadStatus},
        workload::{
            ContainerInfo, EngineChoice, Event, Failure, FailureKind, GpuAsk, JupyterInfo, JupyterKind,
            Origin, Progress, PullPolicy, Ready, Request, Unit, UserSpec, Volume, WorkloadSpec,
        },
    },
};

/// The body of a message's frame.
fn body(message: &impl Frame) -> Vec<u8> {
    let frame = codec::encode(message, limits::CONTROL_FRAME).expect("the message is short");
    frame[4..].to_vec()
}

/// The whole frame of a message.
fn frame(message: &impl Frame) -> Vec<u8> {
    codec::encode(message, limits::CONTROL_FRAME).expect("the message is short")
}

fn after(first: u8, rest: Vec<u8>) -> Vec<u8> {
    [vec![first], rest].concat()
}

fn spec() -> WorkloadSpec {
    WorkloadSpec {
        session: "default".to_owned(),
        engine: EngineChoice::Auto,
        existing_container: None,
        image: Some("quay.io/jupyter/base-notebook:latest".to_owned()),
        pull: PullPolicy::Missing,
        gpus: GpuAsk::Ids(vec!["0".to_owned(), "GPU-1".to_owned()]),
        volumes: vec![Volume {
            source: "~/data".to_owned(),
            destination: "/data".to_owned(),
            read_only: true,
            options: vec!["z".to_owned(), "cached".to_owned()],
        }],
        env: vec![("A".to_owned(), "b".to_owned())],
        workdir: Some("/work".to_owned()),
        shm_size: Some(1 << 30),
        user: Some(UserSpec {
            uid: 1000,
            gid: Some(100),
        }),
        entrypoint: None,
        jupyter: JupyterKind::Lab,
    }
}

/// Length of a hostile list, which is large in memory but small on the wire.
const MANY: usize = 20_000;

fn headers() -> Vec<StreamHeader> {
    let mut many = spec();
    many.env = vec![(String::new(), String::new()); MANY];
    vec![
        StreamHeader::Request(Request::Start(Box::new(many))),
        StreamHeader::forward(Target::workload(8888)),
        StreamHeader::Forward {
            target: Target::host("db.lan", 5432),
            confirm: true,
        },
        StreamHeader::Wait { forward: 1 },
        StreamHeader::Exec(Box::new(ExecSpec {
            argv: vec!["ls".to_owned(), String::new()],
            env: vec![("A".to_owned(), "b".to_owned())],
            terminal: Some(TerminalSize::default()),
            ..ExecSpec::default()
        })),
        StreamHeader::Datagrams {
            flow: 1,
            target: Target {
                transport: Transport::Udp,
                ..Target::workload(53)
            },
        },
        StreamHeader::Request(Request::Start(Box::new(spec()))),
    ]
}

fn controls() -> Vec<Control> {
    let entries = (0..3)
        .map(|stream| Entry {
            stream,
            delivered: 0,
            received: 0,
            ended: false,
            reset: (stream == 2).then_some(1),
        })
        .collect();
    let ack = StreamAck {
        stream: 0,
        delivered: 0,
        ended: false,
    };
    vec![
        Control::Table { entries, last: true },
        Control::Acks(vec![ack]),
        Control::Acks(vec![ack; MANY]),
        Control::Reset { stream: 1, code: 1 },
        Control::ResetAck { stream: 1 },
        Control::Forgotten { stream: 2 },
        Control::Restarting,
        Control::Subscribe {
            topics: vec![Topic::Workload, Topic::Other(77)],
        },
        Control::Update {
            topic: Topic::Workload,
            value: Value::of(&WorkloadStatus::default()).expect("the message is short"),
        },
    ]
}

fn events() -> Vec<Event> {
    let failure = Failure {
        kind: FailureKind::EngineStopped,
        what: "cannot ask the engine".to_owned(),
        why: "it does not answer".to_owned(),
        hint: "start it".to_owned(),
    };
    let ready = Ready {
        engine: "Docker 28".to_owned(),
        container: Some(ContainerInfo {
            id: "0123".to_owned(),
            name: "jq-user-default".to_owned(),
            image: "image".to_owned(),
            origin: Origin::Created,
        }),
        jupyter: Some(JupyterInfo {
            port: 8888,
            token: "token".to_owned(),
            path: "/lab".to_owned(),
            was_running: false,
            host: None,
        }),
        gpus: vec!["GPU 0: one".to_owned()],
    };
    let mut many = ready.clone();
    many.gpus = vec![String::new(); MANY];
    vec![
        Event::Ready(Box::new(many)),
        Event::Step("pulling".to_owned()),
        Event::Progress(Progress {
            done: 1,
            total: Some(2),
            unit: Unit::Bytes,
            detail: "layer".to_owned(),
        }),
        Event::Note("note".to_owned()),
        Event::Warning("warning".to_owned()),
        Event::Ready(Box::new(ready)),
        Event::Failed(failure),
    ]
}

fn bootstraps() -> Vec<Vec<u8>> {
    let fingerprint = Identity::generate()
        .expect("random numbers are available")
        .fingerprint();
    let serve = AdmitRequest {
        client: fingerprint,
        linger_s: 60,
    };
    let relay = RelayRequest {
        pair: [1; 16],
        secret: [2; 32],
        agent: ([192, 0, 2, 1], 60000).into(),
    };
    let replies: [BootstrapReply; 2] = [
        Ok(Started::Serve(AdmitReply {
            agent: fingerprint,
            port: 60000,
            address: Some([192, 0, 2, 1].into()),
            others: Vec::new(),
            machine: Some(MachineId::default()),
            notes: Vec::new(),
        })),
        Ok(Started::Relay(RelayReply {
            port: 60000,
            address: None,
        })),
    ];
    let requests = [
        BootstrapRequest::Admit(serve.clone()),
        BootstrapRequest::AdmitAndTunnel(serve),
        BootstrapRequest::Relay(relay),
        BootstrapRequest::CompareLogin(Login::default()),
    ];
    requests
        .iter()
        .map(body)
        .chain(replies.iter().map(body))
        .collect()
}

fn control_frames() -> Vec<Vec<u8>> {
    let attach = Attach {
        session: [7; 16],
        generation: 1,
        keep_s: 3600,
        capabilities: Capabilities::OURS,
    };
    let attached = AttachReply::Attached {
        boot: [1; 16],
        epoch: [2; 16],
        capabilities: Capabilities::OURS,
    };
    let mut seeds = vec![after(0, body(&attach)), after(1, body(&attached))];
    seeds.extend(controls().iter().map(|control| after(2, body(control))));
    seeds.extend(controls().iter().map(|control| after(4, frame(control))));
    seeds.extend(headers().into_iter().map(|header| {
        let open = Open {
            stream: 0,
            from: 0,
            received: 0,
            header: Header::of(&header).ok(),
        };
        after(3, body(&open))
    }));
    seeds
}

fn exec_frames() -> Vec<Vec<u8>> {
    let data = || Vec::from(b"data").into();
    let failed = ExecOutput::Failed(Failure::default());
    let input = [
        ExecInput::Stdin(data()),
        ExecInput::StdinEof,
        ExecInput::Resize(TerminalSize::default()),
        ExecInput::Signal("INT".to_owned()),
    ];
    let output = [
        ExecOutput::Started,
        ExecOutput::Stdout(data()),
        ExecOutput::Exited { code: 1 },
        failed,
    ];
    let replies = [body(&Opened::default()), body(&Accepted::default())];
    input
        .iter()
        .map(body)
        .chain(output.iter().map(body))
        .chain(replies)
        .collect()
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn main() -> io::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or(io::ErrorKind::InvalidInput)?);
    write(&folder, "control", &control_frames())?;
    write(&folder, "exec", &exec_frames())?;
    write(&folder, "header", &headers().iter().map(body).collect::<Vec<_>>())?;
    write(&folder, "event", &events().iter().map(body).collect::<Vec<_>>())?;
    write(&folder, "bootstrap", &bootstraps())?;
    write(&folder, "streams", &[controls().iter().flat_map(frame).collect()])?;
    let forwards = [
        "8888",
        "9999:8888",
        "5432:db.lan:5432",
        "80:[2001:db8::1]:443",
        "[::1]:80:h:1",
    ];
    write(&folder, "forward", &texts(&forwards))?;
    let config = "host h\nuser root\nhostname 127.0.0.1\nport 22\nproxyjump a,b@[::1]:22\nproxycommand nc %h\n\
                  connecttimeout 3\n";
    write(&folder, "ssh_config", &texts(&[config]))?;
    let hosts = ["host", "user@host", "ssh://user@host:22/", "user@[::1]:22"];
    write(&folder, "destination", &texts(&hosts))?;
    let escapes = [
        "\u{1b}[31mred\u{1b}[0m",
        "\u{1b}]0;title\u{7}x",
        "a\u{202e}b\r\n\u{9b}31m",
    ];
    write(&folder, "text", &texts(&escapes))?;
    write(&folder, "archive", &[archive()?])?;
    // The format, the length of the head, and a head that contains only fields with a length prefix.
    let snapshot = [&1_u32.to_be_bytes()[..], &200_u64.to_be_bytes(), &[0; 200]].concat();
    write(&folder, "handover", &[snapshot])?;
    // A reply: the id of the first request, and an errno.
    let replies = [111_u32, 0].map(|errno| [1_u32.to_be_bytes(), errno.to_be_bytes()].concat());
    write(&folder, "helper", &replies)?;
    for target in ["nonce", "relay", "pipe", "core", "blocks"] {
        write(&folder, target, &[vec![0; 64]])?;
    }
    Ok(())
}

fn archive() -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(6);
    tar.append_data(&mut header, "run/jq/token", &b"secret"[..])?;
    tar.into_inner()
}

fn write(folder: &Path, target: &str, seeds: &[Vec<u8>]) -> io::Result<()> {
    let folder = folder.join(target);
    fs::create_dir_all(&folder)?;
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{number}")), seed)?;
    }
    Ok(())
}
