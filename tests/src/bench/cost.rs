//! Processor time and memory of the tunnels.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{
    Benchmark, Options,
    clock::last,
    figures::{Sheet, at_most},
    flow::{Direction, Flow, rates},
    idle_streams::{self, IdleProcess},
    peers::{Peer, Who},
    place::Place,
    process::{Processes, forget},
    wire::{self, Wire},
};

pub(super) const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        id: "cpu",
        name: "processor time per GB, both ends together, no delay",
        bar: "1.2 x ssh -L aes128-gcm",
        aim: "0.6 x",
        run: cpu,
    },
    Benchmark {
        id: "memory",
        name: "memory of each end",
        bar: "idle 12 MB; one stream at full speed 40 MB; 10,000 idle streams 150 MB",
        aim: "half",
        run: memory,
    },
    Benchmark {
        id: "idle",
        name: "processor time when idle, 100 Mbit/s 40 ms",
        bar: "< 0.1 %",
        aim: "no wake-ups except keep-alive",
        run: idle,
    },
];

fn cpu(options: &Options) -> Result<Sheet> {
    let place = Place::up(wire::VETH)?;
    let mut sheet = Sheet::default();
    let peers = Peer::start_all(
        options,
        &place,
        &[Who::Ssh, Who::SshAes, Who::Dumbpipe, Who::Product],
    )?;
    let what = |direction: Direction| format!("{}, one stream", direction.name());
    for round in 0..options.rounds {
        for direction in Direction::BOTH {
            for peer in &peers {
                let processes = Processes::all(&place, peer.who);
                let flows = Flow::start_many(&place, peer, direction, 1)?;
                rates([&flows], options.warm_up)?;
                let before = processes.seconds()?;
                let [rate] = rates([&flows], options.length)?;
                let used = processes.seconds()? - before;
                drop(flows);
                let moved = rate / 8e3 * options.length.as_secs_f64();
                sheet.add(&what(direction), peer.who.name(), "s/GB", used / moved);
                options.tell(round, &what(direction), peer.who.name(), used / moved, "s/GB");
                place.settle()?;
            }
        }
    }
    for direction in Direction::BOTH {
        sheet.judge_ratio(
            &what(direction),
            Who::Product.name(),
            Who::SshAes.name(),
            at_most(1.2, 0.6),
        );
    }
    drop(peers);
    place.down()?;
    Ok(sheet)
}

fn idle(options: &Options) -> Result<Sheet> {
    // Idle threads end after ten seconds, and their counters are lost with them.
    const SETTLED: Duration = Duration::from_secs(15);
    // The kernel counts in hundredths of a second, so a load of 0.1 % needs a long measurement.
    let length = options.length * 4;
    let place = Place::up(wire::CLEAN)?;
    let mut sheet = Sheet::default();
    let peers = Peer::start_all(options, &place, &[Who::SshAes, Who::Product])?;
    last(SETTLED);
    for round in 0..options.rounds {
        let ends: Vec<_> = peers
            .iter()
            .flat_map(|peer| {
                [
                    (peer.who, "laptop", Processes::near(&place, peer.who)),
                    (peer.who, "GPU host", Processes::far(&place, peer.who)),
                ]
            })
            .collect();
        let count = || -> Result<Vec<_>> {
            ends.iter()
                .map(|(.., end)| Ok((end.seconds()?, end.sleeps())))
                .collect()
        };
        let (start, before) = (Instant::now(), count()?);
        last(length);
        let (passed, after) = (start.elapsed().as_secs_f64(), count()?);
        for (((who, host, _), before), after) in ends.iter().zip(before).zip(after) {
            let load = (after.0 - before.0) / passed * 100.0;
            let wakes = (after.1 - before.1) / passed;
            let what = format!("processor, {host}");
            sheet.add(&what, who.name(), "%", load);
            sheet.add(&format!("wake-ups, {host}"), who.name(), "1/s", wakes);
            options.tell(round, &what, who.name(), load, "%");
        }
    }
    for host in ["laptop", "GPU host"] {
        let what = format!("processor, {host}");
        let loads = sheet.values(&what, Who::Product.name());
        sheet.judge(what, "%", loads, at_most(0.1, 0.0));
    }
    drop(peers);
    place.down()?;
    Ok(sheet)
}

const IDLE: &str = "idle";
const MACHINE: &str = "one stream, no delay";
const LONG: &str = "one stream, 300 Mbit/s 80 ms";
const MANY: &str = "10,000 idle streams";

fn memory(options: &Options) -> Result<Sheet> {
    idle_streams::raise_descriptors()?;
    let mut sheet = Sheet::default();
    for (wire, what) in [(wire::VETH, MACHINE), (wire::LONG, LONG)] {
        let place = Place::up(wire)?;
        for round in 0..options.rounds {
            at_full_speed(&place, wire, what, round, options, &mut sheet)?;
            if wire == wire::VETH {
                forget(&place)?;
                let peer = Peer::start(&place, Who::Product)?;
                let process = IdleProcess::start(&place, &peer)?;
                last(options.warm_up);
                let ends = ends(&place, Who::Product);
                note(&mut sheet, options, round, MANY, Who::Product, &residents(&ends)?);
                drop(process);
                place.target.close_held();
            }
        }
        place.down()?;
    }
    for (what, bar) in [(IDLE, 12.0), (MACHINE, 40.0), (LONG, 40.0), (MANY, 150.0)] {
        for end in ENDS {
            let what = format!("{what}, {end}");
            let values = sheet.values(&what, Who::Product.name());
            sheet.judge(what, "MB", values, at_most(bar, bar / 2.0));
        }
    }
    Ok(sheet)
}

const ENDS: [&str; 2] = ["laptop", "GPU host"];

fn at_full_speed(
    place: &Place,
    wire: Wire,
    what: &str,
    round: usize,
    options: &Options,
    sheet: &mut Sheet,
) -> Result<()> {
    for who in [Who::SshAes, Who::Product] {
        forget(place)?;
        let peer = Peer::start(place, who)?;
        last(options.warm_up);
        let ends = ends(place, who);
        if wire == wire::VETH {
            note(sheet, options, round, IDLE, who, &residents(&ends)?);
        }
        let mut most = [0.0; 2];
        for direction in Direction::BOTH {
            let flows = Flow::start_many(place, &peer, direction, 1)?;
            let deadline = Instant::now() + options.warm_up + options.length;
            while Instant::now() < deadline {
                last(Duration::from_millis(100));
                for (most, now) in most.iter_mut().zip(residents(&ends)?) {
                    *most = now.max(*most);
                }
            }
            drop(flows);
            place.settle()?;
        }
        note(sheet, options, round, what, who, &most);
    }
    Ok(())
}

fn ends(place: &Place, who: Who) -> [Processes; 2] {
    [Processes::near(place, who), Processes::far(place, who)]
}

fn residents(ends: &[Processes; 2]) -> Result<[f64; 2]> {
    let [near, far] = ends;
    Ok([near.resident()?, far.resident()?])
}

fn note(sheet: &mut Sheet, options: &Options, round: usize, what: &str, who: Who, residents: &[f64; 2]) {
    for (end, resident) in ENDS.iter().zip(residents) {
        let what = format!("{what}, {end}");
        sheet.add(&what, who.name(), "MB", *resident);
        options.tell(round, &what, who.name(), *resident, "MB");
    }
}
