//! Sends and receives a pattern at the requested pace, until an end of data, a reset or a violation.

use std::{future::pending, io, time::Instant};

use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    time::sleep,
};

use super::{
    ledger::{End, Ledger, Orders, Pace, Side},
    pattern::Pattern,
};

const CHUNK: usize = 64 * 1024;

/// Bytes that a rate-limited reader reads at once.
const SMALL_READ: usize = 4 * 1024;

/// Why a stream ended before both directions were complete.
pub(super) enum Broken {
    /// The socket reported an error.
    Reset,
    /// A violation, which is already in the ledger.
    Violated,
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Reset
    }
}

/// One direction's sending half.
pub(super) struct Outward<'a> {
    socket: WriteHalf<'a>,
    side: &'a Side,
    pattern: Pattern,
    offset: u64,
    hash: Sha256,
    buffer: Vec<u8>,
}

impl<'a> Outward<'a> {
    pub(super) fn new(socket: WriteHalf<'a>, side: &'a Side, pattern: Pattern) -> Self {
        Self {
            socket,
            side,
            pattern,
            offset: 0,
            hash: Sha256::new(),
            buffer: vec![0; 0],
        }
    }

    /// Sends up to `length` bytes in total, fewer if ordered to finish.
    pub(super) async fn up_to(&mut self, length: u64) -> Result<(), Broken> {
        let mut orders = self.side.watch();
        while self.offset < length {
            let size = (length - self.offset).min(CHUNK as u64) as usize;
            self.buffer.resize(size, 0);
            self.pattern.fill(self.offset, &mut self.buffer);
            let mut done = 0;
            while done < size {
                let written = tokio::select! {
                    written = self.socket.write(&self.buffer[done..]) => written?,
                    // If this branch is taken, nothing has been written.
                    () = finish_ordered(&mut orders) => return Ok(()),
                };
                self.hash.update(&self.buffer[done..done + written]);
                self.side.add_sent(written as u64);
                self.offset += written as u64;
                done += written;
            }
        }
        Ok(())
    }

    /// Sends `count` more bytes, also if ordered to finish.
    pub(super) async fn more(&mut self, count: u64) -> Result<(), Broken> {
        self.buffer.resize(count as usize, 0);
        self.pattern.fill(self.offset, &mut self.buffer);
        self.socket.write_all(&self.buffer).await?;
        self.hash.update(&self.buffer);
        self.side.add_sent(count);
        self.offset += count;
        Ok(())
    }

    /// Ends the data. Records this in the ledger first.
    pub(super) async fn end(&mut self) -> Result<(), Broken> {
        self.side.finish(self.hash.clone().finalize().into());
        Ok(self.socket.shutdown().await?)
    }
}

/// One direction's receiving half.
pub(super) struct Inward<'a> {
    socket: ReadHalf<'a>,
    side: &'a Side,
    peer: &'a Side,
    stream: u64,
    ledger: &'a Ledger,
    pattern: Pattern,
    offset: u64,
    hash: Sha256,
    buffer: Vec<u8>,
}

/// The reading side, its peer, and the expected content of the stream.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) side: &'a Side,
    pub(super) peer: &'a Side,
    pub(super) stream: u64,
    pub(super) ledger: &'a Ledger,
    pub(super) pattern: Pattern,
}

impl<'a> Inward<'a> {
    pub(super) fn new(socket: ReadHalf<'a>, reader: Reader<'a>) -> Self {
        let Reader {
            side,
            peer,
            stream,
            ledger,
            pattern,
        } = reader;
        Self {
            socket,
            side,
            peer,
            stream,
            ledger,
            pattern,
            offset: 0,
            hash: Sha256::new(),
            buffer: Vec::new(),
        }
    }

    /// Reads up to `most` bytes as soon as the pace allows. None: the data has ended, at the right offset.
    pub(super) async fn some(&mut self, most: u64) -> Result<Option<u64>, Broken> {
        let mut orders = self.side.watch();
        let pace = allowed(&mut orders).await;
        let most = (most as usize).min(if pace == Pace::Full { CHUNK } else { SMALL_READ });
        self.buffer.resize(most, 0);
        let got = self.socket.read(&mut self.buffer).await?;
        if got == 0 {
            return self.judge_end().map(|()| None);
        }
        let bytes = &self.buffer[..got];
        if let Some(at) = self.pattern.first_wrong(self.offset, bytes) {
            self.side.add_received(at as u64);
            let place = self.offset + at as u64;
            self.ledger
                .report(Some(self.stream), format!("a wrong byte at offset {place}"));
            return Err(Broken::Violated);
        }
        self.hash.update(bytes);
        self.side.add_received(got as u64);
        self.offset += got as u64;
        if let Pace::Limited(rate) = pace {
            sleep(std::time::Duration::from_secs_f64(
                got as f64 / rate.max(1) as f64,
            ))
            .await;
        }
        Ok(Some(got as u64))
    }

    /// Reads exactly `count` bytes. False: the data ended instead.
    pub(super) async fn exactly(&mut self, count: u64) -> Result<bool, Broken> {
        let mut missing = count;
        while missing > 0 {
            match self.some(missing).await? {
                Some(got) => missing -= got,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Reads everything up to the end.
    pub(super) async fn all(&mut self) -> Result<(), Broken> {
        while self.some(CHUNK as u64).await?.is_some() {}
        Ok(())
    }

    /// Records that data or an end arrived without a request.
    fn unexpected(&self, got: Option<u64>) -> Broken {
        if got.is_some() {
            self.ledger
                .report(Some(self.stream), "an answer without a request");
        }
        Broken::Violated
    }

    fn judge_end(&mut self) -> Result<(), Broken> {
        let hash: super::ledger::Digest = self.hash.clone().finalize().into();
        let what = match self.peer.finished() {
            Some((length, _)) if length != self.offset => {
                format!("an early end at {} of {length} bytes", self.offset)
            }
            Some((_, right)) if right != hash => "the hash of the whole content differs".into(),
            Some(_) => {
                self.side.set_end(End::Complete);
                return Ok(());
            }
            None => format!(
                "an early end at {} bytes: the peer has sent {} bytes and not ended",
                self.offset,
                self.peer.sent()
            ),
        };
        self.side.set_end(End::Early);
        self.ledger.report(Some(self.stream), what);
        Err(Broken::Violated)
    }
}

/// Runs a stream until it ends or is ordered to reset. Records in the ledger how it ended.
pub(super) async fn carry_out(
    stream: &mut TcpStream,
    side: &Side,
    work: impl AsyncFnOnce(&mut TcpStream) -> Result<(), Broken>,
) {
    let mut orders = side.watch();
    let broken = tokio::select! {
        done = work(&mut *stream) => done.err(),
        () = ordered(&mut orders, |orders| orders.reset) => {
            side.set_end(End::OwnReset);
            Some(Broken::Violated)
        }
    };
    if let Some(broken) = broken {
        if matches!(broken, Broken::Reset) {
            side.set_end(End::Reset);
        }
        // A violation must not look like a clean end to the other side.
        let _ = stream.set_zero_linger();
    }
}

/// Waits until reading is allowed. Returns the pace.
async fn allowed(orders: &mut watch::Receiver<Orders>) -> Pace {
    ordered(orders, |orders| orders.pace != Pace::Stopped).await;
    orders.borrow().pace
}

async fn finish_ordered(orders: &mut watch::Receiver<Orders>) {
    ordered(orders, |orders| orders.finish).await;
}

/// Waits until the orders fulfil a condition; forever if the scenario has ended.
pub(super) async fn ordered(orders: &mut watch::Receiver<Orders>, kind: impl FnMut(&Orders) -> bool) {
    if orders.wait_for(kind).await.is_err() {
        pending::<()>().await;
    }
}

/// Sends the ordered number of requests and waits for their answers, until it is ordered to finish.
pub(super) async fn converse(
    out: &mut Outward<'_>,
    back: &mut Inward<'_>,
    side: &Side,
    size: u64,
) -> Result<(), Broken> {
    let mut orders = side.watch();
    let mut asked = 0;
    loop {
        tokio::select! {
            () = ordered(&mut orders, |orders| orders.finish || orders.questions > asked) => {}
            data = back.some(1) => return Err(back.unexpected(data?)),
        }
        let now = *orders.borrow();
        if now.finish {
            out.end().await?;
            return back.all().await;
        }
        let start = Instant::now();
        out.more(size).await?;
        if !back.exactly(size).await? {
            // The peer ended cleanly before it was ordered to. Whether this is right is judged elsewhere.
            return Err(Broken::Violated);
        }
        side.add_answer(start.elapsed());
        asked += 1;
        if !now.pause.is_zero() {
            sleep(now.pause).await;
        }
    }
}
