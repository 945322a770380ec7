//! Shell scripts with variables.

use jq_common::bootstrap::Nonce;

use crate::error::{Failure, Kind};

/// What scripts begin with that work in a folder: the function `enter`.
pub(super) const ENTER: &str = include_str!("enter.sh");

/// A new nonce for the marker line of a script.
///
/// # Errors
/// When the system gives no random bytes.
pub(super) fn nonce() -> Result<Nonce, Failure> {
    Nonce::generate().map_err(|e| Failure::new(Kind::Local, "no randomness").because(e))
}

/// A start-up file that ends in `exec zsh` has zsh read the script in place of the `/bin/sh` that was asked for: with rules
/// of its own, unless it is told otherwise.
const AS_SH: &str = "[ -z \"${ZSH_VERSION-}\" ] || emulate sh\n";

/// A shell of another family cannot read the script. csh says so: `$?tcsh` is 1 there, and `0tcsh` elsewhere. Others show
/// the line that they do not understand. Either way the nonce is among what is printed.
fn or_name_yourself(nonce: &str) -> String {
    format!("[ \"$?tcsh\" != 1 ] || echo \"csh {nonce}\"\n")
}

/// `script`, preceded by assignments of quoted values to variables.
pub(super) fn with_variables(variables: &[(&str, &str)], script: &str) -> String {
    let mut text = String::with_capacity(script.len() + 512);
    if let Some((_, nonce)) = variables.iter().find(|(name, _)| *name == "nonce") {
        text.push_str(&or_name_yourself(nonce));
    }
    text.push_str(AS_SH);
    for (name, value) in variables {
        text.push_str(name);
        text.push('=');
        text.push_str(&quoted(value));
        text.push('\n');
    }
    text.push_str(script);
    text
}

/// `text` quoted as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn any_value_is_one_word_of_the_shell(text in "[^\0]*") {
            let output = Command::new("/bin/sh")
                .arg("-c")
                .arg(with_variables(&[("value", &text), ("next", "n")], "printf '%s.%s' \"$value\" \"$next\""))
                .output()
                .unwrap();
            proptest::prop_assert_eq!(output.stdout, format!("{text}.n").into_bytes());
        }
    }
}
