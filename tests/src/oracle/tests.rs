//! The oracle accepts correct streams and detects every fault that a proxy injects.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};

use super::{Caller, End, Job, Ledger, NetThread, Pace, Server, Stream};
use crate::eventually;

const SOON: Duration = Duration::from_secs(20);

/// What the proxy does to the data for the caller.
#[derive(Clone, Copy)]
enum Wrong {
    Nothing,
    Flip(usize),
    Drop(usize),
    Double(usize),
    /// A clean end after this many bytes.
    End(usize),
    /// A reset after this many bytes.
    Reset(usize),
}

/// Both sides, with a proxy between them.
struct Setting {
    ledger: Ledger,
    caller: Caller,
    _server: Server,
}

fn setting(wrong: Wrong) -> Result<Setting> {
    let ledger = Ledger::default();
    let server = Server::start(NetThread::here()?, &ledger, 0)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (port, target) = (listener.local_addr()?.port(), server.port());
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let far = TcpStream::connect(("127.0.0.1", target)).expect("the server listens");
            let (from, to) = (
                near.try_clone().expect("a socket"),
                far.try_clone().expect("a socket"),
            );
            thread::spawn(move || pass(from, to, Wrong::Nothing));
            thread::spawn(move || pass(far, near, wrong));
        }
    });
    Ok(Setting {
        caller: Caller::new(NetThread::here()?, &ledger, port),
        ledger,
        _server: server,
    })
}

fn pass(mut from: TcpStream, mut to: TcpStream, wrong: Wrong) {
    let mut buffer = vec![0; 10_000];
    let mut offset = 0;
    while let Ok(got @ 1..) = from.read(&mut buffer) {
        let mut bytes = buffer[..got].to_vec();
        let inside = |at: usize| (offset..offset + got).contains(&at).then(|| at - offset);
        match wrong {
            Wrong::Flip(at) => inside(at).into_iter().for_each(|at| bytes[at] ^= 4),
            Wrong::Drop(at) => bytes
                .drain(inside(at).map_or(0..0, |at| at..at + 1))
                .for_each(drop),
            Wrong::Double(at) => inside(at).into_iter().for_each(|at| bytes.insert(at, bytes[at])),
            Wrong::End(at) if inside(at).is_some() => break,
            Wrong::Reset(at) if inside(at).is_some() => {
                let zero = Some(Duration::ZERO);
                rustix::net::sockopt::set_socket_linger(&to, zero).expect("a socket");
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
            Wrong::Nothing | Wrong::End(_) | Wrong::Reset(_) => {}
        }
        if to.write_all(&bytes).is_err() {
            return;
        }
        offset += got;
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn over(stream: &Stream) -> Result<()> {
    eventually("the stream to end", SOON, || stream.near().end() != End::Open)
}

#[test]
fn a_correct_stream_of_every_job_is_complete() -> Result<()> {
    let Setting {
        ledger,
        caller,
        _server,
    } = setting(Wrong::Nothing)?;
    let jobs = [
        Job::Bulk {
            up: 3_000_001,
            down: 2_000_003,
        },
        Job::Bulk { up: 0, down: 1 },
        Job::HalfClose {
            up: 100_000,
            down: 1_000_000,
        },
    ];
    for job in jobs {
        caller.open(job).complete(SOON)?;
    }
    let echo = caller.echo(Duration::ZERO);
    eventually("echoes", SOON, || echo.near().answers() > 100)?;
    echo.finish();
    echo.complete(SOON)?;
    let endless = caller.open(Job::Bulk {
        up: u64::MAX,
        down: u64::MAX,
    });
    eventually("bytes", SOON, || endless.arrived() > 1_000_000)?;
    endless.finish();
    endless.complete(SOON)?;
    caller.try_once(SOON)?;
    ensure!(ledger.violations().is_empty(), "{:?}", ledger.violations());
    Ok(())
}

#[test]
fn a_changed_lost_or_duplicated_byte_is_found_at_its_offset() -> Result<()> {
    for wrong in [Wrong::Flip(50_000), Wrong::Drop(50_000), Wrong::Double(50_000)] {
        let Setting {
            ledger,
            caller,
            _server,
        } = setting(wrong)?;
        caller.open(Job::Bulk { up: 0, down: 200_000 });
        eventually("a violation", SOON, || !ledger.violations().is_empty())?;
        let found = ledger.violations();
        // The first copy of a duplicated byte is correct.
        ensure!(
            found[0].what.contains(" 50000") || found[0].what.contains(" 50001"),
            "{found:?}"
        );
    }
    Ok(())
}

#[test]
fn a_clean_end_of_truncated_data_is_a_violation_but_a_reset_is_not() -> Result<()> {
    let Setting {
        ledger,
        caller,
        _server,
    } = setting(Wrong::End(50_000))?;
    let stream = caller.open(Job::Bulk { up: 0, down: 200_000 });
    over(&stream)?;
    ensure!(stream.near().end() == End::Early);
    ensure!(
        ledger.violations()[0].what.starts_with("an early end at"),
        "{:?}",
        ledger.violations()
    );

    let Setting {
        ledger,
        caller,
        _server,
    } = setting(Wrong::Reset(50_000))?;
    let stream = caller.open(Job::Bulk { up: 0, down: 200_000 });
    over(&stream)?;
    ensure!(stream.near().end() == End::Reset);
    ensure!(ledger.violations().is_empty(), "{:?}", ledger.violations());
    ensure!(
        stream.complete(SOON).is_err(),
        "a reset stream counts as complete"
    );
    Ok(())
}

#[test]
fn an_end_before_the_writer_has_ended_is_a_violation_even_if_no_byte_is_missing() -> Result<()> {
    let Setting {
        ledger,
        caller,
        _server,
    } = setting(Wrong::End(0))?;
    // An echo without requests: no byte is missing, but neither side has ended.
    let idle = caller.idle();
    idle.ask();
    over(&idle)?;
    ensure!(!ledger.violations().is_empty());
    Ok(())
}

#[test]
fn a_stopped_reader_reads_nothing_until_it_continues() -> Result<()> {
    let Setting {
        ledger,
        caller,
        _server,
    } = setting(Wrong::Nothing)?;
    let stream = caller.open(Job::Bulk {
        up: 0,
        down: 20_000_000,
    });
    stream.near().order(|orders| orders.pace = Pace::Stopped);
    eventually("the server to block", SOON, || {
        stream.near().forget_silence();
        let sent = stream.far().sent();
        eventually("more", Duration::from_millis(500), || stream.far().sent() > sent).is_err()
    })?;
    ensure!(stream.far().sent() < 20_000_000);
    stream.near().order(|orders| orders.pace = Pace::Full);
    stream.complete(SOON)?;
    ensure!(ledger.violations().is_empty(), "{:?}", ledger.violations());
    Ok(())
}

#[test]
fn an_ordered_reset_arrives_as_a_reset_at_the_other_side() -> Result<()> {
    let ledger = Ledger::default();
    let server = Server::start(NetThread::here()?, &ledger, 0)?;
    let caller = Caller::new(NetThread::here()?, &ledger, server.port());
    for from_near in [true, false] {
        let stream = caller.echo(Duration::from_millis(1));
        eventually("echoes", SOON, || stream.near().answers() > 3)?;
        let (own, other) = if from_near {
            (stream.near(), stream.far())
        } else {
            (stream.far(), stream.near())
        };
        own.order(|orders| orders.reset = true);
        eventually("a reset", SOON, || other.end() == End::Reset)?;
        ensure!(own.end() == End::OwnReset);
    }
    ensure!(ledger.violations().is_empty(), "{:?}", ledger.violations());
    Ok(())
}

#[test]
fn a_slow_reader_reads_at_the_ordered_rate() -> Result<()> {
    let Setting {
        ledger,
        caller,
        _server,
    } = setting(Wrong::Nothing)?;
    let stream = caller.open(Job::Bulk {
        up: 0,
        down: u64::MAX,
    });
    stream.near().order(|orders| orders.pace = Pace::Limited(100_000));
    let start = std::time::Instant::now();
    eventually("bytes", SOON, || stream.near().received() > 100_000)?;
    ensure!(
        start.elapsed() > Duration::from_millis(500),
        "{:?}",
        start.elapsed()
    );
    stream.finish();
    stream.complete(SOON)?;
    ensure!(ledger.violations().is_empty(), "{:?}", ledger.violations());
    Ok(())
}
