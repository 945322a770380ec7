//! Parsers for the values of flags: text in, a typed value or a usage failure out.

use std::{fmt, time::Duration};

use jq_common::{
    codec,
    protocol::{
        limits, profile,
        workload::{GpuAsk, MOST_LISTED, UserSpec, WorkloadSpec},
    },
};

use crate::error::{Failure, Kind};

/// Bytes of a request besides the workload.
const BESIDES: usize = 64;

pub(super) fn usage(flag: impl fmt::Display, why: impl fmt::Display) -> Failure {
    Failure::new(Kind::Usage, format!("cannot understand `{flag}`")).because(why)
}

/// Refuses more items than a request may list.
pub(super) fn checked_count(what: &str, count: usize) -> Result<(), Failure> {
    if count <= MOST_LISTED {
        return Ok(());
    }
    Err(Failure::new(Kind::Usage, format!("{count} {what} are too many"))
        .because(format!("the limit is {MOST_LISTED}"))
        .hint("give fewer"))
}

/// Refuses a workload that does not fit into one request.
pub(super) fn checked_length(workload: &WorkloadSpec) -> Result<(), Failure> {
    if codec::encode(workload, limits::HEADER_FRAME - BESIDES).is_ok() {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Usage,
        "the values of `-e`, `-v` and the other flags are too long",
    )
    .because(format!(
        "together they may have {} KiB",
        limits::HEADER_FRAME / 1024
    ))
    .hint("put long values into a file on the host, and mount it with `-v`"))
}

pub(super) fn checked_name(name: String) -> Result<String, Failure> {
    if profile::is_name(&name) {
        return Ok(name);
    }
    let why = format!("a name has {}", profile::RULE);
    Err(usage(format!("--name {name}"), why))
}

pub(super) fn parse_gpus(text: &str) -> Result<GpuAsk, Failure> {
    match text {
        "all" => return Ok(GpuAsk::All),
        "none" => return Ok(GpuAsk::None),
        _ => {}
    }
    if let Ok(count) = text.parse() {
        return match count {
            0 => Err(usage(
                "--gpus 0",
                "use `none` for no GPU, and `0,` for the GPU with index 0",
            )),
            count => Ok(GpuAsk::Count(count)),
        };
    }
    let ids: Vec<String> = text
        .split(',')
        .filter(|id| !id.is_empty())
        .map(str::to_owned)
        .collect();
    let is_index = |id: &str| id.bytes().all(|b| b.is_ascii_digit());
    let is_uuid = |id: &str| {
        ["GPU-", "MIG-"]
            .iter()
            .any(|prefix| id.len() > prefix.len() && id.starts_with(prefix))
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'/'))
    };
    let valid = |id: &String| is_index(id) || is_uuid(id);
    if ids.is_empty() || !ids.iter().all(valid) {
        return Err(usage(
            format!("--gpus {text}"),
            "expected all, none, a number, or a comma-separated list of indices or UUIDs",
        ));
    }
    checked_count("GPUs in `--gpus`", ids.len())?;
    Ok(GpuAsk::Ids(ids))
}

/// Parses `NAME=VALUE`, or `NAME` alone with its value from `value_of`.
pub(super) fn parse_env(
    text: &str,
    value_of: impl Fn(&str) -> Option<String>,
) -> Result<(String, String), Failure> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => {
            let value = value_of(text).ok_or_else(|| {
                usage(
                    format!("-e {text}"),
                    "no value is given, and this machine's environment has none",
                )
            })?;
            (text, value)
        }
    };
    if name.is_empty() || name.contains('\0') || value.contains('\0') {
        return Err(usage(format!("-e {text}"), "expected NAME=VALUE"));
    }
    Ok((name.to_owned(), value))
}

pub(super) fn checked_workdir(dir: String) -> Result<String, Failure> {
    if dir.starts_with('/') || dir.starts_with("~/") {
        return Ok(dir);
    }
    Err(usage(
        format!("-w {dir}"),
        "the working directory must begin with `/`",
    ))
}

/// Parses a size in bytes, with an optional unit: `k`, `m`, `g` or `t` (powers of 1024), each also with `b` or `ib`.
pub(super) fn parse_size(text: &str) -> Result<u64, Failure> {
    let wrong = || {
        usage(
            format!("--shm-size {text}"),
            "expected a number with k, m or g, for example 8g",
        )
    };
    let lower = text.to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let number: u64 = lower[..digits].parse().map_err(|_| wrong())?;
    let shift = match lower[digits..].trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(1 << shift)
        .filter(|size| *size > 0)
        .ok_or_else(wrong)
}

pub(super) fn parse_user(text: &str) -> Result<UserSpec, Failure> {
    let wrong = || usage(format!("--user {text}"), "expected UID or UID:GID as numbers");
    let (uid, gid) = text
        .split_once(':')
        .map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    Ok(UserSpec {
        uid: uid.parse().map_err(|_| wrong())?,
        gid: gid.map(str::parse).transpose().map_err(|_| wrong())?,
    })
}

pub(super) fn parse_time(text: &str) -> Result<Duration, Failure> {
    let wrong = || {
        usage(
            format!("--linger {text}"),
            "expected a number with s, m, h or d, for example 30m",
        )
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = match &text[digits..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    // At most a year: longer than any host stays up, and far below the range of a timer.
    number
        .checked_mul(unit)
        .filter(|s| (1..=31_536_000).contains(s))
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_all_none_a_number_or_a_list() {
        assert_eq!(parse_gpus("all"), Ok(GpuAsk::All));
        assert_eq!(parse_gpus("none"), Ok(GpuAsk::None));
        assert_eq!(parse_gpus("2"), Ok(GpuAsk::Count(2)));
        assert_eq!(parse_gpus("0,"), Ok(GpuAsk::Ids(vec!["0".to_owned()])));
        assert_eq!(
            parse_gpus("0,GPU-ab-1"),
            Ok(GpuAsk::Ids(vec!["0".to_owned(), "GPU-ab-1".to_owned()]))
        );
        assert!(parse_gpus("0").is_err());
        assert!(parse_gpus("").is_err());
        assert!(parse_gpus("a b").is_err());
        assert!(parse_gpus("some").is_err() && parse_gpus("GPU-").is_err());
    }

    #[test]
    fn sizes_and_times_have_units() {
        assert_eq!(parse_size("8g"), Ok(8 << 30));
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("64"), Ok(64));
        assert!(parse_size("8x").is_err() && parse_size("").is_err() && parse_size("99999999999t").is_err());
        assert_eq!(parse_time("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_time("24h"), Ok(Duration::from_secs(86_400)));
        assert!(parse_time("0s").is_err() && parse_time("1w").is_err() && parse_time("-1").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = (parse_gpus(&text), parse_size(&text), parse_user(&text), parse_time(&text));
        }
    }
}
