//! The accepting side, at the far end of the forward.

use std::{net::Ipv4Addr, sync::Arc};

use anyhow::{Context as _, Result};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    flow::{Broken, Inward, Outward, Reader, carry_out},
    header::{Header, Job, LENGTH},
    ledger::{Ledger, Record},
    net_thread::NetThread,
    pattern::{Direction, Pattern},
};

/// Accepts connections and does what the header of each one says. Dropping it closes all of them.
pub struct Server {
    net_thread: NetThread,
    port: u16,
}

impl Server {
    /// Listens on `port` of 127.0.0.1 in the network namespace of `net_thread`. 0 stands for any free port.
    ///
    /// # Errors
    /// When the port cannot be bound.
    pub fn start(net_thread: NetThread, ledger: &Ledger, port: u16) -> Result<Self> {
        let (tell, told) = std::sync::mpsc::channel();
        let ledger = ledger.clone();
        net_thread.start(async move {
            let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
            match bound.and_then(|listener| listener.local_addr().map(|at| (listener, at.port()))) {
                Ok((listener, port)) => {
                    let _ = tell.send(Ok(port));
                    accept(&listener, &ledger).await;
                }
                Err(error) => {
                    let _ = tell.send(Err(error));
                }
            }
        });
        let port = told
            .recv()
            .context("the oracle's thread ended")?
            .context("the oracle cannot listen")?;
        Ok(Self { net_thread, port })
    }

    /// The port on which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The thread on which it runs.
    pub fn net_thread(&self) -> &NetThread {
        &self.net_thread
    }
}

async fn accept(listener: &TcpListener, ledger: &Ledger) {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { streams.spawn(serve(stream, ledger.clone())); }
                Err(error) => ledger.report(None, format!("the oracle cannot accept: {error}")),
            },
            Some(_) = streams.join_next() => {}
        }
    }
}

async fn serve(mut stream: TcpStream, ledger: Ledger) {
    let _ = stream.set_nodelay(true);
    let mut header = [0; LENGTH];
    let mut got = 0;
    while got < LENGTH {
        match stream.read(&mut header[got..]).await {
            Ok(0) if got == 0 => return,
            Ok(0) => return ledger.report(None, format!("the stream ended after {got} bytes of its header")),
            Ok(more) => got += more,
            // Nothing is known about a stream that was reset before its header arrived, so this cannot be a violation.
            Err(_) => return,
        }
    }
    let Some(record) = Header::decode(&header).and_then(|header| {
        let record = ledger.find(header.stream)?;
        (record.job == header.job).then_some(record)
    }) else {
        return ledger.report(None, "the header is invalid");
    };
    let side = &record.callee;
    side.set_reached();
    carry_out(&mut stream, side, async |stream| {
        work(stream, &record, &ledger).await
    })
    .await;
}

async fn work(stream: &mut TcpStream, record: &Arc<Record>, ledger: &Ledger) -> Result<(), Broken> {
    let (read, write) = stream.split();
    let side = &record.callee;
    let mut out = Outward::new(write, side, Pattern::new(record.id, Direction::Down));
    let mut back = Inward::new(
        read,
        Reader {
            side,
            peer: &record.caller,
            stream: record.id,
            ledger,
            pattern: Pattern::new(record.id, Direction::Up),
        },
    );
    match record.job {
        Job::Echo { size } => {
            while back.exactly(size).await? {
                out.more(size).await?;
            }
            out.end().await
        }
        Job::Bulk { down, .. } => {
            let sending = async {
                out.up_to(down).await?;
                out.end().await
            };
            tokio::try_join!(sending, back.all()).map(drop)
        }
        Job::HalfClose { down, .. } => {
            back.all().await?;
            out.up_to(down).await?;
            out.end().await
        }
    }
}
