//! Failures of the login.

use super::{
    evidence::{Place, line_with, quoted},
    expired,
};
use crate::{
    error::{Failure, Kind},
    ssh::{log::Stage, stderr::Words},
};

/// How a host puts it that it was offered too many keys.
const TOO_MANY: &str = "Too many authentication failures";

/// From this number on, keys that were offered in vain may be what was too much. `MaxAuthTries` is 6 by default.
const MANY: usize = 2;

/// The host does not let the user in.
pub(super) fn failure(place: Place<'_>, words: &Words) -> Option<Failure> {
    let log = &words.log;
    let refused = |why: String, hint: String| {
        Failure::new(Kind::LoginRefused, "cannot log in")
            .because(why)
            .hint(hint)
    };
    if log.stage() == Stage::LoggedIn {
        return None;
    }
    if let Some(farewell) = log.farewell() {
        if farewell == TOO_MANY && log.keys_offered() >= MANY {
            return Some(refused(
                format!(
                    "ssh offered {} keys, too many before the right one",
                    log.keys_offered()
                ),
                format!(
                    "set IdentityFile and `IdentitiesOnly yes` for {} in ~/.ssh/config",
                    place.name
                ),
            ));
        }
        let kind = if log.stage() >= Stage::Verified {
            Kind::LoginRefused
        } else {
            Kind::Unreachable
        };
        let why = quoted([farewell].into_iter()).unwrap_or_default();
        let failure = Failure::new(kind, "the host ended the connection").because(why);
        return Some(failure.hint(format!("try `{}`", place.by_hand)));
    }
    let last = log.last()?;
    let banner =
        || quoted(words.said.iter().map(String::as_str)).map_or_else(String::new, |q| format!("; {q}"));
    if let Some((_, methods)) = last.split_once("Permission denied (") {
        let key = line_with(
            &log.messages().collect::<Vec<_>>(),
            &[
                "UNPROTECTED PRIVATE KEY",
                "Load key ",
                "no such identity",
                "not accessible",
                "signing failed",
            ],
        );
        let key = key.map_or_else(String::new, |key| format!("; {}", key.trim_matches(['@', ' '])));
        let why = format!("Permission denied ({}){key}", names(methods));
        let hint = format!("try `{0}`; `{0} -v` shows which keys are offered", place.by_hand);
        return Some(refused(why, hint));
    }
    if [
        "Permission denied",
        "No more authentication methods",
        "No supported authentication methods",
    ]
    .iter()
    .any(|text| last.contains(text))
    {
        return Some(refused(last.to_owned(), format!("try `{0}`", place.by_hand)));
    }
    if log.key_accepted() || log.stage() == Stage::Asking {
        let said = words.said.iter().map(String::as_str);
        return Some(expired::at(place, said).unwrap_or_else(|| {
            refused(
                format!(
                    "the host ended the login after it took the key or the password{}",
                    banner()
                ),
                format!(
                    "an account that has expired or is locked ends so: ask its administrator; try `{}`",
                    place.by_hand
                ),
            )
        }));
    }
    None
}

/// The names of methods, without whatever else a host may put there.
fn names(list: &str) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "-@.,".contains(*c);
    list.split(')')
        .next()
        .unwrap_or_default()
        .chars()
        .filter(allowed)
        .collect()
}
