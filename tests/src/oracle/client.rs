//! The connecting side, at the laptop's end of the forward.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{
    flow::{Broken, Inward, Outward, Reader, carry_out, converse},
    header::{Header, Job},
    ledger::{End, Ledger, Pace, Record, Side},
    net_thread::NetThread,
    pattern::{Direction, Pattern},
};
use crate::{eventually, eventually_some};

/// Opens streams to a port on 127.0.0.1 of its network namespace. Dropping it closes all of them.
pub struct Caller {
    net_thread: NetThread,
    ledger: Ledger,
    port: u16,
}

/// The scenario's handle of a stream. Dropping it does not end the stream.
#[derive(Clone)]
pub struct Stream {
    record: Arc<Record>,
}

impl Caller {
    /// Connects to `port` from the network namespace of `net_thread`.
    pub fn new(net_thread: NetThread, ledger: &Ledger, port: u16) -> Self {
        Self {
            net_thread,
            ledger: ledger.clone(),
            port,
        }
    }

    /// Starts a stream. It connects in the background; [`Side::end`] has the result.
    pub fn open(&self, job: Job) -> Stream {
        let record = self.ledger.open(job);
        let (ledger, port) = (self.ledger.clone(), self.port);
        let stream = Stream {
            record: Arc::clone(&record),
        };
        self.net_thread.start(async move {
            let Ok(mut socket) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
                return record.caller.set_end(End::Refused);
            };
            let _ = socket.set_nodelay(true);
            let side = &record.caller;
            carry_out(&mut socket, side, async |socket| {
                work(socket, &record, &ledger).await
            })
            .await;
        });
        stream
    }

    /// Opens a stream that sends requests of 64 bytes, each `pause` after the previous answer, until it is ended.
    pub fn echo(&self, pause: Duration) -> Stream {
        let stream = self.open(Job::Echo { size: 64 });
        stream.near().order(|orders| {
            orders.questions = u64::MAX;
            orders.pause = pause;
        });
        stream
    }

    /// Opens a stream that carries data only when [`Stream::ask`] is called.
    pub fn idle(&self) -> Stream {
        self.open(Job::Echo { size: 1 })
    }

    /// Opens an idle stream, sends one request, and ends the stream. Returns the time from the start to the answer.
    ///
    /// # Errors
    /// When there is no answer within `within`.
    pub fn try_once(&self, within: Duration) -> Result<Duration> {
        let start = Instant::now();
        let stream = self.idle();
        stream.ask();
        let answered = eventually("an answer on a new stream", within, || {
            stream.near().answers() > 0 || stream.near().end() != End::Open
        });
        let took = start.elapsed();
        if stream.near().answers() == 0 {
            stream.reset();
            bail!(
                "a new stream was not answered: {:?} ({answered:?})",
                stream.near().end()
            );
        }
        stream.finish();
        Ok(took)
    }
}

async fn work(socket: &mut TcpStream, record: &Arc<Record>, ledger: &Ledger) -> Result<(), Broken> {
    let header = Header {
        stream: record.id,
        job: record.job,
    };
    socket.write_all(&header.encode()).await?;
    let (read, write) = socket.split();
    let side = &record.caller;
    let mut out = Outward::new(write, side, Pattern::new(record.id, Direction::Up));
    let mut back = Inward::new(
        read,
        Reader {
            side,
            peer: &record.callee,
            stream: record.id,
            ledger,
            pattern: Pattern::new(record.id, Direction::Down),
        },
    );
    match record.job {
        Job::Echo { size } => converse(&mut out, &mut back, side, size).await,
        Job::Bulk { up, .. } | Job::HalfClose { up, .. } => {
            let sending = async {
                out.up_to(up).await?;
                out.end().await
            };
            tokio::try_join!(sending, back.all()).map(drop)
        }
    }
}

impl Stream {
    /// The stream's number in the ledger.
    pub fn id(&self) -> u64 {
        self.record.id
    }

    /// The connecting side.
    pub fn near(&self) -> &Side {
        &self.record.caller
    }

    /// The accepting side.
    pub fn far(&self) -> &Side {
        &self.record.callee
    }

    /// Bytes that have arrived at both sides.
    pub fn arrived(&self) -> u64 {
        self.near().received() + self.far().received()
    }

    /// Sends one more request.
    pub fn ask(&self) {
        self.near()
            .order(|orders| orders.questions = orders.questions.saturating_add(1));
    }

    /// Ends both directions cleanly. A side that had stopped reading reads again.
    pub fn finish(&self) {
        for side in [self.near(), self.far()] {
            side.order(|orders| {
                orders.finish = true;
                orders.pace = Pace::Full;
            });
        }
    }

    /// Resets the stream from the connecting side.
    pub fn reset(&self) {
        self.near().order(|orders| orders.reset = true);
    }

    /// Waits until both directions are complete.
    ///
    /// # Errors
    /// When they are not complete in time, or end in another way.
    pub fn complete(&self, within: Duration) -> Result<()> {
        let what = format!("both directions of stream {} to be complete", self.id());
        let ends = eventually_some(&what, within, || {
            let ends = [self.near().end(), self.far().end()];
            let done = ends == [End::Complete; 2];
            let broken = ends.iter().any(|end| !matches!(end, End::Open | End::Complete));
            Ok((done || broken).then_some(ends))
        })?;
        ensure!(
            ends == [End::Complete; 2],
            "stream {} ended with {ends:?}",
            self.id()
        );
        Ok(())
    }
}
