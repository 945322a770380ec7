//! Conversions between our types and those of the API.

use std::collections::{BTreeMap, HashMap};

use bollard::models;

use crate::engine::{ContainerSpec, ContainerState, GpuRequest, ImageFacts, Mount, MountSource, Phase};

/// The request body that creates `spec`. It never publishes ports, sets a restart policy or asks for privileges.
pub(super) fn create_body(spec: &ContainerSpec) -> models::ContainerCreateBody {
    // A mount has no words for the options of `-v`; a bind has, but the engine would create a missing source.
    let (binds, mounts): (Vec<&Mount>, Vec<&Mount>) =
        spec.mounts.iter().partition(|mount| !mount.options.is_empty());
    let mut host = models::HostConfig {
        binds: (!binds.is_empty()).then(|| binds.iter().map(|mount| mount.as_option()).collect()),
        mounts: Some(mounts.into_iter().map(mount).collect()),
        tmpfs: masks(&spec.masked),
        shm_size: spec.shm_size.map(saturate),
        ulimits: Some(
            spec.limits
                .iter()
                .map(|limit| models::ResourcesUlimits {
                    name: Some(limit.name.into()),
                    soft: Some(limit.soft),
                    hard: Some(limit.hard),
                })
                .collect(),
        ),
        init: Some(spec.init),
        network_mode: spec.network_of.as_ref().map(|id| format!("container:{id}")),
        userns_mode: spec.host_users.then(|| "host".into()),
        ..Default::default()
    };
    if spec.confined {
        host.readonly_rootfs = Some(true);
        host.auto_remove = Some(true);
        host.cap_drop = Some(vec!["ALL".into()]);
        // SELinux would keep a labelled container from the agent's socket; without SELinux the label has no effect.
        host.security_opt = Some(vec!["no-new-privileges".into(), "label=disable".into()]);
    } else if spec.no_new_privileges {
        host.security_opt = Some(vec!["no-new-privileges".into()]);
    }
    if let Some(request) = &spec.gpus {
        request_gpus(&mut host, request);
    }
    models::ContainerCreateBody {
        image: Some(spec.image.clone()),
        entrypoint: spec.entrypoint.clone(),
        cmd: spec.command.clone(),
        user: spec.user.clone(),
        env: Some(environment(&spec.env)),
        working_dir: spec.workdir.clone(),
        hostname: spec.hostname.clone(),
        labels: Some(spec.labels.clone().into_iter().collect()),
        host_config: Some(host),
        ..Default::default()
    }
}

fn request_gpus(host: &mut models::HostConfig, request: &GpuRequest) {
    match request {
        GpuRequest::Nvidia(ids) => {
            host.device_requests = Some(vec![models::DeviceRequest {
                driver: Some(String::new()),
                // The engine refuses a count together with ids.
                count: ids.is_empty().then_some(-1),
                device_ids: (!ids.is_empty()).then(|| ids.clone()),
                capabilities: Some(vec![vec!["gpu".into()]]),
                ..Default::default()
            }]);
        }
        GpuRequest::Cdi(names) => {
            host.device_requests = Some(vec![models::DeviceRequest {
                driver: Some("cdi".into()),
                device_ids: Some(names.clone()),
                ..Default::default()
            }]);
        }
        GpuRequest::Nodes { paths, groups } => {
            host.devices = Some(
                paths
                    .iter()
                    .map(|path| models::DeviceMapping {
                        path_on_host: Some(path.clone()),
                        path_in_container: Some(path.clone()),
                        cgroup_permissions: Some("rwm".into()),
                    })
                    .collect(),
            );
            host.group_add = Some(groups.iter().map(u32::to_string).collect());
        }
    }
}

/// Empty read-only file systems over these paths.
fn masks(paths: &[String]) -> Option<HashMap<String, String>> {
    let mask = |path: &String| (path.clone(), "ro,size=4k,mode=555".to_owned());
    (!paths.is_empty()).then(|| paths.iter().map(mask).collect())
}

fn mount(mount: &Mount) -> models::Mount {
    let (source, typ) = match &mount.source {
        MountSource::Host(path) => (path, models::MountType::BIND),
        MountSource::Volume(name) => (name, models::MountType::VOLUME),
    };
    models::Mount {
        source: Some(source.clone()),
        target: Some(mount.destination.clone()),
        typ: Some(typ),
        read_only: Some(mount.read_only),
        ..Default::default()
    }
}

/// Formats variables as `K=V`.
pub(super) fn environment(env: &[(String, String)]) -> Vec<String> {
    env.iter().map(|(key, value)| format!("{key}={value}")).collect()
}

pub(super) fn image_facts(image: models::ImageInspect) -> ImageFacts {
    let config = image.config.unwrap_or_default();
    ImageFacts {
        id: image.id.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        env: config
            .env
            .unwrap_or_default()
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        workdir: config.working_dir.unwrap_or_default(),
        volumes: config.volumes.unwrap_or_default(),
        labels: sorted(config.labels),
    }
}

pub(super) fn container_state(container: models::ContainerInspectResponse) -> ContainerState {
    use models::ContainerStateStatusEnum as Status;
    let config = container.config.unwrap_or_default();
    let state = container.state.unwrap_or_default();
    ContainerState {
        id: container.id.unwrap_or_default(),
        name: container
            .name
            .unwrap_or_default()
            .trim_start_matches('/')
            .to_owned(),
        image: config.image.unwrap_or_default(),
        phase: match state.status {
            Some(Status::CREATED) => Phase::Created,
            Some(Status::RUNNING) => Phase::Running,
            Some(Status::PAUSED) => Phase::Paused,
            Some(Status::EXITED) => Phase::Exited,
            _ => Phase::Other,
        },
        started_at: state.started_at.unwrap_or_default(),
        labels: sorted(config.labels),
        user: config.user.unwrap_or_default(),
        workdir: config.working_dir.unwrap_or_default(),
        pid: state
            .pid
            .and_then(|pid| u32::try_from(pid).ok())
            .filter(|pid| *pid != 0),
    }
}

fn sorted(labels: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    labels.unwrap_or_default().into_iter().collect()
}

fn saturate(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Limit;

    #[test]
    fn gpus_are_asked_for_the_way_each_engine_understands() {
        let body = |gpus| {
            let spec = ContainerSpec {
                gpus: Some(gpus),
                ..Default::default()
            };
            serde_json::to_value(create_body(&spec)).unwrap()["HostConfig"].clone()
        };
        let all = body(GpuRequest::Nvidia(vec![]));
        assert_eq!(
            all["DeviceRequests"],
            serde_json::json!([{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}])
        );
        let some = body(GpuRequest::Nvidia(vec!["GPU-1".into()]));
        assert_eq!(
            some["DeviceRequests"],
            serde_json::json!([{"Driver": "", "DeviceIDs": ["GPU-1"], "Capabilities": [["gpu"]]}])
        );
        let cdi = body(GpuRequest::Cdi(vec!["nvidia.com/gpu=all".into()]));
        assert_eq!(
            cdi["DeviceRequests"],
            serde_json::json!([{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=all"]}])
        );
        let amd = body(GpuRequest::Nodes {
            paths: vec!["/dev/kfd".into()],
            groups: vec![44],
        });
        assert_eq!(amd["Devices"][0]["PathOnHost"], "/dev/kfd");
        assert_eq!(amd["GroupAdd"], serde_json::json!(["44"]));
    }

    #[test]
    fn a_workload_is_neither_privileged_nor_published_and_a_helper_is_confined() {
        let plain = ContainerSpec {
            limits: vec![Limit {
                name: "memlock",
                soft: -1,
                hard: -1,
            }],
            shm_size: Some(1 << 30),
            ..Default::default()
        };
        let plain = serde_json::to_value(create_body(&plain)).unwrap()["HostConfig"].clone();
        for absent in [
            "Privileged",
            "PortBindings",
            "PublishAllPorts",
            "AutoRemove",
            "RestartPolicy",
        ] {
            assert!(plain.get(absent).is_none(), "{absent}");
        }
        assert_eq!(plain["ShmSize"], 1 << 30);
        let helper = ContainerSpec {
            confined: true,
            network_of: Some("abc".into()),
            ..Default::default()
        };
        let helper = serde_json::to_value(create_body(&helper)).unwrap()["HostConfig"].clone();
        assert_eq!(helper["NetworkMode"], "container:abc");
        assert_eq!(helper["CapDrop"], serde_json::json!(["ALL"]));
        assert_eq!(helper["ReadonlyRootfs"], true);
        let security = helper["SecurityOpt"].as_array().unwrap();
        assert!(security.contains(&"no-new-privileges".into()), "{security:?}");
        assert_eq!(helper["AutoRemove"], true);
        assert!(helper.get("Binds").is_none(), "no folder of the host is in it");
        assert_eq!(helper["Mounts"], serde_json::json!([]));
    }

    fn host_config(spec: &ContainerSpec) -> serde_json::Value {
        serde_json::to_value(create_body(spec)).unwrap()["HostConfig"].clone()
    }

    #[test]
    fn volume_options_are_passed_on_in_the_words_of_the_command_line() {
        let volume = |source, options: &[&str], read_only| Mount {
            source,
            destination: "/d".into(),
            read_only,
            options: options.iter().map(|&option| option.to_owned()).collect(),
        };
        let data = || MountSource::Host("/data".into());
        let host = host_config(&ContainerSpec {
            mounts: vec![
                volume(data(), &[], true),
                volume(data(), &["z"], true),
                volume(data(), &["rslave", "cached"], false),
                volume(MountSource::Volume("cache".into()), &["nocopy"], false),
            ],
            ..ContainerSpec::default()
        });
        let binds = ["/data:/d:ro,z", "/data:/d:cached,rslave", "cache:/d:nocopy"];
        assert_eq!(host["Binds"], serde_json::json!(binds));
        assert_eq!(
            host["Mounts"].as_array().unwrap().len(),
            1,
            "its source is never created"
        );
    }

    #[test]
    fn selinux_stays_on_for_a_container_with_folders_of_the_host() {
        let folder = Mount {
            source: MountSource::Host("/data".into()),
            destination: "/d".into(),
            read_only: false,
            options: Vec::new(),
        };
        for options in [vec![], vec!["Z".to_owned()]] {
            let mount = Mount {
                options,
                ..folder.clone()
            };
            let host = host_config(&ContainerSpec {
                mounts: vec![mount],
                ..ContainerSpec::default()
            });
            assert!(host.get("SecurityOpt").is_none(), "{host}");
        }
    }

    #[test]
    fn masks_are_empty_folders_and_privileges_are_refused_where_asked() {
        let host = host_config(&ContainerSpec {
            masked: vec!["/d/.cache/jq".into()],
            no_new_privileges: true,
            ..ContainerSpec::default()
        });
        assert_eq!(
            host["Tmpfs"],
            serde_json::json!({"/d/.cache/jq": "ro,size=4k,mode=555"})
        );
        assert_eq!(host["SecurityOpt"], serde_json::json!(["no-new-privileges"]));
    }
}
