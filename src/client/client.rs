//! The client: one endpoint, what all its handles share, and its end.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use flowmesh_proto::{
    requests,
    v1::{
        HealthCheckRequest, ReadinessCheckRequest, ResourcePath, health_service_client::HealthServiceClient,
    },
};
use tokio::sync::Notify;
use tonic::metadata::{Ascii, MetadataValue};

use super::{
    call::{Call, Wire},
    cancel::Event,
    connect::Target,
    embedded::{self, Embedded},
    endpoint::Endpoint,
    environment,
    error::{Effect, Error, Result, Status},
    kv::Kv,
    operation::Operations,
    options::{CallOptions, ClientOptions, DEFAULT_ENDPOINT, Timeout},
    queues::Queue,
    rules,
    statistics::{ClientStats, Statistics},
    streams::Stream,
    tls::Tls,
    token::Token,
    transport::Transport,
};
use crate::{
    log::log,
    runtime::{
        self, Dispatcher, Driver, Generation, Member, OwnedByProcess, WeakDispatcher, lock,
        park::{self, Sleep},
    },
};

/// The next client's number.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A client of one endpoint. Clones and handles share it; it closes with [`Client::close`], or
/// when the last of them is gone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

pub(crate) struct Inner {
    generation: Arc<Generation>,
    endpoint: Endpoint,
    options: ClientOptions,
    token: Token,
    source: Source,
    /// What carries calls; `None` before the first and after the close.
    transport: Mutex<OwnedByProcess<Option<Transport>>>,
    closed: Event,
    under_way: AtomicUsize,
    at_rest: Notify,
    statistics: Arc<Statistics>,
    /// What the application chose to run callbacks; `None` for the default.
    dispatcher: Option<Dispatcher>,
    /// Every dispatcher that has run, or will run, callbacks of this client.
    dispatchers: Mutex<Vec<WeakDispatcher>>,
    operations: Operations,
}

/// Where the transport comes from.
enum Source {
    Remote(Target),
    Embedded(Embedded),
}

impl Client {
    /// Makes a client without any input or output: the first call connects, or opens the
    /// embedded engine.
    pub fn open(options: ClientOptions) -> Result<Self> {
        Self::open_on(options, None)
    }

    /// As [`Client::open`]; its callbacks run on `dispatcher`.
    pub(crate) fn open_on(options: ClientOptions, dispatcher: Option<Dispatcher>) -> Result<Self> {
        let text = match options.endpoint.clone() {
            Some(text) => text,
            None => environment::text("FLOWMESH_ENDPOINT")?.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned()),
        };
        let endpoint = Endpoint::parse(&text)?;
        let token = Token::of(&endpoint, &options)?;
        if !options.tls.is_empty() && !matches!(endpoint, Endpoint::Tls { .. }) {
            return Err(Error::invalid(format!(
                "TLS options must not be given for the endpoint `{endpoint}`: they are for https:// only"
            )));
        }
        let source = match &endpoint {
            Endpoint::Tcp { host, port } => {
                Source::Remote(Target::Tcp { host: host.as_str().into(), port: *port, tls: None })
            }
            Endpoint::Tls { host, port } => {
                let tls = Some(Arc::new(Tls::new(&options.tls, host)?));
                Source::Remote(Target::Tcp { host: host.as_str().into(), port: *port, tls })
            }
            Endpoint::Unix(path) => Source::Remote(Target::Unix(Arc::new(path.clone()))),
            Endpoint::Directory(_) | Endpoint::Memory => {
                Source::Embedded(Embedded::new(&endpoint, &options)?)
            }
        };
        if options.test_clock && !endpoint.is_embedded() {
            return Err(Error::invalid("test_clock is for the endpoint `embedded:` only"));
        }
        let generation = Generation::current()?;
        if dispatcher.as_ref().is_some_and(|d| !d.is_of(&generation)) {
            return Err(Error::local(Status::CLOSED, "the dispatcher was closed by flowmesh_shutdown"));
        }
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let inner = Arc::new(Inner {
            generation: generation.clone(),
            endpoint,
            options,
            token,
            source,
            transport: Mutex::new(OwnedByProcess::new(None)),
            closed: Event::default(),
            under_way: AtomicUsize::new(0),
            at_rest: Notify::new(),
            statistics: Arc::new(Statistics::of(id)),
            dispatcher,
            dispatchers: Mutex::default(),
            operations: Operations::default(),
        });
        let weak: Weak<Inner> = Arc::downgrade(&inner);
        generation.register(weak)?;
        log!(Debug, "client", id, "opened for {}", inner.endpoint);
        Ok(Self(inner))
    }

    /// Makes sure that the endpoint is there: connects and has the server answer.
    pub async fn connect(&self, options: &CallOptions) -> Result<()> {
        self.health("connect to", options).await
    }

    /// Asks the server whether it lives.
    pub async fn health_check(&self, options: &CallOptions) -> Result<()> {
        self.health("health check of", options).await
    }

    async fn health(&self, verb: &'static str, options: &CallOptions) -> Result<()> {
        let call = Call::new(verb, self.0.endpoint_text(), Effect::None, options);
        let reply = self
            .call(call, HealthCheckRequest {}, async |wire, request| {
                wire.client(HealthServiceClient::new).health_check(request).await
            })
            .await;
        reply.map(drop)
    }

    /// Asks the server whether its storage can take work.
    pub async fn readiness_check(&self, options: &CallOptions) -> Result<bool> {
        let call = Call::new("readiness check of", self.0.endpoint_text(), Effect::None, options);
        let reply = self
            .call(call, ReadinessCheckRequest {}, async |wire, request| {
                wire.client(HealthServiceClient::new).readiness_check(request).await
            })
            .await?;
        Ok(reply.ready)
    }

    /// The stream of that name; nothing is sent.
    pub fn stream(&self, tenant: &str, namespace: &str, name: &str) -> Result<Stream> {
        Ok(Stream::new(Resource::new(self, tenant, namespace, "stream", name)?))
    }

    /// The queue of that name; nothing is sent.
    pub fn queue(&self, tenant: &str, namespace: &str, name: &str) -> Result<Queue> {
        Ok(Queue::new(Resource::new(self, tenant, namespace, "queue", name)?))
    }

    /// The key-value store of that name; nothing is sent.
    pub fn kv(&self, tenant: &str, namespace: &str, name: &str) -> Result<Kv> {
        Ok(Kv::new(Resource::new(self, tenant, namespace, "kv", name)?))
    }

    /// Runs one of this client's operations to its end while the calling thread waits: the
    /// blocking form of everything here. CLOSED when the library was shut down.
    pub fn block_on<F, T>(&self, operation: F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        self.0.generation.check_process()?;
        match &self.0.source {
            Source::Embedded(_) => self.wait(operation),
            Source::Remote(_) if self.is_closed() => Err(self.0.closed_error()),
            Source::Remote(_) => self.0.generation.driver()?.block_on(operation, self.0.options.spin)?,
        }
    }

    /// As [`Client::block_on`], for futures that borrow: the calling thread waits and leaves the
    /// driving to others. For consumers of subscriptions.
    pub fn wait<F: Future>(&self, operation: F) -> F::Output {
        match &self.0.source {
            Source::Embedded(_) => {
                let mut operation = std::pin::pin!(operation);
                park::wait(std::future::poll_fn(|cx| embedded::inline(|| operation.as_mut().poll(cx))))
            }
            Source::Remote(_) => park::wait(operation),
        }
    }

    /// Refuses new calls, ends those under way with CLOSED, and waits until they have ended.
    /// DEADLINE_EXCEEDED when some had not at the timeout; they end by themselves.
    pub async fn close(&self, timeout: Timeout) -> Result<()> {
        self.0.generation.check_process()?;
        if self.0.finish(runtime::deadline_after(timeout)).await {
            return Ok(());
        }
        let left = self.0.under_way.load(Ordering::Acquire);
        Err(Error::local(
            Status::DEADLINE_EXCEEDED,
            format!("close {}: {left} calls were still ending at the timeout", self.0.endpoint),
        ))
    }

    /// Whether the client, or the library, was closed.
    pub fn is_closed(&self) -> bool {
        self.0.closed.is_set()
    }

    /// The number by which the log names the client; no other of the process has it.
    pub fn id(&self) -> u64 {
        self.0.statistics.client
    }

    /// What the client has counted since it was opened.
    pub fn stats(&self) -> ClientStats {
        self.0.statistics.snapshot()
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// Moves the test clock of an `embedded:` client forward.
    pub fn advance_test_clock(&self, by: Duration) -> Result<()> {
        self.0.generation.check_process()?;
        match &self.0.source {
            Source::Embedded(engine) => engine.advance_clock(by),
            Source::Remote(_) => Err(embedded::no_test_clock()),
        }
    }

    /// What an engine with a test clock takes for the time, in unix nanoseconds.
    pub fn test_clock_ns(&self) -> Option<i64> {
        match &self.0.source {
            Source::Embedded(engine) => engine.test_clock_ns(),
            Source::Remote(_) => None,
        }
    }

    /// Rings when the test clock has moved; `None` without one.
    pub(crate) fn test_clock_moves(&self) -> Option<Arc<Notify>> {
        match &self.0.source {
            Source::Embedded(engine) => engine.test_clock_moves(),
            Source::Remote(_) => None,
        }
    }

    /// Whether the server lacks the standard health service, as of all FlowMesh servers only the
    /// original engine does.
    pub(crate) async fn lacks_health_service(&self, options: &CallOptions) -> Result<bool> {
        if matches!(self.0.source, Source::Embedded(_)) {
            return Ok(false);
        }
        let call = Call::new("probe", self.0.endpoint_text(), Effect::None, options);
        let reply = self
            .call(call, bytes::Bytes::new(), async |wire, request| {
                let mut wire = tonic::client::Grpc::new(wire.transport);
                wire.ready().await.map_err(|e| tonic::Status::from_error(Box::new(e)))?;
                let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
                // An empty request asks for the server as a whole; of the answer only that it is
                // one matters.
                wire.unary(request, path, flowmesh_proto::codec::EncodedCodec::<()>::default()).await
            })
            .await;
        match reply {
            Ok(()) => Ok(false),
            Err(e) if e.is_from_server() => match e.status() {
                Status::UNIMPLEMENTED => Ok(true),
                // It knows the service, and only refuses this call.
                Status::NOT_FOUND
                | Status::INVALID_ARGUMENT
                | Status::PERMISSION_DENIED
                | Status::UNAUTHENTICATED => Ok(false),
                // Anything else says nothing about the server.
                _ => Err(e),
            },
            Err(e) => Err(e),
        }
    }

    /// FORKED in the child of a fork.
    pub(crate) fn check_process(&self) -> Result<()> {
        self.0.generation.check_process()
    }

    /// What runs its callbacks.
    pub(crate) fn dispatcher(&self) -> Result<Dispatcher> {
        self.dispatcher_or(None)
    }

    /// What runs callbacks of a part of it: `own`, or else the client's. [`Client::close`] waits
    /// for them there.
    pub(crate) fn dispatcher_or(&self, own: Option<&Dispatcher>) -> Result<Dispatcher> {
        self.check_process()?;
        let chosen = match own.or(self.0.dispatcher.as_ref()) {
            Some(dispatcher) => dispatcher,
            None => self.0.generation.dispatcher()?,
        };
        let mut used = lock(&self.0.dispatchers);
        if !used.iter().any(|d| d.is(chosen)) {
            // The threads of a worker end with it.
            used.retain(|d| d.upgrade().is_some());
            used.push(chosen.downgrade());
        }
        Ok(chosen.clone())
    }

    /// Every dispatcher that may have callbacks of this client to run.
    pub(crate) fn dispatchers(&self) -> Vec<Dispatcher> {
        lock(&self.0.dispatchers).iter().filter_map(WeakDispatcher::upgrade).collect()
    }

    /// A dispatcher with threads of its own, for a part of this client.
    pub(crate) fn dispatcher_pool(&self, threads: usize, name: &str) -> Result<Dispatcher> {
        self.0.generation.dispatcher_pool(threads, name)
    }

    /// A number that no other client has while this one lives.
    pub(crate) fn identity(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Where what the client does is counted.
    pub(crate) fn statistics(&self) -> &Arc<Statistics> {
        &self.0.statistics
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.0.endpoint).finish_non_exhaustive()
    }
}

impl Inner {
    pub fn options(&self) -> &ClientOptions {
        &self.options
    }

    pub fn closed(&self) -> &Event {
        &self.closed
    }

    pub fn endpoint_text(&self) -> Arc<str> {
        self.endpoint.to_string().into()
    }

    pub fn closed_error(&self) -> Error {
        Error::local(Status::CLOSED, format!("the client of {} was closed", self.endpoint))
    }

    /// What drives sockets, timers and tasks.
    pub fn driver(&self) -> Result<&Driver> {
        self.generation.driver()
    }

    /// The calls under way that have a completion.
    pub fn operations(&self) -> &Operations {
        &self.operations
    }

    /// FORKED or CLOSED where no call may start.
    pub fn check(&self) -> Result<()> {
        self.generation.check_process()?;
        if self.closed.is_set() { Err(self.closed_error()) } else { Ok(()) }
    }

    /// Counts a call as under way until the guard is dropped; [`Inner::check`] comes after it, so
    /// that a close either sees the call or refuses it.
    pub fn enter(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        UnderWay(self.clone())
    }

    /// The way to the server, made when first needed.
    pub async fn wire(self: &Arc<Self>) -> Result<Wire> {
        let made = lock(&self.transport).get().clone();
        let transport = match made {
            Some(transport) => transport,
            None => self.make_transport().await?,
        };
        let auth = self.auth().await?;
        Ok(Wire { transport, auth, max_message_bytes: self.options.max_message_bytes })
    }

    /// What goes with every call: the token, where there is one.
    async fn auth(&self) -> Result<Option<MetadataValue<Ascii>>> {
        self.token.present(|| Ok(self.generation.driver()?.handle().clone())).await
    }

    /// The server has refused `version` of the token: whether its file has another one by now.
    pub async fn renew_token(&self, version: u64) -> Result<bool> {
        if !self.token.may_change() {
            return Ok(false);
        }
        self.token.refuse(version);
        self.auth().await?;
        Ok(self.token.version() != version)
    }

    /// Whether `error` is about a token that may be renewed at any time, and so may pass.
    pub fn may_pass_with_token(&self, error: &Error) -> bool {
        let about_token = match error.is_from_server() {
            true => error.status() == Status::UNAUTHENTICATED,
            false => error.status() == Status::FAILED_PRECONDITION,
        };
        about_token && self.token.may_change()
    }

    /// What calls present.
    pub fn token(&self) -> &Token {
        &self.token
    }

    async fn make_transport(self: &Arc<Self>) -> Result<Transport> {
        if matches!(self.source, Source::Remote(_)) || park::is_waiting() {
            return self.make_transport_here();
        }
        // Opening an engine blocks, and this may be a runtime's thread.
        let inner = self.clone();
        match tokio::task::spawn_blocking(move || inner.make_transport_here()).await {
            Ok(made) => made,
            Err(e) => Err(Error::local(Status::INTERNAL, format!("open the embedded engine: {e}"))),
        }
    }

    fn make_transport_here(&self) -> Result<Transport> {
        let mut slot = lock(&self.transport);
        if let Some(transport) = slot.get() {
            return Ok(transport.clone());
        }
        self.check()?;
        let transport = match &self.source {
            Source::Remote(target) => {
                let driver = self.generation.driver()?;
                Transport::remote(
                    target.clone(),
                    self.options.connect_timeout,
                    driver.handle(),
                    self.statistics.clone(),
                )?
            }
            Source::Embedded(engine) => Transport::Embedded(engine.open()?),
        };
        *slot.get_mut() = Some(transport.clone());
        Ok(transport)
    }

    async fn finish(&self, deadline: Option<Instant>) -> bool {
        if self.closed.set() {
            log!(Info, "client", self.statistics.client, "closed");
        }
        let mut rested = std::pin::pin!(self.rested());
        let mut over = deadline.map(Sleep::until);
        let quiet = std::future::poll_fn(|cx| {
            if rested.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            match &mut over {
                Some(sleep) => Pin::new(sleep).poll(cx).map(|()| false),
                None => Poll::Pending,
            }
        })
        .await;
        // Calls that are still ending have their own clone.
        let transport = lock(&self.transport).get_mut().take();
        drop(transport);
        quiet
    }

    /// Resolves when no call is under way.
    async fn rested(&self) {
        loop {
            let mut at_rest = std::pin::pin!(self.at_rest.notified());
            at_rest.as_mut().enable();
            if self.under_way.load(Ordering::Acquire) == 0 {
                return;
            }
            at_rest.await;
        }
    }
}

impl Member for Inner {
    fn close(&self, deadline: Option<Instant>) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(self.finish(deadline))
    }
}

/// A call under way.
pub(crate) struct UnderWay(Arc<Inner>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.0.under_way.fetch_sub(1, Ordering::AcqRel) == 1 && self.0.closed.is_set() {
            self.0.at_rest.notify_waiters();
        }
    }
}

/// A named resource of a client: what every handle is.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    pub client: Client,
    pub path: ResourcePath,
    /// The canonical path, for messages.
    pub text: Arc<str>,
    /// The path as requests in wire form begin with it.
    pub encoded_path: Bytes,
}

impl Resource {
    fn new(client: &Client, tenant: &str, namespace: &str, kind: &str, name: &str) -> Result<Self> {
        rules::part("tenant", tenant)?;
        rules::part("namespace", namespace)?;
        rules::name("name", name)?;
        let path = ResourcePath {
            tenant: tenant.to_owned(),
            namespace: namespace.to_owned(),
            resource_type: kind.to_owned(),
            name: name.to_owned(),
        };
        let text = format!("{tenant}/{namespace}/{kind}/{name}").into();
        let encoded_path = requests::path(path.clone());
        Ok(Self { client: client.clone(), path, text, encoded_path })
    }

    pub fn path(&self) -> Option<ResourcePath> {
        Some(self.path.clone())
    }

    pub fn call<'a>(&self, verb: &'static str, effect: Effect, options: &'a CallOptions) -> Call<'a> {
        Call::new(verb, self.text.clone(), effect, options)
    }
}
