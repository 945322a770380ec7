//! What reaches a host's shell.

use std::process::Command;

use super::*;

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn any_value_is_one_word_of_the_shell(text in "[^\0]*") {
        let output = Command::new("/bin/sh")
            .arg("-c")
            .arg(with_variables(&[("value", &text), ("next", "n")], "printf '%s.%s' \"$value\" \"$next\""))
            .output()
            .unwrap();
        proptest::prop_assert_eq!(output.stdout, format!("{text}.n").into_bytes());
    }
}

#[test]
fn a_full_disk_is_told_from_a_forbidden_folder() {
    let agent = Agent::new("x86_64", vec![0; 1_500_000]);
    let refused = |why: &str| nowhere("gpu", &agent, &[("/home/a/.cache/jq".into(), why.into())]);
    let failure = refused("cat: write error: No space left on device (12 KiB are free)");
    assert_eq!(failure.kind, Kind::InstallFailed);
    assert!(failure.hint.starts_with("free 2 MB"), "{}", failure.hint);
    assert!(refused("Disk quota exceeded").hint.starts_with("free 2 MB"));
    assert!(refused("mkdir: Permission denied").hint.contains("writable"));
}
