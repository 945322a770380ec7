//! The options that a container was created with, in a form that is stored in a label and can be compared.

use std::path::Path;

use jq_common::protocol::workload::{Failure, GpuAsk, JupyterKind, UserSpec, WorkloadSpec};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::volumes;

/// Options that distinguish one container from another. Those that matter only during creation (`--pull`) are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Options {
    pub(crate) image: String,
    #[serde(default)]
    pub(crate) gpus: String,
    /// `SOURCE:DESTINATION[:OPTION,…]`, sorted.
    #[serde(default)]
    pub(crate) volumes: Vec<String>,
    /// `NAME=value`, sorted; the last value wins.
    #[serde(default)]
    pub(crate) env: Vec<String>,
    pub(crate) workdir: Option<String>,
    pub(crate) shm_size: Option<u64>,
    pub(crate) user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) entrypoint: Option<String>,
    #[serde(default)]
    pub(crate) jupyter: JupyterKind,
}

impl Options {
    /// The options of a request for a container of `image`.
    ///
    /// # Errors
    /// When a volume is invalid.
    pub(crate) fn of(spec: &WorkloadSpec, image: &str, home: &Path) -> Result<Self, Failure> {
        let mut volumes: Vec<String> = volumes::resolve(&spec.volumes, home)?
            .into_iter()
            .map(|mount| mount.as_option())
            .collect();
        volumes.sort();
        let mut env: Vec<String> = Vec::new();
        for (key, value) in &spec.env {
            env.retain(|pair| pair.split('=').next() != Some(key.as_str()));
            env.push(format!("{key}={value}"));
        }
        env.sort();
        Ok(Self {
            image: image.to_owned(),
            gpus: gpus(&spec.gpus),
            volumes,
            env,
            workdir: spec.workdir.clone(),
            shm_size: spec.shm_size,
            user: spec.user.map(user),
            entrypoint: spec.entrypoint.clone(),
            jupyter: spec.jupyter,
        })
    }

    /// Serialises the options for the label.
    pub(crate) fn to_label(&self) -> String {
        // Strings, numbers and lists always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Parses a container's label; None when it was written by an incompatible version.
    pub(crate) fn from_label(label: &str) -> Option<Self> {
        serde_json::from_str(label).ok()
    }

    /// Replaces the values of variables by hashes: labels are visible to more people than an environment.
    pub(crate) fn sealed(&self, nonce: &str) -> Self {
        let seal = |pair: &String| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let sealed = jq_common::protocol::hex::encode(&Sha256::digest(format!("{nonce}\0{value}")));
            format!("{name}={}", &sealed[..32])
        };
        Self {
            env: self.env.iter().map(seal).collect(),
            ..self.clone()
        }
    }

    /// Fills options that were not requested from those of the container, for a request that names no image. Jupyter
    /// always is the container's, since a request cannot leave it open.
    pub(crate) fn with_defaults_of(self, has: &Self) -> Self {
        let or = |asked: Vec<String>, has: &Vec<String>| if asked.is_empty() { has.clone() } else { asked };
        Self {
            image: has.image.clone(),
            gpus: if self.gpus.is_empty() {
                has.gpus.clone()
            } else {
                self.gpus
            },
            volumes: or(self.volumes, &has.volumes),
            env: or(self.env, &has.env),
            workdir: self.workdir.or_else(|| has.workdir.clone()),
            shm_size: self.shm_size.or(has.shm_size),
            user: self.user.or_else(|| has.user.clone()),
            entrypoint: self.entrypoint.or_else(|| has.entrypoint.clone()),
            jupyter: has.jupyter,
        }
    }

    /// Lists the differences between this container and the request: `image: A, asked for B`.
    pub(crate) fn differences(&self, asked: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        if self.env != asked.env && names(&self.env, &asked.env) == names(&asked.env, &self.env) {
            differences.push(format!("env: {} has another value", names(&self.env, &asked.env)));
        }
        let mut compare = |name: &str, has: String, asked: String| {
            if has != asked {
                differences.push(format!("{name}: {has}, asked for {asked}"));
            }
        };
        let or = |value: &Option<String>, none: &str| value.clone().unwrap_or_else(|| none.to_owned());
        compare("image", self.image.clone(), asked.image.clone());
        compare("gpus", self.gpus.clone(), asked.gpus.clone());
        compare("volumes", list(&self.volumes), list(&asked.volumes));
        compare("env", names(&self.env, &asked.env), names(&asked.env, &self.env));
        compare(
            "workdir",
            or(&self.workdir, "default"),
            or(&asked.workdir, "default"),
        );
        compare("shm-size", bytes(self.shm_size), bytes(asked.shm_size));
        compare("user", or(&self.user, "default"), or(&asked.user, "default"));
        let entrypoint = |options: &Self| match options.entrypoint.as_deref() {
            None => "the image's".to_owned(),
            Some("") => "none".to_owned(),
            Some(program) => program.to_owned(),
        };
        compare("entrypoint", entrypoint(self), entrypoint(asked));
        compare("jupyter", kind(self.jupyter).into(), kind(asked.jupyter).into());
        differences
    }
}

fn gpus(ask: &GpuAsk) -> String {
    match ask {
        GpuAsk::Default | GpuAsk::All => "all".into(),
        GpuAsk::None => "none".into(),
        GpuAsk::Count(count) => count.to_string(),
        GpuAsk::Ids(ids) => format!("ids {}", ids.join(",")),
    }
}

fn user(user: UserSpec) -> String {
    format!("{}:{}", user.uid, user.gid.unwrap_or(user.uid))
}

fn kind(kind: JupyterKind) -> &'static str {
    crate::workload::jupyter::verb(kind).unwrap_or("none")
}

fn list(items: &[String]) -> String {
    if items.is_empty() {
        "none".into()
    } else {
        items.join(" ")
    }
}

/// Names of the variables whose values differ from the other's. Values are not shown because they may be secrets.
fn names(env: &[String], other: &[String]) -> String {
    let differing: Vec<&str> = env
        .iter()
        .filter(|pair| !other.contains(pair))
        .map(|pair| pair.split('=').next().unwrap_or_default())
        .collect();
    match differing.as_slice() {
        [] if env == other => "the same".into(),
        [] => "none of these".into(),
        names => names.join(" "),
    }
}

fn bytes(size: Option<u64>) -> String {
    size.map_or_else(|| "default".into(), |size| format!("{size} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::fixtures::spec;

    fn options(spec: &WorkloadSpec) -> Options {
        Options::of(spec, spec.image.as_deref().unwrap(), Path::new("/home/ada")).unwrap()
    }

    #[test]
    fn options_are_read_back_from_their_label() {
        let mut spec = spec();
        spec.env = vec![
            ("B".into(), "1".into()),
            ("A".into(), "x=y".into()),
            ("B".into(), "2".into()),
        ];
        let options = options(&spec);
        assert_eq!(options.env, ["A=x=y", "B=2"]);
        assert_eq!(Options::from_label(&options.to_label()), Some(options));
        assert_eq!(Options::from_label("{}"), None);
        let older = Options::from_label(r#"{"image":"i","of_a_newer_version":1}"#).unwrap();
        assert_eq!((older.image.as_str(), older.jupyter), ("i", JupyterKind::Lab));
    }

    #[test]
    fn the_options_of_a_volume_are_compared_whatever_their_order() {
        let with = |words: &[&str]| {
            let mut spec = spec();
            spec.volumes = vec![jq_common::protocol::workload::Volume {
                source: "/data".into(),
                destination: "/data".into(),
                read_only: true,
                options: words.iter().map(|&word| word.to_owned()).collect(),
            }];
            options(&spec)
        };
        assert_eq!(with(&["rslave", "z"]).volumes, ["/data:/data:ro,rslave,z"]);
        assert!(
            with(&["z", "cached"])
                .differences(&with(&["cached", "z"]))
                .is_empty()
        );
        assert_eq!(
            with(&[]).differences(&with(&["z"])),
            ["volumes: /data:/data:ro, asked for /data:/data:ro,z"]
        );
    }

    #[test]
    fn only_options_of_the_container_are_compared() {
        let one = spec();
        let mut other = spec();
        other.pull = jq_common::protocol::workload::PullPolicy::Always;
        assert!(options(&one).differences(&options(&other)).is_empty());
        let (mut default, mut all) = (spec(), spec());
        default.gpus = GpuAsk::Default;
        all.gpus = GpuAsk::All;
        assert!(options(&default).differences(&options(&all)).is_empty());
        other.image = Some("x".into());
        other.workdir = Some("/work".into());
        other.env = vec![("KEY".into(), "secret".into())];
        assert_eq!(
            options(&one).differences(&options(&other)),
            [
                "image: quay.io/jupyter/base-notebook, asked for x",
                "env: none of these, asked for KEY",
                "workdir: default, asked for /work"
            ]
        );
    }
}
