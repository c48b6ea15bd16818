//! The one wrapper around every unary call: who may start it, how long it takes, what ends it,
//! what is tried again, and what its failure tells.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use flowmesh_proto::codec::EncodedCodec;
use http::uri::PathAndQuery;
use tonic::{
    Request, Response,
    client::Grpc,
    metadata::{Ascii, MetadataValue},
};

use super::{
    cancel::CancelToken,
    client::Client,
    error::{Effect, Error, Failure, Outcome, Result, Status},
    options::CallOptions,
    transport::Transport,
};
use crate::{
    log::log,
    runtime::{self, park::Sleep},
};

/// How often a call is tried again because it never left: each time another connection has broken,
/// or the server has refused it.
const MOST_UNSENT: u32 = 3;

/// What a call is, for its messages, retries and deadline.
pub(crate) struct Call<'a> {
    verb: &'static str,
    on: Arc<str>,
    effect: Effect,
    options: &'a CallOptions,
    /// How long the server may wait before it answers.
    server_wait: Duration,
}

impl<'a> Call<'a> {
    pub fn new(verb: &'static str, on: Arc<str>, effect: Effect, options: &'a CallOptions) -> Self {
        Self { verb, on, effect, options, server_wait: Duration::ZERO }
    }

    /// The server may wait this long; the call's time comes on top of it.
    pub fn with_server_wait(self, server_wait: Duration) -> Self {
        Self { server_wait, ..self }
    }

    fn what(&self) -> String {
        format!("{} {}", self.verb, self.on)
    }

    fn time(&self, default: Option<Duration>) -> Option<Duration> {
        self.options.time(default).map(|time| time.saturating_add(self.server_wait))
    }
}

/// What an attempt needs to reach the server.
pub(crate) struct Wire {
    pub transport: Transport,
    pub auth: Option<MetadataValue<Ascii>>,
    pub max_message_bytes: usize,
}

/// A generated client, whose reply limit can be raised.
pub(crate) trait Generated {
    /// Accepts replies up to `bytes`.
    fn reply_limit(self, bytes: usize) -> Self;
}

macro_rules! generated {
    ($($client:path),+) => {$(
        impl Generated for $client {
            fn reply_limit(self, bytes: usize) -> Self {
                self.max_decoding_message_size(bytes)
            }
        }
    )+};
}

generated!(
    flowmesh_proto::v1::health_service_client::HealthServiceClient<Transport>,
    flowmesh_proto::v1::stream_service_client::StreamServiceClient<Transport>,
    flowmesh_proto::v1::queue_service_client::QueueServiceClient<Transport>,
    flowmesh_proto::v1::kv_service_client::KvServiceClient<Transport>
);

impl Wire {
    /// A generated client on this transport.
    pub fn client<C: Generated>(self, new: impl FnOnce(Transport) -> C) -> C {
        new(self.transport).reply_limit(self.max_message_bytes)
    }

    /// Makes the call at `path`; its request is in wire form already.
    pub async fn call_encoded<R: prost::Message + Default + 'static>(
        self,
        path: &'static str,
        request: Request<Bytes>,
    ) -> std::result::Result<Response<R>, tonic::Status> {
        let mut client = Grpc::new(self.transport).max_decoding_message_size(self.max_message_bytes);
        client.ready().await.map_err(|e| tonic::Status::from_error(e.into()))?;
        client.unary(request, PathAndQuery::from_static(path), EncodedCodec::default()).await
    }

    /// For calls that the server may leave waiting.
    pub fn waiting(self) -> Self {
        Self { transport: self.transport.waiting(), ..self }
    }

    /// A request with the client's token.
    pub fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        if let Some(auth) = &self.auth {
            request.metadata_mut().insert("authorization", auth.clone());
        }
        request
    }
}

impl Client {
    /// Makes a call by `attempt`. When the connection is lost or the server stops, calls that a
    /// repeat cannot harm are tried once more, on another connection. An attempt that never left
    /// harms nobody, and does not count.
    pub(crate) async fn call<M, T, A>(&self, call: Call<'_>, message: M, attempt: A) -> Result<T>
    where
        M: Clone,
        A: AsyncFn(Wire, Request<M>) -> std::result::Result<Response<T>, tonic::Status>,
    {
        let inner = self.inner();
        let _under_way = inner.enter();
        inner.check()?;
        let running = self.statistics().call_started(call.server_wait.is_zero());
        // Whether a request may have reached the server; of no interest when it changes nothing.
        let sent = (call.effect != Effect::None).then(Arc::<AtomicBool>::default);
        let attempts = pin!(async {
            let mut before = Outcome::NotApplied;
            let (mut unsent, mut repeats) = (0, u32::from(call.effect != Effect::Once));
            let mut renewed = false;
            loop {
                let token = inner.token().version();
                let failure = match self.attempt(&call, message.clone(), &attempt, sent.as_ref()).await? {
                    Ok(reply) => return Ok(reply),
                    Err(failure) => failure,
                };
                let mut unreadable = None;
                let again = if failure.is_unauthenticated() {
                    // Refused unread, so a repeat with the file's next token does nothing twice.
                    !std::mem::replace(&mut renewed, true)
                        && inner.renew_token(token).await.unwrap_or_else(|e| {
                            unreadable = Some(e);
                            false
                        })
                } else if failure.not_sent() {
                    unsent += 1;
                    failure.worth_one_more() && unsent <= MOST_UNSENT
                } else {
                    failure.worth_one_more() && std::mem::take(&mut repeats) > 0
                };
                let error = failure.into_error(&call.what(), call.effect);
                let error = unreadable.iter().fold(error, Error::because);
                // What never left does not tell what became of an attempt before it.
                let error =
                    if error.outcome() == Outcome::NotApplied { error.with_outcome(before) } else { error };
                if !again {
                    return Err(error);
                }
                before = error.outcome();
                self.statistics().retried.add(1);
                log!(Info, "call", self.id(), "{error}; trying it once more");
            }
        });
        let ended = self.until_ended(call.options, call.time(inner.options().timeout), attempts).await;
        let result = match ended {
            Ok(result) => result,
            Err(end) => {
                let sent = sent.as_ref().is_some_and(|sent| sent.load(Ordering::Relaxed));
                let outcome = if sent { Outcome::Unknown } else { Outcome::NotApplied };
                Err(self.end_error(end, &call.what()).with_outcome(outcome))
            }
        };
        running.ended(&result);
        result
    }

    /// One attempt; the outer error is one that no other attempt can mend.
    async fn attempt<M, T, A>(
        &self,
        call: &Call<'_>,
        message: M,
        attempt: &A,
        sent: Option<&Arc<AtomicBool>>,
    ) -> Result<std::result::Result<T, Failure>>
    where
        A: AsyncFn(Wire, Request<M>) -> std::result::Result<Response<T>, tonic::Status>,
    {
        let mut wire = self.inner().wire().await.map_err(|e| e.while_trying(&call.what()))?;
        if !call.server_wait.is_zero() {
            wire = wire.waiting();
        }
        if let Some(sent) = sent {
            wire.transport = wire.transport.telling(sent.clone());
        }
        let mut request = wire.request(message);
        if let Some(trace) = &call.options.trace {
            trace.put_into(request.metadata_mut());
        }
        let reply = attempt(wire, request).await;
        Ok(reply.map(Response::into_inner).map_err(|status| Failure::new(&status)))
    }

    /// Runs `operation` until it ends, the time is up, the caller cancels or the client closes. Callers
    /// pin large ones: what an async function is given takes room in it twice.
    pub(crate) async fn until_ended<F: Future>(
        &self,
        options: &CallOptions,
        time: Option<Duration>,
        operation: F,
    ) -> std::result::Result<F::Output, End> {
        if options.is_cancelled() {
            return Err(End::Cancelled);
        }
        let mut operation = pin!(operation);
        // Most embedded calls are over with the first poll: the rest is only made afterwards.
        let first = std::future::poll_fn(|cx| Poll::Ready(operation.as_mut().poll(cx))).await;
        if let Poll::Ready(output) = first {
            return Ok(output);
        }
        let mut closed = pin!(self.inner().closed().wait());
        let mut token_cancelled = pin!(cancelled(options.cancel.as_ref()));
        let mut operation_cancelled = pin!(cancelled(options.operation.as_ref()));
        let mut over = runtime::after(time).map(Sleep::until);
        std::future::poll_fn(move |cx: &mut Context<'_>| {
            if let Poll::Ready(output) = operation.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            if token_cancelled.as_mut().poll(cx).is_ready()
                || operation_cancelled.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Err(End::Cancelled));
            }
            if closed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(End::Closed));
            }
            match &mut over {
                Some(sleep) => Pin::new(sleep).poll(cx).map(|()| Err(End::TimeUp)),
                None => Poll::Pending,
            }
        })
        .await
    }

    pub(crate) fn end_error(&self, end: End, what: &str) -> Error {
        match end {
            End::Cancelled => Error::local(Status::CANCELLED, format!("{what}: the caller cancelled it")),
            End::Closed => self.inner().closed_error().while_trying(what),
            End::TimeUp => Error::local(
                Status::DEADLINE_EXCEEDED,
                format!("{what}: no answer within the time given; check that the peer is a FlowMesh server, or give more time"),
            )
            .retryable(),
        }
    }
}

/// Resolves when `token` is cancelled.
async fn cancelled(token: Option<&CancelToken>) {
    match token {
        Some(token) => token.event().wait().await,
        None => std::future::pending().await,
    }
}

/// Why a call ended before its operation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Cancelled,
    Closed,
    TimeUp,
}
