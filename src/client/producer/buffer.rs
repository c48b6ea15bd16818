//! What waits in a producer, and who waits for it: the messages between `send` and their outcome,
//! and the counts by which everybody else goes.
//!
//! A message counts against the limits until its outcome is known. When as many reports wait for
//! the application as messages may wait here, no request is begun: so what an application that
//! runs no callbacks can pile up is bounded too.

use std::{
    pin::pin,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Instant,
};

use flowmesh_proto::wire::Header;
use tokio::sync::Notify;

use super::{
    ProducerOptions,
    batch::{Batch, Encoder, Form, NewMessage},
    jobs,
    outage::Outage,
    reports::ProducerEvents,
    sender,
    state::State,
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
    /// What the log is told; never locked together with the state.
    pub outage: Mutex<Outage>,
    /// There is room again, or never will be.
    pub room: Condvar,
    /// Something was reported, or is to be.
    pub progress: Condvar,
    /// The same, for those that do not block.
    pub changed: Notify,
}

impl<T: Send + 'static> Shared<T> {
    pub fn new(
        target: Target,
        options: ProducerOptions,
        events: Option<Box<dyn ProducerEvents<T>>>,
        dispatcher: Option<Dispatcher>,
    ) -> Self {
        let (form, path) = match &target {
            Target::Stream(stream) => (Form::Events, stream.resource().encoded_path.clone()),
            Target::Queue(queue) => (Form::Jobs, queue.resource().encoded_path.clone()),
        };
        let encoder = Encoder::new(form, path, options.max_batch_bytes);
        let state = State::new(events);
        Self {
            target,
            options,
            encoder,
            dispatcher,
            give_up: CancelToken::new(),
            state: Mutex::new(state),
            outage: Mutex::default(),
            room: Condvar::new(),
            progress: Condvar::new(),
            changed: Notify::new(),
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

    /// Why a flush ends before everything is reported.
    pub fn unreported(&self) -> Error {
        let text = format!("flush {}: not everything was reported within the time given", self.what());
        Error::local(Status::DEADLINE_EXCEEDED, text).retryable()
    }

    /// Why a close ends before everything is reported.
    pub fn unfinished(&self, given_up: usize) -> Error {
        let text = format!(
            "close {}: {given_up} messages were given up, and reports are still to come; close again to wait",
            self.what()
        );
        Error::local(Status::DEADLINE_EXCEEDED, text)
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
        // Before the check, so that a close of the client either waits for the task or has this
        // refused.
        let starting = (!state.sending).then(|| client.enter());
        // Once more: a client is marked as closed before its calls end, and the room that their
        // outcomes make is nobody's.
        client.check()?;
        state.sending = true;
        let statistics = this.target.client().statistics();
        statistics.producer_messages.add(1);
        statistics.producer_bytes.add(checked.len);
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
                // The timeout comes between two callbacks.
                if deadline.is_some_and(|at| at <= Instant::now()) {
                    return holds(&state);
                }
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

    /// As [`Shared::wait_for`] without blocking, and without running callbacks.
    pub async fn until(&self, holds: impl Fn(&State<T>) -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Enlist before looking, so that no change in between is missed.
            changed.as_mut().enable();
            if holds(&lock(&self.state)) {
                return;
            }
            changed.await;
        }
    }

    /// The next batch to send, once reports have been delivered that are too many; `None`, and the
    /// task counts as gone, when nothing waits. Nothing holds up the end of the client, whose close
    /// waits for the task before it has reports delivered that nobody else delivers.
    pub async fn next_batch(this: &Arc<Self>) -> Option<Batch<T>> {
        let mut closed = pin!(this.target.client().inner().closed().wait());
        std::future::poll_fn(|cx| {
            let mut state = lock(&this.state);
            if state.is_held_up(&this.options) && closed.as_mut().poll(cx).is_pending() {
                state.wants_delivery = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let batch = state.take();
            state.sending = batch.is_some();
            if batch.is_none() {
                state.trim();
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
