//! Copies packets between the SSH channel and the role's process.

use std::io;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UnixStream,
};

/// Size of the copy buffer in each direction, in bytes.
const SPLICED: usize = 64 * 1024;

/// Copies in both directions until either side ends. Data in flight in the other direction is lost, as packets may be.
pub(super) async fn splice(
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
    process: UnixStream,
) -> io::Result<()> {
    let (from_process, to_process) = process.into_split();
    tokio::select! {
        ended = copy(input, to_process) => ended,
        ended = copy(from_process, output) => ended,
    }
}

/// Flushes after each read, because the other side waits for every packet.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; SPLICED];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{io::duplex, time::timeout};

    use super::*;

    #[tokio::test]
    async fn bytes_behind_the_messages_pass_both_ways_until_either_side_ends() {
        for client_ends in [true, false] {
            let (mut to_us, input) = duplex(1 << 20);
            let (output, mut from_us) = duplex(1 << 20);
            let (process, mut agent) = UnixStream::pair().unwrap();
            let talk = async move {
                to_us.write_all(&[1; 200_000]).await.unwrap();
                let mut got = vec![0; 200_000];
                agent.read_exact(&mut got).await.unwrap();
                assert_eq!(got, [1; 200_000]);
                agent.write_all(&[2; 200_000]).await.unwrap();
                from_us.read_exact(&mut got).await.unwrap();
                assert_eq!(got, [2; 200_000]);
                // The other side stays as it is.
                if client_ends {
                    drop(to_us);
                    (None, Some(agent))
                } else {
                    drop(agent);
                    (Some(to_us), None)
                }
            };
            let both = async { tokio::join!(splice(input, output, process), talk) };
            let (ended, _kept) = timeout(Duration::from_secs(10), both).await.expect("it ends");
            ended.unwrap();
        }
    }
}
