//! What carries calls: HTTP/2 to a server, or the services in this process. The
//! generated clients cannot tell the two apart.

use std::{
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    task::{Context, Poll, ready},
    time::Duration,
};

use http::uri::Authority;
use tokio::runtime::Handle;
use tonic::body::Body;

use super::{
    connect::Target,
    embedded,
    endpoint::write_authority,
    error::{Error, Result, Status},
    http2::{self, CallError, Http2},
    statistics::Statistics,
};

/// Carries calls; clones share the connections or the engine.
#[derive(Clone)]
pub(crate) enum Transport {
    Remote(Http2),
    Embedded(embedded::Services),
}

impl Transport {
    /// A connection is made when the first call needs it, and again when it is lost. `runtime`
    /// will run it.
    pub fn remote(
        target: Target,
        connect_timeout: Duration,
        runtime: &Handle,
        statistics: Arc<Statistics>,
    ) -> Result<Self> {
        // Only for the requests; where to connect to, the target says.
        let authority = match &target {
            Target::Tcp { host, port, .. } => {
                let mut authority = String::new();
                let _ = write_authority(&mut authority, host, *port);
                authority
            }
            Target::Unix(_) => "localhost".to_owned(),
        };
        let authority = Authority::try_from(authority)
            .map_err(|e| Error::local(Status::INVALID_ARGUMENT, format!("endpoint: {e}")))?;
        Ok(Self::Remote(Http2::new(target, authority, connect_timeout, runtime.clone(), statistics)))
    }

    /// For calls that the server may leave waiting.
    pub fn waiting(self) -> Self {
        match self {
            Self::Remote(server) => Self::Remote(server.waiting()),
            embedded => embedded,
        }
    }

    /// Sets `flag` when a request may reach the server from now on.
    pub fn telling(self, flag: Arc<AtomicBool>) -> Self {
        match self {
            Self::Remote(server) => Self::Remote(server.telling(flag)),
            Self::Embedded(services) => {
                flag.store(true, std::sync::atomic::Ordering::Relaxed);
                Self::Embedded(services)
            }
        }
    }
}

impl tower::Service<http::Request<Body>> for Transport {
    type Response = http::Response<Body>;
    type Error = CallError;
    type Future = Response;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Response {
        match self {
            Self::Remote(server) => Response::Remote(server.call(request)),
            Self::Embedded(services) => Response::Embedded(services.call(request)),
        }
    }
}

/// The reply to come.
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation per remote call")]
pub(crate) enum Response {
    Remote(http2::Response),
    Embedded(embedded::Response),
}

impl Future for Response {
    type Output = std::result::Result<http::Response<Body>, CallError>;

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
