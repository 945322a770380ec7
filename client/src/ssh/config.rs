//! Settings of ssh for a host, parsed from `ssh -G`.

/// The settings of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Name or address to connect to.
    pub hostname: String,
    /// User name for the login.
    pub user: String,
    /// Port of its sshd.
    pub port: u16,
    /// The ProxyJump list, if set.
    pub proxy_jump: Option<String>,
    /// The ProxyCommand, if set.
    pub proxy_command: Option<String>,
    /// The name under which its key is known, if set.
    pub host_key_alias: Option<String>,
    /// Whether ConnectTimeout is set.
    pub has_connect_timeout: bool,
}

impl Resolved {
    /// Parses the output of `ssh -G`. None if host, user or port is missing.
    #[must_use]
    pub fn parse(output: &str) -> Option<Self> {
        let value = |key: &str| {
            output.lines().find_map(|line| {
                let (k, value) = line.trim().split_once(' ')?;
                k.eq_ignore_ascii_case(key).then(|| value.trim())
            })
        };
        let set = |key: &str| value(key).filter(|v| !v.is_empty() && !v.eq_ignore_ascii_case("none"));
        Some(Self {
            hostname: set("hostname")?.to_owned(),
            user: set("user")?.to_owned(),
            port: value("port")?.parse().ok().filter(|&port| port > 0)?,
            proxy_jump: set("proxyjump").map(str::to_owned),
            proxy_command: set("proxycommand").map(str::to_owned),
            host_key_alias: set("hostkeyalias").map(str::to_owned),
            has_connect_timeout: set("connecttimeout").is_some(),
        })
    }
}

impl Resolved {
    /// What decides which machine is reached, and as whom: text that stays equal for as long as that does.
    #[must_use]
    pub fn identity(&self) -> String {
        let Self {
            hostname,
            user,
            port,
            proxy_jump,
            proxy_command,
            host_key_alias,
            has_connect_timeout: _,
        } = self;
        format!("{user:?}@{hostname:?}:{port} {proxy_jump:?} {proxy_command:?} {host_key_alias:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_ssh_is_parsed() {
        let resolved = Resolved::parse(
            "host ok\nuser root\nhostname 127.0.0.1\nport 42201\nproxyusefdpass no\nidentityfile ~/.ssh/a b\n\
             connecttimeout none\ncontrolpersist no\nproxyjump a,root@[::1]:22\n",
        )
        .unwrap();
        assert_eq!(resolved.hostname, "127.0.0.1");
        assert_eq!(resolved.user, "root");
        assert_eq!(resolved.port, 42201);
        assert_eq!(resolved.proxy_jump.as_deref(), Some("a,root@[::1]:22"));
        assert_eq!(resolved.proxy_command, None);
        assert!(!resolved.has_connect_timeout);
    }

    #[test]
    fn none_means_none() {
        let resolved = Resolved::parse(
            "User a\nHostName h\nPort 22\nProxyCommand none\nproxyjump none\nconnecttimeout 3\n",
        );
        let resolved = resolved.unwrap();
        assert_eq!((resolved.proxy_jump, resolved.proxy_command), (None, None));
        assert!(resolved.has_connect_timeout);
    }

    #[test]
    fn another_host_port_user_jump_or_key_is_another_identity() {
        let identity = |change: &str| {
            let text = format!("{change}\nhostname h\nuser u\nport 22\nconnecttimeout 3\n");
            Resolved::parse(&text).unwrap().identity()
        };
        let plain = identity("");
        assert_eq!(identity("connecttimeout 9"), plain);
        let mut seen = vec![plain];
        for change in [
            "hostname other",
            "user other",
            "port 2222",
            "proxyjump gw",
            "proxycommand nc %h %p",
            "hostkeyalias gpu",
        ] {
            let other = identity(change);
            assert!(!seen.contains(&other), "{change}");
            seen.push(other);
        }
    }

    #[test]
    fn an_output_without_the_host_is_no_answer() {
        for text in [
            "",
            "hostname h",
            "hostname h\nuser u\nport 0",
            "hostname h\nuser u\nport x",
            "hostname \nuser u\nport 22",
        ] {
            assert_eq!(Resolved::parse(text), None, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_output_panics(text: String) {
            let _ = Resolved::parse(&text);
            let _ = Resolved::parse(&format!("hostname h\nuser u\nport 22\n{text}"));
        }
    }
}
