//! Producers: messages accepted at memory speed, gathered into requests, each told what became
//! of it.
//!
//! [`Producer::send`] puts the message in wire form behind those that wait (`buffer`). A task on
//! the runtime, there only while something waits, takes what has gathered and sends it (`sender`
//! for streams, `jobs` for queues). What became of each goes to the application on its
//! dispatcher, in the order of the sends (`reports`). Nothing here waits for more messages: while
//! one request is under way, the next one gathers.

mod attempts;
mod batch;
mod buffer;
mod jobs;
mod outage;
mod reports;
mod sender;
mod state;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

pub(crate) use self::buffer::Target;
pub use self::{
    batch::NewMessage,
    reports::{ProducerEvents, Receipt, Report, Reports},
};
use self::{buffer::Shared, state::State};
use super::{
    call::End,
    client::Client,
    error::{Error, Result, Status},
    options::{CallOptions, Timeout},
    queues::Queue,
    rules,
    streams::Stream,
};
use crate::runtime::{Dispatcher, deadline_after};

/// The largest request that every server takes.
const REQUEST_LIMIT: usize = 4 << 20;
/// The largest request that the options may ask for.
const LARGEST_BATCH: usize = 64 << 20;
/// The most calls that one producer may have under way.
const MOST_IN_FLIGHT: usize = 200;

/// How to produce.
#[derive(Debug, Clone)]
pub struct ProducerOptions {
    /// At most so many messages wait for their outcome.
    pub max_buffered_messages: usize,
    /// At most so many bytes of them, in wire form; a single message may be larger.
    pub max_buffered_bytes: usize,
    /// At most so many messages in one request to a stream.
    pub max_batch_messages: usize,
    /// A request to a stream is closed before it would pass so many bytes; a single message may be
    /// larger, up to the 4 MiB that a server takes.
    pub max_batch_bytes: usize,
    /// Queues: at most so many jobs on the way at once.
    pub max_in_flight: usize,
    /// From `send` on, how long the producer tries; `None` for ever.
    pub delivery_timeout: Option<Duration>,
    /// Whether to send again what may be stored already.
    pub retry_unknown: bool,
    /// Whether the first failure ends the producer.
    pub stop_on_error: bool,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            max_buffered_messages: 100_000,
            max_buffered_bytes: 64 << 20,
            max_batch_messages: 10_000,
            max_batch_bytes: 1 << 20,
            max_in_flight: 64,
            delivery_timeout: Some(Duration::from_secs(120)),
            retry_unknown: false,
            stop_on_error: false,
        }
    }
}

impl ProducerOptions {
    /// Refuses values that make no sense.
    pub(crate) fn check(&self) -> Result<()> {
        rules::between("max_buffered_messages", self.max_buffered_messages, 1, usize::MAX)?;
        rules::between("max_buffered_bytes", self.max_buffered_bytes, 1, usize::MAX)?;
        rules::between("max_batch_messages", self.max_batch_messages, 1, usize::MAX)?;
        rules::between("max_batch_bytes", self.max_batch_bytes, 1, LARGEST_BATCH)?;
        rules::between("max_in_flight", self.max_in_flight, 1, MOST_IN_FLIGHT)
    }
}

/// Sends messages to one stream or queue, each with a tag `T` that its report brings back.
/// Dropping it gives up what was not sent; every report is still made.
pub struct Producer<T: Send + 'static> {
    shared: Arc<Shared<T>>,
}

impl<T: Send + 'static> Producer<T> {
    /// A producer for a stream. `events` is told what became of the messages, on the client's
    /// dispatcher.
    pub fn of_stream(
        stream: &Arc<Stream>,
        options: ProducerOptions,
        events: Option<Box<dyn ProducerEvents<T>>>,
    ) -> Result<Self> {
        Self::open(Target::Stream(stream.clone()), options, events, None)
    }

    /// A producer for a queue; as [`Producer::of_stream`] otherwise.
    pub fn of_queue(
        queue: &Arc<Queue>,
        options: ProducerOptions,
        events: Option<Box<dyn ProducerEvents<T>>>,
    ) -> Result<Self> {
        Self::open(Target::Queue(queue.clone()), options, events, None)
    }

    /// A producer; `events` is told on `dispatcher`, or else on the client's.
    pub(crate) fn open(
        target: Target,
        options: ProducerOptions,
        events: Option<Box<dyn ProducerEvents<T>>>,
        dispatcher: Option<&Dispatcher>,
    ) -> Result<Self> {
        options.check()?;
        let client = target.client();
        client.inner().check()?;
        let dispatcher = match &events {
            Some(_) => Some(client.dispatcher_or(dispatcher)?),
            None => None,
        };
        Ok(Self { shared: Arc::new(Shared::new(target, options, events, dispatcher)) })
    }

    /// The client.
    pub fn client(&self) -> &Client {
        self.shared.target.client()
    }

    /// Accepts a message; when the buffer is full, waits up to `wait` for room. QUEUE_FULL: there
    /// was none. After OK its report follows, whatever happens; after an error none does.
    pub fn send<'a, H>(&self, message: &NewMessage<'_, H>, tag: T, wait: Timeout) -> Result<()>
    where
        H: Iterator<Item = flowmesh_proto::wire::Header<'a>> + Clone,
    {
        Shared::send(&self.shared, message, tag, wait)
    }

    /// Waits until every message accepted so far has been reported and the callback has returned.
    /// DEADLINE_EXCEEDED when the time was up before. Without events, ABORTED when a message has
    /// failed since the last flush.
    pub fn flush(&self, wait: Timeout) -> Result<()> {
        self.shared.target.client().check_process()?;
        let deadline = deadline_after(wait);
        let accepted = self.shared.accepted();
        if self.shared.is_reporting_here() {
            return Err(Error::local(
                Status::FAILED_PRECONDITION,
                format!("flush {}: a callback of the producer would wait for itself", self.shared.what()),
            ));
        }
        if !Shared::wait_for(&self.shared, deadline, |state| state.has_reported(accepted)) {
            return Err(self.shared.unreported());
        }
        self.shared.untold_failures()
    }

    /// As [`Producer::flush`] without blocking; callbacks run on their dispatcher only.
    pub fn flush_async(
        &self,
        wait: Timeout,
        options: CallOptions,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        let (shared, deadline) = (self.shared.clone(), deadline_after(wait));
        let accepted = shared.accepted();
        async move {
            let client = shared.target.client();
            let time = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            match client.until_ended(&options, time, shared.until(|s| s.has_reported(accepted))).await {
                Ok(()) => shared.untold_failures(),
                Err(End::TimeUp) => Err(shared.unreported()),
                Err(end) => Err(client.end_error(end, &format!("flush {}", shared.what()))),
            }
        }
    }

    /// Refuses new messages, waits until all others are reported, and ends. At the timeout it gives
    /// up what has no outcome yet: how many that were, the first value says, and each is reported.
    /// After OK no callback runs any more. DEADLINE_EXCEEDED: reports are still to come. Inside a
    /// callback of the producer it only begins, and returns at once.
    pub fn close(&self, wait: Timeout) -> (usize, Result<()>) {
        if let Err(forked) = self.shared.target.client().check_process() {
            return (0, Err(forked));
        }
        let deadline = deadline_after(wait);
        Shared::refuse(&self.shared, self.shared.closed_error());
        let inside = self.shared.is_reporting_here();
        if !inside && Shared::wait_for(&self.shared, deadline, |state| state.has_finished()) {
            self.shared.log_end();
            return (self.shared.given_up(), self.shared.untold_failures());
        }
        if !inside || wait == Timeout::After(Duration::ZERO) {
            Shared::give_up(&self.shared);
        }
        let given_up = self.shared.given_up();
        (given_up, if inside { Ok(()) } else { Err(self.shared.unfinished(given_up)) })
    }

    /// As [`Producer::close`] without blocking; callbacks run on their dispatcher only. Cancelled, it
    /// waits no longer, and the producer goes on to its end.
    pub fn close_async(
        &self,
        wait: Timeout,
        options: CallOptions,
    ) -> impl Future<Output = (usize, Result<()>)> + Send + 'static {
        let (shared, deadline) = (self.shared.clone(), deadline_after(wait));
        Shared::refuse(&shared, shared.closed_error());
        async move {
            let client = shared.target.client();
            let time = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let closed = match client.until_ended(&options, time, shared.until(State::has_finished)).await {
                Ok(()) => {
                    shared.log_end();
                    shared.untold_failures()
                }
                Err(End::TimeUp) => {
                    Shared::give_up(&shared);
                    Err(shared.unfinished(shared.given_up()))
                }
                Err(end) => Err(client.end_error(end, &format!("close {}", shared.what()))),
            };
            (shared.given_up(), closed)
        }
    }
}

impl<T: Send + 'static> Drop for Producer<T> {
    fn drop(&mut self) {
        if self.shared.target.client().check_process().is_err() {
            // In the child of a fork its locks may be held for ever, and there is nobody to report.
            return;
        }
        Shared::refuse(&self.shared, self.shared.closed_error());
        Shared::give_up(&self.shared);
    }
}

impl<T: Send + 'static> std::fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("to", &self.shared.what()).finish_non_exhaustive()
    }
}
