//! Settings of ssh for a host, parsed from `ssh -G`.

use std::{collections::BTreeMap, path::PathBuf};

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
    /// The ControlPath, expanded, if it is set.
    pub control_path: Option<PathBuf>,
    /// All settings that ssh prints: the first value of each, under its name in lower case.
    pub(super) settings: BTreeMap<String, String>,
}

/// Limit of lines that are kept; ssh prints about a hundred.
const SETTINGS: usize = 256;

impl Resolved {
    /// Parses the output of `ssh -G`. None if host, user or port is missing.
    #[must_use]
    pub fn parse(output: &str) -> Option<Self> {
        let lines = || output.lines().filter_map(|line| line.trim().split_once(' '));
        let set = |key: &str| {
            let value = lines().find(|(k, _)| k.eq_ignore_ascii_case(key));
            value
                .map(|(_, value)| value.trim())
                .filter(|v| !v.is_empty() && !v.eq_ignore_ascii_case("none"))
        };
        let mut settings = BTreeMap::new();
        for (key, value) in lines().take(SETTINGS) {
            let value = || value.trim().to_owned();
            settings.entry(key.to_ascii_lowercase()).or_insert_with(value);
        }
        Some(Self {
            hostname: set("hostname")?.to_owned(),
            user: set("user")?.to_owned(),
            port: set("port")?.parse().ok().filter(|&port| port > 0)?,
            proxy_jump: set("proxyjump").map(str::to_owned),
            proxy_command: set("proxycommand").map(str::to_owned),
            host_key_alias: set("hostkeyalias").map(str::to_owned),
            has_connect_timeout: set("connecttimeout").is_some(),
            control_path: set("controlpath").map(PathBuf::from),
            settings,
        })
    }

    /// The value of a setting, whose name is in lower case. None: this ssh does not know or does not print it.
    pub(super) fn setting(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str)
    }

    /// The name of the host in known_hosts (sshd(8)).
    pub(super) fn known_as(&self) -> String {
        match (&self.host_key_alias, self.port) {
            (Some(alias), _) => alias.clone(),
            (None, 22) => self.hostname.to_ascii_lowercase(),
            (None, port) => format!("[{}]:{port}", self.hostname.to_ascii_lowercase()),
        }
    }

    /// Whether the user wants no messages of ssh, and no banner either (LogLevel below INFO).
    pub(super) fn is_quiet(&self) -> bool {
        let level = self.setting("loglevel").unwrap_or_default();
        ["SILENT", "QUIET", "FATAL", "ERROR"]
            .iter()
            .any(|quiet| level.eq_ignore_ascii_case(quiet))
    }
}

#[cfg(test)]
impl Resolved {
    /// A host with this name and port, and the defaults otherwise.
    pub(super) fn of(hostname: &str, port: u16) -> Self {
        let text = format!("hostname {hostname}\nuser ana\nport {port}\n");
        Self::parse(&text).unwrap_or_else(|| panic!("{text}"))
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
            control_path: _,
            settings: _,
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
        assert_eq!(resolved.setting("controlpersist"), Some("no"));
        assert_eq!(resolved.setting("sessiontype"), None);
        assert_eq!(resolved.control_path, None);
    }

    #[test]
    fn a_control_path_and_a_quiet_log_are_seen() {
        let text = "hostname h\nuser u\nport 22\ncontrolpath /home/u/a b\nloglevel ";
        for (level, quiet) in [
            ("SILENT", true),
            ("QUIET", true),
            ("fatal", true),
            ("ERROR", true),
            ("INFO", false),
            ("DEBUG3", false),
        ] {
            let resolved = Resolved::parse(&format!("{text}{level}\n")).unwrap();
            assert_eq!(resolved.is_quiet(), quiet, "{level}");
            assert_eq!(resolved.control_path, Some("/home/u/a b".into()));
        }
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
