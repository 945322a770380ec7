//! What is done differently when a new container has failed to start Jupyter. Pure.

use jq_common::protocol::workload::Failure;

/// One thing to do differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// The image's entry point did not run our command, or not where Jupyter is: leave it out.
    WithoutEntryPoint,
    /// The image's own way to become the caller is not allowed here: be the caller from the start.
    AsCaller,
}

impl Remedy {
    /// A note for the user: what is done differently, because of this failure.
    pub(crate) fn note(self, failure: &Failure) -> String {
        match self {
            Self::WithoutEntryPoint => format!(
                "the image's entry point does not lead to Jupyter ({}), so it is left out; \
                 `--entrypoint` names another",
                failure.why
            ),
            Self::AsCaller => {
                "this engine forbids new privileges, which the image needs to become you, so the container \
                               runs as your user from the start; `--user` names another"
                    .to_owned()
            }
        }
    }
}

/// All that is done differently, compared with what was requested and what the image suggests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remedies {
    pub(crate) without_entrypoint: bool,
    pub(crate) as_caller: bool,
}

impl Remedies {
    /// Adds one; false if that was tried already.
    pub(crate) fn add(&mut self, remedy: Remedy) -> bool {
        let added = match remedy {
            Remedy::WithoutEntryPoint => &mut self.without_entrypoint,
            Remedy::AsCaller => &mut self.as_caller,
        };
        !std::mem::replace(added, true)
    }
}

/// Why Jupyter does not run.
#[derive(Debug)]
pub(crate) struct NotStarted {
    pub(crate) failure: Failure,
    /// What may help, if the container was created for this request.
    pub(crate) remedy: Option<Remedy>,
}

impl From<Failure> for NotStarted {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            remedy: None,
        }
    }
}

/// What may help a container whose Jupyter did not come up. `entrypoint` is the image's, if it was used; `reached` tells
/// whether our command was.
pub(crate) fn remedy(entrypoint: &[String], log: &[String], reached: bool) -> Option<Remedy> {
    // sudo's words, with which start.sh of the Jupyter Docker Stacks changes its user.
    if log
        .iter()
        .any(|line| line.to_lowercase().contains("no new privileges"))
    {
        return Some(Remedy::AsCaller);
    }
    (!entrypoint.is_empty() && !reached).then_some(Remedy::WithoutEntryPoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_tried_once() {
        let mut remedies = Remedies::default();
        assert!(remedies.add(Remedy::AsCaller) && !remedies.add(Remedy::AsCaller));
        assert!(remedies.add(Remedy::WithoutEntryPoint));
        let all = Remedies {
            without_entrypoint: true,
            as_caller: true,
        };
        assert_eq!(remedies, all);
    }

    #[test]
    fn a_remedy_needs_evidence() {
        let entry = ["/serve".to_owned()];
        let sudo = r#"sudo: The "no new privileges" flag is set, which prevents sudo from running as root."#;
        let log = |line: &str| [line.to_owned()];
        assert_eq!(remedy(&entry, &log(sudo), false), Some(Remedy::AsCaller));
        assert_eq!(
            remedy(&entry, &log("usage: serve"), false),
            Some(Remedy::WithoutEntryPoint)
        );
        assert_eq!(remedy(&entry, &log("Traceback"), true), None);
        assert_eq!(remedy(&[], &log("Killed"), false), None);
    }
}
