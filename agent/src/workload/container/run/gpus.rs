//! Verifies that a container has the GPUs that were asked for.

use jq_common::protocol::workload::{Failure, GpuAsk, Origin};

use super::Run;
use crate::workload::{
    container::options::Options,
    gpu::{
        self,
        detect::{self, Inside},
    },
};

impl Run<'_> {
    /// The GPUs visible inside; None when none are wanted, or when there is nothing to compare them with.
    pub(super) async fn detect_gpus(
        &self,
        id: &str,
        wanted: bool,
        created_with: Option<&Options>,
    ) -> Option<Inside> {
        let unwanted = !wanted
            || self.spec.gpus == GpuAsk::None
            || created_with.is_some_and(|options| options.gpus == "none");
        if unwanted || self.gpus.nvidia.is_empty() {
            return None;
        }
        Some(detect::inside(&*self.engine, id).await)
    }

    /// Lists the GPUs visible inside. Missing ones are a warning, or a failure if they were requested by number or id.
    pub(super) async fn verify_gpus(
        &self,
        id: &str,
        origin: Origin,
        inside: Inside,
        created_with: Option<&Options>,
    ) -> Result<Vec<String>, Failure> {
        let seen = &inside.gpus;
        let lines = gpu::lines(seen);
        match self.spec.gpus {
            // An existing container that was not created with all GPUs keeps what it has; this request did not ask for
            // GPUs.
            GpuAsk::Default
                if origin != Origin::Created && created_with.is_none_or(|options| options.gpus != "all") =>
            {
                return Ok(lines);
            }
            GpuAsk::Count(count) if origin != Origin::Created && seen.len() >= count as usize => {
                return Ok(lines);
            }
            _ => {}
        }
        let expected: Vec<String> = gpu::choose(&self.spec.gpus, self.gpus)?
            .into_iter()
            .map(|gpu| gpu.uuid)
            .collect();
        let Some(missing) = gpu::missing(&expected, seen) else {
            return Ok(lines);
        };
        let missing = match inside.problem {
            Some(problem) => format!("{missing}: {problem}"),
            None => missing,
        };
        if matches!(self.spec.gpus, GpuAsk::Count(_) | GpuAsk::Ids(_)) {
            if origin == Origin::Created {
                // Created without the required GPUs, and never used.
                self.discard(id).await;
            }
            return Err(gpu::refused(&missing));
        }
        let remedy = if origin == Origin::Created {
            "install the NVIDIA Container Toolkit on the host"
        } else {
            "the container was created without them; a new one (`--name`) may get them"
        };
        self.events
            .warning(format!(
                "{missing}, though the host has {} of them: {remedy}",
                self.gpus.nvidia.len()
            ))
            .await;
        Ok(lines)
    }
}
