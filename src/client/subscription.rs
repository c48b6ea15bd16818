//! Following a stream: in order, without gap or repeat, over lost connections.
//!
//! The consumer pulls; there is no task and no queue in between. What the consumer has not
//! pulled waits in the HTTP/2 stream's window, and when that is full the server stops sending.

use std::{
    hash::{BuildHasher, RandomState},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use flowmesh_proto::v1::{SubscribeRequest, SubscribeResponse, stream_service_client::StreamServiceClient};
use tonic::{Streaming, codegen::tokio_stream::Stream as _};

use super::{
    call::End,
    cancel::CancelToken,
    error::{Cause, Effect, Error, Failure, Result, Status},
    options::{CallOptions, Timeout},
    reader::offset_after,
    rules,
    streams::Stream,
};
use crate::runtime::{OwnedByProcess, Pinned, park::Sleep};

/// Start after what the group committed, at 0 without a commit.
const START_COMMITTED: i64 = -1;
/// Start with what is written from now on.
const START_NEW: i64 = -2;

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// How to follow a stream.
#[derive(Debug, Clone)]
pub struct SubscribeOptions {
    /// Serves for a start after its commit; nothing is committed by itself.
    pub consumer_group: String,
    /// The partition.
    pub partition: i32,
    /// 0 and above: that offset; -1: after the group's commit; -2: only new messages.
    pub start_offset: i64,
    /// At most this many messages in a batch.
    pub batch_messages: usize,
    /// A batch ends with the message that reaches this many bytes.
    pub batch_bytes: usize,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self {
            consumer_group: String::new(),
            partition: 0,
            start_offset: START_COMMITTED,
            batch_messages: 1024,
            batch_bytes: 256 << 10,
        }
    }
}

/// What [`Subscription::next_batch`] has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Messages are in the batch.
    Messages,
    /// The server follows the stream from this offset on.
    Connected(i64),
    /// The connection is lost; it is made again, and goes on where it was.
    Lost(Error),
}

/// A stream that is being followed.
pub struct Subscription {
    stream: Stream,
    options: SubscribeOptions,
    stop: CancelToken,
    state: State,
    backoff: Option<Duration>,
    /// The first offset not yet delivered, once it is fixed.
    position: Option<i64>,
    /// An error that arrived behind messages of the same batch.
    held: Option<Failure>,
    _pin: Option<OwnedByProcess<Pinned>>,
}

enum State {
    /// To be connected, not before the instant.
    Waiting(Option<Instant>),
    Connected(OwnedByProcess<Streaming<SubscribeResponse>>),
    Ended(Error),
}

impl Subscription {
    pub(crate) fn new(stream: Stream, options: SubscribeOptions) -> Result<Self> {
        rules::group("consumer_group", &options.consumer_group)?;
        rules::position("start_offset", options.start_offset, START_NEW)?;
        rules::position("batch_messages", i64::try_from(options.batch_messages).unwrap_or(i64::MAX), 1)?;
        let inner = stream.client().inner();
        inner.check()?;
        let pin = inner.pin()?.map(OwnedByProcess::new);
        stream.client().statistics().subscriptions.add(1);
        Ok(Self {
            stream,
            options,
            stop: CancelToken::new(),
            state: State::Waiting(None),
            backoff: None,
            position: None,
            held: None,
            _pin: pin,
        })
    }

    /// The stream.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Fixes the position now: the first offset that will be delivered, which it returns. What is
    /// written from now on is not missed. Otherwise the first `next_batch` does it.
    pub async fn fix_position(&mut self) -> Result<i64> {
        match self.position {
            Some(position) => Ok(position),
            None => {
                let position = self.first_position().await?;
                Ok(*self.position.insert(position))
            }
        }
    }

    /// Ends the subscription from any thread: `next_batch` then gives CANCELLED.
    pub fn stopper(&self) -> CancelToken {
        self.stop.clone()
    }

    /// Waits for something to tell. Clears `batch`, then fills it with encoded `Message`s: what
    /// has arrived, at least one, up to the limits. An error ends the subscription; every later
    /// call gives it again.
    pub async fn next_batch(&mut self, batch: &mut Vec<Bytes>) -> Result<Progress> {
        batch.clear();
        if let State::Ended(error) = &self.state {
            return Err(error.clone());
        }
        let client = self.stream.client().clone();
        let _under_way = client.inner().enter();
        let options = CallOptions {
            timeout: Timeout::Never,
            cancel: Some(self.stop.clone()),
            ..CallOptions::default()
        };
        let progress = match client.inner().check() {
            Err(error) => Err(error),
            Ok(()) => match client.until_ended(&options, None, self.progress(batch)).await {
                Ok(progress) => progress,
                Err(End::Closed) => Err(client.end_error(End::Closed, &self.what())),
                Err(end) => Err(client.end_error(end, &self.what())),
            },
        };
        if let Err(error) = &progress {
            client.statistics().subscriptions.sub(1);
            self.state = State::Ended(error.clone());
        }
        progress
    }

    fn what(&self) -> String {
        format!("subscription to {}", self.stream.canonical_path())
    }

    async fn progress(&mut self, batch: &mut Vec<Bytes>) -> Result<Progress> {
        if let State::Waiting(not_before) = &self.state {
            if let Some(instant) = *not_before {
                Sleep::until(instant).await;
            }
            return self.connect().await;
        }
        let received = match self.held.take() {
            Some(failure) => Err(failure),
            None => self.receive(batch).await,
        };
        match received {
            Ok(()) => {
                if let Some(last) = batch.last() {
                    self.position = Some(offset_after(last, self.stream.canonical_path())?);
                }
                self.backoff = None;
                self.stream.client().statistics().messages_delivered.add(batch.len() as u64);
                Ok(Progress::Messages)
            }
            Err(failure) => self.lost(failure),
        }
    }

    /// Pulls what has arrived; waits for the first.
    async fn receive(&mut self, batch: &mut Vec<Bytes>) -> std::result::Result<(), Failure> {
        let State::Connected(messages) = &mut self.state else { return Ok(()) };
        let mut messages = Pin::new(messages.get_mut());
        let (most, mut room) = (self.options.batch_messages, self.options.batch_bytes);
        let held = &mut self.held;
        std::future::poll_fn(move |cx: &mut Context<'_>| {
            loop {
                let failure = match messages.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Ok(SubscribeResponse { message: Some(message), status: None }))) => {
                        let full = message.len() >= room;
                        room = room.saturating_sub(message.len());
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
                    Poll::Ready(None) => Failure {
                        status: Status::UNAVAILABLE,
                        text: "the server ended the stream".into(),
                        cause: Cause::Lost,
                    },
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
            None => match self.first_position().await {
                Ok(position) => *self.position.insert(position),
                Err(error) if may_pass(error.status()) => return Ok(self.wait_and_retry(error)),
                Err(error) => return Err(error),
            },
        };
        let wire = self.stream.client().inner().wire().await.map_err(|e| e.while_trying(&self.what()))?;
        let wire = wire.waiting();
        let request = wire.request(SubscribeRequest {
            resource_path: self.stream.resource().path(),
            consumer_group: self.options.consumer_group.clone(),
            partition: self.options.partition,
            start_offset: position,
        });
        // The headers may come with the first message only; until then this waits, as
        // `next_batch` does for messages.
        match wire.client(StreamServiceClient::new).subscribe(request).await {
            Ok(reply) => {
                self.state = State::Connected(OwnedByProcess::new(reply.into_inner()));
                Ok(Progress::Connected(position))
            }
            Err(status) => self.lost(Failure::new(&status)),
        }
    }

    /// The start as a literal offset. A stream that does not exist yet starts at 0.
    async fn first_position(&self) -> Result<i64> {
        // The subscription's own stop ends these calls too: they run inside `next_batch`.
        let options = CallOptions::default();
        let partition = self.options.partition;
        let known = match self.options.start_offset {
            START_COMMITTED => self.stream.offset(&self.options.consumer_group, partition, &options).await,
            START_NEW => self.stream.latest_offset(partition, &options).await,
            offset => return Ok(offset),
        };
        match known {
            Ok(offset) => Ok(offset.saturating_add(1)),
            Err(error) if error.status() == Status::NOT_FOUND => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn lost(&mut self, failure: Failure) -> Result<Progress> {
        let passes = may_pass(failure.status) && failure.cause != Cause::BadReply;
        let error = failure.into_error(&self.what(), Effect::None);
        if passes { Ok(self.wait_and_retry(error)) } else { Err(error) }
    }

    fn wait_and_retry(&mut self, error: Error) -> Progress {
        let backoff = self.backoff.map_or(FIRST_BACKOFF, |b| (b * 2).min(LONGEST_BACKOFF));
        // The first attempt is not delayed: most losses are a restart or a cut of one connection.
        let delay = self.backoff.map(|_| jittered(backoff));
        self.backoff = Some(backoff);
        self.state = State::Waiting(delay.map(|d| Instant::now() + d));
        Progress::Lost(error)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if !matches!(self.state, State::Ended(_)) {
            self.stream.client().statistics().subscriptions.sub(1);
        }
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("stream", &self.stream.canonical_path())
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

/// Whether the same request may succeed on another connection.
pub(super) fn may_pass(status: Status) -> bool {
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
    match status {
        Some(status) if status.code != 0 => {
            Failure { status: Status(status.code), text: status.message, cause: Cause::Server }
        }
        _ => Failure {
            status: Status::INTERNAL,
            text: "the server sent a response without a message".into(),
            cause: Cause::Server,
        },
    }
}

/// Between half of `backoff` and all of it, so that clients do not come back all at once.
fn jittered(backoff: Duration) -> Duration {
    let random = RandomState::new().hash_one(());
    backoff / 2 + (backoff / 2).mul_f64(random as f64 / u64::MAX as f64)
}
