//! A table of requests, existing containers and the resulting plans.

use std::path::Path;

use super::*;
use crate::workload::fixtures::{self, host};

const NAME: &str = "jq-ada-gpu";

fn options(change: impl FnOnce(&mut jq_common::protocol::workload::WorkloadSpec)) -> Options {
    let mut spec = fixtures::spec();
    change(&mut spec);
    let image = spec.image.clone().unwrap();
    Options::of(&spec, &image, Path::new("/home/ada")).unwrap()
}

/// A request that names no image and no options.
fn whatever() -> Target {
    Target::Whatever(nothing_asked())
}

fn nothing_asked() -> Options {
    Options {
        image: String::new(),
        gpus: String::new(),
        ..options(|_| {})
    }
}

fn desired(target: Target, pull: PullPolicy) -> Desired<'static> {
    Desired {
        session: "gpu",
        owner: host().uid,
        name: NAME,
        target,
        pull,
    }
}

fn record() -> ContainerRecord {
    ContainerRecord {
        nonce: "n".into(),
        id: Some("id".into()),
        engine: None,
    }
}

/// Our container, created with the usual options.
fn ours(phase: Phase) -> Observed {
    Observed {
        container: Some(ContainerState {
            id: "id".into(),
            name: NAME.into(),
            phase,
            labels: ownership::labels(&host(), "gpu", "n", &options(|_| {}), None),
            ..ContainerState::default()
        }),
        record: Some(record()),
        image: true,
    }
}

fn nothing(image: bool) -> Observed {
    Observed {
        image,
        ..Observed::default()
    }
}

#[test]
fn the_steps_follow_from_request_and_state() {
    use PullPolicy::{Always, Missing, Never};
    let same = || Target::Session(options(|_| {}));
    let existing = || Target::Existing("box".into());
    let id = || "id".to_owned();
    for (what, target, pull, observed, steps) in [
        (
            "nothing there",
            same(),
            Missing,
            nothing(false),
            vec![Step::Pull, Step::Create],
        ),
        ("image there", same(), Missing, nothing(true), vec![Step::Create]),
        (
            "always",
            same(),
            Always,
            nothing(true),
            vec![Step::Pull, Step::Create],
        ),
        ("never", same(), Never, nothing(true), vec![Step::Create]),
        (
            "running",
            same(),
            Always,
            ours(Phase::Running),
            vec![Step::Use(id())],
        ),
        (
            "stopped",
            same(),
            Missing,
            ours(Phase::Exited),
            vec![Step::Start(id())],
        ),
        (
            "cut off",
            same(),
            Missing,
            ours(Phase::Created),
            vec![Step::Discard(id()), Step::Create],
        ),
        (
            "whatever runs",
            whatever(),
            Missing,
            ours(Phase::Running),
            vec![Step::Use(id())],
        ),
        (
            "whatever is stopped",
            whatever(),
            Missing,
            ours(Phase::Exited),
            vec![Step::Start(id())],
        ),
        (
            "brought along",
            existing(),
            Missing,
            ours(Phase::Running),
            vec![Step::Use(id())],
        ),
    ] {
        assert_eq!(plan(&desired(target, pull), &observed).unwrap(), steps, "{what}");
    }
}

#[test]
fn a_plan_fails_when_something_is_in_the_way() {
    let same = || Target::Session(options(|_| {}));
    let existing = || Target::Existing("box".into());
    let mut forged = ours(Phase::Running);
    forged.record = None;
    let mut foreign = ours(Phase::Created);
    foreign.container.as_mut().unwrap().labels.clear();
    let other = Target::Session(options(|spec| spec.workdir = Some("/work".into())));
    for (what, target, observed, kind) in [
        ("forged", same(), forged, FailureKind::NameTaken),
        ("foreign", same(), foreign.clone(), FailureKind::NameTaken),
        ("foreign, whatever", whatever(), foreign, FailureKind::NameTaken),
        (
            "differs",
            other.clone(),
            ours(Phase::Running),
            FailureKind::SpecDiffers,
        ),
        (
            "differs, stopped",
            other,
            ours(Phase::Exited),
            FailureKind::SpecDiffers,
        ),
        (
            "no image, and a volume that it does not have",
            Target::Whatever(Options {
                volumes: vec!["/data:/data".into()],
                ..nothing_asked()
            }),
            ours(Phase::Running),
            FailureKind::SpecDiffers,
        ),
        (
            "no image, never finished",
            whatever(),
            ours(Phase::Created),
            FailureKind::BadRequest,
        ),
        (
            "paused",
            same(),
            ours(Phase::Paused),
            FailureKind::ContainerUnavailable,
        ),
        (
            "broken",
            same(),
            ours(Phase::Other),
            FailureKind::ContainerUnavailable,
        ),
        (
            "none to use",
            existing(),
            nothing(true),
            FailureKind::ContainerUnavailable,
        ),
        (
            "stopped, not ours",
            existing(),
            ours(Phase::Exited),
            FailureKind::ContainerUnavailable,
        ),
        (
            "no image named",
            whatever(),
            nothing(true),
            FailureKind::BadRequest,
        ),
    ] {
        let failure = plan(&desired(target, PullPolicy::Missing), &observed).unwrap_err();
        assert_eq!(failure.kind, kind, "{what}");
        assert!(!failure.why.is_empty() && !failure.hint.is_empty(), "{what}");
    }
    let restarting = desired(existing(), PullPolicy::Missing);
    let failure = plan(&restarting, &ours(Phase::Other)).unwrap_err();
    assert!(failure.why.contains("again and again") && failure.hint.contains("docker logs box"));
    let failure = plan(&desired(same(), PullPolicy::Never), &nothing(false)).unwrap_err();
    assert_eq!(failure.kind, FailureKind::ImageUnavailable);
}

#[test]
fn differences_are_named() {
    let other = Target::Session(options(|spec| spec.image = Some("x".into())));
    let failure = plan(&desired(other, PullPolicy::Missing), &ours(Phase::Running)).unwrap_err();
    assert_eq!(failure.why, "image: quay.io/jupyter/base-notebook, asked for x");
    assert!(failure.hint.contains("docker rm -f jq-ada-gpu") && failure.hint.contains("--name"));
}

#[test]
fn the_last_step_ends_with_a_running_container() {
    for observed in [
        nothing(false),
        ours(Phase::Running),
        ours(Phase::Exited),
        ours(Phase::Created),
    ] {
        let steps = plan(
            &desired(Target::Session(options(|_| {})), PullPolicy::Missing),
            &observed,
        )
        .unwrap();
        assert!(steps.last().unwrap().origin().is_some());
        assert!(
            steps[..steps.len() - 1]
                .iter()
                .all(|step| step.origin().is_none())
        );
    }
}

#[test]
fn values_of_variables_are_in_no_label_but_are_compared() {
    let with = |value: &str| options(|spec| spec.env = vec![("KEY".into(), value.into())]);
    let mut observed = ours(Phase::Running);
    let labels = ownership::labels(&host(), "gpu", "n", &with("hunter2"), None);
    assert!(!format!("{labels:?}").contains("hunter2"));
    observed.container.as_mut().unwrap().labels = labels;
    let missing = PullPolicy::Missing;
    let same = plan(&desired(Target::Session(with("hunter2")), missing), &observed).unwrap();
    assert_eq!(same, vec![Step::Use("id".into())]);
    let other = plan(&desired(Target::Session(with("swordfish")), missing), &observed).unwrap_err();
    assert_eq!(other.kind, FailureKind::SpecDiffers);
    assert!(
        other.why.contains("KEY") && !other.why.contains("swordfish"),
        "{}",
        other.why
    );
}
