//! The defaults, one by one.

use super::*;
use crate::workload::{
    container::{user, volumes},
    fixtures::{self, engine, host},
};
use jq_common::protocol::workload::{JupyterKind, Volume};

fn made(change: impl FnOnce(&mut WorkloadSpec, &mut ImageFacts)) -> ContainerSpec {
    made_and_noted(change).0
}

fn made_and_noted(
    change: impl FnOnce(&mut WorkloadSpec, &mut ImageFacts),
) -> (ContainerSpec, Option<String>) {
    made_and_noted_by(&engine(), change)
}

fn made_by(engine: &EngineFacts, change: impl FnOnce(&mut WorkloadSpec, &mut ImageFacts)) -> ContainerSpec {
    made_and_noted_by(engine, change).0
}

fn made_and_noted_by(
    engine: &EngineFacts,
    change: impl FnOnce(&mut WorkloadSpec, &mut ImageFacts),
) -> (ContainerSpec, Option<String>) {
    let mut spec = fixtures::spec();
    let mut image = ImageFacts::default();
    change(&mut spec, &mut image);
    let host = host();
    let options = Options::of(&spec, "image:1", &host.home).unwrap();
    let mounts = volumes::resolve(&spec.volumes, &host.home).unwrap();
    let user = user::plan(spec.user, &host, engine, &image, &mounts);
    build(ContainerInputs {
        mounts,
        masked: Vec::new(),
        spec: &spec,
        options: &options,
        host: &host,
        engine,
        image: &image,
        user: &user,
        entrypoint: spec.entrypoint.as_deref(),
        gpus: &GpuPlan::default(),
        nonce: "n",
        hard: HardLimits {
            kernel_files: 1 << 30,
            ..HardLimits::default()
        },
    })
}

#[test]
fn the_defaults() {
    let made = made(|_, _| {});
    assert_eq!(made.name, "jq-ada-gpu");
    assert_eq!(made.hostname.as_deref(), Some("gpu"));
    assert_eq!(made.shm_size, Some(4 << 30));
    assert!(made.init && !made.confined && made.network_of.is_none());
    let limits: Vec<_> = made.limits.iter().map(|limit| (limit.name, limit.hard)).collect();
    assert_eq!(
        limits,
        [("memlock", -1), ("stack", 64 << 20), ("nofile", 1 << 20)]
    );
    let command = made.command.unwrap();
    assert_eq!(command[..3], ["/bin/sh", "/run/jq/start", "lab"]);
    assert!(command.contains(&"ip=127.0.0.1".to_owned()));
    assert_eq!(made.user.as_deref(), Some("1234:1235"));
    assert_eq!(made.workdir.as_deref(), Some("/home/jq"));
}

#[test]
fn no_secret_is_in_arguments_or_environment() {
    let made = made(|_, _| {});
    assert!(!made.env.iter().any(|(key, _)| key.contains("TOKEN")));
    let command = made.command.unwrap();
    let about_token: Vec<_> = command.iter().filter(|word| word.contains("token")).collect();
    assert_eq!(about_token, ["/run/jq/token"]);
}

#[test]
fn a_read_only_volume_is_not_the_working_directory() {
    let volume = |source: &str, destination: &str, read_only| Volume {
        source: source.into(),
        destination: destination.into(),
        read_only,
        options: Vec::new(),
    };
    let made = made(|spec, _| {
        spec.volumes = vec![volume("/data", "/data", true), volume("~/work", "/work", false)];
    });
    assert_eq!(made.workdir.as_deref(), Some("/work"));
}

#[test]
fn a_host_folder_mounted_at_jovyans_home_keeps_its_owner() {
    let made = made(|spec, image| {
        image.entrypoint = vec!["start.sh".into()];
        spec.volumes = vec![Volume {
            source: "/data/team".into(),
            destination: "/home/jovyan".into(),
            ..Volume::default()
        }];
    });
    assert!(made.env.iter().any(|(key, _)| key == "NB_UID"));
    assert!(!made.env.iter().any(|(key, _)| key == "CHOWN_HOME"));
}

#[test]
fn older_stacks_images_get_the_command_through_their_start_script() {
    let made = made(|_, image| {
        image.env = vec![
            ("NB_USER".into(), "jovyan".into()),
            ("NB_UID".into(), "1000".into()),
        ];
        image.entrypoint = vec!["tini".into(), "-g".into(), "--".into()];
        image.command = vec!["start-notebook.sh".into()];
    });
    assert_eq!(made.user.as_deref(), Some("0:0"));
    assert_eq!(
        made.command.unwrap()[..3],
        ["start.sh", "/bin/sh", "/run/jq/start"]
    );
}

#[test]
fn the_users_own_options_take_precedence() {
    let made = made(|spec, _| {
        spec.env = vec![("HOME".into(), "/work".into())];
        spec.volumes = vec![Volume {
            source: "~/work".into(),
            destination: "/work".into(),
            ..Volume::default()
        }];
        spec.shm_size = Some(1);
    });
    let homes: Vec<_> = made.env.iter().filter(|(key, _)| key == "HOME").collect();
    assert_eq!(homes, [&("HOME".to_owned(), "/work".to_owned())]);
    assert_eq!(made.workdir.as_deref(), Some("/work"));
    assert_eq!(made.mounts[0].source, MountSource::Host("/home/ada/work".into()));
    assert_eq!(made.shm_size, Some(1));
}

#[test]
fn without_jupyter_the_image_runs_its_own_command() {
    let made = made(|spec, _| spec.jupyter = JupyterKind::None);
    assert_eq!((made.entrypoint, made.command), (None, None));
}

#[test]
fn a_volume_over_the_usual_folder_gets_another_one_which_is_written_down() {
    let usual = made(|_, _| {});
    assert!(!usual.labels.keys().any(|label| label == "dev.jq.folder"));
    let other = made(|_, image| image.volumes = vec!["/run".into()]);
    assert_eq!(other.labels["dev.jq.folder"], "/opt/jq");
    assert_eq!(other.command.unwrap()[1], "/opt/jq/start");
}

#[test]
fn an_entry_point_of_its_own_is_replaced_with_a_note_and_the_container_gets_an_init() {
    let (made, note) = made_and_noted(|_, image| image.entrypoint = vec!["tini".into(), "jupyter".into()]);
    assert_eq!(made.entrypoint.unwrap()[..2], ["/bin/sh", "/run/jq/start"]);
    assert!(made.init && made.command.is_none() && note.unwrap().contains("--entrypoint"));
}

#[test]
fn an_image_with_an_init_gets_no_second_init() {
    let made = made(|_, image| image.entrypoint = vec!["/usr/bin/tini".into(), "--".into()]);
    assert!(!made.init);
}

fn value(made: &ContainerSpec, name: &str) -> Option<String> {
    let found = made.env.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.clone())
}

#[test]
fn the_users_proxies_are_in_the_container_and_e_takes_precedence() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let engine = EngineFacts {
        proxies: vec![pair("HTTP_PROXY", "http://p"), pair("http_proxy", "http://p")],
        ..engine()
    };
    let made = made_by(&engine, |spec, _| {
        spec.env = vec![pair("HTTP_PROXY", "http://mine")];
    });
    assert_eq!(value(&made, "HTTP_PROXY").as_deref(), Some("http://mine"));
    assert_eq!(value(&made, "http_proxy").as_deref(), Some("http://p"));
    assert!(
        !format!("{:?}", made.labels).contains("http://p"),
        "no label has a proxy"
    );
}

#[test]
fn without_gpus_a_runtime_or_image_that_gives_them_unasked_is_told_so() {
    use jq_common::protocol::workload::GpuAsk;
    let by_default = EngineFacts {
        nvidia_by_default: true,
        ..engine()
    };
    let cuda = |image: &mut ImageFacts| image.env = vec![(NVIDIA_DEVICES.into(), "all".into())];
    let devices = |made: ContainerSpec| value(&made, NVIDIA_DEVICES);
    assert_eq!(devices(made_by(&by_default, |_, _| {})).as_deref(), Some("void"));
    assert_eq!(devices(made(|_, image| cuda(image))).as_deref(), Some("void"));
    assert_eq!(devices(made(|_, _| {})), None, "nothing would give any");
    let all = made_by(&by_default, |spec, _| spec.gpus = GpuAsk::All);
    assert_eq!(devices(all), None);
    let by_hand = made_by(&by_default, |spec, _| {
        spec.env = vec![(NVIDIA_DEVICES.into(), "0".into())];
    });
    assert_eq!(devices(by_hand).as_deref(), Some("0"));
}

#[test]
fn no_privileges_are_gained_where_the_image_needs_none() {
    assert!(made(|_, _| {}).no_new_privileges);
    let stacks = made(|_, image| image.entrypoint = vec!["start.sh".into()]);
    assert!(!stacks.no_new_privileges, "start.sh becomes the user by sudo");
    assert!(!made(|_, image| image.user = "app".into()).no_new_privileges);
}
