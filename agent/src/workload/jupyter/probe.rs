//! One question to whatever listens on a port: is it our Jupyter?

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::workload::RunningWorkload;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most that is read of an answer, in bytes.
const ANSWER: usize = 64 * 1024;

/// What was found on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing that answers, and why.
    Nothing(String),
    /// Jupyter with our token.
    Ours,
    /// Jupyter that does not know our token.
    Stranger,
    /// Something that cannot be used.
    Other(Unfit),
}

/// Why what listens on a port cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It speaks HTTP, and what it said. May be a Jupyter that is still coming up.
    Answer(String),
    /// Jupyter that asks nobody for a token.
    Open,
    /// It is another user's, and who that is. It was sent nothing.
    Foreign(String),
}

/// Asks once. `/api` is open to everybody and tells Jupyter from others; `/api/status` needs the token, unless
/// Jupyter's configuration has switched that off: then it takes any.
pub(crate) async fn probe(workload: &dyn RunningWorkload, port: u16, token: &str) -> Found {
    let (status, body) = match get(workload, port, "/api", None).await {
        Ok(answer) => answer,
        Err(error) => return failed(&error),
    };
    let is_jupyter = status == StatusCode::OK
        && serde_json::from_slice::<serde_json::Value>(&body).is_ok_and(|body| body.get("version").is_some());
    if !is_jupyter {
        return Found::Other(Unfit::Answer(format!("HTTP {status} for /api")));
    }
    match get(workload, port, "/api/status", Some(token)).await {
        Ok((StatusCode::OK, _)) => match get(workload, port, "/api/status", None).await {
            Ok((StatusCode::OK, _)) => Found::Other(Unfit::Open),
            Ok(_) => Found::Ours,
            Err(error) => failed(&error),
        },
        Ok((StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _)) => Found::Stranger,
        Ok((status, _)) => Found::Other(Unfit::Answer(format!("HTTP {status} for /api/status"))),
        Err(error) => failed(&error),
    }
}

fn failed(error: &io::Error) -> Found {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Found::Other(Unfit::Foreign(error.to_string())),
        _ => Found::Nothing(error.to_string()),
    }
}

async fn get(
    workload: &dyn RunningWorkload,
    port: u16,
    path: &str,
    token: Option<&str>,
) -> io::Result<(StatusCode, Bytes)> {
    let ask = async {
        let stream = workload.dial(port).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let mut request = Request::get(path).header(header::HOST, format!("127.0.0.1:{port}"));
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("token {token}"));
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            let status = response.status();
            let mut body = Limited::new(response.into_body(), ANSWER);
            let mut bytes = BytesMut::new();
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
                    bytes.extend_from_slice(&data);
                }
            }
            Ok((status, bytes.freeze()))
        };
        tokio::pin!(answer, connection);
        tokio::select! {
            answer = &mut answer => answer,
            ended = &mut connection => {
                ended.map_err(io::Error::other)?;
                answer.await
            }
        }
    };
    timeout(PATIENCE, ask)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer"))?
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::workload::{process::loopback::HostProcesses, running::StandIn};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::mpsc,
        task::JoinSet,
    };

    /// Something that answers as Jupyter does, for who has the token; its port.
    pub(crate) async fn stand_in(token: &str, tasks: &mut JoinSet<()>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let token = format!("authorization: token {token}");
        answer(
            listener,
            move |request| request.lines().any(|line| line == token),
            tasks,
        )
    }

    /// Answers as Jupyter does; its port.
    fn answer(
        listener: TcpListener,
        lets_in: impl Fn(&str) -> bool + Send + 'static,
        tasks: &mut JoinSet<()>,
    ) -> u16 {
        let port = listener.local_addr().unwrap().port();
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    let mut chunk = [0; 1024];
                    match stream.read(&mut chunk).await {
                        Ok(read) if read > 0 => request.extend_from_slice(&chunk[..read]),
                        _ => break,
                    }
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                let (status, body) = if request.starts_with("GET /api ") {
                    ("200 OK", r#"{"version": "2.14.0"}"#)
                } else if lets_in(&request) {
                    ("200 OK", "{}")
                } else {
                    ("403 Forbidden", "{}")
                };
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    #[tokio::test]
    async fn our_jupyter_is_told_from_others() {
        let mut tasks = JoinSet::new();
        let port = stand_in("right", &mut tasks).await;
        let workload = StandIn(port);
        assert_eq!(probe(&workload, 8888, "right").await, Found::Ours);
        assert_eq!(probe(&workload, 8888, "wrong").await, Found::Stranger);
        tasks.shutdown().await;
        assert!(matches!(probe(&workload, 8888, "right").await, Found::Nothing(_)));
    }

    #[tokio::test]
    async fn a_jupyter_that_lets_everybody_in_is_not_ours() {
        let mut tasks = JoinSet::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let workload = StandIn(answer(listener, |_| true, &mut tasks));
        assert_eq!(probe(&workload, 8888, "right").await, Found::Other(Unfit::Open));
    }

    #[tokio::test]
    async fn nobody_but_our_own_jupyter_sees_the_token() {
        let mut tasks = JoinSet::new();
        let (saw, mut seen) = mpsc::unbounded_channel();
        let mut listen = |listener| {
            let saw = saw.clone();
            let note = move |request: &str| {
                saw.send(request.to_owned()).unwrap();
                request.contains("authorization")
            };
            answer(listener, note, &mut tasks)
        };
        let uid = rustix::process::geteuid().as_raw();
        // Another user's, on the very address.
        let port = listen(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let foreign = probe(&HostProcesses::with_jupyter(port, uid + 1), port, "secret").await;
        assert!(matches!(foreign, Found::Other(Unfit::Foreign(_))), "{foreign:?}");
        // On ::1 while nothing listens on 127.0.0.1.
        if let Ok(listener) = TcpListener::bind("[::1]:0").await {
            let port = listen(listener);
            let none = probe(&HostProcesses::with_jupyter(port, uid), port, "secret").await;
            assert!(matches!(none, Found::Nothing(_)), "{none:?}");
        }
        assert!(seen.try_recv().is_err());
        // Ours.
        let port = listen(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let ours = probe(&HostProcesses::with_jupyter(port, uid), port, "secret").await;
        assert_eq!(ours, Found::Ours);
        assert!(seen.recv().await.unwrap().contains("token secret"));
    }

    #[tokio::test]
    async fn what_is_not_jupyter_is_not_taken_for_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let workload = StandIn(listener.local_addr().unwrap().port());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream
                    .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                    .await;
                let _ = stream.shutdown().await;
            }
        });
        assert!(matches!(
            probe(&workload, 8888, "x").await,
            Found::Other(_) | Found::Nothing(_)
        ));
    }
}
