//! Selects the engine that runs a workload.

mod connect;
mod failure;
mod recorded;

use std::sync::Arc;

use jq_common::protocol::workload::{EngineChoice, Failure, WorkloadSpec};

use self::{connect::connect, recorded::Search};
use super::{EventSink, HostContext};
use crate::{engine::ContainerEngine, session_store::SessionStore};

/// What runs a workload.
pub(crate) enum Runner {
    /// A container engine.
    Engine(Arc<dyn ContainerEngine>),
    /// No engine: it is a process of the host.
    Process,
}

/// Selects the engine, and tells the user why if the choice was left open. The engine that has the session's container
/// counts before any other.
pub(crate) async fn select(
    host: &HostContext,
    store: &SessionStore,
    spec: &WorkloadSpec,
    events: &EventSink,
) -> Result<Runner, Failure> {
    if spec.engine == EngineChoice::Process {
        return Ok(Runner::Process);
    }
    let wants_container = spec.image.is_some() || spec.existing_container.is_some();
    let search = Search::of(host, store, spec).await;
    if let Some(search) = &search
        && let Some(engine) = search.find(events).await?
    {
        let facts = engine.facts();
        if spec.engine == EngineChoice::Auto {
            let has = search.name();
            events
                .note(format!(
                    "using {}, which has the container {has}",
                    facts.describe()
                ))
                .await;
        }
        return Ok(Runner::Engine(engine));
    }
    if wants_container || spec.engine != EngineChoice::Auto {
        let engine = events
            .waiting(
                "waiting for the container engine to answer",
                connect(host, spec.engine),
            )
            .await?;
        if spec.engine == EngineChoice::Auto {
            let facts = engine.facts();
            events
                .note(format!(
                    "using {}, the first engine that answered ({})",
                    facts.describe(),
                    facts.found_by
                ))
                .await;
        }
        return Ok(Runner::Engine(engine));
    }
    if let Some(search) = search
        && store.process(&spec.session).await.is_none()
    {
        return Err(search.gone());
    }
    events
        .note(
            "no image was named, so Jupyter runs as a process of the host (`--image` runs it in a container)",
        )
        .await;
    Ok(Runner::Process)
}

/// The engine that has the container of a workload that was started before. Asks each engine once.
///
/// # Errors
/// When none has it, or one that may have it does not answer.
pub(crate) async fn find(
    host: &HostContext,
    store: &SessionStore,
    spec: &WorkloadSpec,
) -> Result<Arc<dyn ContainerEngine>, Failure> {
    match Search::of(host, store, spec).await {
        Some(search) => search.once().await,
        None => connect(host, spec.engine).await,
    }
}
