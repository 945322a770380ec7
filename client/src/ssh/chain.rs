//! Resolves the chain of jump hosts to a target: follows ProxyJump as ssh does, and a ProxyCommand that is a jump in other
//! words, so that each host can be connected to in turn.

use super::{
    Destination,
    config::Resolved,
    proxy_command::{self, Pass},
};
use crate::error::{Failure, Kind};

/// One host of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    /// As the user or the configuration writes it.
    pub(crate) destination: Destination,
    /// Its settings in ssh's configuration.
    pub(crate) resolved: Resolved,
    /// Options of the command line (`KEY=VALUE`) that apply to it: as with ssh, those of the user to the last hop only, and
    /// those of a ProxyCommand to the hop that it names.
    pub(crate) options: Vec<String>,
    /// How the hop before passes the connection on to it.
    pub(crate) pass: Pass,
}

/// A host that is to be looked up.
struct Next {
    destination: Destination,
    /// The part of a ProxyJump list before it: it replaces the host's own ProxyJump.
    through: Vec<Destination>,
    options: Vec<String>,
}

/// Limit of hosts in a chain.
const LONGEST: usize = 8;

/// Looks up the settings of a host, with additional options (`KEY=VALUE`).
pub(crate) type Resolve<'a> = dyn FnMut(&Destination, &[String]) -> Result<Resolved, Failure> + 'a;

/// The jump hosts and the target, in the order of connecting. `options` apply to the target.
///
/// # Errors
/// Errors of `resolve`; a malformed ProxyJump; a chain with a loop or with more than 8 hosts.
pub(crate) fn chain(
    target: &Destination,
    options: &[String],
    resolve: &mut Resolve<'_>,
) -> Result<Vec<Hop>, Failure> {
    let mut from_target = Vec::new();
    let mut next = Some(Next {
        destination: target.clone(),
        through: Vec::new(),
        options: options.to_vec(),
    });
    while let Some(host) = next {
        let through = host.through.clone();
        let mut hop = look_up(host, resolve)?;
        next = before(&mut hop, through).map_err(|e| refused(target, e))?;
        let seen = from_target.iter().any(|other: &Hop| is_same(other, &hop));
        from_target.push(hop);
        if seen {
            return Err(refused(
                target,
                format!("it contains a loop: {}", route(&from_target)),
            ));
        }
        if from_target.len() > LONGEST {
            return Err(refused(
                target,
                format!("more than {LONGEST} hosts: {}", route(&from_target)),
            ));
        }
    }
    from_target.reverse();
    Ok(from_target)
}

fn look_up(host: Next, resolve: &mut Resolve<'_>) -> Result<Hop, Failure> {
    let mut asked = Vec::new();
    if !host.through.is_empty() {
        let list: Vec<_> = host.through.iter().map(Destination::written).collect();
        asked.push(format!("ProxyJump={}", list.join(",")));
    }
    asked.extend_from_slice(&host.options);
    let resolved = resolve(&host.destination, &asked)?;
    Ok(Hop {
        destination: host.destination,
        resolved,
        options: host.options,
        pass: Pass::Forward,
    })
}

/// The host before `hop`, which passes connections on to it.
fn before(
    hop: &mut Hop,
    through: Vec<Destination>,
) -> Result<Option<Next>, super::destination::BadDestination> {
    let jumps = match &hop.resolved.proxy_jump {
        _ if !through.is_empty() => through,
        Some(list) => jumps(&expanded(list, hop))?,
        None => return Ok(by_command(hop)),
    };
    Ok(split_last(jumps).map(|(destination, through)| Next {
        destination,
        through,
        options: Vec::new(),
    }))
}

/// The host that a ProxyCommand goes through.
fn by_command(hop: &mut Hop) -> Option<Next> {
    if hop.resolved.setting("proxyusefdpass") == Some("yes") {
        return None;
    }
    let command = hop.resolved.proxy_command.as_ref()?;
    let jump = proxy_command::jump(command, |text| expanded(text, hop))?;
    hop.pass = jump.pass;
    Some(Next {
        destination: jump.destination,
        through: Vec::new(),
        options: jump.options,
    })
}

fn jumps(list: &str) -> Result<Vec<Destination>, super::destination::BadDestination> {
    list.split(',').map(Destination::jump).collect()
}

/// Expands the tokens that ssh_config(5) permits in `ProxyJump`.
fn expanded(list: &str, hop: &Hop) -> String {
    let port = hop.resolved.port.to_string();
    let mut text = String::with_capacity(list.len());
    let mut rest = list.chars();
    while let Some(c) = rest.next() {
        match (c, if c == '%' { rest.next() } else { None }) {
            ('%', Some('%')) => text.push('%'),
            ('%', Some('h')) => text.push_str(&hop.resolved.hostname),
            ('%', Some('n')) => text.push_str(hop.destination.host()),
            ('%', Some('p')) => text.push_str(&port),
            ('%', Some('r')) => text.push_str(&hop.resolved.user),
            (c, other) => text.extend(std::iter::once(c).chain(other)),
        }
    }
    text
}

fn split_last(mut jumps: Vec<Destination>) -> Option<(Destination, Vec<Destination>)> {
    let last = jumps.pop()?;
    Some((last, jumps))
}

fn is_same(a: &Hop, b: &Hop) -> bool {
    let key = |hop: &Hop| {
        (
            hop.resolved.hostname.clone(),
            hop.resolved.port,
            hop.resolved.user.clone(),
        )
    };
    key(a) == key(b)
}

fn route(from_target: &[Hop]) -> String {
    let names: Vec<_> = from_target.iter().map(|hop| hop.destination.written()).collect();
    names.join(" through ")
}

fn refused(target: &Destination, why: impl std::fmt::Display) -> Failure {
    Failure::new(Kind::Usage, "cannot follow ProxyJump")
        .on(target.written())
        .because(why)
        .hint(format!(
            "correct ProxyJump for {} in ~/.ssh/config",
            target.host()
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resolves from pairs of host and ProxyJump, as ssh does: an option has precedence.
    fn resolver(
        config: &'static [(&'static str, &'static str)],
    ) -> impl FnMut(&Destination, &[String]) -> Result<Resolved, Failure> {
        move |destination, options| {
            let asked = options
                .iter()
                .find_map(|o| o.strip_prefix("ProxyJump=").map(str::to_owned));
            let configured = config.iter().find(|(host, _)| *host == destination.host());
            let configured = asked.or_else(|| configured.map(|(_, jump)| (*jump).to_owned()));
            let is_command = |jump: &String| jump.starts_with("ssh ");
            Ok(Resolved {
                user: destination.user().unwrap_or("ana").to_owned(),
                proxy_jump: configured.clone().filter(|jump| !is_command(jump)),
                proxy_command: configured.filter(is_command),
                ..Resolved::of(
                    &format!("{}.example", destination.host()),
                    destination.port().unwrap_or(22),
                )
            })
        }
    }

    fn names(
        config: &'static [(&'static str, &'static str)],
        options: &[&str],
    ) -> Result<Vec<String>, Failure> {
        let options: Vec<String> = options.iter().map(|&o| o.to_owned()).collect();
        let hops = chain(
            &Destination::target("gpu").unwrap(),
            &options,
            &mut resolver(config),
        )?;
        assert!(hops[..hops.len() - 1].iter().all(|hop| hop.options.is_empty()));
        assert_eq!(hops.last().unwrap().options, options);
        Ok(hops
            .iter()
            .map(|hop| hop.destination.written().to_owned())
            .collect())
    }

    /// Configuration, options of the command line, and the resulting chain.
    type Case = (
        &'static [(&'static str, &'static str)],
        &'static [&'static str],
        &'static [&'static str],
    );

    #[test]
    fn hosts_are_in_the_order_of_connecting() {
        let cases: [Case; 9] = [
            (&[("gpu", "%r@gw-%n:2%p")], &[], &["ana@gw-gpu:222", "gpu"]),
            (&[], &[], &["gpu"]),
            (&[("gpu", "gw")], &[], &["gw", "gpu"]),
            (&[("gpu", "a,b")], &[], &["a", "b", "gpu"]),
            // The first host of a list uses its own ProxyJump, the others the list.
            (
                &[("gpu", "a,b"), ("a", "x"), ("b", "y")],
                &[],
                &["x", "a", "b", "gpu"],
            ),
            (
                &[("gpu", "u@b:2222"), ("b", "ssh://y:1")],
                &[],
                &["ssh://y:1", "u@b:2222", "gpu"],
            ),
            (&[("gpu", "a"), ("z", "y")], &["ProxyJump=z"], &["y", "z", "gpu"]),
            // A ProxyCommand that is a jump, and one behind it.
            (&[("gpu", "ssh -W %h:%p %r@gw")], &[], &["ana@gw", "gpu"]),
            (
                &[("gpu", "ssh gw nc %h %p"), ("gw", "x")],
                &[],
                &["x", "gw", "gpu"],
            ),
        ];
        for (config, options, want) in cases {
            assert_eq!(names(config, options).unwrap(), want, "{config:?}");
        }
    }

    #[test]
    fn a_chain_with_a_loop_is_refused_and_shown() {
        let failure = names(&[("gpu", "a"), ("a", "b"), ("b", "a")], &[]).unwrap_err();
        assert_eq!(failure.kind, Kind::Usage);
        assert!(
            failure.why.contains("gpu through a through b through a"),
            "{}",
            failure.why
        );
        let failure = names(&[("gpu", "a1,a2,a3,a4,a5,a6,a7,a8,a9")], &[]).unwrap_err();
        assert!(failure.why.contains("more than 8"), "{}", failure.why);
        assert!(names(&[("gpu", "a,-oProxyCommand=id")], &[]).is_err());
        assert!(names(&[("gpu", "a,,b")], &[]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_list_panics_or_runs_on(list: String, other: String) {
            let target = Destination::target("gpu").unwrap();
            let hops = chain(&target, &[], &mut |destination, options| {
                let jump = if destination.host() == "gpu" { &list } else { &other };
                let asked = options.iter().find_map(|o| o.strip_prefix("ProxyJump="));
                Ok(Resolved {
                    hostname: destination.host().to_owned(),
                    proxy_jump: Some(asked.unwrap_or(jump).to_owned()),
                    ..Resolved::of("h", destination.port().unwrap_or(22))
                })
            });
            if let Ok(hops) = hops {
                proptest::prop_assert!(hops.len() <= LONGEST);
            }
        }
    }
}
