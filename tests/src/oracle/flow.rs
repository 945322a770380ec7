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

/// How much a limited reader takes at once.
const SIP: usize = 4 * 1024;

/// Why a stream is over before both ways are complete.
pub(super) enum Broken {
    /// The kernel says so.
    Reset,
    /// The ledger has the violation already.
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

    /// Sends up to `length` bytes in all, fewer if ordered to finish.
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
                    // Nothing has been written where this comes first.
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

    /// Sends `count` bytes more, whatever is ordered.
    pub(super) async fn more(&mut self, count: u64) -> Result<(), Broken> {
        self.buffer.resize(count as usize, 0);
        self.pattern.fill(self.offset, &mut self.buffer);
        self.socket.write_all(&self.buffer).await?;
        self.hash.update(&self.buffer);
        self.side.add_sent(count);
        self.offset += count;
        Ok(())
    }

    /// Says that this is all, to the ledger first.
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

/// Who reads what of whom.
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

    /// Takes what is there, `most` bytes at most, as soon as the pace allows. None: the end, and a right one.
    pub(super) async fn some(&mut self, most: u64) -> Result<Option<u64>, Broken> {
        let mut orders = self.side.watch();
        let pace = allowed(&mut orders).await;
        let most = (most as usize).min(if pace == Pace::Full { CHUNK } else { SIP });
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
                .accuse(Some(self.stream), format!("a wrong byte at offset {place}"));
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

    /// Takes exactly `count` bytes. False: the end came in their place.
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

    /// Takes everything up to the end.
    pub(super) async fn all(&mut self) -> Result<(), Broken> {
        while self.some(CHUNK as u64).await?.is_some() {}
        Ok(())
    }

    /// Something came that nobody had asked for.
    fn unasked(&self, got: Option<u64>) -> Broken {
        if got.is_some() {
            self.ledger
                .accuse(Some(self.stream), "an answer without a question");
        }
        Broken::Violated
    }

    fn judge_end(&mut self) -> Result<(), Broken> {
        let hash: super::ledger::Digest = self.hash.clone().finalize().into();
        let what = match self.peer.finished() {
            Some((length, _)) if length != self.offset => {
                format!("an end at {} of {length} bytes", self.offset)
            }
            Some((_, right)) if right != hash => "the hash of the whole is another".into(),
            Some(_) => {
                self.side.set_end(End::Complete);
                return Ok(());
            }
            None => format!(
                "an end at {} bytes while the peer, with {} sent, had not ended",
                self.offset,
                self.peer.sent()
            ),
        };
        self.side.set_end(End::Early);
        self.ledger.accuse(Some(self.stream), what);
        Err(Broken::Violated)
    }
}

/// Runs what happens on a stream until it is over or the side is ordered to reset it. Says in the ledger how it ended.
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
        // What is wrong must not look like an end to the other side.
        let _ = stream.set_zero_linger();
    }
}

/// Waits until reading is allowed and says how fast.
async fn allowed(orders: &mut watch::Receiver<Orders>) -> Pace {
    ordered(orders, |orders| orders.pace != Pace::Stopped).await;
    orders.borrow().pace
}

async fn finish_ordered(orders: &mut watch::Receiver<Orders>) {
    ordered(orders, |orders| orders.finish).await;
}

/// Waits for orders of a kind; forever if nobody is left to give them.
pub(super) async fn ordered(orders: &mut watch::Receiver<Orders>, kind: impl FnMut(&Orders) -> bool) {
    if orders.wait_for(kind).await.is_err() {
        pending::<()>().await;
    }
}

/// Asks until as many answers as ordered are there, for as long as it is not ordered to finish.
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
            unasked = back.some(1) => return Err(back.unasked(unasked?)),
        }
        let now = *orders.borrow();
        if now.finish {
            out.end().await?;
            return back.all().await;
        }
        let start = Instant::now();
        out.more(size).await?;
        if !back.exactly(size).await? {
            // The peer ended in order before it was asked to: not for an echo to decide.
            return Err(Broken::Violated);
        }
        side.add_answer(start.elapsed());
        asked += 1;
        if !now.pause.is_zero() {
            sleep(now.pause).await;
        }
    }
}
