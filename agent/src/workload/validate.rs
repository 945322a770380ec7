//! Checks a request before anything is done.

use jq_common::protocol::{
    profile,
    workload::{Failure, FailureKind, JupyterKind, WorkloadSpec},
};

use super::jupyter::TOKEN_VARIABLES;
use crate::failure::fail;

/// Longest image reference or container name in bytes.
const NAME: usize = 4096;

/// Refuses requests that cannot be fulfilled, and names that an engine or file system would interpret differently.
pub(crate) fn validate(spec: &WorkloadSpec) -> Result<(), Failure> {
    if !profile::is_name(&spec.session) {
        return Err(bad(
            "the session's name cannot be used",
            format!("`{}`", spec.session),
            profile::RULE,
        ));
    }
    if let Some(image) = &spec.image
        && !is_image(image)
    {
        return Err(bad(
            "the image's name cannot be used",
            format!("`{image}`"),
            "an image is named like `quay.io/jupyter/pytorch-notebook:latest`",
        ));
    }
    if let Some(container) = &spec.existing_container {
        validate_existing(spec, container)?;
    }
    for volume in &spec.volumes {
        if !volume.destination.starts_with('/') || has_nul(&volume.destination) || has_nul(&volume.source) {
            return Err(bad(
                "a volume's path in the container is not absolute",
                format!("`{}:{}`", volume.source, volume.destination),
                "write it like `-v ~/work:/work`",
            ));
        }
    }
    if spec.jupyter != JupyterKind::None
        && let Some((key, _)) = spec.env.iter().find(|(key, _)| TOKEN_VARIABLES.contains(&&**key))
    {
        return Err(bad(
            "Jupyter's token cannot be given",
            format!("`-e {key}` would put it into an environment that others can read"),
            "leave it out: jq makes a fresh one for each container and prints it; or run a Jupyter of your own with \
             `--jupyter none -L 8888`",
        ));
    }
    for (key, value) in &spec.env {
        if key.is_empty() || key.contains('=') || has_nul(key) || has_nul(value) {
            return Err(bad(
                "an environment variable cannot be set",
                format!("the name is `{key}`"),
                "write it like `-e NAME=value`",
            ));
        }
    }
    if spec.entrypoint.as_deref().is_some_and(has_nul) {
        return Err(bad(
            "the entry point cannot be used",
            "it contains a zero byte",
            "write it like `--entrypoint bash`",
        ));
    }
    if let Some(workdir) = &spec.workdir
        && (workdir.is_empty() || has_nul(workdir) || !workdir.starts_with(['/', '~']))
    {
        return Err(bad(
            "the working directory is not absolute",
            format!("`{workdir}`"),
            "write it like `-w /work`",
        ));
    }
    Ok(())
}

fn validate_existing(spec: &WorkloadSpec, container: &str) -> Result<(), Failure> {
    if !is_name(container) || container.len() > NAME {
        return Err(bad(
            "the container's name cannot be used",
            format!("`{container}`"),
            "`docker ps` on the host lists the names",
        ));
    }
    let asks =
        !spec.volumes.is_empty() || !spec.env.is_empty() || spec.user.is_some() || spec.entrypoint.is_some();
    if spec.image.is_some() || asks {
        return Err(bad(
            "options of a new container cannot be applied to an existing one",
            "its image, volumes, environment, user and entry point were set when it was created",
            "leave these options out, or leave `--container` out",
        ));
    }
    Ok(())
}

fn bad(what: &str, why: impl Into<String>, hint: &str) -> Failure {
    fail(FailureKind::BadRequest, what, why, hint)
}

fn has_nul(text: &str) -> bool {
    text.contains('\0')
}

/// Whether this is a valid name of a container or volume.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// Whether this is a valid image reference. It becomes part of a request's path, so nothing that needs escaping is
/// allowed.
fn is_image(text: &str) -> bool {
    text.len() <= NAME
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !text.contains("..")
        && !text.contains("//")
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ':' | '@'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::fixtures::spec;
    use jq_common::protocol::workload::{UserSpec, Volume};

    type Change = fn(&mut WorkloadSpec);

    #[test]
    fn invalid_requests_are_refused() {
        let bad: &[Change] = &[
            |spec| spec.session = "../x".into(),
            |spec| spec.session = String::new(),
            |spec| spec.session = "x".repeat(49),
            |spec| spec.image = Some("a b".into()),
            |spec| spec.image = Some("../containers/json".into()),
            |spec| spec.image = Some("a/../../containers/json".into()),
            |spec| spec.image = Some("-v".into()),
            |spec| spec.image = Some("a?b=c".into()),
            |spec| spec.existing_container = Some("box".into()),
            |spec| {
                spec.image = None;
                spec.existing_container = Some("a/b".into());
            },
            |spec| {
                spec.image = None;
                spec.existing_container = Some("box".into());
                spec.user = Some(UserSpec { uid: 0, gid: None });
            },
            |spec| {
                spec.volumes.push(Volume {
                    source: "~/work".into(),
                    destination: "work".into(),
                    ..Volume::default()
                });
            },
            |spec| spec.env.push(("A=B".into(), String::new())),
            |spec| spec.workdir = Some("work".into()),
            |spec| spec.entrypoint = Some("a\0".into()),
            |spec| spec.env.push(("JUPYTER_TOKEN".into(), "mine".into())),
        ];
        assert!(validate(&spec()).is_ok());
        for (n, change) in bad.iter().enumerate() {
            let mut changed = spec();
            change(&mut changed);
            let failure = validate(&changed).expect_err(&n.to_string());
            assert_eq!(failure.kind, FailureKind::BadRequest);
        }
    }
}
