//! Parses `-v SOURCE:DESTINATION[:OPTION,…]`, as docker-run(1) and podman-run(1) write it.

use std::path::Path;

use jq_common::protocol::{
    profile::is_name,
    volume::{Subject, VOLUME_OPTIONS, volume_option},
    workload::Volume,
};

use super::parse::usage;
use crate::error::Failure;

/// What a volume is written like.
const FORM: &str = "expected SRC:DST or SRC:DST:OPTIONS, for example ~/work:/work:ro,z";

/// Parses a volume. The local shell expands a leading `~` to the home on this machine, but the user means the home on the
/// host: a source below the local home is mapped there, with a note.
pub(super) fn parse_volume(
    text: &str,
    laptop_home: Option<&Path>,
) -> Result<(Volume, Option<String>), Failure> {
    let wrong = |why: &str| usage(format!("-v {text}"), why);
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, words) = match parts[..] {
        [source, destination] => (source, destination, None),
        [source, destination, words] => (source, destination, Some(words)),
        _ => return Err(wrong(FORM)),
    };
    if !destination.starts_with('/') {
        return Err(wrong("the folder in the container must begin with `/`"));
    }
    let source = if source == "~" { "~/" } else { source };
    let known =
        source.starts_with('/') || source.starts_with("~/") || (is_name(source) && !source.contains('/'));
    if !known {
        return Err(wrong(
            "the folder on the host must begin with `/` or `~/`, or be the name of a volume",
        ));
    }
    let (read_only, options) = options(words).map_err(|why| wrong(&why))?;
    let (source, note) = on_the_host(source, laptop_home);
    let volume = Volume {
        source,
        destination: destination.to_owned(),
        read_only,
        options,
    };
    Ok((volume, note))
}

/// Whether the volume is read-only, and its other options.
fn options(words: Option<&str>) -> Result<(bool, Vec<String>), String> {
    let mut read_only = false;
    let mut options = Vec::new();
    let mut before: Vec<(Subject, &str)> = Vec::new();
    for word in words.into_iter().flat_map(|words| words.split(',')) {
        let option = volume_option(word).ok_or_else(|| unknown(word))?;
        if let Some((_, other)) = before.iter().find(|(subject, _)| *subject == option.subject) {
            return Err(format!("`{other}` and `{word}` exclude each other"));
        }
        before.push((option.subject, word));
        match option.subject {
            Subject::Access => read_only = word == "ro",
            _ => options.push(word.to_owned()),
        }
    }
    Ok((read_only, options))
}

fn unknown(word: &str) -> String {
    let all: Vec<&str> = VOLUME_OPTIONS.iter().map(|option| option.word).collect();
    format!(
        "`{word}` is no option of a volume; the options are {}",
        all.join(", ")
    )
}

/// The source as it is meant on the host, and a note when it was written as a path of this machine.
fn on_the_host(source: &str, laptop_home: Option<&Path>) -> (String, Option<String>) {
    let below_home = laptop_home
        .filter(|home| home.parent().is_some())
        .and_then(|home| Path::new(source).strip_prefix(home).ok());
    let Some(below) = below_home else {
        return (source.to_owned(), None);
    };
    let meant = format!("~/{}", below.display());
    let note = format!("-v {source}: read as {meant} in your home on the host");
    (meant, Some(note))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_passed_on_as_docker_and_podman_know_them() {
        for (text, read_only, options) in [
            ("~/work:/work", false, &[][..]),
            ("~/work:/work:rw", false, &[]),
            ("/data:/data:ro", true, &[]),
            ("/data:/data:z", false, &["z"]),
            ("/data:/data:ro,Z", true, &["Z"]),
            ("/data:/data:U", false, &["U"]),
            ("/data:/data:cached", false, &["cached"]),
            ("/data:/data:delegated,ro", true, &["delegated"]),
            ("/data:/data:rslave,z,ro", true, &["rslave", "z"]),
            ("cache:/cache:nocopy", false, &["nocopy"]),
        ] {
            let (volume, _) = parse_volume(text, None).unwrap();
            assert_eq!(volume.read_only, read_only, "{text}");
            assert_eq!(volume.options, options, "{text}");
        }
    }

    #[test]
    fn a_wrong_option_is_named() {
        for (text, named) in [
            ("/a:/b:zz", "`zz`"),
            ("/a:/b:ro,cashed", "`cashed`"),
            ("/a:/b:RO", "`RO`"),
            ("/a:/b:", "``"),
            ("/a:/b:ro,rw", "`ro` and `rw`"),
            ("/a:/b:z,Z", "`z` and `Z`"),
            ("/a:/b:z,z", "`z` and `z`"),
            ("/a:/b:shared,rslave", "`shared` and `rslave`"),
        ] {
            let failure = parse_volume(text, None).unwrap_err();
            assert!(failure.what.contains(text), "{failure}");
            assert!(failure.why.contains(named), "{failure}");
        }
        let unknown = parse_volume("/a:/b:zz", None).unwrap_err();
        assert!(
            unknown.why.contains("delegated"),
            "the options are listed: {unknown}"
        );
        assert!(parse_volume("/a:/b:ro:z", None).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = parse_volume(&text, Some(Path::new("/home/ann")));
        }
    }
}
