//! The one layer around every call, unary or streaming: what must hold whatever the method.
//!
//! At its entrance the caller is authenticated; what the caller may do, the services ask. On the
//! way out it puts right the codes that the gRPC library chooses for bad requests, it turns a panic
//! into INTERNAL, and the log is told.

use std::{
    any::Any,
    convert::Infallible,
    error::Error as _,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use flowmesh_proto::RETRY_PUSHBACK;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use tonic::{Code, Status, body::Body, metadata::MetadataValue};
use tower::Service;

use super::{journal::Entry, service_name};
use crate::{
    Error,
    access::{Authority, Caller},
    limits,
};

/// Texts above this are cut: a status travels in headers, and clients limit those.
const MAX_TEXT: usize = 1024;

/// Services that anybody may call: whether a server lives is no secret.
const OPEN: [&str; 2] = ["flowmesh.v1.HealthService", "grpc.health.v1.Health"];

/// Wraps the dispatch of calls.
#[derive(Clone)]
pub(crate) struct Gate<S> {
    dispatch: S,
    /// Who may call; `None` for anybody.
    authority: Option<Arc<dyn Authority>>,
}

impl<S> Gate<S> {
    pub(crate) fn new(dispatch: S, authority: Option<Arc<dyn Authority>>) -> Self {
        Self { dispatch, authority }
    }

    /// Who makes the call, or why it is refused.
    fn caller(&self, path: &str, headers: &HeaderMap) -> Result<Caller, Status> {
        let Some(authority) = &self.authority else { return Ok(Caller::anybody()) };
        if OPEN.contains(&service_name(path)) {
            return Ok(Caller::anybody());
        }
        let Some(value) = headers.get(AUTHORIZATION) else {
            return Err(Status::unauthenticated("the call carries no token"));
        };
        let Some(token) = value.as_bytes().strip_prefix(b"Bearer ") else {
            return Err(Status::unauthenticated("authorization must be `Bearer ` and a token"));
        };
        authority.caller(token).ok_or_else(|| Status::unauthenticated("the token is unknown or has expired"))
    }
}

impl<S, B> Service<Request<B>> for Gate<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Guarded<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.dispatch.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let entry = Entry::begin(&request);
        match self.caller(request.uri().path(), request.headers()) {
            Ok(caller) if caller.is_anybody() => Guarded::new(entry, self.dispatch.call(request), None),
            Ok(caller) => {
                request.extensions_mut().insert(caller.clone());
                Guarded::new(entry, self.dispatch.call(request), Some(caller))
            }
            Err(status) => Guarded { entry, state: State::Refused(Some(status)) },
        }
    }
}

/// A call on its way through the gate.
pub struct Guarded<F> {
    entry: Entry,
    state: State<F>,
}

enum State<F> {
    Refused(Option<Status>),
    Running {
        call: F,
        caller: Option<Caller>,
        /// Made when the call waits: most never do.
        ended: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    },
}

impl<F> Guarded<F> {
    fn new(entry: Entry, call: F, caller: Option<Caller>) -> Self {
        Self { entry, state: State::Running { call, caller, ended: None } }
    }
}

impl<F> Future for Guarded<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { entry, state } = &mut *self;
        let (call, caller, ended) = match state {
            State::Refused(status) => {
                let status = status.take().expect("a refused call is polled once");
                return Poll::Ready(Ok(entry.end(status.into_http(), None)));
            }
            State::Running { call, caller, ended } => (call, caller, ended),
        };
        let reply = match catch(|| Pin::new(call).poll(cx)) {
            Ok(Poll::Ready(Ok(reply))) => correct(reply),
            Ok(Poll::Ready(Err(never))) => match never {},
            Ok(Poll::Pending) => {
                let Some(caller) = caller else { return Poll::Pending };
                let ended = ended.get_or_insert_with(|| Box::pin(caller.ended()));
                ready!(ended.as_mut().poll(cx));
                token_ended().into_http()
            }
            Err(status) => status.into_http(),
        };
        Poll::Ready(Ok(entry.end(reply, caller.as_ref())))
    }
}

/// How calls end whose token is revoked, or expires.
pub(super) fn token_ended() -> Status {
    Status::unauthenticated("the token was revoked or has expired")
}

/// Runs one poll of a call; a panic ends that call with INTERNAL and nothing else.
pub(super) fn catch<R>(poll: impl FnOnce() -> R) -> Result<R, Status> {
    catch_unwind(AssertUnwindSafe(poll)).map_err(|panic| {
        let what = text_of(&*panic);
        tracing::error!("a call panicked: {what}");
        Status::internal("the server failed while it handled this call")
    })
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

/// Replaces the code of a refused request where the gRPC library's is not ours.
fn correct(reply: Response<Body>) -> Response<Body> {
    let Some(status) = reply.extensions().get::<Status>() else { return reply };
    let ours = status.source().is_some_and(|e| e.is::<Error>());
    let code = match status.code() {
        // No service of ours uses it: a request above the limit.
        Code::OutOfRange => return too_large(status.message()).into_http(),
        // Not a failed engine, so a request without a whole message in it.
        Code::Internal if !ours => Code::InvalidArgument,
        code => code,
    };
    if code == status.code() && status.message().len() <= MAX_TEXT {
        return reply;
    }
    let text = status.message();
    let whole_characters = |&end: &usize| text.is_char_boundary(end);
    let end = (0..=text.len().min(MAX_TEXT)).rev().find(whole_characters).unwrap_or(0);
    Status::new(code, &text[..end]).into_http()
}

/// The refusal of a request above the limit. The gRPC library keeps the two sizes in its text only:
/// what the request has, and what it may have.
fn too_large(text: &str) -> Status {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|number| !number.is_empty());
    let mut status = match (numbers.next(), numbers.next()) {
        (Some(size), Some(limit)) => {
            limits::exhausted(format_args!("the request has {size} bytes"), "--max-message-bytes", limit)
        }
        _ => Status::resource_exhausted(format!("{text} (--max-message-bytes)")),
    };
    // Other limits may be kept a moment later, but a request never becomes smaller.
    status.metadata_mut().insert(RETRY_PUSHBACK, MetadataValue::from_static("-1"));
    status
}
