//! A small client: one session over QUIC on loopback, which reconnects.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jq_common::{
    bootstrap::{AdmitReply, random},
    codec,
    identity::{Fingerprint, Identity},
    protocol::{
        capabilities::Capabilities,
        limits,
        session::{Attach, AttachReply, Control, SessionId},
        stream::{Header, StreamHeader},
        target::Target,
        topics::{Topic, WorkloadState, WorkloadStatus},
        workload::{Event, Request, WorkloadSpec},
    },
    quic,
    session::{
        buffer_budget::{self, BufferBudget},
        control,
        offers::{Carrier, Offers},
        socket::Socket,
        stream::Ended,
        streams::Streams,
    },
};
use quinn::{Connection, Endpoint};
use tokio::{
    net::UnixStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::PATIENCE;

pub(crate) struct Client {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    identity: Identity,
    id: SessionId,
    streams: Streams,
    carrier: watch::Sender<Option<Carrier>>,
    /// The last workload status from the agent, and the generation of its connection.
    workload: watch::Sender<(u64, WorkloadState)>,
    /// The capabilities of the agent on the newest connection.
    capabilities: Mutex<Capabilities>,
    /// The longest time without a connection, in milliseconds.
    longest_outage: AtomicU64,
}

impl Client {
    pub(crate) fn new() -> Self {
        let shared = Shared {
            identity: Identity::generate().unwrap(),
            id: random().unwrap(),
            streams: Streams::new(BufferBudget::new(buffer_budget::SESSION)),
            carrier: watch::Sender::new(None),
            workload: watch::Sender::new((0, WorkloadState::Unknown)),
            capabilities: Mutex::default(),
            longest_outage: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
            tasks: JoinSet::new(),
        }
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.shared.identity.fingerprint()
    }

    /// Starts to keep the session attached to the agent.
    pub(crate) async fn stay_attached_to(&mut self, agent: &AdmitReply) {
        let (shared, agent) = (self.shared.clone(), agent.clone());
        self.tasks.spawn(async move { shared.keep(&agent).await });
        self.reattached_after(0).await;
    }

    /// Generation of the current connection.
    pub(crate) fn generation(&self) -> u64 {
        self.shared
            .carrier
            .borrow()
            .as_ref()
            .map_or(0, |carrier| carrier.generation)
    }

    /// Waits for a connection newer than `generation`.
    pub(crate) async fn reattached_after(&self, generation: u64) {
        let mut carrier = self.shared.carrier.subscribe();
        let newer = carrier.wait_for(|now| now.as_ref().is_some_and(|now| now.generation > generation));
        timeout(PATIENCE, newer).await.expect("a connection").unwrap();
    }

    /// Subscribes to the workload.
    pub(crate) fn subscribe(&self) {
        let topics = vec![Topic::Workload];
        self.shared.streams.send_control(Control::Subscribe { topics });
    }

    /// Waits until the agent says on the connection of `generation` that the workload runs.
    pub(crate) async fn waits_until_running(&self, generation: u64) {
        let mut workload = self.shared.workload.subscribe();
        let runs = workload.wait_for(|heard| *heard == (generation, WorkloadState::Running));
        timeout(PATIENCE, runs).await.expect("an update").unwrap();
    }

    /// The capabilities that this client and the agent of the newest connection have in common.
    pub(crate) fn capabilities(&self) -> Capabilities {
        self.shared
            .capabilities
            .lock()
            .unwrap()
            .shared(Capabilities::OURS)
    }

    pub(crate) fn longest_outage(&self) -> Duration {
        Duration::from_millis(self.shared.longest_outage.load(Ordering::Relaxed))
    }

    /// Opens a connection to a port of the host.
    pub(crate) fn connect(&mut self, port: u16) -> UnixStream {
        self.forward(Target::host("127.0.0.1", port))
    }

    pub(crate) fn forward(&mut self, target: Target) -> UnixStream {
        self.open(&StreamHeader::forward(target))
    }

    /// Starts a workload and waits until it is running.
    pub(crate) async fn start(&mut self, spec: WorkloadSpec) {
        let mut events = self.request(spec);
        loop {
            match codec::read_within(&mut events, limits::CONTROL_FRAME, PATIENCE).await {
                Ok(Event::Ready(_)) => return,
                Ok(event) => assert!(!event.is_final(), "{event:?}"),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Requests a workload. Its events follow on the socket.
    pub(crate) fn request(&mut self, spec: WorkloadSpec) -> UnixStream {
        self.open(&StreamHeader::Request(Request::Start(Box::new(spec))))
    }

    fn open(&mut self, header: &StreamHeader) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let stream = self.shared.streams.open();
        let shared = self.shared.clone();
        let header = Header::of(header).unwrap();
        let mut offers = Offers::new(stream.clone(), header, self.shared.carrier.subscribe());
        self.tasks.spawn(async move {
            let ended = shared
                .streams
                .proxy(&stream, &Socket::from(theirs), &mut offers)
                .await;
            // A reader of the socket cannot distinguish a reset from an end of data. Here it is possible.
            assert_eq!(ended, Ended::Complete);
        });
        ours
    }

    /// Panics if any stream has been reset so far.
    pub(crate) fn check(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            ended.expect("a stream was reset");
        }
    }
}

impl Shared {
    async fn keep(&self, agent: &AdmitReply) {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let endpoint = quic::client_endpoint(udp).unwrap();
        let mut epoch = None;
        for generation in 1.. {
            let since = Instant::now();
            let (connection, mut send, mut receive) = loop {
                if let Some(attached) = self.attach(&endpoint, agent, generation, &mut epoch).await {
                    break attached;
                }
            };
            let outage = u64::try_from(since.elapsed().as_millis()).unwrap();
            self.longest_outage.fetch_max(outage, Ordering::Relaxed);
            self.carrier.send_replace(Some(Carrier {
                generation,
                connection: connection.clone(),
            }));
            let heard = async {
                while let Ok(control) = control::receive_frame(&mut receive).await {
                    if let Control::Update { value, .. } = &control {
                        let status: WorkloadStatus = value.read().unwrap();
                        self.workload.send_replace((generation, status.state));
                        continue;
                    }
                    if matches!(control, Control::Restarting) || !self.streams.on_control(&control) {
                        break;
                    }
                }
            };
            let mut none = control::NoFrames;
            tokio::select! {
                _ = connection.closed() => {}
                () = heard => {}
                _ = control::run_sender(&self.streams, &mut none, &mut send) => {}
            }
        }
    }

    async fn attach(
        &self,
        endpoint: &Endpoint,
        agent: &AdmitReply,
        generation: u64,
        epoch: &mut Option<[u8; 16]>,
    ) -> Option<(Connection, quinn::SendStream, quinn::RecvStream)> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, agent.port));
        let connecting = quic::connect(endpoint, address, &self.identity, agent.agent).unwrap();
        let connection = connecting.await.ok()?;
        let (mut send, mut receive) = connection.open_bi().await.ok()?;
        let attach = Attach {
            session: self.id,
            generation,
            keep_s: 600,
            capabilities: Capabilities::OURS,
        };
        codec::write(&mut send, &attach, limits::CONTROL_FRAME)
            .await
            .ok()?;
        let AttachReply::Attached {
            epoch: now,
            capabilities,
            ..
        } = codec::read(&mut receive, limits::CONTROL_FRAME).await.ok()?
        else {
            panic!("not attached");
        };
        assert_eq!(
            *epoch.get_or_insert(now),
            now,
            "the agent has started a new session"
        );
        *self.capabilities.lock().unwrap() = capabilities;
        let table = control::read_table(&mut receive).await.ok()?;
        assert!(self.streams.resume(generation, table));
        Some((connection, send, receive))
    }
}
