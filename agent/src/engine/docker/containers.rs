//! Containers: find, create, start, watch, remove, files in and out.

use bollard::{
    errors::Error,
    query_parameters::{
        ContainerArchiveInfoOptionsBuilder, CreateContainerOptionsBuilder,
        DownloadFromContainerOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
        UploadToContainerOptionsBuilder, WaitContainerOptionsBuilder,
    },
};
use futures_util::StreamExt;

use super::{Docker, convert, engine_error};
use crate::{
    engine::{
        Answer, ContainerSpec, ContainerState, Containers, EngineError, Entry, Exec, Exit, Phase, archive,
    },
    log_tail::Tail,
};

impl Containers for Docker {
    fn container<'a>(&'a self, name: &'a str) -> Answer<'a, Option<ContainerState>> {
        Box::pin(async move {
            match self
                .client
                .inspect_container(name, None)
                .await
                .map_err(engine_error)
            {
                Ok(container) => Ok(Some(convert::container_state(container))),
                Err(EngineError::NotFound(_)) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn create<'a>(&'a self, spec: &'a ContainerSpec) -> Answer<'a, String> {
        Box::pin(async move {
            let options = CreateContainerOptionsBuilder::new().name(&spec.name).build();
            let created = self
                .client
                .create_container(Some(options), convert::create_body(spec))
                .await
                .map_err(engine_error)?;
            for warning in created.warnings {
                tracing::debug!(%warning, "warning of the engine");
            }
            Ok(created.id)
        })
    }

    fn start<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.client.start_container(id, None).await.map_err(engine_error) })
    }

    fn remove<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            match self
                .client
                .remove_container(id, Some(options))
                .await
                .map_err(engine_error)
            {
                // A helper removes itself when it ends; a removal in progress is as good as done.
                Err(EngineError::NotFound(_) | EngineError::Conflict(_)) => Ok(()),
                other => other,
            }
        })
    }

    fn exited<'a>(&'a self, id: &'a str) -> Answer<'a, Exit> {
        Box::pin(async move {
            loop {
                let options = WaitContainerOptionsBuilder::new()
                    .condition("not-running")
                    .build();
                let mut wait = std::pin::pin!(self.client.wait_container(id, Some(options)));
                let waited = wait.next().await;
                // The exit code from the wait is kept for a container that removes itself.
                let code = match &waited {
                    Some(Ok(ended)) => Some(ended.status_code),
                    Some(Err(Error::DockerContainerWaitError { code, .. })) => Some(*code),
                    // Podman sends the headers only at the end of the wait, so the limit on headers may expire.
                    Some(Err(Error::RequestTimeoutError)) => None,
                    Some(Err(Error::DockerResponseServerError { status_code: 404, .. })) => None,
                    Some(Err(error)) => return Err(EngineError::Lost(error.to_string())),
                    None => None,
                };
                match self
                    .client
                    .inspect_container(id, None)
                    .await
                    .map_err(engine_error)
                {
                    Ok(container) => {
                        let state = container.state.clone().unwrap_or_default();
                        let phase = convert::container_state(container).phase;
                        if code.is_some() || !matches!(phase, Phase::Running | Phase::Paused) {
                            return Ok(Exit {
                                code: code.or(state.exit_code),
                                out_of_memory: state.oom_killed.unwrap_or(false),
                                error: state.error.unwrap_or_default(),
                            });
                        }
                    }
                    Err(EngineError::NotFound(_)) => {
                        return Ok(Exit {
                            code,
                            ..Default::default()
                        });
                    }
                    Err(error) => return Err(error),
                }
            }
        })
    }

    fn log_tail<'a>(&'a self, id: &'a str, lines: usize) -> Answer<'a, Vec<String>> {
        Box::pin(async move {
            let options = LogsOptionsBuilder::new()
                .stdout(true)
                .stderr(true)
                .tail(&lines.to_string())
                .build();
            let mut log = std::pin::pin!(self.client.logs(id, Some(options)));
            let tail = Tail::default();
            while let Some(output) = log.next().await {
                tail.write(output.map_err(engine_error)?.as_ref());
            }
            Ok(tail.last(lines))
        })
    }

    fn exec<'a>(&'a self, id: &'a str, command: &'a Exec, output: &'a Tail) -> Answer<'a, Option<i64>> {
        Box::pin(self.run_exec(id, command, output))
    }

    fn has<'a>(&'a self, id: &'a str, path: &'a str) -> Answer<'a, bool> {
        Box::pin(async move {
            let options = ContainerArchiveInfoOptionsBuilder::new().path(path).build();
            let stat = self.client.get_container_archive_info(id, Some(options));
            match stat.await.map_err(engine_error) {
                Ok(_) => Ok(true),
                Err(EngineError::NotFound(_)) => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    fn read<'a>(&'a self, id: &'a str, path: &'a str) -> Answer<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
            let mut stream = std::pin::pin!(self.client.download_from_container(id, Some(options)));
            let mut tar = Vec::new();
            while let Some(chunk) = stream.next().await {
                match chunk.map_err(engine_error) {
                    Ok(chunk) => tar.extend_from_slice(&chunk),
                    Err(EngineError::NotFound(_)) => return Ok(None),
                    Err(error) => return Err(error),
                }
                // The tar has a header block or two besides the file.
                if tar.len() > archive::FILE_LIMIT + 4096 {
                    return Ok(None);
                }
            }
            archive::unpack_file(&tar).map_err(|error| EngineError::Refused(error.to_string()))
        })
    }

    fn put<'a>(&'a self, id: &'a str, entries: Vec<Entry>) -> Answer<'a, ()> {
        Box::pin(async move {
            let tar = archive::pack(&entries).map_err(|error| EngineError::Refused(error.to_string()))?;
            // Without copy_uidgid, which would give all files to the container's user.
            let options = UploadToContainerOptionsBuilder::new().path("/").build();
            self.client
                .upload_to_container(id, Some(options), bollard::body_full(tar.into()))
                .await
                .map_err(engine_error)
        })
    }
}
