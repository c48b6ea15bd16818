//! What carries calls: a gRPC channel to a server, or the services in this process. The
//! generated clients cannot tell the two apart.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tokio::runtime::Handle;
use tonic::{
    body::Body,
    transport::{Channel, Endpoint},
};

use super::{
    connect::{self, Target},
    embedded,
    error::{Error, Result, Status},
    statistics::Statistics,
};

/// What a subscriber or reader may have under way per call, in bytes.
const STREAM_WINDOW: u32 = 4 << 20;
/// So large that unread small frames of slow subscribers never use it up: HTTP/2 libraries end a
/// connection that holds too many of them, by a budget derived from this window. The stream
/// windows bound the memory.
const CONNECTION_WINDOW: u32 = 1 << 30;
const MAX_FRAME: u32 = 256 << 10;

/// Carries calls; clones share the connection or the engine.
#[derive(Clone)]
pub(crate) enum Transport {
    Remote(Channel),
    Embedded(embedded::Services),
}

impl Transport {
    /// A channel that connects when the first call needs it, and again when the connection is
    /// lost. `runtime` will run the connection.
    pub fn remote(
        target: Target,
        connect_timeout: Duration,
        runtime: &Handle,
        statistics: Arc<Statistics>,
    ) -> Result<Self> {
        // Only the authority of the requests; where to connect to is the connector's affair.
        let origin = match &target {
            Target::Tcp { host, port } if host.contains(':') => format!("http://[{host}]:{port}"),
            Target::Tcp { host, port } => format!("http://{host}:{port}"),
            Target::Unix(_) => "http://localhost".to_owned(),
        };
        let endpoint = Endpoint::from_shared(Bytes::from(origin))
            .and_then(|e| e.user_agent(concat!("flowmesh/", env!("CARGO_PKG_VERSION"))))
            .map_err(|e| Error::local(Status::INVALID_ARGUMENT, format!("endpoint: {e}")))?
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME);
        let connector = tower::service_fn(move |_: http::Uri| {
            let (target, statistics) = (target.clone(), statistics.clone());
            async move { connect::connect(target, connect_timeout, statistics).await.map(TokioIo::new) }
        });
        let _context = runtime.enter();
        Ok(Self::Remote(endpoint.connect_with_connector_lazy(connector)))
    }
}

impl tower::Service<http::Request<Body>> for Transport {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Response;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), Self::Error>> {
        match self {
            Self::Remote(channel) => channel.poll_ready(cx),
            Self::Embedded(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: http::Request<Body>) -> Response {
        match self {
            Self::Remote(channel) => Response::Remote(channel.call(request)),
            Self::Embedded(services) => Response::Embedded(services.call(request)),
        }
    }
}

/// The reply to come.
pub(crate) enum Response {
    Remote(<Channel as tower::Service<http::Request<Body>>>::Future),
    Embedded(embedded::Response),
}

impl Future for Response {
    type Output = std::result::Result<http::Response<Body>, tonic::transport::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Remote(reply) => Pin::new(reply).poll(cx),
            Self::Embedded(reply) => {
                let reply = ready!(Pin::new(reply).poll(cx));
                Poll::Ready(reply.map_err(|never| match never {}))
            }
        }
    }
}
