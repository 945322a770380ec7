//! Files of credentials and helpers in a folder.

use std::os::unix::fs::PermissionsExt;

use super::*;

struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn helper(&self, name: &str, script: &str) {
        let file = self.0.path().join(format!("docker-credential-{name}"));
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.0.path().join(name);
        fs::write(&file, text).unwrap();
        file
    }

    async fn find(&self, kind: EngineKind, files: &[PathBuf], reference: &str) -> Found {
        let mut path = self.0.path().as_os_str().to_owned();
        path.push(":/usr/bin:/bin");
        find(kind, files.to_vec(), &path, reference).await
    }
}

/// `user:password` in base64, as `docker login` writes it.
const USER_PASSWORD: &str = "dXNlcjpwYXNzd29yZA==";

fn password(user: &str, password: &str) -> Option<Secret> {
    Some(Secret::Password {
        user: user.into(),
        password: password.into(),
    })
}

fn secret(found: &Found) -> Option<Secret> {
    found.credential.as_ref().map(|found| found.secret.clone())
}

#[tokio::test]
async fn what_docker_login_wrote_is_found() {
    let bench = Bench::new();
    let text = format!(
        r#"{{"auths": {{"quay.io": {{"auth": "{USER_PASSWORD}"}}, "https://index.docker.io/v1/": {{"identitytoken": "t"}}, "gcr.io": {{}}}}}}"#
    );
    let files = [bench.file("config.json", &text)];
    let quay = bench.find(EngineKind::Docker, &files, "quay.io/a/b:1").await;
    assert!(secret(&quay) == password("user", "password") && quay.problem.is_none());
    assert_eq!(quay.registry, "quay.io");
    let hub = bench.find(EngineKind::Docker, &files, "ubuntu").await;
    assert!(secret(&hub) == Some(Secret::Token("t".into())));
    for none in ["gcr.io/a/b", "ghcr.io/a/b"] {
        let found = bench.find(EngineKind::Docker, &files, none).await;
        assert!(found.credential.is_none() && found.problem.is_none(), "{none}");
    }
}

#[tokio::test]
async fn podmans_own_file_counts_before_dockers() {
    let bench = Bench::new();
    let home = bench.0.path();
    let paths = files(
        EngineKind::Podman,
        &home.join(".docker"),
        None,
        &home.join("run"),
        home,
    );
    assert_eq!(
        paths,
        [
            "run/containers/auth.json",
            ".config/containers/auth.json",
            ".docker/config.json"
        ]
        .map(|name| home.join(name))
    );
    let named = files(
        EngineKind::Podman,
        home,
        Some(Path::new("/auth.json")),
        home,
        home,
    );
    assert_eq!(named, [PathBuf::from("/auth.json")]);
    let docker = files(
        EngineKind::Docker,
        home,
        Some(Path::new("/auth.json")),
        home,
        home,
    );
    assert_eq!(docker, [home.join("config.json")]);

    let mine = format!(r#"{{"auths": {{"docker.io": {{"auth": "{USER_PASSWORD}"}}}}}}"#);
    let found = [
        bench.file("auth.json", &mine),
        bench.file(
            "config.json",
            r#"{"auths": {"docker.io": {"identitytoken": "t"}}}"#,
        ),
    ];
    let hub = bench.find(EngineKind::Podman, &found, "ubuntu").await;
    assert!(secret(&hub) == password("user", "password"));
}

#[tokio::test]
async fn helpers_are_asked_the_registrys_own_one_first() {
    let bench = Bench::new();
    bench.helper("own", r#"echo "{\"Username\": \"own\", \"Secret\": \"$(cat)\"}""#);
    bench.helper(
        "all",
        r#"read -r server; echo "{\"Username\": \"<token>\", \"Secret\": \"$server\"}""#,
    );
    let files = [bench.file(
        "config.json",
        r#"{"credsStore": "all", "credHelpers": {"gcr.io": "own"}}"#,
    )];
    let gcr = bench.find(EngineKind::Docker, &files, "gcr.io/a/b").await;
    assert!(secret(&gcr) == password("own", "gcr.io"));
    let hub = bench.find(EngineKind::Docker, &files, "ubuntu").await;
    assert!(secret(&hub) == Some(Secret::Token("https://index.docker.io/v1/".into())));
}

#[tokio::test]
async fn a_helper_without_credentials_is_silent_and_one_that_fails_is_named() {
    let bench = Bench::new();
    bench.helper("empty", "echo 'credentials not found in native keychain'; exit 1");
    bench.helper("locked", "echo 'the keychain is locked' >&2; exit 1");
    bench.helper("odd", "echo yes");
    for (name, named) in [
        ("empty", None),
        (
            "locked",
            Some("`docker-credential-locked` failed: the keychain is locked"),
        ),
        (
            "odd",
            Some("`docker-credential-odd` gave an answer that is no credential"),
        ),
        (
            "absent",
            Some("`docker-credential-absent`, which your registry settings name, is not on your PATH"),
        ),
        ("../sh", Some("`docker-credential-../sh` is no name of a program")),
    ] {
        let files = [bench.file("config.json", &format!(r#"{{"credsStore": "{name}"}}"#))];
        let found = bench.find(EngineKind::Docker, &files, "gcr.io/a/b").await;
        assert!(found.credential.is_none());
        assert_eq!(found.problem.as_deref(), named);
    }
}

#[tokio::test]
async fn a_helper_that_hangs_is_given_up_and_named() {
    let bench = Bench::new();
    bench.helper("slow", "sleep 600");
    let files = [bench.file("config.json", r#"{"credsStore": "slow"}"#)];
    let started = std::time::Instant::now();
    let found = bench.find(EngineKind::Docker, &files, "gcr.io/a/b").await;
    assert!(found.credential.is_none());
    assert!(
        found
            .problem
            .unwrap()
            .contains("did not answer within 10 seconds")
    );
    assert!(started.elapsed() < 2 * helper::TIMEOUT);
}
