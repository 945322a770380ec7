//! Plans what to do, from what was requested and what exists. Pure; `run` carries the steps out.

use jq_common::protocol::workload::{Failure, FailureKind, Origin, PullPolicy};

use super::{options::Options, ownership};
use crate::{
    engine::{ContainerState, Phase},
    failure::fail,
    session_store::ContainerRecord,
};

/// What a request wants.
#[derive(Clone, Debug)]
pub(crate) struct Desired<'a> {
    pub(crate) session: &'a str,
    /// The caller's uid.
    pub(crate) owner: u32,
    /// Name of the workload's container.
    pub(crate) name: &'a str,
    pub(crate) target: Target,
    pub(crate) pull: PullPolicy,
}

/// Which container a request wants.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// A container that the user brought along, by name or id.
    Existing(String),
    /// The workload's container, with these options.
    Session(Options),
    /// The workload's container with whatever options it has; these were requested in addition.
    Whatever(Options),
}

/// What exists.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// The container with the wanted name.
    pub(crate) container: Option<ContainerState>,
    /// This user's record of the workload's container.
    pub(crate) record: Option<ContainerRecord>,
    /// The engine has the image.
    pub(crate) image: bool,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Remove this container of ours, which has never run: an earlier creation was interrupted.
    Discard(String),
    /// Pull the image.
    Pull,
    /// Create the container and start it.
    Create,
    /// Start this container, which is ours.
    Start(String),
    /// Use this container, which is running.
    Use(String),
}

impl Step {
    /// How the container came to run, for a step that ends with a running container.
    pub(crate) fn origin(&self) -> Option<Origin> {
        match self {
            Self::Create => Some(Origin::Created),
            Self::Start(_) => Some(Origin::Started),
            Self::Use(_) => Some(Origin::Found),
            Self::Discard(_) | Self::Pull => None,
        }
    }
}

/// Plans the steps from `observed` to `desired`; the last one ends with a running container.
///
/// # Errors
/// When something is in the way; nothing is changed then.
pub(crate) fn plan(desired: &Desired, observed: &Observed) -> Result<Vec<Step>, Failure> {
    match (&desired.target, &observed.container) {
        (Target::Existing(name), container) => existing(name, container.as_ref()),
        (Target::Whatever(_), None) => Err(fail(
            FailureKind::BadRequest,
            "no image was named",
            format!("session `{}` has no container yet", desired.session),
            "name an image: `--image quay.io/jupyter/pytorch-notebook`",
        )),
        (Target::Whatever(asked), Some(container)) => {
            let asked = ownership::options(container)
                .map(|has| ownership::comparable(asked, container).with_defaults_of(&has));
            session(desired, observed, container, asked.as_ref(), None)
        }
        (Target::Session(options), Some(container)) => {
            let asked = ownership::comparable(options, container);
            session(desired, observed, container, Some(&asked), Some(&options.image))
        }
        (Target::Session(options), None) => create(desired.pull, observed.image, &options.image),
    }
}

fn existing(name: &str, container: Option<&ContainerState>) -> Result<Vec<Step>, Failure> {
    let unavailable = |why: String, hint: String| {
        Err(fail(
            FailureKind::ContainerUnavailable,
            format!("cannot use the container `{name}`"),
            why,
            hint,
        ))
    };
    match container {
        None => unavailable(
            "there is no container with this name".into(),
            "`docker ps` on the host lists the running ones".into(),
        ),
        Some(container) => match container.phase {
            Phase::Running => Ok(vec![Step::Use(container.id.clone())]),
            Phase::Paused => unavailable(
                "it is paused".into(),
                format!("`docker unpause {name}` on the host"),
            ),
            Phase::Other => unavailable(
                "the engine is starting it again and again, or removing it".into(),
                format!("`docker logs {name}` on the host says why it ends"),
            ),
            Phase::Created | Phase::Exited => unavailable(
                "it is not running".into(),
                format!("`docker start {name}` on the host"),
            ),
        },
    }
}

fn session(
    desired: &Desired,
    observed: &Observed,
    container: &ContainerState,
    asked: Option<&Options>,
    image: Option<&str>,
) -> Result<Vec<Step>, Failure> {
    let name = desired.name;
    let remove = format!("remove the container with `docker rm -f {name}` on the host");
    let not_ours = ownership::why_not_ours(
        container,
        desired.owner,
        desired.session,
        observed.record.as_ref(),
    );
    if let Some(why) = not_ours {
        return Err(fail(
            FailureKind::NameTaken,
            format!("the container name `{name}` is taken"),
            why,
            format!("use another session name (`--name`); if nobody needs it, {remove}"),
        ));
    }
    // It has never run, so nothing is lost and its options do not matter.
    if container.phase == Phase::Created {
        let Some(image) = image else {
            return Err(fail(
                FailureKind::BadRequest,
                format!("the container `{name}` is incomplete"),
                "its creation was interrupted",
                "name the image again: `--image IMAGE`",
            ));
        };
        let mut steps = vec![Step::Discard(container.id.clone())];
        steps.extend(create(desired.pull, observed.image, image)?);
        return Ok(steps);
    }
    if let Some(asked) = asked {
        let differences = ownership::options(container).map_or_else(
            || vec!["it was created by another version of jq".to_owned()],
            |has| has.differences(asked),
        );
        if !differences.is_empty() {
            return Err(fail(
                FailureKind::SpecDiffers,
                format!("the container `{name}` was created with other options"),
                differences.join("; "),
                format!(
                    "use another session name (`--name`), or {remove} (what is not in its volumes is lost)"
                ),
            ));
        }
    }
    match container.phase {
        Phase::Running => Ok(vec![Step::Use(container.id.clone())]),
        Phase::Exited | Phase::Created => Ok(vec![Step::Start(container.id.clone())]),
        Phase::Paused => Err(fail(
            FailureKind::ContainerUnavailable,
            format!("the container `{name}` is paused"),
            "a paused container does not respond",
            format!("`docker unpause {name}` on the host"),
        )),
        Phase::Other => Err(fail(
            FailureKind::ContainerUnavailable,
            format!("the container `{name}` can be neither used nor started right now"),
            "the engine is restarting or removing it, or has failed to",
            format!("try again in a moment, or {remove}"),
        )),
    }
}

fn create(pull: PullPolicy, present: bool, image: &str) -> Result<Vec<Step>, Failure> {
    match (pull, present) {
        (PullPolicy::Always, _) | (PullPolicy::Missing, false) => Ok(vec![Step::Pull, Step::Create]),
        (PullPolicy::Missing | PullPolicy::Never, true) => Ok(vec![Step::Create]),
        (PullPolicy::Never, false) => Err(fail(
            FailureKind::ImageUnavailable,
            format!("the image `{image}` is not on the host"),
            "`--pull never` forbids pulling it",
            "leave `--pull never` out, or bring the image with `docker load` on the host",
        )),
    }
}

#[cfg(test)]
mod tests;
