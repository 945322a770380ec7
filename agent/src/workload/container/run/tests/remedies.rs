//! Tokens of new containers, and what is done differently when one has failed.

use super::*;

#[tokio::test]
async fn each_container_has_a_token_of_its_own_and_keeps_it() {
    let bench = Bench::new().await;
    let token = || async { bench.ready().await.0.jupyter.unwrap().token };
    let first = token().await;
    assert_eq!(token().await, first);
    bench.engine.end("id0", Exit::default());
    assert_eq!(token().await, first);
    bench.engine.state().containers.clear();
    assert_ne!(token().await, first);
}

/// An image with this entry point, whose first container prints `log` and ends.
async fn failing_first(entrypoint: &str, log: &str) -> Bench {
    let bench = Bench::new().await;
    let image = ImageFacts {
        entrypoint: vec![entrypoint.into()],
        ..ImageFacts::default()
    };
    let mut state = bench.engine.state();
    state.registry.insert(IMAGE.into(), image);
    state.log = vec![log.into()];
    state.ends_first = Some(Exit {
        code: Some(2),
        ..Exit::default()
    });
    drop(state);
    bench
}

fn has_note(events: &[Event], words: &str) -> bool {
    let says = |event: &Event| matches!(event, Event::Note(note) if note.contains(words));
    events.iter().any(says)
}

#[tokio::test]
async fn an_entry_point_that_does_not_run_our_command_is_left_out_and_that_is_said() {
    let bench = failing_first("/serve", "usage: serve PORT").await;
    let (_, events) = bench.ready().await;
    assert!(
        has_note(&events, "--entrypoint") && has_note(&events, "usage: serve PORT"),
        "{events:?}"
    );
    let state = bench.engine.state();
    let spec = &state.containers.values().next().unwrap().spec;
    assert_eq!(spec.entrypoint.as_ref().unwrap()[0], "/bin/sh");
}

#[tokio::test]
async fn an_entry_point_that_the_user_has_named_is_not_left_out() {
    let mut bench = failing_first("/serve", "usage: mine").await;
    bench.spec.entrypoint = Some("/mine".into());
    let failure = bench.failure().await;
    assert!(failure.what.contains("`/mine`") && failure.hint.contains("--entrypoint"));
    assert!(failure.why.contains("usage: mine"));
    assert!(bench.engine.state().containers.is_empty());
}

#[tokio::test]
async fn an_image_that_may_not_become_the_caller_starts_as_the_caller() {
    let bench = failing_first("start.sh", r#"sudo: The "no new privileges" flag is set"#).await;
    let (_, events) = bench.ready().await;
    assert!(has_note(&events, "forbids new privileges"), "{events:?}");
    let state = bench.engine.state();
    let spec = &state.containers.values().next().unwrap().spec;
    assert_eq!(
        (spec.user.as_deref(), &spec.entrypoint),
        (Some("1234:1235"), &None)
    );
}

#[tokio::test]
async fn an_entry_point_that_hides_the_images_jupyter_is_left_out() {
    let bench = failing_first("bash", "").await;
    {
        let mut state = bench.engine.state();
        let image = state.registry.get_mut(IMAGE).unwrap();
        image.env = vec![("PATH".into(), "/opt/conda/bin:/usr/bin".into())];
        state.programs = vec!["/opt/conda/bin/jupyter".into()];
        state.log = vec![
            "jq: started as uid 1234".into(),
            "jq: no jupyter on PATH=/usr/bin".into(),
        ];
    }
    let (_, events) = bench.ready().await;
    assert!(has_note(&events, "does not lead to Jupyter"), "{events:?}");
}

#[tokio::test]
async fn a_named_entry_point_that_is_not_in_the_image_is_the_cause() {
    let mut bench = Bench::new().await;
    bench.spec.entrypoint = Some("activate".into());
    let missing = "exec: \"activate\": executable file not found in $PATH";
    bench.engine.state().refuse_start = vec![EngineError::CommandMissing(missing.into())];
    let failure = bench.failure().await;
    assert!(
        failure.what.contains("`activate`") && failure.hint.contains("--entrypoint"),
        "{failure:?}"
    );
}
