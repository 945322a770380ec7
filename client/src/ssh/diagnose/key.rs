//! Failures of a host's key.

use super::evidence::{Place, line_with};
use crate::{
    error::{Failure, Kind},
    ssh::log::{Log, Stage},
};

/// The host's key is not accepted. Only ssh's last word counts, and only before the key was found to be right: a host can
/// print the same text later.
pub(super) fn failure(place: Place<'_>, log: &Log) -> Option<Failure> {
    if log.stage() >= Stage::Verified || !log.last()?.contains("Host key verification failed") {
        return None;
    }
    let messages: Vec<_> = log.messages().collect();
    let has = |text| line_with(&messages, &[text]).is_some();
    if has("REVOKED HOST KEY") {
        return Some(
            Failure::new(
                Kind::HostKeyChanged,
                "refused to connect: the host's key is revoked",
            )
            .because("its key is on the list of revoked keys")
            .hint("ask its administrator for the new key"),
        );
    }
    if has("REMOTE HOST IDENTIFICATION HAS CHANGED") || has("has changed and you have requested strict") {
        return Some(changed(place, &messages));
    }
    let why = if has("host key is known for") {
        "its key is unknown on this machine, and ssh is configured to refuse such hosts"
    } else {
        "its key is unknown on this machine and was not accepted"
    };
    Some(
        Failure::new(Kind::HostKeyUnknown, "cannot verify the host")
            .because(why)
            .hint(format!(
                "run this once and answer ssh's question: {}",
                place.by_hand
            )),
    )
}

fn changed(place: Place<'_>, messages: &[&str]) -> Failure {
    // `Offending ED25519 key in FILE:LINE`
    let known = line_with(messages, &["Offending "])
        .and_then(|line| line.split_once(" key in "))
        .map(|(_, at)| at);
    let file = known.and_then(|at| at.rsplit_once(':')).map(|(file, _)| file);
    let mut remove = vec!["ssh-keygen"];
    remove.extend(file.into_iter().flat_map(|file| ["-f", file]));
    remove.extend(["-R", place.known_as]);
    let remove = shlex::try_join(remove).unwrap_or_else(|_| "ssh-keygen -R".to_owned());
    let known = known.map_or_else(String::new, |at| format!(" ({at})"));
    Failure::new(Kind::HostKeyChanged, "refused to connect: the host's key has changed")
        .because(format!(
            "it is not the key that this machine knows{known}: the host was reinstalled, or somebody intercepts the connection"
        ))
        .hint(format!("ask its administrator; if the key was changed on purpose: {remove}"))
}
