//! Images: find, pull, import, prune.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bollard::{
    auth::DockerCredentials,
    query_parameters::{CreateImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder},
};
use futures_util::{StreamExt, TryStreamExt};
use tokio::time::timeout;

use super::{
    Docker, convert, engine_error,
    pull::{LayerReport, Layers},
};
use crate::engine::{
    Answer, EngineError, Entry, ImageFacts, Images, ImportSpec, PullProgress, archive,
    credentials::{Credential, Secret},
};

/// How long a pull may go without any sign of life: a big layer on a slow disk takes minutes to verify.
const PULL_SILENCE: Duration = Duration::from_secs(15 * 60);

impl Images for Docker {
    fn image<'a>(&'a self, reference: &'a str) -> Answer<'a, Option<ImageFacts>> {
        Box::pin(async move {
            match self.client.inspect_image(reference).await.map_err(engine_error) {
                Ok(image) => Ok(Some(convert::image_facts(image))),
                Err(EngineError::NotFound(_)) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn pull<'a>(
        &'a self,
        reference: &'a str,
        credential: Option<&'a Credential>,
        progress: &'a (dyn Fn(PullProgress) + Send + Sync),
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let reference = with_tag(reference);
            let options = CreateImageOptionsBuilder::new().from_image(&reference).build();
            let credentials = credential.map(credentials);
            let mut stream = self.client.create_image(Some(options), None, credentials);
            let mut layers = Layers::default();
            while let Some(info) = timeout(PULL_SILENCE, stream.next()).await.map_err(|_| silent())? {
                let info = info.map_err(engine_error)?;
                let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
                let detail = info.progress_detail.unwrap_or_default();
                let report = LayerReport {
                    id: info.id,
                    status: info.status.unwrap_or_default(),
                    current: bytes(detail.current),
                    total: bytes(detail.total),
                };
                if let Some(sum) = layers.report(report) {
                    progress(sum);
                }
            }
            Ok(())
        })
    }

    fn import<'a>(&'a self, image: &'a ImportSpec, entries: Vec<Entry>) -> Answer<'a, String> {
        Box::pin(async move {
            let tar = archive::pack(&entries).map_err(|error| EngineError::Refused(error.to_string()))?;
            drop(entries);
            let changes = image
                .labels
                .iter()
                .map(|(key, value)| format!("LABEL {key}={value}"))
                .collect();
            // Podman before 5 ignores the parameter `tag`. Every engine reads a tag in `repo`.
            let name = format!("{}:{}", image.repository, image.tag);
            let options = CreateImageOptionsBuilder::new()
                .from_src("-")
                .repo(&name)
                .changes(changes)
                .build();
            let body = bollard::body_full(tar.into());
            self.client
                .create_image(Some(options), Some(body), None)
                .try_for_each(|_| async { Ok(()) })
                .await
                .map_err(engine_error)?;
            let imported = self.client.inspect_image(&name).await.map_err(engine_error)?;
            Ok(imported.id.unwrap_or(name))
        })
    }

    fn prune<'a>(&'a self, labels: &'a BTreeMap<String, String>, keep: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let wanted: Vec<String> = convert::environment(
                &labels
                    .iter()
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect::<Vec<_>>(),
            );
            let filters = HashMap::from([("label".to_owned(), wanted)]);
            let options = ListImagesOptionsBuilder::new().filters(&filters).build();
            let images = self
                .client
                .list_images(Some(options))
                .await
                .map_err(engine_error)?;
            for image in images.iter().filter(|image| image.id != keep) {
                // Without force the engine keeps images that a container uses, as intended.
                let options = RemoveImageOptionsBuilder::new().force(false).build();
                if let Err(error) = self.client.remove_image(&image.id, Some(options), None).await {
                    tracing::debug!(image = %image.id, %error, "an older helper image was not removed");
                }
            }
            Ok(())
        })
    }
}

fn silent() -> EngineError {
    EngineError::Lost(format!(
        "nothing happened for {} minutes",
        PULL_SILENCE.as_secs() / 60
    ))
}

/// In the form of the API.
fn credentials(credential: &Credential) -> DockerCredentials {
    let mut credentials = DockerCredentials {
        serveraddress: Some(credential.server.clone()),
        ..DockerCredentials::default()
    };
    match &credential.secret {
        Secret::Token(token) => credentials.identitytoken = Some(token.clone()),
        Secret::Password { user, password } => {
            credentials.username = Some(user.clone());
            credentials.password = Some(password.clone());
        }
    }
    credentials
}

/// Adds `:latest` to a reference with neither tag nor digest; without a tag the engine would pull all of them.
fn with_tag(reference: &str) -> String {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    if last.contains(':') || last.contains('@') {
        reference.to_owned()
    } else {
        format!("{reference}:latest")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_always_names_one_image() {
        assert_eq!(with_tag("quay.io/jupyter/base"), "quay.io/jupyter/base:latest");
        assert_eq!(with_tag("localhost:5000/x"), "localhost:5000/x:latest");
        assert_eq!(with_tag("x:1"), "x:1");
        assert_eq!(with_tag("x@sha256:0"), "x@sha256:0");
    }
}
