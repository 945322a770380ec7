//! A launch on this machine, by real shells, with a script in the agent's place.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Mutex,
};

use jq_common::{
    identity::Fingerprint,
    protocol::control::{self, FailureKind},
};
use tempfile::TempDir;

use super::*;
use crate::{bundle::Agent, remote::Local};

/// Shells that a host's `/bin/sh` may be; those that are not installed are left out.
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
    fn step(&self, _: &str, text: &str) {
        self.steps.lock().unwrap().push(text.to_owned());
    }
    fn progress(&self, done: u64, total: u64) {
        self.progress.lock().unwrap().push((done, total));
    }
    fn notice(&self, _: &str) {}
    fn prompting(&self, _: bool) {}
}

fn fingerprint(byte: u8) -> Fingerprint {
    serde_json::from_value(vec![byte; 32].into()).unwrap()
}

fn request() -> ServeRequest {
    ServeRequest {
        client: fingerprint(7),
        linger_s: 60,
    }
}

fn reply() -> ServeReply {
    ServeReply {
        agent: fingerprint(9),
        port: 4433,
        address: None,
    }
}

/// An agent that answers one request with `answer`, whatever is asked.
fn agent(answer: &BootstrapReply) -> Bundle {
    let frame = codec::encode(answer, limits::BOOTSTRAP_FRAME).unwrap();
    let octal: String = frame.iter().map(|byte| format!("\\{byte:03o}")).collect();
    let asked = codec::encode(&BootstrapRequest::Serve(request()), limits::BOOTSTRAP_FRAME)
        .unwrap()
        .len();
    // Noise that does not compress, so that an upload is more than one piece.
    let noise: String = (0..8000_u32)
        .map(|i| format!("{:08x}\n", i.wrapping_mul(2_654_435_761)))
        .collect();
    script(&format!(
        "[ \"$1 $3\" = 'bootstrap --nonce' ] || exit 9\nprintf '%s\\n' \"$4\"\ndd bs=1 count={asked} of=/dev/null 2>/dev/null\n\
         printf '{octal}'\nexit 0\n{noise}",
    ))
}

fn script(text: &str) -> Bundle {
    let text = format!("#!/bin/sh\n{text}").into_bytes();
    Bundle::of(["x86_64", "aarch64"].map(|machine| Agent::new(machine, text.clone())))
}

/// A home of its own on this machine, and an `id` of its own, after which temporary folders are named.
struct Home {
    folder: TempDir,
    words: Vec<&'static str>,
    id: String,
}

impl Home {
    fn new(words: &[&'static str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["home", "tmp", "own"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let home = Self {
            folder,
            words: words.to_vec(),
            id: Nonce::generate().unwrap().to_string(),
        };
        home.set("id", &format!("echo {}", home.id));
        home
    }

    fn sh() -> Self {
        Self::new(&["/bin/sh", "-s"])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder for agents that comes first.
    fn cache(&self) -> PathBuf {
        self.path("home/.cache/jq")
    }

    /// The one that comes next. busybox has an `id` of its own, which no PATH replaces.
    fn temporary(&self) -> PathBuf {
        let made = names(&self.path("tmp")).pop();
        self.path("tmp")
            .join(made.unwrap_or_else(|| format!("jq-{}", self.id)))
    }

    /// A command that comes before the system's of that name.
    fn set(&self, command: &str, script: &str) {
        write_executable(&self.path("own").join(command), &format!("#!/bin/sh\n{script}\n"));
    }

    fn host(&self) -> Local {
        self.host_with_path(&format!("{}:/usr/bin:/bin", self.path("own").display()))
    }

    fn host_with_path(&self, path: &str) -> Local {
        Local::new()
            .with_shell(self.words.iter().copied())
            .with_variable("HOME", self.path("home"))
            .with_variable("TMPDIR", self.path("tmp"))
            .with_variable("PATH", path)
    }

    /// This machine with no commands but these.
    fn host_with(&self, commands: &[&str]) -> Local {
        let bin = self.path("bin");
        fs::create_dir(&bin).unwrap();
        for command in commands {
            let own = self.path("own").join(command);
            let places = [
                own,
                Path::new("/usr/bin").join(command),
                Path::new("/bin").join(command),
            ];
            symlink(
                places.iter().find(|path| path.exists()).unwrap(),
                bin.join(command),
            )
            .unwrap();
        }
        self.host_with_path(bin.to_str().unwrap())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for parent in ["/var/tmp", "/dev/shm"] {
            let _ = fs::remove_dir_all(Path::new(parent).join(format!("jq-{}", self.id)));
        }
    }
}

fn write_executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn installed(folder: &Path, bundle: &Bundle) {
    let agent = &bundle.agents()[0];
    assert_eq!(
        names(folder),
        [agent.file_name()],
        "nothing but the agent is left"
    );
    assert_eq!(
        fs::read(folder.join(agent.file_name())).unwrap(),
        agent.raw().unwrap()
    );
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

async fn launch(host: &Local, bundle: &Bundle, heard: &Heard) -> Result<ServeReply, Failure> {
    prepare(host, Role::Serve, bundle, heard)
        .await?
        .serve(request())
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
        let prepared = prepare(&home.host(), Role::Relay, &bundle, &again).await.unwrap();
        assert!(!prepared.installed());
        assert_eq!(again.uploads(), 0, "{words:?}");
    }
}

#[tokio::test]
async fn ten_at_once_do_each_other_no_harm() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    let home = Home::sh();
    let (host, heard) = (home.host(), Heard::default());
    let all = futures_util::future::join_all((0..10).map(|_| launch(&host, &bundle, &heard))).await;
    assert!(all.iter().all(|one| *one == Ok(reply())), "{all:?}");
    installed(&home.cache(), &bundle);
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
async fn a_host_with_nothing_but_the_bare_commands_will_do() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    let home = Home::sh();
    let host = home.host_with(&["sh", "cat", "chmod", "mv", "mkdir", "uname", "dd"]);
    assert_eq!(launch(&host, &bundle, &Heard::default()).await, Ok(reply()));
    let file = home.cache().join(bundle.agents()[0].file_name());
    assert!(fs::read(file).unwrap() == bundle.agents()[0].raw().unwrap());
}

#[tokio::test]
async fn a_host_without_sha256sum_is_verified_from_here() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    let home = Home::sh();
    home.set("gzip", "/bin/gzip \"$@\"; echo more");
    let host = home.host_with(&["sh", "cat", "chmod", "mv", "mkdir", "uname", "dd", "rm", "gzip"]);
    assert_eq!(launch(&host, &bundle, &Heard::default()).await, Ok(reply()));
    installed(&home.cache(), &bundle);
}

#[tokio::test]
async fn what_arrives_damaged_is_sent_once_more() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    let home = Home::sh();
    home.set("gzip", "/bin/gzip \"$@\"; echo more");
    assert_eq!(
        launch(&home.host(), &bundle, &Heard::default()).await,
        Ok(reply())
    );
    installed(&home.cache(), &bundle);
}

#[tokio::test]
async fn what_always_arrives_damaged_is_never_run() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    let home = Home::sh();
    home.set("id", ":");
    home.set("cat", "/bin/cat \"$@\"; echo more");
    home.set("gzip", "exit 1");
    let failure = launch(&home.host(), &bundle, &Heard::default())
        .await
        .unwrap_err();
    assert_eq!(failure.kind, Kind::InstallFailed);
    assert!(failure.why.contains("damaged"), "{failure}");
    assert_eq!(names(&home.cache()), [""; 0]);
}

#[tokio::test]
async fn a_home_that_cannot_be_used_is_passed_over() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    for words in shells() {
        let home = Home::new(&words);
        fs::write(home.path("home/.cache"), "a file in the way").unwrap();
        assert_eq!(
            launch(&home.host(), &bundle, &Heard::default()).await,
            Ok(reply()),
            "{words:?}"
        );
        installed(&home.temporary(), &bundle);
    }
}

#[tokio::test]
async fn a_folder_that_others_could_have_made_is_not_used() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    let name = bundle.agents()[0].file_name();
    let home = Home::sh();
    fs::write(home.path("home/.cache"), "a file in the way").unwrap();
    fs::create_dir(home.path("elsewhere")).unwrap();
    symlink(home.path("elsewhere"), home.temporary()).unwrap();
    write_executable(&home.path("elsewhere").join(&name), "#!/bin/sh\nexit 99\n");
    assert_eq!(
        launch(&home.host(), &bundle, &Heard::default()).await,
        Ok(reply())
    );
    assert_eq!(names(&home.path("elsewhere")), [name]);
    installed(&Path::new("/var/tmp").join(format!("jq-{}", home.id)), &bundle);
}

#[tokio::test]
async fn when_no_folder_will_do_each_is_named_with_its_reason() {
    let home = Home::sh();
    fs::write(home.path("home/.cache"), "a file in the way").unwrap();
    home.set("id", ":");
    let failure = launch(&home.host(), &script(""), &Heard::default())
        .await
        .unwrap_err();
    assert_eq!(failure.kind, Kind::InstallFailed);
    assert!(failure.why.contains("/home/.cache/jq: "), "{failure}");
    assert!(failure.why.contains("no id command"), "{failure}");
}

#[tokio::test]
async fn a_full_folder_leaves_nothing_and_the_next_is_taken() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    let home = Home::sh();
    // Full the first time.
    home.set(
        "gzip",
        &format!(
            "[ -e {0} ] && exec /bin/gzip \"$@\"; : >{0}; cat >/dev/null; echo half\n\
             echo 'gzip: stdout: No space left on device' >&2; exit 1",
            home.path("once").display(),
        ),
    );
    assert_eq!(
        launch(&home.host(), &bundle, &Heard::default()).await,
        Ok(reply())
    );
    assert_eq!(names(&home.cache()), [""; 0], "nothing partial is left");
    installed(&home.temporary(), &bundle);
}

#[tokio::test]
async fn an_agent_that_was_cut_short_is_put_there_anew() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    for words in shells() {
        let home = Home::new(&words);
        fs::create_dir_all(home.cache()).unwrap();
        let file = home.cache().join(bundle.agents()[0].file_name());
        for broken in [
            &b"\x7fELF\x02\x01\x01\x00cut"[..],
            b"",
            b"#!/no/such/interpreter\n",
        ] {
            fs::write(&file, broken).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
            assert_eq!(
                launch(&home.host(), &bundle, &Heard::default()).await,
                Ok(reply()),
                "{words:?}"
            );
            installed(&home.cache(), &bundle);
        }
    }
}

#[tokio::test]
async fn of_other_versions_two_are_kept() {
    let bundle = agent(&Ok(Started::Serve(reply())));
    let home = Home::sh();
    fs::create_dir_all(home.cache()).unwrap();
    let others: Vec<_> = (0..5).map(|i| format!("agent-{i:016x}")).collect();
    for (age, name) in others.iter().rev().enumerate() {
        let file = fs::File::create(home.cache().join(name)).unwrap();
        let time = std::time::SystemTime::now() - Duration::from_secs(3600 * (age as u64 + 1));
        file.set_modified(time).unwrap();
    }
    fs::write(home.cache().join("agent-of-mine"), "").unwrap();
    launch(&home.host(), &bundle, &Heard::default()).await.unwrap();
    let mut want = vec![
        others[3].clone(),
        others[4].clone(),
        "agent-of-mine".into(),
        bundle.agents()[0].file_name(),
    ];
    want.sort();
    assert_eq!(names(&home.cache()), want);
}

#[tokio::test]
async fn the_agents_own_failure_is_told_with_the_host() {
    let told = control::Failure {
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
    assert_eq!(failure.to_string(), "cannot listen on this machine: no UDP");
}

#[tokio::test]
async fn an_agent_that_ends_is_told_with_its_last_words() {
    for (text, what) in [
        (
            "echo 'no such flag' >&2; exit 1",
            "the agent does not start on this machine: no such flag",
        ),
        (
            "echo $4; echo out of luck >&2; exit 1",
            "the agent does not answer as it should on this machine: out of luck",
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
async fn a_host_that_is_no_shell_or_no_linux_is_told_apart() {
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
            "instead of a shell there came: git-shell 1.0",
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
    for (text, what) in [("echo Darwin arm64", "it is Darwin arm64"), (":", "no uname")] {
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
async fn a_shell_that_never_answers_is_given_up() {
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
