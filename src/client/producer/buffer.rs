//! What waits in a producer, and who waits for it: the messages between `send` and their outcome,
//! and the counts by which everybody else goes.
//!
//! A message counts against the limits until its outcome is known. When as many reports wait for
//! the application as messages may wait here, no request is begun: so what an application that
//! runs no callbacks can pile up is bounded too.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Instant,
};

use flowmesh_proto::{requests, wire::Header};

use super::{
    ProducerOptions,
    batch::{Batch, Checked, Encoder, Form, NewMessage},
    jobs,
    reports::{Delivery, ProducerEvents},
    sender,
};
use crate::{
    client::{
        cancel::CancelToken,
        client::{Client, UnderWay},
        error::{Error, Result, Status},
        options::Timeout,
        queues::Queue,
        streams::Stream,
    },
    runtime::{Dispatcher, deadline_after, lock, wait_until},
};

/// Where messages go.
#[derive(Clone)]
pub(crate) enum Target {
    Stream(Arc<Stream>),
    Queue(Arc<Queue>),
}

impl Target {
    pub fn client(&self) -> &Client {
        match self {
            Self::Stream(stream) => stream.client(),
            Self::Queue(queue) => queue.client(),
        }
    }
}

/// What the handle, the sending task and callbacks of one producer share.
pub(super) struct Shared<T> {
    pub target: Target,
    pub options: ProducerOptions,
    pub encoder: Encoder,
    /// Runs the callbacks; `None` when there are none.
    pub dispatcher: Option<Dispatcher>,
    /// Ends calls and waits of the sending task.
    pub give_up: CancelToken,
    pub state: Mutex<State<T>>,
    /// There is room again, or never will be.
    pub room: Condvar,
    /// Something was reported, or is to be.
    pub progress: Condvar,
}

pub(super) struct State<T> {
    /// The batch that grows.
    gathering: Batch<T>,
    /// Batches before it that are full.
    full: VecDeque<Batch<T>>,
    /// Memory of a batch that was sent.
    spare: Option<Batch<T>>,
    /// Messages without an outcome, and their bytes.
    pub messages: usize,
    pub bytes: usize,
    /// How many of them were there when the producer gave up.
    pub given_up: usize,
    /// Messages accepted, and those reported, since the producer was made.
    pub accepted: u64,
    pub reported: u64,
    /// Why nothing more is accepted.
    pub refusal: Option<Error>,
    /// The sending task is there.
    pub sending: bool,
    /// Wakes it when it waits for messages.
    wants_messages: Option<Waker>,
    /// Wakes it when it waits for reports to be delivered.
    wants_delivery: Option<Waker>,
    /// Somebody was told that there is no room, and has not been told otherwise.
    pub turned_away: bool,
    /// Threads that wait on `room` and on `progress`.
    pub senders_waiting: usize,
    pub watchers: usize,
    /// What the application is to be told.
    pub delivery: Delivery<T>,
}

impl<T: Send + 'static> Shared<T> {
    pub fn new(
        target: Target,
        options: ProducerOptions,
        events: Option<Box<dyn ProducerEvents<T>>>,
        dispatcher: Option<Dispatcher>,
    ) -> Self {
        let (form, path) = match &target {
            Target::Stream(stream) => (Form::Events, stream.resource().path.clone()),
            Target::Queue(queue) => (Form::Jobs, queue.resource().path.clone()),
        };
        let encoder = Encoder::new(form, requests::path(path), options.max_batch_bytes);
        let state = State {
            gathering: Batch::new(),
            full: VecDeque::new(),
            spare: None,
            messages: 0,
            bytes: 0,
            given_up: 0,
            accepted: 0,
            reported: 0,
            refusal: None,
            sending: false,
            wants_messages: None,
            wants_delivery: None,
            turned_away: false,
            senders_waiting: 0,
            watchers: 0,
            delivery: Delivery::new(events),
        };
        Self {
            target,
            options,
            encoder,
            dispatcher,
            give_up: CancelToken::new(),
            state: Mutex::new(state),
            room: Condvar::new(),
            progress: Condvar::new(),
        }
    }

    /// For messages: what produces where.
    pub fn what(&self) -> String {
        match &self.target {
            Target::Stream(stream) => format!("producer of {}", stream.canonical_path()),
            Target::Queue(queue) => format!("producer of {}", queue.canonical_path()),
        }
    }

    pub fn closed_error(&self) -> Error {
        Error::local(Status::CLOSED, format!("{}: it was closed", self.what()))
    }

    pub fn accepted(&self) -> u64 {
        lock(&self.state).accepted
    }

    pub fn given_up(&self) -> usize {
        lock(&self.state).given_up
    }

    /// See [`Producer::send`](super::Producer::send).
    pub fn send<'h, H>(this: &Arc<Self>, message: &NewMessage<'_, H>, tag: T, wait: Timeout) -> Result<()>
    where
        H: Iterator<Item = Header<'h>> + Clone,
    {
        let client = this.target.client().inner();
        client.check()?;
        let checked = this.encoder.check(message)?;
        let mut state = lock(&this.state);
        if let Some(refusal) = &state.refusal {
            return Err(refusal.clone());
        }
        if !state.has_room(&this.options, checked.len) {
            state = this.wait_for_room(state, checked.len, wait)?;
        }
        let starting = if state.sending {
            None
        } else {
            // Before the check, so that a close of the client either waits for the task or has
            // this refused.
            let under_way = client.enter();
            client.check()?;
            state.sending = true;
            Some(under_way)
        };
        state.push(&this.encoder, &this.options, &checked, tag);
        let waker = state.wants_messages.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(under_way) = starting {
            Self::start_sending(this, under_way);
        }
        Ok(())
    }

    /// A task for what waits; it ends when nothing does.
    fn start_sending(this: &Arc<Self>, under_way: UnderWay) {
        let sending = sender::Sending::new(this.clone(), under_way);
        let driver = this.target.client().inner().driver();
        // Where none can be started, the messages are reported as the task is dropped.
        let _ = match (&this.target, driver) {
            (_, Err(_)) => return,
            (Target::Stream(stream), Ok(driver)) => driver.spawn(sender::run(sending, stream.clone())),
            (Target::Queue(queue), Ok(driver)) => driver.spawn(jobs::run(sending, queue.clone())),
        };
    }

    fn wait_for_room<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<T>>,
        len: usize,
        wait: Timeout,
    ) -> Result<MutexGuard<'a, State<T>>> {
        let deadline = deadline_after(wait);
        loop {
            if let Some(refusal) = &state.refusal {
                return Err(refusal.clone());
            }
            if state.has_room(&self.options, len) {
                return Ok(state);
            }
            // Waiting for callbacks where they are to run would be waiting for oneself.
            let in_vain =
                state.is_held_up(&self.options) && (state.delivery.is_here() || self.is_dispatcher_here());
            if wait == Timeout::After(std::time::Duration::ZERO) || in_vain {
                return Err(self.no_room(&mut state));
            }
            state.senders_waiting += 1;
            let waited = wait_until(&self.room, state, deadline);
            state = match waited {
                Some(mut state) => {
                    state.senders_waiting -= 1;
                    state
                }
                None => {
                    let mut state = lock(&self.state);
                    state.senders_waiting -= 1;
                    if state.refusal.is_none() && !state.has_room(&self.options, len) {
                        return Err(self.no_room(&mut state));
                    }
                    state
                }
            };
        }
    }

    fn no_room(&self, state: &mut State<T>) -> Error {
        state.turned_away = true;
        let text = format!(
            "{}: {} messages of {} bytes wait already, no room within the time given",
            self.what(),
            state.messages,
            state.bytes
        );
        Error::local(Status::QUEUE_FULL, text).retryable()
    }

    fn is_dispatcher_here(&self) -> bool {
        self.dispatcher.as_ref().is_some_and(Dispatcher::is_current)
    }

    /// Whether nobody but this thread may come to run the callbacks.
    fn must_deliver_here(&self) -> bool {
        self.dispatcher.as_ref().is_some_and(|d| d.is_current() || d.fd().is_some())
    }

    /// Accepts nothing more, for the first of the reasons given.
    pub fn refuse(this: &Arc<Self>, why: Error) {
        let mut state = lock(&this.state);
        if state.refusal.is_none() {
            state.refusal = Some(why);
        }
        // From now on nothing is held up any more.
        let waker = state.wants_delivery.take();
        if state.is_due() && !state.delivery.has_items() {
            // Nothing was left to do or tell: the callbacks go here and now.
            drop(state);
            Self::deliver(this);
        } else {
            Self::settle(this, state);
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What becomes of messages that were not sent when the producer stopped at a failure.
    pub fn stop_error(&self) -> Option<Error> {
        if !self.options.stop_on_error {
            return None;
        }
        lock(&self.state).refusal.clone().filter(|why| why.status() == Status::ABORTED)
    }

    /// Has the sending task end with what it has; every message without an outcome gets one.
    pub fn give_up(this: &Arc<Self>) {
        let mut state = lock(&this.state);
        if !this.give_up.is_cancelled() {
            state.given_up = state.messages;
        }
        drop(state);
        this.give_up.cancel();
    }

    /// Waits until `holds`; false when it did not at `deadline`. Callbacks that nobody else may run
    /// are run here.
    pub fn wait_for(this: &Arc<Self>, deadline: Option<Instant>, holds: impl Fn(&State<T>) -> bool) -> bool {
        let deliver = this.must_deliver_here();
        let mut state = lock(&this.state);
        loop {
            if holds(&state) {
                return true;
            }
            if deliver && state.is_due() {
                drop(state);
                Self::deliver(this);
                state = lock(&this.state);
                continue;
            }
            state.watchers += 1;
            let (waited, over) = match wait_until(&this.progress, state, deadline) {
                Some(state) => (state, false),
                None => (lock(&this.state), true),
            };
            state = waited;
            state.watchers -= 1;
            if over {
                return holds(&state);
            }
        }
    }

    /// The next batch to send, once reports have been delivered that are too many; `None`, and the
    /// task counts as gone, when nothing waits.
    pub async fn next_batch(this: &Arc<Self>) -> Option<Batch<T>> {
        std::future::poll_fn(|cx| {
            let mut state = lock(&this.state);
            if state.is_held_up(&this.options) {
                state.wants_delivery = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let batch = state.take();
            state.sending = batch.is_some();
            if batch.is_none() {
                Self::settle(this, state);
            }
            Poll::Ready(batch)
        })
        .await
    }

    /// As [`Shared::next_batch`] for a task that has other things to wait for.
    pub fn poll_batch(&self, cx: &mut Context<'_>) -> Poll<Batch<T>> {
        let mut state = lock(&self.state);
        if state.is_held_up(&self.options) {
            state.wants_delivery = Some(cx.waker().clone());
            return Poll::Pending;
        }
        match state.take() {
            Some(batch) => Poll::Ready(batch),
            None => {
                state.wants_messages = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> State<T> {
    fn has_room(&self, options: &ProducerOptions, len: usize) -> bool {
        self.messages == 0
            || (self.messages < options.max_buffered_messages
                && self.bytes.saturating_add(len) <= options.max_buffered_bytes)
    }

    /// Whether there is room for more than a few again.
    pub fn is_half_empty(&self, options: &ProducerOptions) -> bool {
        self.messages <= options.max_buffered_messages / 2 && self.bytes <= options.max_buffered_bytes / 2
    }

    /// Whether so many reports wait that no request is begun.
    pub fn is_held_up(&self, options: &ProducerOptions) -> bool {
        self.delivery.waiting >= options.max_buffered_messages && self.refusal.is_none()
    }

    /// The sending task, if it waits for reports to be delivered and need not any more.
    pub fn take_held_up(&mut self, options: &ProducerOptions) -> Option<Waker> {
        if self.is_held_up(options) { None } else { self.wants_delivery.take() }
    }

    /// Whether there is something to tell, or the callbacks are to be released.
    pub fn is_due(&self) -> bool {
        self.delivery.is_free() && (self.delivery.has_items() || self.is_over())
    }

    fn push<'h, H>(
        &mut self,
        encoder: &Encoder,
        options: &ProducerOptions,
        checked: &Checked<'_, '_, H>,
        tag: T,
    ) where
        H: Iterator<Item = Header<'h>> + Clone,
    {
        let batch = &self.gathering;
        if batch.len() >= options.max_batch_messages
            || (!batch.is_empty() && batch.bytes() + checked.len > options.max_batch_bytes)
        {
            let next = self.spare.take().unwrap_or_else(Batch::new);
            self.full.push_back(std::mem::replace(&mut self.gathering, next));
        }
        self.gathering.push(encoder, checked, tag);
        self.messages += 1;
        self.bytes += checked.len;
        self.accepted += 1;
    }

    /// The oldest batch.
    pub fn take(&mut self) -> Option<Batch<T>> {
        if let Some(batch) = self.full.pop_front() {
            return Some(batch);
        }
        if self.gathering.is_empty() {
            return None;
        }
        let next = self.spare.take().unwrap_or_else(Batch::new);
        Some(std::mem::replace(&mut self.gathering, next))
    }

    /// Keeps the memory of a batch that was sent.
    pub fn recycle(&mut self, batch: Batch<T>) {
        self.spare = Some(batch);
    }

    /// Whether the first `count` messages have been reported.
    pub fn has_reported(&self, count: u64) -> bool {
        self.reported >= count
    }

    /// Whether nothing will happen any more.
    pub fn is_over(&self) -> bool {
        self.refusal.is_some() && !self.sending && self.reported == self.accepted
    }

    /// Whether it is over, and the application's callbacks are released.
    pub fn has_finished(&self) -> bool {
        self.is_over() && self.delivery.is_released()
    }
}
