//! An ordinary user, engine and request, for tests.

use jq_common::{
    login::Login,
    protocol::workload::{EngineChoice, GpuAsk, JupyterKind, PullPolicy, WorkloadSpec},
};

use super::HostContext;
use crate::engine::{EngineFacts, EngineKind};

/// Ada, an ordinary user.
pub(crate) fn host() -> HostContext {
    HostContext {
        home: "/home/ada".into(),
        uid: 1234,
        gid: 1235,
        user: "ada".into(),
        path: "/nonexistent".into(),
        shell: None,
        docker_host: None,
        docker_context: None,
        docker_config: None,
        registry_auth_file: None,
        xdg_runtime_dir: None,
        state_dir: "/nonexistent/state".into(),
        run_dir: "/nonexistent/run".into(),
        login: Login::default(),
        agent_binary: "/nonexistent/agent".into(),
    }
}

/// An ordinary Docker Engine.
pub(crate) fn engine() -> EngineFacts {
    EngineFacts {
        kind: EngineKind::Docker,
        version: "20.10.24".into(),
        socket: "/var/run/docker.sock".into(),
        found_by: "default socket".into(),
        rootless: false,
        remapped: false,
        memory: 8 << 30,
        cdi_devices: Vec::new(),
        cdi: false,
        nvidia_runtime: false,
        nvidia_by_default: false,
        selinux: false,
        no_new_privileges: false,
        proxies: Vec::new(),
    }
}

/// A plain request for an image.
pub(crate) fn spec() -> WorkloadSpec {
    WorkloadSpec {
        session: "gpu".into(),
        engine: EngineChoice::Docker,
        existing_container: None,
        image: Some("quay.io/jupyter/base-notebook".into()),
        pull: PullPolicy::Missing,
        gpus: GpuAsk::None,
        volumes: Vec::new(),
        env: Vec::new(),
        workdir: None,
        shm_size: None,
        user: None,
        entrypoint: None,
        jupyter: JupyterKind::Lab,
    }
}
