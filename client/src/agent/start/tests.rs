//! Tests on this machine with real shells and a script as the agent.

use std::sync::Mutex;

use jq_common::{
    identity::Fingerprint,
    protocol::{
        hex,
        workload::{self, FailureKind},
    },
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{
    agent::{Agent, Role},
    reporter::Event,
    ssh::Local,
};

mod home;
mod installing;
use home::{Home, installed};

/// Shells that may be `/bin/sh` on a host, as far as they are installed.
fn shells() -> Vec<Vec<&'static str>> {
    let all = [
        vec!["/bin/sh", "-s"],
        vec!["dash", "-s"],
        vec!["bash", "-s"],
        vec!["busybox", "sh", "-s"],
    ];
    let there = |words: &Vec<&str>| {
        std::process::Command::new(words[0])
            .arg("-c")
            .arg(":")
            .output()
            .is_ok()
    };
    all.into_iter().filter(there).collect()
}

#[derive(Default)]
struct Heard {
    steps: Mutex<Vec<String>>,
    progress: Mutex<Vec<(u64, u64)>>,
}

impl Heard {
    fn uploads(&self) -> usize {
        self.steps
            .lock()
            .unwrap()
            .iter()
            .filter(|step| step.contains("uploading"))
            .count()
    }
}

impl Reporter for Heard {
    fn report(&self, event: Event<'_>) {
        match event {
            Event::Step { text, .. } => self.steps.lock().unwrap().push(text.to_owned()),
            Event::Progress { progress, .. } => {
                let total = progress.total.unwrap();
                self.progress.lock().unwrap().push((progress.done, total));
            }
            _ => {}
        }
    }
}

fn fingerprint(byte: u8) -> Fingerprint {
    serde_json::from_value(hex::encode(&[byte; 32]).into()).unwrap()
}

fn request() -> AdmitRequest {
    AdmitRequest {
        client: fingerprint(7),
        linger_s: 60,
    }
}

fn reply() -> AdmitReply {
    AdmitReply {
        agent: fingerprint(9),
        port: 4433,
        address: None,
        others: Vec::new(),
        machine: None,
        notes: Vec::new(),
    }
}

/// An agent that answers any request with `answer`.
fn agent(answer: &BootstrapReply) -> Bundle {
    let frame = codec::encode(answer, limits::BOOTSTRAP_FRAME).unwrap();
    let octal: String = frame.iter().map(|byte| format!("\\{byte:03o}")).collect();
    let asked = codec::encode(&BootstrapRequest::Admit(request()), limits::BOOTSTRAP_FRAME)
        .unwrap()
        .len();
    // Incompressible data, so that the upload consists of several pieces.
    let noise: String = (0..8000_u32)
        .map(|i| format!("{:08x}\n", i.wrapping_mul(2_654_435_761)))
        .collect();
    script(&format!(
        "[ \"$1 $3\" = 'bootstrap --nonce' ] || exit 9\nprintf '%s\\n' \"$4\"\ndd bs=1 count={asked} of=/dev/null 2>/dev/null\n\
         printf '{octal}'\nexit 0\n{noise}",
    ))
}

/// An agent that answers a request for a pipe, sends `early` right behind the answer, and then echoes its input.
fn echoing(early: &str) -> Bundle {
    let octal = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("\\{byte:03o}"))
            .collect::<String>()
    };
    let answer: BootstrapReply = Ok(Started::Serve(reply()));
    let answer = octal(&codec::encode(&answer, limits::BOOTSTRAP_FRAME).unwrap());
    let asked = codec::encode(
        &BootstrapRequest::AdmitAndTunnel(request()),
        limits::BOOTSTRAP_FRAME,
    )
    .unwrap()
    .len();
    script(&format!(
        "printf '%s\\n' \"$4\"\ndd bs=1 count={asked} of=/dev/null 2>/dev/null\nprintf '{answer}{early}'\n\
         cat\necho gone >&2\n",
    ))
}

fn script(text: &str) -> Bundle {
    let text = format!("#!/bin/sh\n{text}").into_bytes();
    Bundle::of(["x86_64", "aarch64"].map(|machine| Agent::new(machine, text.clone())))
}

async fn launch(host: &Local, bundle: &Bundle, heard: &Heard) -> Result<AdmitReply, Failure> {
    prepare(host, Role::Serve, bundle, heard)
        .await?
        .admit(request())
        .await
}

#[tokio::test]
async fn the_first_launch_uploads_and_the_second_finds_all_in_place() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    for words in shells() {
        let home = Home::new(&words);
        let heard = Heard::default();
        assert_eq!(
            launch(&home.host(), &bundle, &heard).await,
            Ok(reply()),
            "{words:?}"
        );
        installed(&home.cache(), &bundle);
        assert_eq!(heard.uploads(), 1, "{words:?}");
        let progress = heard.progress.lock().unwrap().clone();
        assert_eq!(progress.first().unwrap().0, 0);
        assert!(
            progress
                .last()
                .is_some_and(|(done, total)| done == total && *total > 10_000)
        );

        let again = Heard::default();
        prepare(&home.host(), Role::Relay, &bundle, &again).await.unwrap();
        assert_eq!(again.uploads(), 0, "{words:?}");
    }
}

#[tokio::test]
async fn a_start_up_file_may_print_what_it_likes() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    let home = Home::new(&[
        "/bin/sh",
        "-c",
        "printf 'Welcome\\033[2J\\n0123456789abcdef without an end'; exec /bin/sh -s",
    ]);
    assert_eq!(
        launch(&home.host(), &bundle, &Heard::default()).await,
        Ok(reply())
    );
}

#[tokio::test]
async fn a_failure_of_the_agent_names_the_host() {
    let told = workload::Failure {
        kind: FailureKind::HostUnfit,
        what: "cannot listen".into(),
        why: "no UDP".into(),
        hint: "ask".into(),
    };
    let home = Home::sh();
    let failure = launch(&home.host(), &agent(&Err(told)), &Heard::default())
        .await
        .unwrap_err();
    assert_eq!(failure.kind, Kind::Agent(FailureKind::HostUnfit));
    assert_eq!(failure.to_string(), "this machine: cannot listen: no UDP");
}

#[tokio::test]
async fn an_agent_that_ends_is_reported_with_its_error_message() {
    for (text, what) in [
        (
            "echo 'no such flag' >&2; exit 1",
            "this machine: the agent does not start: no such flag",
        ),
        (
            "echo $4; echo out of luck >&2; exit 1",
            "this machine: the agent's answer is invalid: out of luck",
        ),
        (
            "echo $4; printf '\\377\\377\\377\\377'",
            "frame of 4294967295 bytes",
        ),
    ] {
        let failure = launch(&Home::sh().host(), &script(text), &Heard::default())
            .await
            .unwrap_err();
        assert_eq!(failure.kind, Kind::AgentFailed);
        assert!(failure.to_string().contains(what), "{failure}");
    }
}

#[tokio::test]
async fn a_host_without_a_shell_or_without_linux_is_reported() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    for (words, kind, what) in [
        (
            [
                "/bin/sh",
                "-c",
                "echo This account is currently not available.; exit 1",
            ],
            Kind::NoShell,
            "not available",
        ),
        (
            ["/bin/sh", "-c", "echo git-shell 1.0"],
            Kind::NoShell,
            "before it ran anything; the host says: \"git-shell 1.0\"",
        ),
        (["/bin/sh", "-c", "exit 3"], Kind::NoShell, "exit status 3"),
        (["/bin/sh", "-c", "yes"], Kind::NoShell, "it begins with: y y y"),
        (
            ["/nowhere/sh", "-c", ""],
            Kind::Local,
            "cannot start `/nowhere/sh`",
        ),
    ] {
        let failure = launch(&Home::new(&words).host(), &bundle, &Heard::default())
            .await
            .unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.to_string().contains(what), "{failure}");
    }
    for (text, what) in [("echo Darwin arm64", "it runs Darwin arm64"), (":", "no uname")] {
        let home = Home::sh();
        home.set("uname", text);
        let failure = launch(&home.host(), &bundle, &Heard::default())
            .await
            .unwrap_err();
        assert_eq!(failure.kind, Kind::UnsupportedHost);
        assert!(failure.why.contains(what), "{failure}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shell_that_never_answers_times_out() {
    let home = Home::new(&["/bin/sh", "-c", "echo password:; exec /bin/sleep 600"]);
    let failure = launch(&home.host(), &script(""), &Heard::default())
        .await
        .unwrap_err();
    assert_eq!(failure.kind, Kind::NoShell);
    assert!(
        failure.why.contains("password:") || failure.why.contains("nothing"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_shell_becomes_a_pipe_and_no_byte_behind_the_answer_is_lost() {
    let home = Home::sh();
    let heard = Heard::default();
    let prepared = prepare(&home.host(), Role::Serve, &echoing("early"), &heard).await;
    let (answer, pipe) = prepared.unwrap().admit_and_tunnel(request()).await.unwrap();
    assert_eq!(answer, reply());
    let (mut reader, mut writer, mut process) = pipe.into_parts().unwrap();
    let mut got = vec![0; 5];
    reader.read_exact(&mut got).await.unwrap();
    assert_eq!(got, b"early");
    let sent: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    let sending = async {
        writer.write_all(&sent).await.unwrap();
        drop(writer);
    };
    got.clear();
    let ((), read) = tokio::join!(sending, reader.read_to_end(&mut got));
    read.unwrap();
    assert!(got == sent);
    assert!(process.ended_at_work().await.to_string().contains("gone"));
}
