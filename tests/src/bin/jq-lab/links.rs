//! `jq-lab link`.

use anyhow::{Result, ensure};
use jq_tests::lab::control::{self, LinkStatus, Request};
use jq_tests::lab::{HostName, State};

use crate::cli::LinkArgs;
use crate::print::say;

/// Changes the conditions of a link, or of one direction, and prints the new ones.
pub(crate) fn change(lab: &State, args: &LinkArgs) -> Result<()> {
    let of_the_laptop = |way: &LinkStatus| [way.from, way.to].contains(&HostName::Laptop);
    let ways = control::ask(&lab.id, &Request::Links)?;
    let chosen = ways.into_iter().filter(|way| of_the_laptop(way) != args.near);
    let chosen: Vec<_> = chosen
        .filter(|way| args.from.is_none_or(|from| way.from == from))
        .collect();
    ensure!(!chosen.is_empty(), "this lab has no such link");
    for mut way in chosen {
        args.conditions.apply(&mut way.conditions);
        say(&describe(&way));
        let LinkStatus {
            from, to, conditions, ..
        } = way;
        control::ask(&lab.id, &Request::Link { from, to, conditions })?;
    }
    Ok(())
}

/// Describes one direction of a link in one line.
pub(crate) fn describe(way: &LinkStatus) -> String {
    let (it, counters) = (&way.conditions, &way.counters);
    let mut line = format!(
        "{:>8} -> {:<8} delay {:?}",
        way.from.as_str(),
        way.to.as_str(),
        it.delay
    );
    let mut add = |text: Option<String>| {
        if let Some(text) = text {
            line.push_str(", ");
            line.push_str(&text);
        }
    };
    add((!it.jitter.is_zero()).then(|| format!("jitter {:?}", it.jitter)));
    add((it.loss != jq_tests::lab::Loss::None).then(|| format!("loss {:?}", it.loss)));
    add(it
        .rate
        .map(|rate| format!("{} Mbit/s, queue {} KB", rate as f64 / 1e6, it.queue / 1000)));
    add((it.reorder > 0.0).then(|| format!("{} % reordered", it.reorder * 100.0)));
    add((it.duplicate > 0.0).then(|| format!("{} % duplicated", it.duplicate * 100.0)));
    add((it.corrupt > 0.0).then(|| format!("{} % corrupted", it.corrupt * 100.0)));
    add(it.mtu.map(|mtu| format!("at most {mtu} bytes")));
    add((!it.up).then(|| "DOWN".into()));
    add(it.block_udp.then(|| "UDP blocked".into()));
    add(Some(format!(
        "{} packets, {} lost, {} dropped by the queue",
        counters.packets, counters.lost, counters.queue_full
    )));
    line
}
