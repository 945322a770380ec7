use super::*;

#[test]
fn a_full_disk_and_a_forbidden_folder_have_different_hints() {
    let agent = Agent::new("x86_64", vec![0; 1_500_000]);
    let refused = |why: &str| nowhere("gpu", &agent, &[("/home/a/.cache/jq".into(), why.into())]);
    let failure = refused("cat: write error: No space left on device (12 KiB are free)");
    assert_eq!(failure.kind, Kind::InstallFailed);
    assert!(failure.hint.starts_with("free 2 MB"), "{}", failure.hint);
    assert!(refused("Disk quota exceeded").hint.starts_with("free 2 MB"));
    assert!(refused("mkdir: Permission denied").hint.contains("writable"));
}
