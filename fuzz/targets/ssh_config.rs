//! The output of `ssh -G`.
#![no_main]

use jq_client::ssh::config::Resolved;
use jq_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|output: &str| {
    let complete = format!("hostname h\nuser u\nport 22\n{output}");
    for output in [output, &complete] {
        let Some(resolved) = bounded(output.len(), || Resolved::parse(output)) else {
            continue;
        };
        let Resolved {
            hostname,
            user,
            port,
            proxy_jump,
            proxy_command,
            has_connect_timeout,
        } = &resolved;
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        let again = format!(
            "hostname {hostname}\nuser {user}\nport {port}\nproxyjump {}\nproxycommand {}\nconnecttimeout {}\n",
            shown(proxy_jump),
            shown(proxy_command),
            if *has_connect_timeout { "5" } else { "none" },
        );
        assert_eq!(Resolved::parse(&again).as_ref(), Some(&resolved));
    }
    assert!(Resolved::parse(&complete).is_some());
});
