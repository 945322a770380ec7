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
            control_path,
            host_key_alias,
            ..
        } = &resolved;
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        let again = format!(
            "hostname {hostname}\nuser {user}\nport {port}\nproxyjump {}\nproxycommand {}\nconnecttimeout {}\ncontrolpath {}\n\
             hostkeyalias {}\n",
            shown(proxy_jump),
            shown(proxy_command),
            if *has_connect_timeout { "5" } else { "none" },
            shown(&control_path.as_ref().map(|path| path.display().to_string())),
            shown(host_key_alias),
        );
        let again = Resolved::parse(&again).expect("what was parsed is parsed again");
        assert_eq!(
            (
                &again.hostname,
                &again.user,
                again.port,
                again.has_connect_timeout
            ),
            (hostname, user, *port, *has_connect_timeout)
        );
        assert_eq!(
            (
                &again.proxy_jump,
                &again.proxy_command,
                &again.control_path,
                &again.host_key_alias
            ),
            (proxy_jump, proxy_command, control_path, host_key_alias)
        );
    }
    assert!(Resolved::parse(&complete).is_some());
});
