//! Pulls an image, with the user's credentials.

use jq_common::protocol::workload::{Failure, FailureKind};

use super::Run;
use crate::{
    engine::{EngineError, PullProgress, credentials},
    failure::fail,
    workload::{events::Throttle, failure},
};

impl Run<'_> {
    /// Pulls the image that was asked for.
    pub(super) async fn pull(&self) -> Result<(), Failure> {
        let image = self.spec.image.as_deref().unwrap_or_default();
        self.events.step(format!("pulling {image}")).await;
        let found = self.credentials(image).await;
        let sink = self.events.clone();
        let throttle = Throttle::default();
        let progress = move |progress: PullProgress| {
            if throttle.due() {
                sink.bytes(progress.done, progress.total, progress.detail);
            }
        };
        let pulled = self
            .engine
            .pull(image, found.credential.as_ref(), &progress)
            .await;
        pulled.map_err(|error| self.not_pulled(image, &found, &error))
    }

    /// The user's credentials for the registry of `image`. A helper that gives none is reported.
    async fn credentials(&self, image: &str) -> credentials::Found {
        let kind = self.engine.facts().kind;
        let host = self.host;
        let files = credentials::files(
            kind,
            &host.docker_config(),
            host.registry_auth_file.as_deref(),
            &host.runtime_dir(),
            &host.home,
        );
        let asked = credentials::find(kind, files, &host.path, image);
        let found = self
            .events
            .waiting("asking the credential helper for the registry", asked)
            .await;
        if let Some(problem) = &found.problem {
            self.events
                .warning(format!("{problem}: pulling without credentials"))
                .await;
        }
        found
    }

    fn not_pulled(&self, image: &str, found: &credentials::Found, error: &EngineError) -> Failure {
        let what = format!("cannot pull `{image}`");
        if matches!(error, EngineError::NoSpace(_) | EngineError::Lost(_)) {
            return failure::engine(&what, error);
        }
        let why = error.to_string();
        let low = why.to_lowercase();
        let is_denied = [
            "denied",
            "unauthorized",
            "authentication",
            "no basic auth credentials",
            "not found",
            "manifest unknown",
        ]
        .iter()
        .any(|word| low.contains(word));
        let hint = match &found.problem {
            _ if !is_denied => {
                "if the host is offline, bring the image with `docker save` and `docker load`".to_owned()
            }
            Some(_) => "check the image's name; if it is private, repair the credential helper on the host, \
                        which gave no credentials"
                .to_owned(),
            None => format!(
                "check the image's name; if it is private, run `{} login {}` on the host",
                self.engine.facts().kind.command(),
                found.registry
            ),
        };
        fail(FailureKind::ImageUnavailable, what, why, hint)
    }
}
