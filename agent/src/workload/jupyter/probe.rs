//! Asks whatever listens on a port whether it is our Jupyter.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::workload::RunningWorkload;

/// Time limit for a response.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes read of a response.
const ANSWER: usize = 64 * 1024;

/// What listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    /// Nothing answered; why.
    None(String),
    /// A Jupyter that accepts our token.
    Ours,
    /// A Jupyter that refuses our token.
    OtherToken,
    /// Something that cannot be used.
    Unusable(Reason),
}

/// Why what listens on a port cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It answered over HTTP as given, but not as Jupyter; may be a Jupyter that is still starting.
    NotJupyter(String),
    /// A Jupyter that requires no token.
    NoToken,
    /// It belongs to another user, as given. It was sent nothing.
    OtherUser(String),
}

/// Probes the port once. `/api` is public and identifies Jupyter; `/api/status` requires the token, unless Jupyter's
/// configuration disables authentication: then it accepts any.
pub(crate) async fn probe(workload: &dyn RunningWorkload, port: u16, token: &str) -> Listener {
    let (status, body) = match get(workload, port, "/api", None).await {
        Ok(answer) => answer,
        Err(error) => return failed(&error),
    };
    let is_jupyter = status == StatusCode::OK
        && serde_json::from_slice::<serde_json::Value>(&body).is_ok_and(|body| body.get("version").is_some());
    if !is_jupyter {
        return Listener::Unusable(Reason::NotJupyter(format!("HTTP {status} for /api")));
    }
    match get(workload, port, "/api/status", Some(token)).await {
        Ok((StatusCode::OK, _)) => match get(workload, port, "/api/status", None).await {
            Ok((StatusCode::OK, _)) => Listener::Unusable(Reason::NoToken),
            Ok(_) => Listener::Ours,
            Err(error) => failed(&error),
        },
        Ok((StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _)) => Listener::OtherToken,
        Ok((status, _)) => Listener::Unusable(Reason::NotJupyter(format!("HTTP {status} for /api/status"))),
        Err(error) => failed(&error),
    }
}

fn failed(error: &io::Error) -> Listener {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Listener::Unusable(Reason::OtherUser(error.to_string())),
        _ => Listener::None(error.to_string()),
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
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no response in time"))?
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

    /// Starts a listener that answers as Jupyter does to whoever has the token; returns its port.
    pub(crate) async fn stand_in(token: &str, tasks: &mut JoinSet<()>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let token = format!("authorization: token {token}");
        answer(
            listener,
            move |request| request.lines().any(|line| line == token),
            tasks,
        )
    }

    /// Answers as Jupyter does; returns the port.
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
    async fn our_jupyter_is_distinguished_from_others() {
        let mut tasks = JoinSet::new();
        let port = stand_in("right", &mut tasks).await;
        let workload = StandIn(port);
        assert_eq!(probe(&workload, 8888, "right").await, Listener::Ours);
        assert_eq!(probe(&workload, 8888, "wrong").await, Listener::OtherToken);
        tasks.shutdown().await;
        assert!(matches!(probe(&workload, 8888, "right").await, Listener::None(_)));
    }

    #[tokio::test]
    async fn a_jupyter_without_authentication_is_not_ours() {
        let mut tasks = JoinSet::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let workload = StandIn(answer(listener, |_| true, &mut tasks));
        assert_eq!(
            probe(&workload, 8888, "right").await,
            Listener::Unusable(Reason::NoToken)
        );
    }

    #[tokio::test]
    async fn only_our_own_jupyter_is_sent_the_token() {
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
        // Another user's, at the exact address.
        let port = listen(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let foreign = probe(&HostProcesses::with_jupyter(port, uid + 1), port, "secret").await;
        assert!(
            matches!(foreign, Listener::Unusable(Reason::OtherUser(_))),
            "{foreign:?}"
        );
        // On ::1 while nothing listens on 127.0.0.1.
        if let Ok(listener) = TcpListener::bind("[::1]:0").await {
            let port = listen(listener);
            let none = probe(&HostProcesses::with_jupyter(port, uid), port, "secret").await;
            assert!(matches!(none, Listener::None(_)), "{none:?}");
        } else {
            crate::not_run::not_run("this machine has no ::1");
        }
        assert!(seen.try_recv().is_err());
        // Ours.
        let port = listen(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let ours = probe(&HostProcesses::with_jupyter(port, uid), port, "secret").await;
        assert_eq!(ours, Listener::Ours);
        assert!(seen.recv().await.unwrap().contains("token secret"));
    }

    #[tokio::test]
    async fn another_http_server_is_not_taken_for_jupyter() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let workload = StandIn(listener.local_addr().unwrap().port());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream
                    .write_all(b"HTTP/1.1 404 Not Listener\r\ncontent-length: 0\r\n\r\n")
                    .await;
                let _ = stream.shutdown().await;
            }
        });
        assert!(matches!(
            probe(&workload, 8888, "x").await,
            Listener::Unusable(_) | Listener::None(_)
        ));
    }
}
