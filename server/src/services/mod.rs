//! The gRPC services over an [`Engine`]: check the fields, call the engine once, dress the reply.
//!
//! [`Services`] is the one place where a method path becomes a call. The network server puts it
//! behind HTTP/2, the client library calls it in its own process: what holds for one holds for
//! the other. Nothing here stores, waits or knows of sockets.

mod fields;
mod gate;
mod health;
mod journal;
mod kv;
mod queues;
mod streams;
mod subscription;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use flowmesh_proto::{
    server::{
        health_service_server::{self, HealthServiceServer},
        kv_service_server::{self, KvServiceServer},
        queue_service_server::{self, QueueServiceServer},
        stream_service_server::{self, StreamServiceServer},
    },
    v1,
};
use http::{Request, Response};
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, StdError},
};
use tower::Service;

pub(crate) use gate::Gate;
use gate::Guarded;
#[cfg(feature = "net")]
pub(crate) use subscription::Slack;

use crate::{Engine, Error, ErrorKind, access::Caller, engine::Delivery, limits::Tenants};

/// Largest request message unless configured otherwise, in bytes.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 4 << 20;

/// How much a page of messages or jobs may hold, so that its reply stays below the 4 MiB that
/// ordinary gRPC clients accept. The rest is for what surrounds the items on the wire.
const PAGE_BYTES: usize = (4 << 20) - (128 << 10);

/// Every service, callable by method path. Clones share the engine.
#[derive(Clone)]
pub struct Services(Gate<Routes>);

impl Services {
    /// The services over `engine`; requests above `max_message_bytes` are refused.
    pub fn new(engine: Engine, max_message_bytes: usize) -> Self {
        let routes = Routes::new(engine, max_message_bytes, Arc::new(Tenants::unlimited()));
        Self(Gate::new(routes, None))
    }
}

impl<B> Service<Request<B>> for Services
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<StdError> + Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Reply;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<B>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Reply(self.0.call(request))
    }
}

/// A reply to come, to a caller in this process. Dropped before, it cancels the call, and jobs that
/// were leased for it are ready again.
pub struct Reply(Guarded<BoxFuture<Response<Body>, Infallible>>);

impl Future for Reply {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(mut reply) = ready!(Pin::new(&mut self.0).poll(cx));
        // The caller has it, body and all: nothing of it is still to come.
        if let Some(delivery) = reply.extensions_mut().remove::<Delivery>() {
            delivery.done();
        }
        Poll::Ready(Ok(reply))
    }
}

/// Method paths to generated servers, without the gate. A service that is not here (schemas,
/// replay) answers UNIMPLEMENTED like any unknown method.
#[derive(Clone)]
pub(crate) struct Routes(Arc<Servers>);

struct Servers {
    health: HealthServiceServer<health::Health>,
    streams: StreamServiceServer<streams::Streams>,
    queues: QueueServiceServer<queues::Queues>,
    kv: KvServiceServer<kv::Kv>,
}

impl Routes {
    pub(crate) fn new(engine: Engine, max_message_bytes: usize, tenants: Arc<Tenants>) -> Self {
        Self(Arc::new(Servers {
            health: HealthServiceServer::new(health::Health::new(engine.clone()))
                .max_decoding_message_size(max_message_bytes),
            streams: StreamServiceServer::new(streams::Streams::new(engine.streams, tenants.clone()))
                .max_decoding_message_size(max_message_bytes),
            queues: QueueServiceServer::new(queues::Queues::new(engine.queues, tenants))
                .max_decoding_message_size(max_message_bytes),
            kv: KvServiceServer::new(kv::Kv::new(engine.kv)).max_decoding_message_size(max_message_bytes),
        }))
    }
}

impl<B> Service<Request<B>> for Routes
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<StdError> + Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let servers = &self.0;
        match service_name(request.uri().path()) {
            health_service_server::SERVICE_NAME => servers.health.clone().call(request),
            stream_service_server::SERVICE_NAME => servers.streams.clone().call(request),
            queue_service_server::SERVICE_NAME => servers.queues.clone().call(request),
            kv_service_server::SERVICE_NAME => servers.kv.clone().call(request),
            _ => {
                let status = Status::unimplemented(format!("no method {}", request.uri().path()));
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
        }
    }
}

/// `package.Service` of the method path `/package.Service/Method`.
pub(crate) fn service_name(path: &str) -> &str {
    path.strip_prefix('/').and_then(|p| p.split_once('/')).map_or("", |(service, _)| service)
}

/// Who calls, and the message. The gate has said who; where there is no authentication, anybody.
fn open<T>(request: tonic::Request<T>) -> (Caller, T) {
    let (_, mut extensions, message) = request.into_parts();
    (extensions.remove().unwrap_or_else(Caller::anybody), message)
}

/// The `status` field of every OK reply.
fn ok() -> Option<v1::Status> {
    Some(v1::Status::default())
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.message();
        match error.kind() {
            ErrorKind::InvalidArgument => Self::invalid_argument(message),
            ErrorKind::NotFound => Self::not_found(message),
            ErrorKind::FailedPrecondition => Self::failed_precondition(message),
            ErrorKind::ResourceExhausted => Self::resource_exhausted(message),
            ErrorKind::Unavailable => Self::unavailable(message),
            // Files that the system keeps from us are no business of the caller's token.
            ErrorKind::PermissionDenied | ErrorKind::Internal => {
                tracing::error!("{message}");
                let mut status = Self::internal(message);
                // Tells the gate that this failure is the server's own.
                status.set_source(Arc::new(error));
                status
            }
        }
    }
}
