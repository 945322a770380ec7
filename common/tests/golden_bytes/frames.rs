//! Frames of the session layer, frames of commands, and datagrams. They are binary.

use std::{collections::VecDeque, fmt::Debug};

use bytes::Bytes;
use jq_common::{
    carrier::{
        pipe::Deframer,
        relay::{Kind, Packet},
    },
    codec::Frame,
    protocol::{
        capabilities::Capabilities,
        datagram::Datagram,
        exec::{ExecInput, ExecOutput, TerminalSize},
        session::{Attach, AttachReply, Control, Entry, Open, StreamAck},
        stream::{Header, StreamHeader},
        target::Target,
        topics::{Topic, Value, WorkloadState, WorkloadStatus},
        workload::{Failure, FailureKind},
    },
    session::block::BlockDecoder,
};

use crate::golden::{Golden, hex, unhex};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/frames");

fn frame<T: Frame + PartialEq + Debug>(golden: &mut Golden, name: &str, comment: &str, frame: &T) {
    let bytes = frame.append_to(Vec::new()).unwrap();
    golden.check(&format!("{name}.hex"), frame, &hex(comment, &bytes), |text| {
        T::decode(&unhex(text)).ok()
    });
}

fn read_as<T: Frame + PartialEq + Debug>(golden: &mut Golden, name: &str, frame: &T) {
    golden.is_read_as(&format!("{name}.hex"), frame, |text| T::decode(&unhex(text)).ok());
}

fn session(golden: &mut Golden) {
    let attach = Attach {
        session: [7; 16],
        generation: 300,
        keep_s: 3600,
        capabilities: Capabilities::COMPRESSION
            .with(Capabilities::SUBSCRIBE)
            .with(Capabilities::OPENED),
    };
    let comment = "session, generation, linger time in seconds, capabilities";
    frame(golden, "attach", comment, &attach);
    let attached = AttachReply::Attached {
        boot: [1; 16],
        epoch: [2; 16],
        capabilities: attach.capabilities,
    };
    frame(
        golden,
        "attach_reply_attached",
        "kind, boot, epoch, capabilities",
        &attached,
    );
    frame(golden, "attach_reply_stale", "kind", &AttachReply::Stale);
    frame(golden, "attach_reply_busy", "kind", &AttachReply::Busy);
    read_as(golden, "newer_attach_reply", &AttachReply::Unknown);

    let header = StreamHeader::forward(Target::workload(8888));
    let open = Open {
        stream: 5,
        from: 0,
        received: 0,
        header: Some(Header::of(&header).unwrap()),
    };
    let comment = "stream, first offset, offset from which the peer continues, a header, its length, JSON";
    frame(golden, "open", comment, &open);
    let again = Open {
        from: 1000,
        received: 70_000,
        header: None,
        ..open
    };
    let comment = "stream, first offset, offset from which the peer continues, no header";
    frame(golden, "open_again", comment, &again);
}

fn control(golden: &mut Golden) {
    let entry = Entry {
        stream: 5,
        delivered: 1000,
        received: 70_000,
        ended: false,
        reset: None,
    };
    let reset = Entry {
        stream: 6,
        reset: Some(2),
        ..entry
    };
    let table = Control::Table {
        entries: vec![entry, reset],
        last: true,
    };
    let comment =
        "kind, entries (stream, delivered, received, ended, reset code), whether it is the last part";
    frame(golden, "control_table", comment, &table);
    let ack = StreamAck {
        stream: 5,
        delivered: 1000,
        ended: true,
    };
    let comment = "kind, acknowledgements (stream, delivered, ended)";
    frame(golden, "control_acks", comment, &Control::Acks(vec![ack]));
    let reset = Control::Reset { stream: 5, code: 11 };
    frame(golden, "control_reset", "kind, stream, code", &reset);
    let heard = Control::ResetAck { stream: 5 };
    frame(golden, "control_reset_ack", "kind, stream", &heard);
    let forgotten = Control::Forgotten { stream: 5 };
    frame(golden, "control_forgotten", "kind, stream", &forgotten);
    frame(golden, "control_restarting", "kind", &Control::Restarting);
    let subscribe = Control::Subscribe {
        topics: vec![
            Topic::Workload,
            Topic::ListeningPorts,
            Topic::Gpus,
            Topic::TimeLeft,
            Topic::Other(300),
        ],
    };
    frame(golden, "control_subscribe", "kind, topics", &subscribe);
    let status = WorkloadStatus {
        state: WorkloadState::Running,
        engine: "Docker 28".to_owned(),
        container: Some("jq-ada-gpu".to_owned()),
    };
    let update = Control::Update {
        topic: Topic::Workload,
        value: Value::of(&status).unwrap(),
    };
    frame(golden, "control_update", "kind, topic, length, JSON", &update);
    read_as(golden, "newer_control", &Control::Unknown);
}

fn exec(golden: &mut Golden) {
    let data = || Bytes::from_static(b"data");
    frame(golden, "exec_stdin", "kind, data", &ExecInput::Stdin(data()));
    frame(golden, "exec_stdin_eof", "kind, JSON", &ExecInput::StdinEof);
    let size = TerminalSize {
        columns: 80,
        rows: 24,
        width: 0,
        height: 0,
    };
    frame(golden, "exec_resize", "kind, JSON", &ExecInput::Resize(size));
    let signal = ExecInput::Signal("INT".to_owned());
    frame(golden, "exec_signal", "kind, JSON", &signal);
    frame(golden, "exec_started", "kind, JSON", &ExecOutput::Started);
    frame(golden, "exec_stdout", "kind, data", &ExecOutput::Stdout(data()));
    frame(golden, "exec_stderr", "kind, data", &ExecOutput::Stderr(data()));
    let exited = ExecOutput::Exited { code: 3 };
    frame(golden, "exec_exited", "kind, JSON", &exited);
    let signaled = ExecOutput::Signaled {
        signal: "KILL".to_owned(),
    };
    frame(golden, "exec_signaled", "kind, JSON", &signaled);
    let failed = ExecOutput::Failed(Failure {
        kind: FailureKind::CommandMissing,
        what: "cannot run nosuch".to_owned(),
        ..Failure::default()
    });
    frame(golden, "exec_failed", "kind, JSON", &failed);
    read_as(golden, "newer_exec_input", &ExecInput::Unknown);
    read_as(golden, "newer_exec_output", &ExecOutput::Unknown);
}

fn datagram(golden: &mut Golden) {
    let datagram = Datagram {
        flow: 9,
        payload: Bytes::from_static(b"data"),
    };
    let text = hex("flow, data", &datagram.encode().unwrap());
    golden.check("datagram.hex", &datagram, &text, |text| {
        Datagram::decode(&unhex(text).into())
    });
}

fn relay(golden: &mut Golden) {
    let secret = [3; 32];
    for (name, kind) in [
        ("relay_bind", Kind::Bind),
        ("relay_challenge", Kind::Challenge),
        ("relay_answer", Kind::Answer),
        ("relay_bound", Kind::Bound),
    ] {
        let packet = Packet {
            kind,
            pair: [7; 16],
            generation: 300,
            cookie: [9; 32],
        };
        let text = hex(
            "magic, kind, pair, generation, cookie, HMAC-SHA256",
            &packet.encode(&secret),
        );
        golden.check(&format!("{name}.hex"), &packet, &text, |text| {
            Packet::decode(&unhex(text), &secret)
        });
    }
}

/// Written by the unit tests beside them, which read back what they write.
fn headers(golden: &mut Golden) {
    golden.is_read_as("pipe_packet.hex", &Bytes::from_static(b"data"), |text| {
        let mut deframer = Deframer::default();
        deframer.push(&unhex(text));
        deframer.next_packet().ok()?
    });
    for name in ["block_plain.hex", "block_deflated.hex"] {
        golden.is_read_as(name, &Bytes::from_static(b"data"), |text| {
            let mut arrived = VecDeque::from([Bytes::from(unhex(text))]);
            BlockDecoder::default().next(&mut arrived).ok()?
        });
    }
}

#[test]
fn every_frame_equals_its_golden_file() {
    let mut golden = Golden::open(FOLDER);
    session(&mut golden);
    control(&mut golden);
    exec(&mut golden);
    datagram(&mut golden);
    relay(&mut golden);
    headers(&mut golden);
    golden.finish();
}
