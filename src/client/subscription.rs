//! Following a stream: in order, without gap or repeat, over lost connections.
//!
//! Three parts: the `follower` speaks with the server, the `prefetch` holds what has arrived and
//! is not yet handed out, `commits` commits what was handled. Here is what joins them, and what
//! the application sees. With a server, the follower works on the runtime; what an embedded engine
//! has is taken directly by whoever consumes it.

mod commits;
mod follower;
mod prefetch;

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;

pub(super) use follower::may_pass;

use self::{
    commits::Commits,
    follower::{Follower, Limits},
    prefetch::Prefetch,
};
use super::{
    call::End,
    cancel::CancelToken,
    error::{Error, Outcome, Result, Status},
    options::{CallOptions, Timeout},
    rules,
    streams::Stream,
};
use crate::runtime;

/// Start after what the group committed, at 0 without a commit.
const START_COMMITTED: i64 = -1;
/// Start with what is written from now on.
const START_NEW: i64 = -2;

/// How to follow a stream.
#[derive(Debug, Clone)]
pub struct SubscribeOptions {
    /// Serves for a start after its commit, and for commits.
    pub consumer_group: String,
    /// The partition.
    pub partition: i32,
    /// 0 and above: that offset; -1: after the group's commit; -2: only new messages.
    pub start_offset: i64,
    /// At most this many messages in a batch.
    pub batch_messages: usize,
    /// A batch ends with the message that reaches this many bytes.
    pub batch_bytes: usize,
    /// From so many bytes on that wait to be delivered, no more are taken from the connection; an
    /// embedded engine is asked for a batch at a time.
    pub max_prefetch_bytes: usize,
    /// What is committed by itself.
    pub commit: Commit,
    /// Bound of the wait before the second attempt to reconnect; it doubles with each more. The
    /// first is made at once.
    pub first_backoff: Duration,
    /// What that bound never exceeds.
    pub longest_backoff: Duration,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self {
            consumer_group: String::new(),
            partition: 0,
            start_offset: START_COMMITTED,
            batch_messages: 1024,
            batch_bytes: 256 << 10,
            max_prefetch_bytes: 4 << 20,
            commit: Commit::Manual,
            first_backoff: Duration::from_millis(100),
            longest_backoff: Duration::from_secs(10),
        }
    }
}

/// What a subscription commits by itself: never more than was handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// Nothing.
    Manual,
    /// Every batch that was handled, without waiting for it.
    AfterCallback,
    /// What was handled, at most once in so long.
    Periodic(Duration),
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
    /// A commit that was due by itself has failed; the next one covers it.
    CommitFailed(Error),
}

/// How a subscription stands with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionState {
    /// Not yet connected, or not yet again after a seek.
    Connecting,
    /// Connected.
    Connected,
    /// Without a connection, which is being made again.
    Lost,
    /// Over.
    Ended,
}

/// A stream that is being followed. Clones are one subscription; with the last one it ends.
#[derive(Clone)]
pub struct Subscription(Arc<Shared>);

struct Shared {
    stream: Stream,
    options: Arc<SubscribeOptions>,
    stop: CancelToken,
    prefetch: Arc<Prefetch>,
    commits: Arc<Commits>,
    /// Held by the one who consumes.
    turn: tokio::sync::Mutex<Source>,
}

/// Where the prefetch gets its messages from.
enum Source {
    /// Not begun.
    New,
    /// What the consumer polls himself.
    Direct(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// A task of the runtime, or nothing any more.
    Elsewhere,
}

impl Subscription {
    pub(crate) fn new(stream: Stream, options: SubscribeOptions) -> Result<Self> {
        rules::partition(options.partition)?;
        rules::group("consumer_group", &options.consumer_group)?;
        rules::position("start_offset", options.start_offset, START_NEW)?;
        rules::position("batch_messages", i64::try_from(options.batch_messages).unwrap_or(i64::MAX), 1)?;
        let client = stream.client();
        client.inner().check()?;
        let direct = client.endpoint().is_embedded();
        let limit = if direct { options.batch_bytes } else { options.max_prefetch_bytes };
        let path = stream.resource().text.clone();
        let prefetch = Arc::new(Prefetch::new(limit.max(1), direct, path, client.statistics().clone()));
        let options = Arc::new(options);
        let commits = Arc::new(Commits::new(stream.clone(), options.clone(), prefetch.clone()));
        let turn = tokio::sync::Mutex::new(Source::New);
        Ok(Self(Arc::new(Shared { stream, options, stop: CancelToken::new(), prefetch, commits, turn })))
    }

    /// The stream.
    pub fn stream(&self) -> &Stream {
        &self.0.stream
    }

    /// Fixes the position now: the first offset that will be delivered, which it returns. What is
    /// written from now on is not missed. Otherwise the first `next_batch` does it.
    pub async fn fix_position(&self, options: &CallOptions) -> Result<i64> {
        let shared = &self.0;
        if let Some(position) = shared.prefetch.position() {
            return Ok(position);
        }
        let start = shared.options.start_offset;
        let position = follower::literal(&shared.stream, &shared.options, start, options).await?;
        shared.prefetch.fix(position);
        Ok(position)
    }

    /// Waits for something to tell. Clears `batch`, then fills it with encoded `Message`s: what
    /// has arrived, at least one, up to the limits. Of several callers each gets the next batch.
    /// An error is the end; every later call gives it again.
    pub async fn next_batch(&self, batch: &mut Vec<Bytes>) -> Result<Progress> {
        let options = CallOptions { timeout: Timeout::Never, ..CallOptions::default() };
        match self.next(batch, &options, None, false).await? {
            Some(progress) => Ok(progress),
            // Without a deadline there is no such end.
            None => Err(self.0.closed_error()),
        }
    }

    /// As [`Subscription::next_batch`], for at most `time`, and as long as `options` do not cancel
    /// it; neither ends the subscription. `None` when the time was up.
    pub(crate) async fn next_within(
        &self,
        batch: &mut Vec<Bytes>,
        time: Option<Duration>,
        cancel: Option<CancelToken>,
    ) -> Result<Option<Progress>> {
        let options = CallOptions { timeout: Timeout::Never, cancel, ..CallOptions::default() };
        self.next(batch, &options, time, false).await
    }

    /// As [`Subscription::next_batch`], for the one that calls back: [`Subscription::handled`] is to
    /// follow.
    pub(crate) async fn next_for_callback(&self, batch: &mut Vec<Bytes>) -> Result<Progress> {
        let options = CallOptions { timeout: Timeout::Never, ..CallOptions::default() };
        match self.next(batch, &options, None, true).await? {
            Some(progress) => Ok(progress),
            None => Err(self.0.closed_error()),
        }
    }

    async fn next(
        &self,
        batch: &mut Vec<Bytes>,
        options: &CallOptions,
        time: Option<Duration>,
        calls_back: bool,
    ) -> Result<Option<Progress>> {
        batch.clear();
        let client = self.0.stream.client();
        // A callback's task is waited for by itself; it must not keep a close from getting there.
        let _under_way = (!calls_back).then(|| client.inner().enter());
        client.inner().check()?;
        let options = CallOptions { operation: Some(self.0.stop.clone()), ..options.clone() };
        match client.until_ended(&options, time, pin!(self.take(batch, calls_back))).await {
            Ok(taken) => taken.map(Some),
            Err(End::TimeUp) => Ok(None),
            Err(End::Cancelled) if self.0.stop.is_cancelled() => Err(self.0.closed_error()),
            Err(end) => Err(client.end_error(end, &what(&self.0.stream))),
        }
    }

    async fn take(&self, batch: &mut Vec<Bytes>, calls_back: bool) -> Result<Progress> {
        let shared = &*self.0;
        let mut source = shared.turn.lock().await;
        shared.begin(&mut source)?;
        let limits = Limits { messages: shared.options.batch_messages, bytes: shared.options.batch_bytes };
        std::future::poll_fn(|cx| {
            source.poll(cx, &shared.prefetch);
            shared.prefetch.poll_take(cx, batch, limits, calls_back)
        })
        .await
    }

    /// Begins to receive, where that happens by itself; otherwise the first `next_batch` begins.
    /// `consumer` is then woken when there is something to tell.
    pub(crate) fn begin(&self, consumer: Waker) -> Result<()> {
        if self.0.stream.client().endpoint().is_embedded() {
            consumer.wake();
            return Ok(());
        }
        // Nobody consumes yet.
        if let Ok(mut source) = self.0.turn.try_lock() {
            self.0.begin(&mut source)?;
        }
        self.0.prefetch.set_consumer(consumer);
        Ok(())
    }

    /// Whether there is something to tell at once.
    pub(crate) fn has_more(&self, cx: &mut Context<'_>) -> bool {
        if let Ok(mut source) = self.0.turn.try_lock() {
            source.poll(cx, &self.0.prefetch);
        }
        self.0.prefetch.has_something()
    }

    /// Only messages and the end are told.
    pub(crate) fn without_notices(&self) {
        self.0.prefetch.without_notices();
    }

    /// The callback is over that had the last batch; what is to be committed by itself, will be.
    pub(crate) fn handled(&self) {
        if let Some(last) = self.0.prefetch.given_back() {
            self.0.commits.handled(last);
        }
    }

    /// Holds back what arrives: nothing is delivered until [`Subscription::resume`]. The server is
    /// held up when as much waits as may. The end by a close is told all the same.
    pub fn pause(&self) -> Result<()> {
        self.0.stream.client().check_process()?;
        self.0.prefetch.pause(true);
        Ok(())
    }

    /// Ends a pause.
    pub fn resume(&self) -> Result<()> {
        self.0.stream.client().check_process()?;
        self.0.prefetch.pause(false);
        Ok(())
    }

    /// Goes on at `offset` (-1 and -2 as for the start): what was received and not delivered is
    /// dropped, and nothing from before is delivered once this has returned. It waits for a callback
    /// that runs, unless that is the caller's: `inside`. An automatic commit that was due
    /// is dropped too.
    pub async fn seek(&self, offset: i64, inside: bool, options: &CallOptions) -> Result<()> {
        rules::position("offset", offset, START_NEW)?;
        let shared = &*self.0;
        let client = shared.stream.client();
        let _under_way = client.inner().enter();
        client.inner().check()?;
        let position = follower::literal(&shared.stream, &shared.options, offset, options).await?;
        if shared.stop.is_cancelled() {
            return Err(self.0.closed_error());
        }
        let generation = shared.prefetch.seek(position)?;
        shared.commits.forget();
        if inside {
            return Ok(());
        }
        let time = options.time(client.inner().options().timeout);
        let rested = shared.prefetch.rested(generation);
        client.until_ended(options, time, rested).await.map_err(|end| {
            let what =
                format!("seek the {}: done, but a callback with older messages runs", what(&shared.stream));
            client.end_error(end, &what).with_outcome(Outcome::Applied)
        })
    }

    /// Whether the calling thread is in a callback that has a batch of this subscription.
    pub fn calls_here(&self) -> bool {
        self.0.prefetch.calls_here()
    }

    /// The next offset to be delivered; `None` until it is fixed.
    pub fn position(&self) -> Option<i64> {
        self.0.prefetch.position()
    }

    /// How it stands with the server; the reason, where it is lost or over.
    pub fn state(&self) -> (SubscriptionState, Option<Error>) {
        let known = self.0.prefetch.state();
        let client = self.0.stream.client();
        if known.0 == SubscriptionState::Ended || !client.is_closed() {
            return known;
        }
        // Who receives has not seen it yet, and from an embedded engine nobody receives unasked.
        (SubscriptionState::Ended, Some(client.end_error(End::Closed, &what(&self.0.stream))))
    }

    /// Commits everything delivered so far, for the group; nothing when nothing was, since the
    /// start or the last seek.
    pub async fn commit(&self, options: &CallOptions) -> Result<()> {
        let shared = &*self.0;
        let SubscribeOptions { consumer_group, partition, .. } = &*shared.options;
        match shared.prefetch.delivered() {
            Some(last) => shared.stream.commit_offset(consumer_group, *partition, last, options).await,
            None => shared.stream.client().inner().check(),
        }
    }

    /// Ends the subscription from any thread: `next_batch` then gives CLOSED. What is to be
    /// committed by itself is committed at once; [`Subscription::last_commit`] waits for it.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Ends it: the consumer cannot read what it was given.
    pub(crate) fn end(&self, error: Error) {
        self.0.prefetch.given_back();
        self.0.prefetch.end(error);
    }

    /// The commit that is due, to be waited for; `None` when none is.
    pub(crate) fn last_commit(
        &self,
        deadline: Option<Instant>,
    ) -> Option<impl Future<Output = Result<()>> + Send + use<>> {
        let commits = self.0.commits.clone();
        commits.has_due().then_some(async move { commits.flush(deadline).await })
    }
}

impl Shared {
    fn closed_error(&self) -> Error {
        Error::local(Status::CLOSED, format!("the {} was closed", what(&self.stream)))
    }

    /// Begins to receive, if that has not begun.
    fn begin(&self, source: &mut Source) -> Result<()> {
        if !matches!(source, Source::New) {
            return Ok(());
        }
        let client = self.stream.client();
        let prefetch = self.prefetch.clone();
        let follower = Follower::new(self.stream.clone(), self.options.clone(), prefetch.position());
        if client.endpoint().is_embedded() {
            *source = Source::Direct(Box::pin(prefetch.pump(follower)));
            return Ok(());
        }
        let pump = Pump(prefetch, self.stream.clone());
        let stop = self.stop.clone();
        client.inner().driver()?.spawn(async move {
            let client = pump.1.client();
            let _under_way = client.inner().enter();
            let options =
                CallOptions { timeout: Timeout::Never, cancel: Some(stop), ..CallOptions::default() };
            let pumping = pin!(pump.0.clone().pump(follower));
            if let Err(end) = client.until_ended(&options, None, pumping).await {
                pump.0.end(client.end_error(end, &what(&pump.1)));
            }
        })?;
        *source = Source::Elsewhere;
        Ok(())
    }

    fn stop(&self) {
        // First, so that this is the reason whoever sees it.
        self.prefetch.end(self.closed_error());
        self.stop.cancel();
        self.commits.close();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // In the child of a fork, locks may be held for ever.
        if self.stream.client().check_process().is_ok() {
            self.stop();
        }
    }
}

impl Source {
    /// Has the pump work, where that is the consumer's part and there is nothing else to take.
    fn poll(&mut self, cx: &mut Context<'_>, prefetch: &Prefetch) {
        if let Self::Direct(pump) = self
            && prefetch.wants_pump()
            && pump.as_mut().poll(cx).is_ready()
        {
            *self = Self::Elsewhere;
        }
    }
}

/// The task that pumps; when the runtime drops it, the subscription is over.
struct Pump(Arc<Prefetch>, Stream);

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.end(runtime::shut_down());
    }
}

/// The subscription, for messages.
fn what(stream: &Stream) -> String {
    format!("subscription to {}", stream.canonical_path())
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("stream", &self.0.stream.canonical_path())
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}
