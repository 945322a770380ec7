//! Names of sessions.

use jq_common::protocol::profile::LONGEST;

/// The name that a session gets from its target: the host, with `-` in place of characters that a name may not have.
pub(crate) fn default_name(target: &str) -> String {
    let rest = target.strip_prefix("ssh://").unwrap_or(target);
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = if rest.len() < target.len() {
        host.rsplit_once(':').map_or(host, |(host, _)| host)
    } else {
        host
    };
    let name: String = host
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') {
                c
            } else {
                '-'
            }
        })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(LONGEST)
        .collect();
    if name.is_empty() { "jq".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use jq_common::protocol::profile::is_name;

    use super::*;

    #[test]
    fn sessions_are_named_after_their_host() {
        for (target, name) in [
            ("gpu", "gpu"),
            ("ann@gpu.lan", "gpu.lan"),
            ("ssh://ann@gpu:2222", "gpu"),
            ("fe80::1%eth0", "fe80--1-eth0"),
            ("@", "jq"),
        ] {
            assert_eq!(default_name(target), name, "{target}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_target_gives_a_name(target: String) {
            proptest::prop_assert!(is_name(&default_name(&target)));
        }
    }
}
