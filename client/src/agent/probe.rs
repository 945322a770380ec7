//! The first exchange with a host: is the agent there, and if not, where could it be. Plain functions of text.

use jq_common::bootstrap::Nonce;

use super::{
    bundle::{Agent, Bundle},
    script::with_variables,
};
use crate::error::{Failure, Kind};

/// What an agent is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// To serve this client on the GPU host.
    Serve,
    /// To pass packets on, on a gateway.
    Relay,
}

impl Role {
    /// Its name as an argument of the agent.
    #[must_use]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Relay => "relay",
        }
    }
}

/// What a host says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// `uname -s`; empty where there is no uname.
    pub(crate) system: String,
    /// `uname -m`.
    pub(crate) machine: String,
    /// The folder whose agent is being started.
    pub(crate) found: Option<String>,
    /// The first folder that can hold an agent.
    pub(crate) folder: Option<String>,
    /// Folders that cannot, and why.
    pub(crate) unfit: Vec<(String, String)>,
    /// Whether it can unpack.
    pub(crate) gzip: bool,
    /// Whether it can verify.
    pub(crate) sha256sum: bool,
}

/// What earlier tries have shown about the folders of a host.
#[derive(Debug, Default)]
pub(crate) struct Experience {
    /// Folders whose agent could not be run.
    pub(crate) distrusted: Vec<String>,
    /// Folders that did not take an agent, and why.
    pub(crate) refused: Vec<(String, String)>,
}

/// The script for it.
pub(crate) fn script(nonce: &Nonce, role: Role, bundle: &Bundle, experience: &Experience) -> String {
    let refused: Vec<_> = experience
        .refused
        .iter()
        .map(|(folder, _)| folder.as_str())
        .collect();
    let agents: Vec<_> = bundle
        .agents()
        .iter()
        .flat_map(|agent| agent.names().map(|name| format!("{name}={}", agent.file_name())))
        .collect();
    with_variables(
        &[
            ("nonce", &nonce.to_string()),
            ("role", role.word()),
            ("agents", &agents.join(" ")),
            ("distrusted", &experience.distrusted.join("\n")),
            ("refused", &refused.join("\n")),
        ],
        include_str!("start.sh"),
    )
}

impl Report {
    /// Takes the next line of the answer. True: it was the last.
    pub(crate) fn take(&mut self, line: &str) -> bool {
        let mut fields = line.splitn(3, '\t');
        let (word, first, second) = (fields.next(), fields.next(), fields.next());
        let (first, second) = (first.unwrap_or_default(), second.unwrap_or_default());
        match word {
            Some("system") => (self.system, self.machine) = (first.to_owned(), second.to_owned()),
            Some("found") => self.found = Some(first.to_owned()),
            Some("folder") => self.folder = Some(first.to_owned()),
            // An endless answer ends in a refusal, not in memory.
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

    /// The agent for this host.
    ///
    /// # Errors
    /// When there is none for its system and machine.
    pub(crate) fn choose<'a>(&self, host: &str, bundle: &'a Bundle) -> Result<&'a Agent, Failure> {
        let unsupported = |why: String| {
            Failure::new(Kind::UnsupportedHost, "jq does not run")
                .on(host)
                .because(why)
        };
        let known: Vec<_> = bundle
            .agents()
            .iter()
            .map(|agent| format!("Linux {}", agent.machine()))
            .collect();
        if self.system.is_empty() {
            return Err(unsupported("it has no uname command to tell what it is".into())
                .hint("install it (coreutils or busybox)"));
        }
        if known.is_empty() {
            return Err(Failure::new(Kind::Local, "this jq-client carries no agent")
                .because(format!(
                    "{host} needs the one for {} {}",
                    self.system, self.machine
                ))
                .hint("build one with deploy/build-agent, and name its folder with --agent-dir"));
        }
        match bundle.for_machine(&self.machine) {
            Some(agent) if self.system == "Linux" => Ok(agent),
            _ => Err(unsupported(format!(
                "it is {} {}; there is an agent for {}",
                self.system,
                self.machine,
                known.join(", "),
            ))
            .hint(
                "use a Linux host of a kind that is listed, or a client that carries an agent for this one",
            )),
        }
    }
}

/// Most folders that are remembered.
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
    fn answers_are_read() {
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
    fn a_host_without_an_agent_is_told_apart() {
        let bundle = Bundle::of([Agent::new("x86_64", b"agent".to_vec())]);
        let choose = |text: &str, bundle: &Bundle| report(text).choose("gpu", bundle).map(Agent::machine);
        assert_eq!(choose("system\tLinux\tamd64", &bundle), Ok("x86_64"));
        for (text, what) in [
            (
                "system\tLinux\triscv64",
                "Linux riscv64; there is an agent for Linux x86_64",
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
