//! Commands in a running container.

use std::time::Duration;

use bollard::{
    exec::{CreateExecOptions, StartExecResults},
    models::ExecInspectResponse,
};
use futures_util::StreamExt;
use tokio::{io::AsyncWriteExt, time::sleep};

use super::{Docker, convert, engine_error};
use crate::{
    engine::{EngineError, Exec},
    log_tail::Tail,
};

impl Docker {
    /// Runs a command to its end and returns its exit code, if the engine knows it.
    pub(super) async fn run_exec(
        &self,
        id: &str,
        command: &Exec,
        output: &Tail,
    ) -> Result<Option<i64>, EngineError> {
        let options = CreateExecOptions {
            cmd: Some(command.command.clone()),
            env: Some(convert::environment(&command.env)),
            working_dir: command.workdir.clone(),
            attach_stdin: Some(command.input.is_some()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..Default::default()
        };
        let exec = self
            .client
            .create_exec(id, options)
            .await
            .map_err(engine_error)?
            .id;
        let started = self.client.start_exec(&exec, None).await.map_err(engine_error)?;
        if let StartExecResults::Attached {
            output: mut written,
            mut input,
        } = started
        {
            if let Some(bytes) = &command.input {
                let write = async {
                    input.write_all(bytes).await?;
                    input.flush().await
                };
                write
                    .await
                    .map_err(|error| EngineError::Lost(error.to_string()))?;
            }
            // Kept open: some engines hang up when it is closed.
            let _input = input;
            while let Some(chunk) = written.next().await {
                output.write(chunk.map_err(engine_error)?.as_ref());
            }
        }
        self.exit_code(&exec).await
    }

    /// Waits for the exit code, which the engine may know a moment after the output has ended.
    async fn exit_code(&self, exec: &str) -> Result<Option<i64>, EngineError> {
        for _ in 0..20 {
            let ExecInspectResponse {
                running, exit_code, ..
            } = self.client.inspect_exec(exec).await.map_err(engine_error)?;
            if running != Some(true) {
                return Ok(exit_code);
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(None)
    }
}
