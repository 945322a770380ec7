//! Credential helpers: `docker-credential-NAME get` reads a registry's address and writes its credentials.

use std::{ffi::OsStr, io, time::Duration};

use serde::Deserialize;

use super::credential::Secret;
use crate::host_program;

/// Time limit for a helper.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// Most characters of a helper's complaint that the user is shown.
const COMPLAINT: usize = 200;

/// What a helper says that has no credentials for a registry.
const NOT_FOUND: &str = "credentials not found";

/// The name of a user that says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Reply {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Asks the helper `name`. None when it has no credentials for `server`.
///
/// # Errors
/// Why it gave no answer, for the user.
pub(super) async fn get(name: &str, server: &str, path: &OsStr) -> Result<Option<Secret>, String> {
    let program = format!("docker-credential-{name}");
    if name.contains('/') {
        return Err(format!("`{program}` is no name of a program"));
    }
    let file = host_program::find(&program, path)
        .ok_or_else(|| format!("`{program}`, which your registry settings name, is not on your PATH"))?;
    let output = host_program::output_for(&file, &["get"], server.as_bytes(), TIMEOUT)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => {
                format!("`{program}` did not answer within {} seconds", TIMEOUT.as_secs())
            }
            _ => format!("`{program}` cannot be run: {error}"),
        })?;
    if !output.status.success() {
        let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned());
        if said.iter().any(|said| said.contains(NOT_FOUND)) {
            return Ok(None);
        }
        let line = said
            .iter()
            .flat_map(|said| said.lines())
            .find(|line| !line.trim().is_empty());
        let line: String = line
            .unwrap_or("no reason given")
            .chars()
            .take(COMPLAINT)
            .collect();
        return Err(format!("`{program}` failed: {line}"));
    }
    let reply: Reply = serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("`{program}` gave an answer that is no credential"))?;
    Ok(match reply {
        Reply { secret, .. } if secret.is_empty() => None,
        Reply { username, secret } if username == TOKEN_USER => Some(Secret::Token(secret)),
        Reply { username, secret } => Some(Secret::Password {
            user: username,
            password: secret,
        }),
    })
}
