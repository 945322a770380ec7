//! Decides which containers are ours: by labels, and by a random value that only this user's state has.

use std::collections::BTreeMap;

use super::{files::JUPYTER_FOLDER, options::Options};
use crate::{engine::ContainerState, session_store::ContainerRecord, workload::HostContext};

pub(crate) const ROLE: &str = "dev.jq.role";
pub(crate) const OWNER: &str = "dev.jq.owner";
pub(crate) const SESSION: &str = "dev.jq.session";
const NONCE: &str = "dev.jq.nonce";
const OPTIONS: &str = "dev.jq.options";
const RUNS_AS: &str = "dev.jq.runs-as";
const FOLDER: &str = "dev.jq.folder";

/// Name of a workload's container: `jq-USER-NAME`.
pub(crate) fn name(user: &str, session: &str) -> String {
    let user: String = user
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') {
                c
            } else {
                '-'
            }
        })
        .collect();
    format!("jq-{user}-{session}")
}

/// Labels of a workload's container.
pub(crate) fn labels(
    host: &HostContext,
    session: &str,
    nonce: &str,
    options: &Options,
    runs_as: Option<(u32, u32)>,
) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = [
        (ROLE, "workload".to_owned()),
        (OWNER, host.uid.to_string()),
        (SESSION, session.to_owned()),
        (NONCE, nonce.to_owned()),
        (OPTIONS, options.sealed(nonce).to_label()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    if let Some((uid, gid)) = runs_as {
        labels.insert(RUNS_AS.to_owned(), format!("{uid}:{gid}"));
    }
    labels
}

/// The user that Jupyter runs as in a container of ours; None for the container's own user.
pub(crate) fn runs_as(container: &ContainerState) -> Option<(u32, u32)> {
    let (uid, gid) = container.labels.get(RUNS_AS)?.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

/// Adds the label with the folder of what starts Jupyter, unless it is the usual one.
pub(crate) fn label_folder(labels: &mut BTreeMap<String, String>, folder: &str) {
    if folder != JUPYTER_FOLDER {
        labels.insert(FOLDER.to_owned(), folder.to_owned());
    }
}

/// The folder of what starts Jupyter in a container of ours.
pub(crate) fn folder(container: &ContainerState) -> &str {
    container
        .labels
        .get(FOLDER)
        .map_or(JUPYTER_FOLDER, String::as_str)
}

/// Labels of a network helper.
pub(crate) fn helper_labels(host: &HostContext, session: &str) -> BTreeMap<String, String> {
    let mut labels = helper_image_labels(host);
    labels.insert(SESSION.to_owned(), session.to_owned());
    labels
}

/// Labels of the helper's image.
pub(crate) fn helper_image_labels(host: &HostContext) -> BTreeMap<String, String> {
    [(ROLE, "inside".to_owned()), (OWNER, host.uid.to_string())]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
}

/// Why a container with our name is not ours; None when it is.
pub(crate) fn why_not_ours(
    container: &ContainerState,
    uid: u32,
    session: &str,
    record: Option<&ContainerRecord>,
) -> Option<&'static str> {
    let is = |label: &str, value: &str| container.labels.get(label).is_some_and(|has| has == value);
    if !is(SESSION, session) || !is(OWNER, &uid.to_string()) {
        return Some("it was not created by jq for this session");
    }
    let Some(record) = record else {
        return Some("it has jq's labels, but your account on this host has no record of creating it");
    };
    if !is(NONCE, &record.nonce) || record.id.as_ref().is_some_and(|id| *id != container.id) {
        return Some("it has jq's labels, but is not the container in your account's record");
    }
    None
}

/// Converts `asked` so that it can be compared with the options of this container, whose variables are hashed.
pub(crate) fn comparable(asked: &Options, container: &ContainerState) -> Options {
    asked.sealed(
        container
            .labels
            .get(NONCE)
            .map(String::as_str)
            .unwrap_or_default(),
    )
}

/// The options that the container was created with, to be compared with [`comparable`] ones; None when another version
/// wrote them.
pub(crate) fn options(container: &ContainerState) -> Option<Options> {
    Options::from_label(container.labels.get(OPTIONS)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        golden::{Golden, pretty},
        workload::fixtures::{host, spec},
    };

    #[test]
    fn names_follow_the_engines_rules() {
        assert_eq!(name("ada", "gpu"), "jq-ada-gpu");
        assert_eq!(name("CORP\\ada@x", "gpu"), "jq-CORP-ada-x-gpu");
    }

    #[test]
    fn labels_alone_do_not_make_a_container_ours() {
        let labels = |uid: &str, session: &str, nonce: &str| {
            [(OWNER, uid), (SESSION, session), (NONCE, nonce)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into()
        };
        let container = |labels, id: &str| ContainerState {
            id: id.into(),
            labels,
            ..ContainerState::default()
        };
        let record = |id: Option<&str>| ContainerRecord {
            nonce: "n".into(),
            id: id.map(Into::into),
            engine: None,
        };
        let known = record(Some("i"));
        let ours = container(labels("7", "s", "n"), "i");
        assert_eq!(why_not_ours(&ours, 7, "s", Some(&known)), None);
        // Interrupted between the creation and the record of the id.
        assert_eq!(why_not_ours(&ours, 7, "s", Some(&record(None))), None);
        for (what, container, record) in [
            ("no labels", container(BTreeMap::new(), "i"), Some(&known)),
            ("other user", container(labels("8", "s", "n"), "i"), Some(&known)),
            (
                "other session",
                container(labels("7", "t", "n"), "i"),
                Some(&known),
            ),
            ("other nonce", container(labels("7", "s", "m"), "i"), Some(&known)),
            ("other id", container(labels("7", "s", "n"), "j"), Some(&known)),
            ("no record", container(labels("7", "s", "n"), "i"), None),
        ] {
            assert!(why_not_ours(&container, 7, "s", record).is_some(), "{what}");
        }
    }

    #[test]
    fn labels_are_what_their_golden_files_say() {
        let mut wanted = spec();
        wanted.env = vec![("NAME".to_owned(), "value".to_owned())];
        wanted.workdir = Some("/work".to_owned());
        let asked = Options::of(&wanted, "image", std::path::Path::new("/home/ada")).unwrap();
        let labels = labels(&host(), "gpu", "0123456789abcdef", &asked, Some((1234, 1235)));
        let text = pretty(&serde_json::to_vec(&labels).unwrap());
        let mut golden = Golden::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/labels"));
        golden.check("labels.json", &labels, &text, |text| {
            serde_json::from_str(text).ok()
        });
        let text = pretty(labels[OPTIONS].as_bytes());
        let sealed = asked.sealed("0123456789abcdef");
        golden.check("options.json", &sealed, &text, Options::from_label);
        golden.is_read_as("newer_options.json", &sealed, Options::from_label);
        let older = Options::of(&spec(), "image", std::path::Path::new("/")).unwrap();
        golden.is_read_as("older_options.json", &older, Options::from_label);
        golden.finish();
    }
}
