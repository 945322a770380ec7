//! An image registry on the GPU host, with faults.
//!
//! Implements the part of the Registry HTTP API that a pull needs: images by tag and digest, and layers with range
//! requests. dockerd accepts plain HTTP from a registry on its own loopback, so no certificate is needed. Each connection
//! is closed after one response.

mod http;
mod image;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::net::{Shutdown, shutdown};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::http::{Request, base64, digest, head};
use self::image::{compress, random_layer, save};
use super::Lab;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// Bytes that are sent at once. The smaller this is, the more even is the rate.
const CHUNK: u64 = 16 << 10;

/// A running registry on 127.0.0.1 of the GPU host. Dropping it stops it.
#[derive(Debug)]
pub struct Registry {
    address: String,
    listener: TcpListener,
    serving: Arc<Serving>,
    acceptor: Option<JoinHandle<()>>,
    dir: TempDir,
}

/// How a registry treats its clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// Bytes per second of each download. None: no limit.
    pub rate: Option<u64>,
    /// The user and password that are required.
    pub login: Option<(String, String)>,
    /// The offset in a layer at which the connection is closed.
    pub cut: Option<u64>,
}

/// The requests that a registry has received so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests of any kind, including refused ones.
    pub requests: usize,
    /// Bytes of layers that were sent.
    pub layer_bytes: u64,
    /// Connections that were closed at [`Behaviour::cut`].
    pub cuts: usize,
}

#[derive(Debug)]
struct Serving {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    traffic: Traffic,
    /// By `NAME:TAG` and by `NAME@DIGEST`.
    manifests: HashMap<String, Vec<u8>>,
    /// By digest.
    blobs: HashMap<String, Blob>,
    open: HashMap<usize, TcpStream>,
    ended: bool,
    log: File,
}

#[derive(Clone, Debug)]
struct Blob {
    file: PathBuf,
    is_layer: bool,
}

impl Registry {
    /// Starts a registry without images on a free port.
    pub fn start(lab: &Lab) -> Result<Self> {
        let host = lab.gpu();
        let listener = host.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))??;
        let address = listener.local_addr()?.to_string();
        let dir = tempfile::tempdir_in(&host.dir).context("no directory for a registry")?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(host.dir.join("registry.log"))
            .context("cannot open the registry's log")?;
        let serving = Arc::new(Serving {
            state: Mutex::new(State {
                behaviour: Behaviour::default(),
                traffic: Traffic::default(),
                manifests: HashMap::new(),
                blobs: HashMap::new(),
                open: HashMap::new(),
                ended: false,
                log,
            }),
            ended: Condvar::new(),
        });
        let (accepting, shared) = (listener.try_clone()?, Arc::clone(&serving));
        let acceptor = thread::spawn(move || shared.accept(&accepting));
        Ok(Self {
            address,
            listener,
            serving,
            acceptor: Some(acceptor),
            dir,
        })
    }

    /// The prefix of its images' names: `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Changes how it treats its clients, from the next request on.
    pub fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.serving.state().behaviour);
    }

    /// The requests that it has received so far.
    pub fn traffic(&self) -> Traffic {
        self.serving.state().traffic
    }

    /// Publishes one of the engine's images under `name` (`NAME:TAG`), with an additional layer of `payload` random bytes, so
    /// that no engine has it. Returns the reference with which it can be pulled.
    pub fn publish(&self, lab: &Lab, image: &str, name: &str, payload: usize) -> Result<String> {
        let dir = tempfile::tempdir_in(&self.dir)
            .context("no directory for an image")?
            .keep();
        let (saved, mut config) = save(lab, image, &dir)?;
        let mut layers: Vec<_> = saved.layers.iter().map(|layer| dir.join(layer)).collect();
        layers.push(random_layer(&dir, payload)?);
        let added = digest(&fs::read(&layers[layers.len() - 1])?);
        let diff_ids = config["rootfs"]["diff_ids"].as_array_mut();
        diff_ids
            .with_context(|| format!("{image} has no layers"))?
            .push(added.into());
        if let Some(history) = config["history"].as_array_mut() {
            history.push(json!({ "created_by": "random bytes" }));
        }

        let mut described = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            let file = dir.join(format!("{number}.tar.gz"));
            compress(layer, &file)?;
            described.push(self.blob(LAYER, file)?);
        }
        let file = dir.join("config.json");
        fs::write(&file, config.to_string()).context("cannot write an image's configuration")?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(CONFIG, file)?,
            "layers": described,
        });
        let manifest = manifest.to_string().into_bytes();
        let (repository, _) = name.split_once(':').context("an image's name has a tag")?;
        let manifests = &mut self.serving.state().manifests;
        manifests.insert(format!("{repository}@{}", digest(&manifest)), manifest.clone());
        manifests.insert(name.into(), manifest);
        Ok(format!("{}/{name}", self.address))
    }

    /// Publishes a file. Returns its descriptor for a manifest.
    fn blob(&self, media_type: &str, file: PathBuf) -> Result<Value> {
        let content = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let digest = digest(&content);
        let blob = Blob {
            file,
            is_layer: media_type == LAYER,
        };
        self.serving.state().blobs.insert(digest.clone(), blob);
        Ok(json!({ "mediaType": media_type, "size": content.len(), "digest": digest }))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let open = {
            let mut state = self.serving.state();
            state.ended = true;
            std::mem::take(&mut state.open)
        };
        self.serving.ended.notify_all();
        // Both fail only if the thread has ended already.
        let _ = shutdown(&self.listener, Shutdown::Both);
        for stream in open.values() {
            let _ = shutdown(stream, Shutdown::Both);
        }
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Serving {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(&self, listener: &TcpListener) {
        thread::scope(|scope| {
            for (number, stream) in listener.incoming().enumerate() {
                let mut state = self.state();
                if state.ended {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let Ok(copy) = stream.try_clone() else { continue };
                state.open.insert(number, copy);
                drop(state);
                scope.spawn(move || {
                    // The client has closed the connection; it reports that itself.
                    let _ = self.serve(stream);
                    self.state().open.remove(&number);
                });
            }
        });
    }

    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let Some(request) = Request::read(&mut stream)? else {
            return stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        };
        let behaviour = {
            let mut state = self.state();
            state.traffic.requests += 1;
            writeln!(
                state.log,
                "{} {} from byte {}",
                request.method, request.path, request.from
            )?;
            state.behaviour.clone()
        };
        if let Some((user, password)) = &behaviour.login {
            let wanted = format!("Basic {}", base64(format!("{user}:{password}").as_bytes()));
            if request.authorization != Some(wanted) {
                let status = "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"lab\"";
                return request.refuse(&mut stream, status, "UNAUTHORIZED", "authentication required");
            }
        }
        if request.path == "/v2/" {
            return request.answer(&mut stream, "200 OK", "application/json", b"{}");
        }
        let mut parts = request.path.trim_start_matches("/v2/").rsplitn(3, '/');
        let (reference, kind, name) = (parts.next(), parts.next(), parts.next());
        match (name, kind, reference) {
            (Some(name), Some("manifests"), Some(reference)) => {
                let mark = if reference.contains(':') { '@' } else { ':' };
                let found = self
                    .state()
                    .manifests
                    .get(&format!("{name}{mark}{reference}"))
                    .cloned();
                match found {
                    Some(manifest) => request.answer(&mut stream, "200 OK", MANIFEST, &manifest),
                    None => {
                        let (code, message) = ("MANIFEST_UNKNOWN", "manifest unknown");
                        request.refuse(&mut stream, "404 Not Found", code, message)
                    }
                }
            }
            (_, Some("blobs"), Some(digest)) => {
                let found = self.state().blobs.get(digest).cloned();
                match found {
                    Some(blob) => self.send(&mut stream, &request, &behaviour, digest, &blob),
                    None => request.refuse(&mut stream, "404 Not Found", "BLOB_UNKNOWN", "blob unknown"),
                }
            }
            _ => request.refuse(&mut stream, "404 Not Found", "UNSUPPORTED", "no such endpoint"),
        }
    }

    fn send(
        &self,
        stream: &mut TcpStream,
        request: &Request,
        behaviour: &Behaviour,
        digest: &str,
        blob: &Blob,
    ) -> io::Result<()> {
        let mut file = File::open(&blob.file)?;
        let size = file.metadata()?.len();
        let from = request.from;
        let status = match from {
            0 => "200 OK".to_owned(),
            from if from < size => format!(
                "206 Partial Content\r\nContent-Range: bytes {from}-{}/{size}",
                size - 1
            ),
            _ => {
                let status = "416 Range Not Satisfiable";
                return request.refuse(stream, status, "SIZE_INVALID", "beyond the end");
            }
        };
        head(stream, &status, "application/octet-stream", digest, size - from)?;
        if request.method == "HEAD" {
            return Ok(());
        }
        let cut = behaviour.cut.filter(|cut| blob.is_layer && *cut < size);
        let end = cut.unwrap_or(size);
        file.seek(SeekFrom::Start(from))?;
        let (began, mut at) = (Instant::now(), from);
        while at < end {
            let sent = io::copy(&mut (&mut file).take(CHUNK.min(end - at)), stream)?;
            if sent == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += sent;
            if blob.is_layer {
                self.state().traffic.layer_bytes += sent;
            }
            if let Some(rate) = behaviour.rate {
                let due = began + Duration::from_secs_f64((at - from) as f64 / rate as f64);
                self.wait_until(due);
            }
        }
        if cut.is_some() {
            self.state().traffic.cuts += 1;
        }
        Ok(())
    }

    /// Waits until `due`, or until the registry is stopped.
    fn wait_until(&self, due: Instant) {
        let left = due.saturating_duration_since(Instant::now());
        let _ = self
            .ended
            .wait_timeout_while(self.state(), left, |state| !state.ended);
    }
}
