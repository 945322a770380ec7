//! A file that curl downloads through a forward.

use std::{
    io::{Read, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::{eventually_some, lab::Lab, lab::random::Random};

/// The port of the HTTP server on the GPU host, and of the forward on the laptop.
pub(super) const PORT: u16 = 9001;

type Digest = [u8; 32];

/// A running download. Dropping it kills curl.
pub(super) struct Download {
    curl: Child,
    requests: Arc<AtomicUsize>,
    served: Option<thread::JoinHandle<Result<Digest>>>,
    got: Option<thread::JoinHandle<Result<(u64, Digest)>>>,
    amount: u64,
}

impl Download {
    pub(super) fn start(lab: &Lab, seed: u64, amount: u64) -> Result<Self> {
        let listener = lab.gpu().enter(|| TcpListener::bind(("127.0.0.1", PORT)))??;
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let served = thread::spawn(move || serve(&listener, &counted, seed, amount));
        let mut curl = lab
            .laptop()
            .command("/usr/bin/curl")
            .args(["--silent", "--show-error", "--fail", "--no-buffer"])
            .arg(format!("http://127.0.0.1:{PORT}/file"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start curl")?;
        let output = curl.stdout.take().context("no stdout")?;
        Ok(Self {
            curl,
            requests,
            served: Some(served),
            got: Some(thread::spawn(move || hash(output))),
            amount,
        })
    }

    pub(super) fn is_over(&mut self) -> bool {
        !matches!(self.curl.try_wait(), Ok(None))
    }

    /// Waits until curl has ended. Fails unless it received exactly the bytes that were served, with one request.
    pub(super) fn complete(mut self, within: Duration) -> Result<()> {
        let status = eventually_some("curl to end", within, || Ok(self.curl.try_wait()?))?;
        let mut words = String::new();
        if let Some(mut stderr) = self.curl.stderr.take() {
            stderr.read_to_string(&mut words)?;
        }
        ensure!(status.success(), "curl ended with {status}: {words}");
        let got = self
            .got
            .take()
            .context("the result was taken already")?
            .join()
            .expect("no panic")?;
        ensure!(
            got.0 == self.amount,
            "only {} of {} bytes arrived, with a clean end",
            got.0,
            self.amount
        );
        let sent = self
            .served
            .take()
            .context("the result was taken already")?
            .join()
            .expect("no panic")?;
        ensure!(
            got.1 == sent,
            "the file that arrived differs from the one that was served"
        );
        let requests = self.requests.load(Ordering::Relaxed);
        ensure!(requests == 1, "{requests} requests");
        Ok(())
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // Fails only if the process has ended already.
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}

/// Answers the first request, and counts further connections.
fn serve(listener: &TcpListener, requests: &AtomicUsize, seed: u64, amount: u64) -> Result<Digest> {
    let (mut stream, _) = listener.accept()?;
    requests.fetch_add(1, Ordering::Relaxed);
    read_head(&mut stream)?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {amount}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let (mut random, mut hash, mut left) = (Random::new(seed, 31), Sha256::new(), amount as usize);
    let mut chunk = vec![0; 64 * 1024];
    while left > 0 {
        for word in chunk.chunks_exact_mut(8) {
            word.copy_from_slice(&random.next().to_le_bytes());
        }
        let piece = &chunk[..chunk.len().min(left)];
        hash.update(piece);
        stream.write_all(piece)?;
        left -= piece.len();
    }
    drop(stream);
    listener.set_nonblocking(true)?;
    while listener.accept().is_ok() {
        requests.fetch_add(1, Ordering::Relaxed);
    }
    Ok(hash.finalize().into())
}

fn read_head(stream: &mut TcpStream) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
        ensure!(head.len() < 10_000, "no request");
    }
    Ok(())
}

fn hash(mut from: ChildStdout) -> Result<(u64, Digest)> {
    let (mut hash, mut count, mut buffer) = (Sha256::new(), 0, vec![0; 64 * 1024]);
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok((count, hash.finalize().into())),
            got => {
                hash.update(&buffer[..got]);
                count += got as u64;
            }
        }
    }
}
