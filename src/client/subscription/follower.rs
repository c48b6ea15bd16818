//! Following a stream on the wire: fixes the start, connects, receives, and connects again behind
//! the last message received. What it receives waits nowhere here; what is not asked for stays
//! where flow control holds up the server.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use flowmesh_proto::v1::{SubscribeRequest, SubscribeResponse, stream_service_client::StreamServiceClient};
use tonic::{Streaming, codegen::tokio_stream::Stream as _};

use super::{Progress, START_COMMITTED, START_NEW, SubscribeOptions, prefetch::weight, what};
use crate::{
    client::{
        backoff::Backoff,
        error::{Cause, Effect, Error, Failure, Result, Status},
        options::CallOptions,
        reader::offset_after,
        streams::Stream,
    },
    runtime::{OwnedByProcess, park::Sleep},
};

/// A stream that is being followed.
pub(super) struct Follower {
    stream: Stream,
    options: Arc<SubscribeOptions>,
    state: State,
    backoff: Backoff,
    /// Which of a file's tokens was presented last.
    token: u64,
    /// The first offset not yet received, once it is fixed.
    position: Option<i64>,
    /// An error that arrived behind messages of the same batch.
    held: Option<Failure>,
}

enum State {
    /// To be connected, not before the instant.
    Waiting(Option<Instant>),
    Connected(Box<OwnedByProcess<Streaming<SubscribeResponse>>>),
}

/// How much to receive at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// At most so many messages.
    pub messages: usize,
    /// No more behind the message that reaches so many bytes.
    pub bytes: usize,
}

impl Follower {
    /// Follows from `position` on; `None`: from where the options say.
    pub fn new(stream: Stream, options: Arc<SubscribeOptions>, position: Option<i64>) -> Self {
        let backoff = Backoff::spread(options.first_backoff, options.longest_backoff);
        Self { stream, options, state: State::Waiting(None), backoff, token: 0, position, held: None }
    }

    /// Goes on at `position` instead.
    pub fn seek(&mut self, position: i64) {
        self.state = State::Waiting(None);
        self.backoff.reset();
        self.position = Some(position);
        self.held = None;
    }

    /// Waits for something to tell; messages go into `batch`, which is empty. An error is final.
    /// Given up half-way, nothing that was received is lost.
    pub async fn next(&mut self, batch: &mut Vec<Bytes>, limits: Limits) -> Result<Progress> {
        if let State::Waiting(not_before) = &self.state {
            if let Some(instant) = *not_before {
                Sleep::until(instant).await;
            }
            return self.connect().await;
        }
        let received = match self.held.take() {
            Some(failure) => Err(failure),
            None => self.receive(batch, limits).await,
        };
        match received {
            Ok(()) => {
                if let Some(last) = batch.last() {
                    self.position = Some(offset_after(last, self.stream.canonical_path())?);
                }
                self.backoff.reset();
                Ok(Progress::Messages)
            }
            Err(failure) => self.lost(failure),
        }
    }

    /// Takes what has arrived; waits for the first.
    async fn receive(&mut self, batch: &mut Vec<Bytes>, limits: Limits) -> std::result::Result<(), Failure> {
        let State::Connected(messages) = &mut self.state else { return Ok(()) };
        let mut messages = Pin::new(messages.get_mut());
        let (most, mut room) = (limits.messages, limits.bytes);
        let held = &mut self.held;
        std::future::poll_fn(move |cx: &mut Context<'_>| {
            loop {
                let failure = match messages.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Ok(SubscribeResponse { message: Some(message), status: None }))) => {
                        let weight = weight(&message);
                        let full = weight >= room;
                        room = room.saturating_sub(weight);
                        batch.push(message);
                        if full || batch.len() >= most {
                            return Poll::Ready(Ok(()));
                        }
                        continue;
                    }
                    Poll::Pending if batch.is_empty() => return Poll::Pending,
                    Poll::Pending => return Poll::Ready(Ok(())),
                    Poll::Ready(Some(Ok(SubscribeResponse { status, .. }))) => in_band(status),
                    Poll::Ready(Some(Err(status))) => Failure::new(&status),
                    Poll::Ready(None) => {
                        let text = "the server ended the stream".to_owned();
                        Failure::of_stream(Status::UNAVAILABLE, text, Cause::Lost)
                    }
                };
                if batch.is_empty() {
                    return Poll::Ready(Err(failure));
                }
                *held = Some(failure);
                return Poll::Ready(Ok(()));
            }
        })
        .await
    }

    /// Fixes the position and has the server follow from there.
    async fn connect(&mut self) -> Result<Progress> {
        let position = match self.position {
            Some(position) => position,
            // What ends the subscription ends this call too: it runs inside `next`.
            None => {
                let start = self.options.start_offset;
                match literal(&self.stream, &self.options, start, &CallOptions::default()).await {
                    Ok(position) => *self.position.insert(position),
                    Err(error) if may_pass(error.status()) => return Ok(self.wait_and_retry(error)),
                    Err(error) => return self.unless_renewed(error),
                }
            }
        };
        let wire = match self.stream.client().inner().wire().await {
            Ok(wire) => wire.waiting(),
            Err(error) => return self.unless_renewed(error.while_trying(&what(&self.stream))),
        };
        self.token = self.stream.client().inner().token().version();
        let request = wire.request(SubscribeRequest {
            resource_path: self.stream.resource().path(),
            consumer_group: self.options.consumer_group.clone(),
            partition: self.options.partition,
            start_offset: position,
        });
        // The headers may come with the first message only; until then this waits, as it does for
        // messages.
        match wire.client(StreamServiceClient::new).subscribe(request).await {
            Ok(reply) => {
                self.state = State::Connected(Box::new(OwnedByProcess::new(reply.into_inner())));
                Ok(Progress::Connected(position))
            }
            Err(status) => self.lost(Failure::new(&status)),
        }
    }

    fn lost(&mut self, failure: Failure) -> Result<Progress> {
        let passes = may_pass(failure.status) && failure.cause != Cause::BadReply;
        let error = failure.into_error(&what(&self.stream), Effect::None);
        if passes { Ok(self.wait_and_retry(error)) } else { self.unless_renewed(error) }
    }

    /// An error that is final, unless it is about a token whose file may change.
    fn unless_renewed(&mut self, error: Error) -> Result<Progress> {
        let inner = self.stream.client().inner();
        if !inner.may_pass_with_token(&error) {
            return Err(error);
        }
        inner.token().refuse(self.token);
        Ok(self.wait_and_retry(error))
    }

    fn wait_and_retry(&mut self, error: Error) -> Progress {
        let delay = self.backoff.next();
        self.state = State::Waiting((!delay.is_zero()).then(|| Instant::now() + delay));
        Progress::Lost(error)
    }
}

/// `start` as a literal offset. A stream that does not exist yet starts at 0.
pub(super) async fn literal(
    stream: &Stream,
    of: &SubscribeOptions,
    start: i64,
    options: &CallOptions,
) -> Result<i64> {
    let known = match start {
        START_COMMITTED => stream.offset(&of.consumer_group, of.partition, options).await,
        START_NEW => stream.latest_offset(of.partition, options).await,
        offset => return Ok(offset),
    };
    match known {
        Ok(offset) => Ok(offset.saturating_add(1)),
        Err(error) if error.status() == Status::NOT_FOUND => Ok(0),
        Err(error) => Err(error),
    }
}

/// Whether the same request may succeed on another connection.
pub(in crate::client) fn may_pass(status: Status) -> bool {
    matches!(
        status,
        Status::UNAVAILABLE
            | Status::CANCELLED
            | Status::DEADLINE_EXCEEDED
            | Status::ABORTED
            | Status::UNKNOWN
    )
}

/// Some servers report an error in a response instead of ending the call.
fn in_band(status: Option<flowmesh_proto::v1::Status>) -> Failure {
    let (status, text) = match status {
        Some(status) if status.code != 0 => (Status(status.code), status.message),
        _ => (Status::INTERNAL, "the server sent a response without a message".to_owned()),
    };
    Failure::of_stream(status, text, Cause::Server)
}
