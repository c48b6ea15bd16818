//! Where a rule is tested: an engine under a test clock, behind one of five transports.

use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use flowmesh_proto::v1::{
    health_service_client::HealthServiceClient, kv_service_client::KvServiceClient,
    queue_service_client::QueueServiceClient, stream_service_client::StreamServiceClient,
};
use flowmesh_server::{
    Engine, EngineOptions,
    access::Authority,
    clock::{Clock, SECOND_NS, TestClock},
    limits::Limits,
    net::{Address, CertificateFiles, Certificates, Server},
    services::{DEFAULT_MAX_MESSAGE_BYTES, Services},
};
use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{
    body::Body,
    transport::{Channel, Endpoint},
};
use tower::Service;

/// How calls reach the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In this process, storage in memory.
    Memory,
    /// In this process, storage in a directory.
    Directory,
    /// HTTP/2 over TCP, storage in a directory.
    Tcp,
    /// The same over TLS.
    Tls,
    /// HTTP/2 over a unix socket, storage in a directory.
    Unix,
}

/// What a test can have otherwise than by default.
#[derive(Clone)]
pub struct Setup {
    pub create: bool,
    pub max_message_bytes: usize,
    /// Who may call, where there is a socket; `None` for anybody.
    pub authority: Option<Arc<dyn Authority>>,
    /// Puts a double in place of a part of the engine.
    pub engine: fn(Engine) -> Engine,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            create: true,
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            authority: None,
            engine: |engine| engine,
        }
    }
}

/// A running engine and a way to call it.
pub struct World {
    pub transport: Transport,
    pub link: Link,
    clock: Arc<TestClock>,
    dir: TempDir,
    running: Option<Running>,
}

enum Running {
    InProcess(Engine),
    Server { stop: oneshot::Sender<()>, served: JoinHandle<bool> },
}

impl World {
    async fn start(transport: Transport) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self::open(transport, dir, TestClock::new(), Setup::default()).await
    }

    async fn open(transport: Transport, dir: TempDir, clock: Arc<TestClock>, setup: Setup) -> Self {
        let options = EngineOptions {
            data_dir: (transport != Transport::Memory).then(|| dir.path().join("data")),
            create: setup.create,
            clock: Clock::Test(clock.clone()),
            ..EngineOptions::memory()
        };
        let engine = (setup.engine)(Engine::open(&options).expect("the engine opens"));
        let (link, running) = match transport {
            Transport::Memory | Transport::Directory => {
                let services = Services::new(engine.clone(), setup.max_message_bytes);
                (To::InProcess(services), Running::InProcess(engine))
            }
            Transport::Tcp => serve("127.0.0.1:0", None, engine, setup).await,
            Transport::Tls => {
                let authority = crate::certificates::Authority::new();
                let certificates = certificates(&authority, dir.path());
                serve("127.0.0.1:0", Some((&authority.pem, certificates)), engine, setup).await
            }
            Transport::Unix => {
                let path: PathBuf = dir.path().join("socket");
                serve(&format!("unix:{}", path.display()), None, engine, setup).await
            }
        };
        let link = Link { to: link, authorization: None };
        Self { transport, link, clock, dir, running: Some(running) }
    }

    /// Stops in order; calls that wait end with UNAVAILABLE.
    pub async fn stop(&mut self) {
        match self.running.take() {
            Some(Running::InProcess(engine)) => {
                tokio::task::spawn_blocking(move || engine.close()).await.expect("the engine closes");
            }
            Some(Running::Server { stop, served }) => {
                stop.send(()).expect("the server runs");
                assert!(served.await.expect("the server ends"), "the engine was not closed");
            }
            None => {}
        }
    }

    /// Stops and starts again on the same storage (a new one in memory), at the same time.
    pub async fn restart(mut self, change: impl FnOnce(&mut Setup)) -> Self {
        self.stop().await;
        let mut setup = Setup::default();
        change(&mut setup);
        let Self { transport, clock, dir, link, .. } = self;
        // The last clones of the engine go with the link.
        drop(link);
        Self::open(transport, dir, clock, setup).await
    }

    pub fn health(&self) -> HealthServiceClient<Link> {
        HealthServiceClient::new(self.link.clone())
    }

    pub fn streams(&self) -> StreamServiceClient<Link> {
        StreamServiceClient::new(self.link.clone()).max_decoding_message_size(usize::MAX)
    }

    pub fn queues(&self) -> QueueServiceClient<Link> {
        QueueServiceClient::new(self.link.clone()).max_decoding_message_size(usize::MAX)
    }

    pub fn kv(&self) -> KvServiceClient<Link> {
        KvServiceClient::new(self.link.clone()).max_decoding_message_size(usize::MAX)
    }

    /// Server time in unix nanoseconds.
    pub fn now(&self) -> i64 {
        Clock::Test(self.clock.clone()).now_ns()
    }

    pub fn advance(&self, seconds: i64) {
        self.advance_ns(seconds * SECOND_NS);
    }

    pub fn advance_ns(&self, ns: i64) {
        self.clock.advance(Duration::from_nanos(ns as u64));
    }

    /// Lets time pass second by second until `call` ends; gives its result.
    pub async fn advance_until<T>(&self, mut call: JoinHandle<T>) -> T {
        self.arrived().await;
        while !call.is_finished() {
            self.advance(1);
            self.arrived().await;
        }
        (&mut call).await.expect("the call ends")
    }

    /// Returns when the calls that were started before have reached the engine, and their answers
    /// the caller. Client, server and connection take turns on one thread, and each of these calls
    /// takes several; the engine commits changes in order of submission, so once it has stored a
    /// value it has seen what came before, at the time of the clock.
    pub async fn arrived(&self) {
        for _ in 0..8 {
            tokio::task::yield_now().await;
            self.health().health_check(flowmesh_proto::v1::HealthCheckRequest {}).await.expect("health");
        }
        self.set("arrived", "k", "v").await;
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }
}

/// Files in `dir` for a server on this machine.
fn certificates(authority: &crate::certificates::Authority, dir: &Path) -> Certificates {
    let pair = authority.issue("127.0.0.1");
    let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    fs::write(&certificate, pair.certificate).expect("a file");
    fs::write(&key, pair.key).expect("a file");
    let files = CertificateFiles { certificate, key, client_authorities: None };
    Certificates::read(&files).expect("good files")
}

/// Serves `engine`, over TLS with what `tls` has: the authority (PEM), and the server's certificates.
async fn serve(
    address: &str,
    tls: Option<(&str, Certificates)>,
    engine: Engine,
    setup: Setup,
) -> (To, Running) {
    let address: Address = address.parse().expect("an address");
    let mut server = Server::bind(&[address]).await.expect("a socket");
    let address = server.addresses().next().expect("one address").clone();
    let mut authority = None;
    if let Some((pem, certificates)) = tls {
        server = server.with_tls(Arc::new(certificates));
        authority = Some(pem);
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async move {
        // A dropped sender means that the test is over.
        let _ = stopped.await;
    };
    let limits = Limits { max_message_bytes: setup.max_message_bytes, ..Limits::default() };
    let served = tokio::spawn(server.serve(engine, limits, setup.authority, stopped));
    let channel = match (address, authority) {
        (Address::Tcp(address), Some(authority)) => crate::encrypted::channel(address, authority).await,
        (Address::Tcp(address), None) => connect(format!("http://{address}")).await,
        (Address::Unix(path), _) => connect(format!("unix:{}", path.display())).await,
    };
    (To::Remote(channel.expect("a connection")), Running::Server { stop, served })
}

async fn connect(uri: String) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(uri).expect("a uri").connect().await
}

/// Carries calls of generated clients to the services.
#[derive(Clone)]
pub struct Link {
    to: To,
    /// Goes with every call.
    pub authorization: Option<HeaderValue>,
}

#[derive(Clone)]
enum To {
    InProcess(Services),
    Remote(Channel),
}

impl Service<Request<Body>> for Link {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match &mut self.to {
            To::InProcess(_) => Poll::Ready(Ok(())),
            To::Remote(channel) => channel.poll_ready(cx),
        }
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        match &mut self.to {
            To::InProcess(services) => {
                let call = services.call(request);
                Box::pin(async move {
                    match call.await {
                        Ok(response) => Ok(response),
                        Err(never) => match never {},
                    }
                })
            }
            To::Remote(channel) => Box::pin(channel.call(request)),
        }
    }
}

/// Runs one rule. The limit is not a measure of anything: it turns a call that never ends into
/// a failed test.
pub fn run<F: Future<Output = ()>>(transport: Transport, rule: impl FnOnce(World) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let rule = async { rule(World::start(transport).await).await };
        tokio::time::timeout(Duration::from_secs(60), rule).await.expect("a call never ended");
    });
}

/// Turns rules, written as functions of a [`World`], into one test per rule and transport:
/// `tcp::the_name_of_the_rule`. `durable` leaves out storage in memory, `network` what has no
/// socket.
macro_rules! rules {
    ($($rules:tt)*) => {
        rules_on! { [embedded_memory Memory, embedded_directory Directory, tcp Tcp, tls Tls, unix Unix] $($rules)* }
    };
}
macro_rules! durable_rules {
    ($($rules:tt)*) => { rules_on! { [embedded_directory Directory, tcp Tcp, tls Tls, unix Unix] $($rules)* } };
}
macro_rules! network_rules {
    ($($rules:tt)*) => { rules_on! { [tcp Tcp, tls Tls, unix Unix] $($rules)* } };
}
macro_rules! rules_on {
    ($transports:tt $(async fn $name:ident($($world:tt)*) $body:block)*) => {
        mod rule {
            use super::*;
            $(pub async fn $name($($world)*: crate::world::World) $body)*
        }
        rules_on!(@modules $transports ($($name)*));
    };
    (@modules [$($module:ident $transport:ident),*] $names:tt) => {
        $(rules_on!(@tests $module $transport $names);)*
    };
    (@tests $module:ident $transport:ident ($($name:ident)*)) => {
        mod $module {
            use crate::world::{Transport, run};
            $(#[test]
            fn $name() {
                run(Transport::$transport, super::rule::$name);
            })*
        }
    };
}
