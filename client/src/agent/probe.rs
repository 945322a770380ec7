//! The first exchange with a host: starts the agent if it is installed, else reports where it can be installed. Pure
//! functions of text.

use jq_common::bootstrap::{MachineId, Nonce};

use super::{
    bundle::{Agent, Bundle},
    script::{ENTER, with_variables},
};
use crate::error::{Failure, Kind};

/// Role of an agent process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Serves this client on the GPU host.
    Serve,
    /// Relays packets on a gateway.
    Relay,
}

impl Role {
    /// Argument of the agent for the role.
    #[must_use]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Relay => "relay",
        }
    }
}

/// How an agent is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start<'a> {
    /// Its role.
    pub(crate) role: Role,
    /// A running agent keeps the login that it has: the client only comes back.
    pub(crate) keeps_login: bool,
    /// The only machine to start on; none if any will do.
    pub(crate) machine: Option<&'a MachineId>,
}

impl From<Role> for Start<'_> {
    fn from(role: Role) -> Self {
        Self {
            role,
            keeps_login: false,
            machine: None,
        }
    }
}

impl Start<'_> {
    /// Further arguments of the agent, without quotes.
    fn conditions(&self) -> String {
        let keep = self.keeps_login.then(|| "--keep-login".to_owned());
        // What a host told of itself is passed on only if it is what it should be.
        let machine = self.machine.map(ToString::to_string);
        let machine = machine.filter(|machine| MachineId::parse(machine).is_some());
        let machine = machine.map(|machine| format!("--machine {machine}"));
        keep.into_iter().chain(machine).collect::<Vec<_>>().join(" ")
    }
}

/// Report of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Output of `uname -s`; empty if there is no `uname`.
    pub(crate) system: String,
    /// Output of `uname -m`.
    pub(crate) machine: String,
    /// The folder of the installed agent, which is being started.
    pub(crate) found: Option<String>,
    /// The first folder where an agent can be installed.
    pub(crate) folder: Option<String>,
    /// Folders that are not suitable, and why.
    pub(crate) unfit: Vec<(String, String)>,
    /// Whether the host has `gzip`.
    pub(crate) gzip: bool,
    /// Whether the host has `sha256sum`.
    pub(crate) sha256sum: bool,
}

/// What earlier attempts have shown about the folders of a host.
#[derive(Debug, Default)]
pub(crate) struct Experience {
    /// Folders whose agent could not be executed.
    pub(crate) distrusted: Vec<String>,
    /// Folders where the upload failed, and why.
    pub(crate) refused: Vec<(String, String)>,
}

/// The script of the exchange.
pub(crate) fn script(nonce: &Nonce, start: Start<'_>, bundle: &Bundle, experience: &Experience) -> String {
    let refused: Vec<_> = experience
        .refused
        .iter()
        .map(|(folder, _)| folder.as_str())
        .collect();
    let agents: Vec<_> = bundle
        .agents()
        .iter()
        .flat_map(|agent| {
            let names = agent.names();
            names.map(|name| format!("{name}={}:{}", agent.file_name(), agent.sha256()))
        })
        .collect();
    with_variables(
        &[
            ("nonce", &nonce.to_string()),
            ("role", start.role.word()),
            ("agents", &agents.join(" ")),
            ("conditions", &start.conditions()),
            ("distrusted", &experience.distrusted.join("\n")),
            ("refused", &refused.join("\n")),
        ],
        &[ENTER, include_str!("start.sh")].concat(),
    )
}

impl Report {
    /// Takes the next line of the answer. True: it was the last one.
    pub(crate) fn take(&mut self, line: &str) -> bool {
        let mut fields = line.splitn(3, '\t');
        let (word, first, second) = (fields.next(), fields.next(), fields.next());
        let (first, second) = (first.unwrap_or_default(), second.unwrap_or_default());
        match word {
            Some("system") => (self.system, self.machine) = (first.to_owned(), second.to_owned()),
            Some("found") => self.found = Some(first.to_owned()),
            Some("folder") => self.folder = Some(first.to_owned()),
            // The number is bounded: the answer may be endless.
            Some("unfit") if self.unfit.len() < MOST => {
                self.unfit.push((first.to_owned(), second.to_owned()));
            }
            Some("tool") => match first {
                "gzip" => self.gzip = true,
                "sha256sum" => self.sha256sum = true,
                _ => {}
            },
            _ => return true,
        }
        self.found.is_some()
    }

    /// Selects the agent for this host.
    ///
    /// # Errors
    /// When there is none for its operating system and architecture.
    pub(crate) fn choose<'a>(&self, host: &str, bundle: &'a Bundle) -> Result<&'a Agent, Failure> {
        let unsupported = |why: String| {
            Failure::new(Kind::UnsupportedHost, "the host is not supported")
                .on(host)
                .because(why)
        };
        let known: Vec<_> = bundle
            .agents()
            .iter()
            .map(|agent| format!("Linux {}", agent.machine()))
            .collect();
        if self.system.is_empty() {
            return Err(
                unsupported("it has no uname command, so its operating system is unknown".into())
                    .hint("install it (coreutils or busybox)"),
            );
        }
        if known.is_empty() {
            return Err(Failure::new(Kind::Local, "this jq-client contains no agent")
                .because(format!(
                    "{host} needs an agent for {} {}",
                    self.system, self.machine
                ))
                .hint("build one with deploy/build-agent, and give its folder with --agent-dir"));
        }
        match bundle.for_machine(&self.machine) {
            Some(agent) if self.system == "Linux" => Ok(agent),
            _ => Err(unsupported(format!(
                "it runs {} {}; agents exist for {}",
                self.system,
                self.machine,
                known.join(", "),
            ))
            .hint("use a host of a listed kind, or a client with an agent for this one")),
        }
    }
}

/// Limit of unsuitable folders that are recorded.
const MOST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> Report {
        let mut report = Report::default();
        for line in text.lines() {
            if report.take(line) {
                break;
            }
        }
        report
    }

    #[test]
    fn answers_are_parsed() {
        let got = report(
            "system\tLinux\tx86_64\nunfit\t/home/a/.cache/jq\tmkdir: Read-only file system\nfolder\t/tmp/jq-1\ntool\tgzip\n\
             tool\tother\nend\nfolder\t/never",
        );
        assert_eq!(got.folder.as_deref(), Some("/tmp/jq-1"));
        assert_eq!(
            got.unfit,
            [(
                "/home/a/.cache/jq".to_owned(),
                "mkdir: Read-only file system".to_owned()
            )]
        );
        assert!(got.gzip && !got.sha256sum && got.found.is_none());
        assert_eq!(
            report("system\tLinux\tx86_64\nfound\t/a b\nfolder\t/x")
                .found
                .as_deref(),
            Some("/a b")
        );
    }

    #[test]
    fn what_a_host_says_of_itself_reaches_a_shell_only_if_it_is_harmless() {
        let machine = |id: &str, name: &str| MachineId {
            id: id.to_owned(),
            name: name.to_owned(),
        };
        let conditions = |machine: &MachineId, keeps_login| {
            let start = Start {
                role: Role::Serve,
                keeps_login,
                machine: Some(machine),
            };
            start.conditions()
        };
        assert_eq!(
            conditions(&machine("01", "gpu"), true),
            "--keep-login --machine 01:gpu"
        );
        assert_eq!(conditions(&machine("01", "gpu --help"), false), "");
        assert_eq!(conditions(&machine("$(id)", "gpu"), false), "");
        assert_eq!(Start::from(Role::Relay).conditions(), "");
    }

    #[test]
    fn a_host_without_a_suitable_agent_is_refused() {
        let bundle = Bundle::of([Agent::new("x86_64", b"agent".to_vec())]);
        let choose = |text: &str, bundle: &Bundle| report(text).choose("gpu", bundle).map(Agent::machine);
        assert_eq!(choose("system\tLinux\tamd64", &bundle), Ok("x86_64"));
        for (text, what) in [
            (
                "system\tLinux\triscv64",
                "Linux riscv64; agents exist for Linux x86_64",
            ),
            ("system\tDarwin\tx86_64", "Darwin x86_64"),
            ("system\tLinux\taarch64", "Linux aarch64"),
            ("system\t\t", "no uname"),
        ] {
            let failure = choose(text, &bundle).unwrap_err();
            assert_eq!(failure.kind, Kind::UnsupportedHost);
            assert!(failure.why.contains(what), "{failure}");
        }
        assert_eq!(
            choose("system\tLinux\tx86_64", &Bundle::default())
                .unwrap_err()
                .kind,
            Kind::Local
        );
    }

    #[test]
    fn an_answer_without_an_end_is_given_up() {
        let mut report = Report::default();
        let given_up = (0..1000).position(|number| report.take(&format!("unfit\t/tmp/{number}\tit is full")));
        assert_eq!((given_up, report.unfit.len()), (Some(MOST), MOST));
    }

    proptest::proptest! {
        #[test]
        fn no_answer_panics(lines: Vec<String>) {
            let mut report = Report::default();
            for line in &lines {
                report.take(line);
            }
            proptest::prop_assert!(report.unfit.len() <= MOST);
        }
    }
}
