//! What the application is told: a report for every message, in the order of the sends, and that
//! there is room again.
//!
//! Whoever delivers takes the application's callbacks out of the state, calls them with no lock
//! held, and puts them back: so one call runs at a time, and in order, wherever it runs. With the
//! last report of a closed producer they are dropped instead.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, MutexGuard},
    thread::{self, ThreadId},
};

use super::{buffer::Shared, state::State};
use crate::{
    client::{
        error::{Error, Outcome, Result, Status},
        queues::Enqueued,
    },
    runtime::{Once, lock},
};

/// Is told what became of messages. One call runs at a time.
pub trait ProducerEvents<T>: Send {
    /// Whether it looks at reports; otherwise a flush tells of failures.
    fn takes_reports(&self) -> bool {
        true
    }

    /// Each message of these has its outcome.
    fn reports(&mut self, reports: &Reports<T>);

    /// There is room again, or the producer has ended, after a send was turned away.
    fn writable(&mut self) {}
}

/// Reports, in the order of the sends.
#[derive(Debug)]
pub struct Reports<T> {
    tags: Vec<T>,
    outcomes: Outcomes,
}

/// What became of messages.
#[derive(Debug)]
pub(super) enum Outcomes {
    /// One request wrote all of them.
    Written { offsets: Vec<i64>, attempts: u32 },
    /// All failed alike.
    Failed { error: Error, attempts: u32 },
    /// Each by itself.
    Jobs(Vec<JobOutcome>),
}

/// What became of a job, after how many attempts.
#[derive(Debug)]
pub(super) struct JobOutcome {
    pub result: Result<Enqueued>,
    pub attempts: u32,
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report<'a, T> {
    /// As given to `send`.
    pub tag: &'a T,
    /// Where it is stored, or why it failed.
    pub result: std::result::Result<Receipt<'a>, &'a Error>,
    /// How often it was sent.
    pub attempts: u32,
}

/// Where a message is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt<'a> {
    /// Offset in the stream, or number in the queue.
    pub position: i64,
    /// Id of the job; `None` from a stream.
    pub job_id: Option<&'a str>,
}

impl<T> Reports<T> {
    pub(super) fn new(tags: Vec<T>, outcomes: Outcomes) -> Self {
        Self { tags, outcomes }
    }

    /// How many there are; at least one.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.tags.len()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Report<'_, T>> {
        self.tags.iter().enumerate().map(|(index, tag)| match &self.outcomes {
            Outcomes::Written { offsets, attempts } => {
                let receipt = Receipt { position: offsets[index], job_id: None };
                Report { tag, result: Ok(receipt), attempts: *attempts }
            }
            Outcomes::Failed { error, attempts } => Report { tag, result: Err(error), attempts: *attempts },
            Outcomes::Jobs(jobs) => {
                let JobOutcome { result, attempts } = &jobs[index];
                let result =
                    result.as_ref().map(|job| Receipt { position: job.seq, job_id: Some(&job.job_id) });
                Report { tag, result, attempts: *attempts }
            }
        })
    }

    /// How many failed with errors that `count`, and the first of those.
    pub(super) fn failures(&self, count: impl Fn(&Error) -> bool) -> (usize, Option<&Error>) {
        match &self.outcomes {
            Outcomes::Failed { error, .. } if count(error) => (self.len(), Some(error)),
            Outcomes::Written { .. } | Outcomes::Failed { .. } => (0, None),
            Outcomes::Jobs(jobs) => {
                let mut errors = jobs.iter().filter_map(|job| job.result.as_ref().err()).filter(|e| count(e));
                let first = errors.next();
                (usize::from(first.is_some()) + errors.count(), first)
            }
        }
    }
}

/// What is to be told, and by what.
pub(super) struct Delivery<T> {
    /// `None` while it is called, when there is none, and when it is released.
    events: Option<Box<dyn ProducerEvents<T>>>,
    /// There are callbacks that have not been released.
    wanted: bool,
    takes_reports: bool,
    items: VecDeque<Item<T>>,
    /// Reports in `items`, and in the call that runs.
    pub waiting: usize,
    /// The thread that is in a callback.
    caller: Option<ThreadId>,
    /// The dispatcher has been asked to deliver.
    scheduled: bool,
    /// Without callbacks: failures since the last flush, and the first of them.
    untold: usize,
    first_untold: Option<Error>,
}

enum Item<T> {
    /// Reports on so many bytes.
    Reports(Reports<T>, usize),
    Writable,
}

impl<T> Delivery<T> {
    pub fn new(events: Option<Box<dyn ProducerEvents<T>>>) -> Self {
        Self {
            wanted: events.is_some(),
            takes_reports: events.as_ref().is_some_and(|events| events.takes_reports()),
            events,
            items: VecDeque::new(),
            waiting: 0,
            caller: None,
            scheduled: false,
            untold: 0,
            first_untold: None,
        }
    }

    /// Whether this thread is in a callback of the producer.
    pub fn is_here(&self) -> bool {
        self.caller == Some(thread::current().id())
    }

    /// Whether there are callbacks, and nobody is at them.
    pub fn is_free(&self) -> bool {
        self.events.is_some()
    }

    pub fn has_items(&self) -> bool {
        !self.items.is_empty()
    }

    /// Whether no callback will run any more.
    pub fn is_released(&self) -> bool {
        !self.wanted
    }
}

impl<T: Send + 'static> Shared<T> {
    /// These messages, of so many bytes, have their outcome.
    pub fn report(this: &Arc<Self>, reports: Reports<T>, bytes: usize) {
        this.log_outcome(&reports);
        let mut state = lock(&this.state);
        let count = reports.len();
        state.messages -= count;
        state.bytes -= bytes;
        if this.options.stop_on_error
            && state.refusal.is_none()
            && let (1.., Some(first)) = reports.failures(|_| true)
        {
            state.refusal = Some(this.stopped(first));
        }
        if state.delivery.takes_reports {
            state.delivery.waiting += count;
            state.delivery.items.push_back(Item::Reports(reports, bytes));
        } else {
            this.count_reported(count, bytes);
            state.reported += count as u64;
            let (failed, first) = reports.failures(|_| true);
            state.delivery.untold += failed;
            if state.delivery.first_untold.is_none() {
                state.delivery.first_untold = first.cloned();
            }
        }
        Self::settle(this, state);
    }

    fn count_reported(&self, messages: usize, bytes: usize) {
        let statistics = self.target.client().statistics();
        statistics.producer_messages.sub(messages);
        statistics.producer_bytes.sub(bytes);
    }

    fn stopped(&self, first: &Error) -> Error {
        Error::local(Status::ABORTED, format!("{}: it stopped at its first failure, {first}", self.what()))
    }

    /// Tells everybody whom the state concerns; called after every change of it.
    pub fn settle(this: &Arc<Self>, mut state: MutexGuard<'_, State<T>>) {
        let over = state.is_over();
        if state.turned_away && (over || state.is_half_empty(&this.options)) {
            state.turned_away = false;
            if state.delivery.wanted {
                state.delivery.items.push_back(Item::Writable);
            }
        }
        let schedule = state.is_due() && !state.delivery.scheduled;
        state.delivery.scheduled |= schedule;
        let (senders, watchers) = (state.senders_waiting > 0, state.watchers > 0);
        drop(state);
        if senders {
            this.room.notify_all();
        }
        if watchers {
            this.progress.notify_all();
        }
        this.changed.notify_waiters();
        if schedule && let Some(dispatcher) = &this.dispatcher {
            let shared = this.clone();
            let turn: Once = Box::new(move || {
                lock(&shared.state).delivery.scheduled = false;
                Self::deliver(&shared);
            });
            dispatcher.post(this.target.client().identity(), [turn]);
        }
    }

    /// Tells the application one thing, unless another thread is at it; what is left is scheduled
    /// again. When everything is told and nothing will follow, releases the callbacks.
    pub fn deliver(this: &Arc<Self>) {
        let mut state = lock(&this.state);
        if !state.is_due() {
            return;
        }
        let Some(mut events) = state.delivery.events.take() else { return };
        if let Some(item) = state.delivery.items.pop_front() {
            state.delivery.caller = Some(thread::current().id());
            drop(state);
            let (told, bytes) = tell(&mut *events, item);
            this.count_reported(told, bytes);
            state = lock(&this.state);
            state.delivery.caller = None;
            state.delivery.waiting -= told;
            state.reported += told as u64;
        }
        let waker = state.take_held_up(&this.options);
        if state.is_over() && !state.turned_away && !state.delivery.has_items() {
            drop(state);
            drop(events);
            state = lock(&this.state);
            state.delivery.wanted = false;
        } else {
            state.delivery.events = Some(events);
        }
        Self::settle(this, state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub fn is_reporting_here(&self) -> bool {
        lock(&self.state).delivery.is_here()
    }

    /// Without callbacks: the failures since this was last asked.
    pub fn untold_failures(&self) -> Result<()> {
        let mut state = lock(&self.state);
        let count = std::mem::take(&mut state.delivery.untold);
        let Some(first) = state.delivery.first_untold.take() else { return Ok(()) };
        drop(state);
        let text =
            format!("{}: {count} messages failed since the last flush, the first: {first}", self.what());
        Err(Error::local(Status::ABORTED, text).with_outcome(Outcome::Unknown))
    }
}

/// Returns how many reports that were, and on how many bytes.
fn tell<T>(events: &mut dyn ProducerEvents<T>, item: Item<T>) -> (usize, usize) {
    // A panic is the application's own; the messages count as told, and the producer lives on.
    match item {
        Item::Reports(reports, bytes) => {
            let _ = catch_unwind(AssertUnwindSafe(|| events.reports(&reports)));
            (reports.len(), bytes)
        }
        Item::Writable => {
            let _ = catch_unwind(AssertUnwindSafe(|| events.writable()));
            (0, 0)
        }
    }
}
