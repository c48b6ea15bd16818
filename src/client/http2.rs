//! HTTP/2 to one server: connections that its calls share, made when a call needs one and again
//! when one is lost or the server sends it away.
//!
//! It carries gRPC calls whose request is one message, which is in memory already: h2 takes its
//! bytes without a copy and cuts them to the peer's windows. It knows nothing of gRPC beyond
//! that, and repeats nothing; what a failure means for a call is told by [`CallError`].

mod frames;
mod server;

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture};
use http::{
    HeaderValue, Request, Uri, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::{Body as _, Frame};
use tokio::runtime::Handle;
use tonic::body::Body;

use self::{
    frames::Departures,
    server::{Coming, Hold, Lane, Lease, Place, Server},
};
use super::{
    connect::{ConnectError, Target},
    statistics::Statistics,
};

const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("flowmesh/", env!("CARGO_PKG_VERSION")));

/// After so many connections that were made and broke before a call could use one, it gives up.
const MOST_STILLBORN: u32 = 3;

/// A server; clones share the connections to it.
#[derive(Clone)]
pub(crate) struct Http2 {
    server: Arc<Server>,
    lane: Lane,
    handed_over: Option<Arc<AtomicBool>>,
}

/// Why a call came to no reply, or to half of one.
#[derive(Debug)]
pub(crate) enum CallError {
    /// There is no connection.
    NotConnected(ConnectError),
    /// The server has not seen the request, or says that it has not acted on it.
    NotSent(h2::Error),
    /// The exchange broke off.
    Broken(h2::Error),
    /// The request could not be made.
    Request(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected(e) => e.fmt(f),
            Self::NotSent(_) => f.write_str("the connection did not take the request"),
            Self::Broken(_) => f.write_str("the connection broke off"),
            Self::Request(_) => f.write_str("the request cannot be sent"),
        }
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotConnected(_) => None,
            Self::NotSent(e) | Self::Broken(e) => Some(e),
            Self::Request(e) => Some(&**e),
        }
    }
}

impl Http2 {
    /// Nothing is connected yet. `runtime` will run the connections.
    pub fn new(
        target: Target,
        authority: Authority,
        connect_timeout: Duration,
        runtime: Handle,
        statistics: Arc<Statistics>,
    ) -> Self {
        let server = Server::new(target, authority, connect_timeout, runtime, statistics);
        Self { server: Arc::new(server), lane: Lane::Calls, handed_over: None }
    }

    /// For calls that the server may leave waiting: apart from the others, which they must not
    /// hold up.
    pub fn waiting(self) -> Self {
        Self { lane: Lane::Waits, ..self }
    }

    /// Sets `flag` when a request is handed to a connection: until then, none of it can have
    /// reached the server.
    pub fn telling(self, flag: Arc<AtomicBool>) -> Self {
        Self { handed_over: Some(flag), ..self }
    }

    /// Sends `request` now, or when there is a place on a connection.
    pub fn call(&self, request: Request<Body>) -> Response {
        Response { to: self.clone(), request: Some(request), stillborn: 0, step: Step::Place }
    }

    /// Hands `request` to a connection.
    fn send(&self, lease: Lease, request: Request<Body>) -> Result<Exchange, CallError> {
        let (mut parts, body) = request.into_parts();
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(if self.server.is_encrypted() { Scheme::HTTPS } else { Scheme::HTTP });
        uri.authority = Some(self.server.authority.clone());
        let path = parts.uri.into_parts().path_and_query;
        uri.path_and_query = path.or(Some(PathAndQuery::from_static("/")));
        parts.uri = Uri::from_parts(uri).map_err(|e| CallError::Request(e.into()))?;
        parts.headers.insert(header::USER_AGENT, USER_AGENT);
        let Lease { mut requests, departures, hold } = lease;
        let request = Request::from_parts(parts, ());
        let (reply, stream) = requests.send_request(request, false).map_err(CallError::NotSent)?;
        if let Some(flag) = &self.handed_over {
            flag.store(true, Ordering::Relaxed);
        }
        let upload = Some(Upload { body, stream, held: None });
        Ok(Exchange { reply, upload, departures, hold: Some(hold) })
    }
}

/// A reply to come. Dropped before, it cancels the call.
pub(crate) struct Response {
    to: Http2,
    /// Taken when it is sent.
    request: Option<Request<Body>>,
    stillborn: u32,
    step: Step,
}

enum Step {
    Place,
    Connect(Coming),
    Queue(BoxFuture<'static, Option<Lease>>),
    Send(Lease),
    Exchange(Exchange),
}

impl Future for Response {
    type Output = Result<http::Response<Body>, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            this.step = match std::mem::replace(&mut this.step, Step::Place) {
                Step::Place => match this.to.server.place(this.to.lane) {
                    Place::Taken(lease) => Step::Send(lease),
                    Place::Queued(queued) => Step::Queue(queued),
                    Place::Coming(coming) => Step::Connect(coming),
                },
                Step::Connect(mut coming) => match coming.poll_unpin(cx) {
                    Poll::Ready(Ok(connection)) => {
                        this.stillborn += u32::from(!connection.is_usable());
                        if this.stillborn == MOST_STILLBORN {
                            let e = ConnectError::new("the peer ends every connection at once");
                            return Poll::Ready(Err(CallError::NotConnected(e)));
                        }
                        Step::Place
                    }
                    Poll::Ready(Err(e)) => return Poll::Ready(Err(CallError::NotConnected(e))),
                    Poll::Pending => {
                        this.step = Step::Connect(coming);
                        return Poll::Pending;
                    }
                },
                Step::Queue(mut queued) => match queued.poll_unpin(cx) {
                    Poll::Ready(Some(lease)) => Step::Send(lease),
                    Poll::Ready(None) => Step::Place,
                    Poll::Pending => {
                        this.step = Step::Queue(queued);
                        return Poll::Pending;
                    }
                },
                Step::Send(lease) => {
                    let request = this.request.take().expect("a response is polled to its end once");
                    Step::Exchange(this.to.send(lease, request)?)
                }
                Step::Exchange(mut exchange) => {
                    let reply = exchange.poll(cx);
                    if reply.is_pending() {
                        this.step = Step::Exchange(exchange);
                    }
                    return reply;
                }
            }
        }
    }
}

/// A request on its way, and its reply.
struct Exchange {
    reply: ResponseFuture,
    /// `None` when all is handed over.
    upload: Option<Upload>,
    departures: Departures,
    /// Goes on to the reply's body.
    hold: Option<Hold>,
}

impl Exchange {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<http::Response<Body>, CallError>> {
        if let Some(upload) = &mut self.upload
            && let Poll::Ready(done) = upload.poll(cx)
        {
            self.upload = None;
            done?;
        }
        let reply = ready!(self.reply.poll_unpin(cx)).map_err(|e| self.failed(e))?;
        let hold = self.hold.take();
        Poll::Ready(Ok(reply.map(|stream| Body::new(Reply { stream, data: true, _hold: hold }))))
    }

    /// A reset or a GOAWAY may say that the request was not processed (a GOAWAY ends only the
    /// streams after the last one that the server took on); else it may have been, once a part of
    /// it has left.
    fn failed(&self, e: h2::Error) -> CallError {
        let refused = e.reason() == Some(Reason::REFUSED_STREAM) || (e.is_go_away() && e.is_remote());
        let left = self.departures.include(self.reply.stream_id().as_u32());
        if refused || !left { CallError::NotSent(e) } else { CallError::Broken(e) }
    }
}

/// The body of a request and where it goes.
struct Upload {
    body: Body,
    stream: SendStream<Bytes>,
    /// The last piece, kept back until it is known whether it is the end: that saves a frame.
    held: Option<Bytes>,
}

impl Upload {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        loop {
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => frame.transpose(),
                Poll::Pending => {
                    return self.pass_on(None, false).map_or(Poll::Ready(Ok(())), |()| Poll::Pending);
                }
            };
            match frame {
                Ok(Some(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && self.pass_on(Some(data), false).is_none()
                    {
                        return Poll::Ready(Ok(()));
                    }
                }
                Ok(None) => {
                    self.pass_on(None, true);
                    return Poll::Ready(Ok(()));
                }
                Err(status) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(CallError::Request(status.into())));
                }
            }
        }
    }

    /// Holds `next` and sends what was held; `None` when the stream takes no more. Why, the reply
    /// tells.
    fn pass_on(&mut self, next: Option<Bytes>, end: bool) -> Option<()> {
        let held = std::mem::replace(&mut self.held, next);
        match (held, end) {
            (None, false) => Some(()),
            (data, end) => self.stream.send_data(data.unwrap_or_default(), end).ok(),
        }
    }
}

/// The body of a reply.
struct Reply {
    stream: RecvStream,
    /// There may be more data; after it come the trailers.
    data: bool,
    _hold: Option<Hold>,
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = CallError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CallError>>> {
        if self.data {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // What the consumer has not asked for yet stays in the stream's window.
                    self.stream.flow_control().release_capacity(data.len()).map_err(CallError::Broken)?;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(e)) => return Poll::Ready(unless_over(e)),
                None => self.data = false,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(e) => Poll::Ready(unless_over(e)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}

/// A stream that is reset without an error has ended early and well.
fn unless_over<T>(e: h2::Error) -> Option<Result<T, CallError>> {
    (e.reason() != Some(Reason::NO_ERROR)).then_some(Err(CallError::Broken(e)))
}
