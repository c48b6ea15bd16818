//! The one layer around every call, unary or streaming: what must hold whatever the method.
//!
//! Authentication belongs at its entrance. On the way out it puts right the codes that the gRPC
//! library chooses for bad requests, and it turns a panic into INTERNAL.

use std::{
    any::Any,
    convert::Infallible,
    error::Error as _,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{Code, Status, body::Body};
use tower::Service;

use crate::Error;

/// Texts above this are cut: a status travels in headers, and clients limit those.
const MAX_TEXT: usize = 1024;

/// Wraps the dispatch of calls.
#[derive(Debug, Clone)]
pub(crate) struct Gate<S>(S);

impl<S> Gate<S> {
    pub(crate) fn new(dispatch: S) -> Self {
        Self(dispatch)
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
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Guarded(self.0.call(request))
    }
}

/// A call on its way through the gate.
#[derive(Debug)]
pub struct Guarded<F>(F);

impl<F> Future for Guarded<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match catch(|| Pin::new(&mut self.0).poll(cx)) {
            Ok(Poll::Ready(Ok(reply))) => Poll::Ready(Ok(correct(reply))),
            Ok(Poll::Ready(Err(never))) => match never {},
            Ok(Poll::Pending) => Poll::Pending,
            Err(status) => Poll::Ready(Ok(status.into_http())),
        }
    }
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

/// Replaces the code of a refused request where the gRPC library's is not the contract's.
fn correct(reply: Response<Body>) -> Response<Body> {
    let Some(status) = reply.extensions().get::<Status>() else { return reply };
    let ours = status.source().is_some_and(|e| e.is::<Error>());
    let code = match status.code() {
        // No service of ours uses it: a request above the limit.
        Code::OutOfRange => Code::ResourceExhausted,
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
