//! Passwords and accounts that have expired.

use super::evidence::Place;
use crate::error::{Failure, Kind};

/// What sshd, shadow and pam_unix(8) say of a password that has to be changed before anything else.
const PASSWORD: [&str; 4] = [
    "Your password has expired",
    "Password change required",
    "You are required to change your password",
    "You must change your password now",
];

/// What they say of an account.
const ACCOUNT: [&str; 2] = ["Your account has expired", "Your login has expired"];

/// The failure of a login on `name`, if the host says that the password or the account has expired. Only the host can know:
/// whoever else says so sends the user to an administrator in vain, and no further.
pub(super) fn failure<'a>(
    name: &str,
    by_hand: &str,
    mut said: impl Iterator<Item = &'a str>,
) -> Option<Failure> {
    said.find_map(|line| {
        let says = |texts: &[&str]| {
            let line = line.trim_start_matches("WARNING: ");
            texts.iter().any(|text| line.starts_with(text))
        };
        let (what, hint) = if says(&PASSWORD) {
            (
                format!("your password on {name} has expired"),
                format!("log in with `{by_hand}` and change it, then connect again"),
            )
        } else if says(&ACCOUNT) {
            (
                format!("your account on {name} has expired"),
                "ask its administrator to extend it".to_owned(),
            )
        } else {
            return None;
        };
        Some(Failure::new(Kind::LoginRefused, what).hint(hint))
    })
}

/// As [`failure`], for a connection.
pub(super) fn at<'a>(place: Place<'_>, said: impl Iterator<Item = &'a str>) -> Option<Failure> {
    failure(place.name, place.by_hand, said)
}
