//! Workers: jobs fetched in the background, handed to a handler, and settled in the background.
//!
//! A job goes one way: fetched (`fetch`), waiting, under way with a `Ticket`, its verdict sent
//! (`settle`), gone. `state` keeps the books, `shared` their lock and who is woken, `watch` looks
//! after the leases. A job is handed out at most once per lease, and never when its lease is over;
//! a verdict is never sent after the lease has ended, when it would hit somebody else's.

mod event;
mod fetch;
mod pace;
mod settle;
mod shared;
mod state;
mod ticket;
mod watch;

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Instant,
};

pub use event::{JobName, WorkerEvent, WorkerEventKind};
pub use ticket::{Delivery, Ticket, Verdict};

use super::{
    error::{Error, Result, Status},
    options::{CallOptions, Timeout},
    queues::Queue,
    rules,
};
use crate::runtime::{Dispatcher, deadline_after, park::Sleep};
use shared::{Lanes, Shared};
use state::Phase;

/// More jobs under way than any process needs.
const MOST_CONCURRENCY: usize = 4096;

/// More threads than that a worker does not start; give it a dispatcher.
const MOST_THREADS: usize = 512;

/// As many jobs as one poll brings.
const MOST_PREFETCH: usize = 100;

/// How a worker asks for jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PollMode {
    /// As the server can: asked once, when the worker opens.
    #[default]
    Auto,
    /// The server waits until there is a job.
    LongPoll,
    /// One job at a time, without waiting at the server: for the original engine, which loses jobs
    /// otherwise. Its leases never end by themselves, so late verdicts are sent.
    Safe,
}

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// How many jobs are under way at once.
    pub concurrency: usize,
    /// How many jobs may wait for their turn here, at most; fewer where they would wait for longer
    /// than a tenth of their lease, by the handling times measured.
    pub prefetch: usize,
    /// Length of a lease in ms; 0 is the server's 30 s. In effect whole seconds, rounded up.
    pub visibility_ms: i64,
    /// How to ask for jobs.
    pub poll_mode: PollMode,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self { concurrency: 1, prefetch: 16, visibility_ms: 0, poll_mode: PollMode::Auto }
    }
}

impl WorkerOptions {
    /// `concurrency`, if it is one.
    pub fn set_concurrency(&mut self, concurrency: usize) -> Result<()> {
        self.concurrency = within("concurrency", concurrency, 1, MOST_CONCURRENCY)?;
        Ok(())
    }

    /// `prefetch`, if it is one.
    pub fn set_prefetch(&mut self, prefetch: usize) -> Result<()> {
        self.prefetch = within("prefetch", prefetch, 0, MOST_PREFETCH)?;
        Ok(())
    }

    /// Length of a lease, if it is one.
    pub fn set_visibility_ms(&mut self, visibility_ms: i64) -> Result<()> {
        rules::visibility_seconds("visibility_timeout_ms", visibility_ms)?;
        self.visibility_ms = visibility_ms;
        Ok(())
    }
}

fn within(argument: &str, value: usize, min: usize, max: usize) -> Result<usize> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(Error::invalid(format!("{argument} must be {min} to {max}, got {value}")))
}

/// Is told what happens beside the jobs.
pub type EventCallback = Box<dyn Fn(&WorkerEvent) + Send + Sync>;

/// What a worker calls.
pub struct Callbacks {
    /// Handles a job; several at a time with a concurrency above 1.
    pub handler: Box<dyn Fn(Delivery) + Send + Sync>,
    /// Is told what happens beside; one call at a time, in order. Not needed.
    pub event: Option<EventCallback>,
}

/// Handles the jobs of a queue until it is closed. Dropping it ends it: nothing is handed out any
/// more, and the verdicts of what is under way are still sent.
pub struct Worker {
    shared: Arc<Shared>,
    /// The threads that only this worker has.
    pool: Option<Dispatcher>,
}

impl Worker {
    /// Starts to work on threads of the worker's own, as many as `concurrency`.
    pub fn open(queue: Queue, options: &WorkerOptions, callbacks: Callbacks) -> Result<Self> {
        Self::open_on(queue, options, callbacks, None)
    }

    /// Starts to work; `dispatcher` calls back, or threads of the worker's own do.
    pub(crate) fn open_on(
        queue: Queue,
        options: &WorkerOptions,
        callbacks: Callbacks,
        dispatcher: Option<&Dispatcher>,
    ) -> Result<Self> {
        let client = queue.client().clone();
        client.inner().check()?;
        let pool = match dispatcher {
            Some(_) => None,
            None => {
                within("concurrency of a worker without a dispatcher", options.concurrency, 1, MOST_THREADS)?;
                Some(client.dispatcher_pool(options.concurrency, "flowmesh-worker")?)
            }
        };
        let handlers = client.dispatcher_or(pool.as_ref().or(dispatcher))?;
        let lanes = Lanes {
            threads: handlers.threads(),
            // A thread of the pool may be in an overrunning handler that an event is about.
            events: client.dispatcher_or(dispatcher)?,
            handlers,
            own: pool.is_some(),
        };
        let shared = Shared::new(queue, options, lanes, callbacks);
        let driver = client.inner().driver()?;
        let worker = Self { shared: shared.clone(), pool };
        driver.spawn(settle::run(shared.clone()))?;
        driver.spawn(watch::run(shared.clone()))?;
        driver.spawn(fetch::run(shared))?;
        Ok(worker)
    }

    /// Fetches nothing more, and waits until the jobs that are leased have been handled and their
    /// verdicts are stored. At the timeout it ends as [`Worker::end`] does: DEADLINE_EXCEEDED, and
    /// [`Worker::unfinished`] says what is left. Inside a callback of its own it does not wait.
    pub async fn close(&self, timeout: Timeout) -> Result<()> {
        let shared = &self.shared;
        shared.queue.client().check_process()?;
        if shared.in_callback() {
            shared.enter(Phase::Ended);
            return Ok(());
        }
        shared.enter(Phase::Draining);
        let deadline = deadline_after(timeout);
        self.drained(deadline, true).await?;
        if let Some(pool) = &self.pool {
            pool.stop(deadline);
        }
        Ok(())
    }

    /// As [`Worker::close`], for a caller that does not wait and makes no callbacks. Also yields what
    /// [`Worker::unfinished`] says. Cancelled by `options`, it ends only the wait.
    pub(crate) fn close_async(
        self: &Arc<Self>,
        timeout: Timeout,
        options: CallOptions,
    ) -> impl Future<Output = (usize, Result<()>)> + use<> {
        let this = self.clone();
        this.shared.enter(Phase::Draining);
        let deadline = deadline_after(timeout);
        async move {
            let client = this.shared.queue.client();
            let closed = match client.until_ended(&options, None, pin!(this.drained(deadline, false))).await {
                Ok(closed) => closed,
                Err(end) => Err(client.end_error(end, &this.what())),
            };
            (this.unfinished(), closed)
        }
    }

    fn what(&self) -> String {
        format!("close the worker on {}", self.shared.queue.canonical_path())
    }

    /// Waits until the worker rests; at `deadline` it is ended. With `help`, callbacks that nobody else
    /// may make are made meanwhile.
    async fn drained(&self, deadline: Option<Instant>, help: bool) -> Result<()> {
        let shared = &self.shared;
        let mut over = deadline.map(Sleep::until);
        let mut rests = pin!(shared.rests(help));
        let rested = std::future::poll_fn(|cx| {
            if rests.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            match &mut over {
                Some(sleep) => Pin::new(sleep).poll(cx).map(|()| false),
                None => Poll::Pending,
            }
        })
        .await;
        if rested {
            return Ok(());
        }
        let [waiting, under_way, unsent] = shared.lock().unfinished();
        shared.enter(Phase::Ended);
        Err(Error::local(
            Status::DEADLINE_EXCEEDED,
            format!(
                "{}: at the timeout {under_way} jobs were under way, {unsent} verdicts not stored, and \
                 {waiting} leased jobs not begun",
                self.what()
            ),
        ))
    }

    /// Hands out nothing more, and tells nothing more. Verdicts of jobs under way are still sent.
    pub fn end(&self) {
        if self.shared.queue.client().check_process().is_ok() {
            self.shared.enter(Phase::Ended);
        }
    }

    /// As [`Worker::end`], and sends no more verdicts: what has none stored comes again at the end
    /// of its lease.
    pub fn stop(&self) -> Result<()> {
        self.shared.queue.client().check_process()?;
        self.shared.enter(Phase::Stopped);
        Ok(())
    }

    /// FORKED in the child of a fork.
    pub(crate) fn check_process(&self) -> Result<()> {
        self.shared.queue.client().check_process()
    }

    /// How many leased jobs have no stored verdict.
    pub fn unfinished(&self) -> usize {
        self.shared.lock().unfinished().iter().sum()
    }

    /// The queue.
    pub fn queue(&self) -> &Queue {
        &self.shared.queue
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("queue", &self.shared.queue.canonical_path()).finish_non_exhaustive()
    }
}
