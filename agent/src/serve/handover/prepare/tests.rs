use std::{os::unix::fs::PermissionsExt, path::PathBuf};

use jq_common::bootstrap::FormatRange;

use super::*;

/// A request that is granted, and its program.
fn request() -> (UpgradeRequest, tempfile::NamedTempFile) {
    let program = tempfile::NamedTempFile::new().unwrap();
    program
        .as_file()
        .set_permissions(std::fs::Permissions::from_mode(0o700))
        .unwrap();
    let request = UpgradeRequest {
        successor: program.path().to_owned(),
        run_dir: PathBuf::from("/nonexistent"),
        version: BUILD.to_owned(),
        handshake: String::from_utf8_lossy(ALPN).into_owned(),
        formats: SNAPSHOT_FORMATS,
    };
    (request, program)
}

#[test]
fn an_incompatible_build_is_refused_with_the_reason_in_one_line() {
    let (good, _program) = request();
    check(&good).unwrap();
    let refused = |change: &dyn Fn(&mut UpgradeRequest)| {
        let mut request = good.clone();
        change(&mut request);
        let why = check(&request).unwrap_err();
        assert!(!why.contains('\n'), "{why}");
        why
    };
    let older = refused(&|request| request.version = "0.0.9".to_owned());
    assert!(older.contains("newer"), "{older}");
    let malformed = refused(&|request| request.version = "later".to_owned());
    assert!(malformed.contains("no version"), "{malformed}");
    let handshake = refused(&|request| request.handshake = "jq/1".to_owned());
    assert!(handshake.contains("clients"), "{handshake}");
    let newer = refused(&|request| {
        request.formats = FormatRange {
            oldest: SNAPSHOT_FORMATS.newest + 1,
            newest: SNAPSHOT_FORMATS.newest + 3,
        };
    });
    assert!(newer.contains("leaves"), "{newer}");
}

#[test]
fn a_successor_is_left_the_newest_format_that_both_know() {
    let (mut request, _program) = request();
    request.formats.newest += 7;
    assert_eq!(check(&request).unwrap(), SNAPSHOT_FORMATS.newest);
    let range = |oldest, newest| FormatRange { oldest, newest };
    assert_eq!(range(2, 5).newest_shared(range(4, 9)), Some(5));
    assert_eq!(range(2, 5).newest_shared(range(1, 3)), Some(3));
    assert_eq!(range(2, 3).newest_shared(range(4, 5)), None);
}

#[test]
fn only_a_program_that_its_user_alone_may_change_is_executed() {
    let (request, program) = request();
    for mode in [0o600, 0o770, 0o702] {
        let permissions = std::fs::Permissions::from_mode(mode);
        program.as_file().set_permissions(permissions).unwrap();
        assert!(check(&request).is_err(), "{mode:o}");
    }
    program
        .as_file()
        .set_permissions(std::fs::Permissions::from_mode(0o700))
        .unwrap();
    check(&request).unwrap();
    // Only root can give a file away.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(program.path(), Some(65_534), None).unwrap();
        assert!(check(&request).is_err(), "another user's");
    }
    let gone = program.path().to_owned();
    drop(program);
    assert!(check(&request).unwrap_err().contains(&*gone.to_string_lossy()));
}

#[tokio::test]
async fn a_program_that_does_not_run_here_is_refused_before_anything_stops() {
    runs(Path::new("/bin/true")).await.unwrap();
    assert!(runs(Path::new("/bin/false")).await.is_err());
    let (request, _program) = request();
    assert!(runs(&request.successor).await.is_err(), "an empty file");
}

#[test]
fn versions_compare_by_their_numbers_and_a_release_is_newer_than_its_candidates() {
    let rising = ["0.1.0-rc.1", "0.1.0", "0.1.1+build.7", "0.2.0", "0.10.0", "1.0.0"];
    let versions: Vec<_> = rising.iter().map(|text| parse_version(text).unwrap()).collect();
    assert!(versions.is_sorted_by(|a, b| a < b));
    for text in ["", "1", "1.2", "1.2.3.4", "1.2.x", "v1.2.3"] {
        assert!(parse_version(text).is_none(), "{text}");
    }
}
