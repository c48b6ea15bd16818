//! Delivers subscriptions to callbacks, and closes what delivers.
//!
//! A delivery is a task of a dispatcher: it takes what a subscription has to tell, lends it to the
//! application, and gives the other deliveries a turn.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::future::{Either, select};

use super::{
    boundary::{
        batch::MessageBatch,
        callback::{MessageCallback, StateCallback},
    },
    error::flowmesh_error_t,
    message::flowmesh_message_batch_t,
    subscription::{
        FLOWMESH_SUBSCRIPTION_COMMIT_FAILED, FLOWMESH_SUBSCRIPTION_CONNECTED, FLOWMESH_SUBSCRIPTION_ENDED,
        FLOWMESH_SUBSCRIPTION_LOST,
    },
};
use crate::{
    client::{Client, Error, Progress, Result, Status, Subscription, Timeout},
    runtime::{Dispatcher, deadline_after, dispatcher, park::until},
};

/// A subscription in the application's hands. Dropping it ends it.
pub struct Delivery {
    subscription: Subscription,
    /// What calls back; `None` where the application pulls.
    task: Option<Arc<dispatcher::Task>>,
    /// Its threads live as long.
    _dispatcher: Option<Dispatcher>,
}

impl Delivery {
    /// One that the application pulls.
    pub fn pulled(subscription: Subscription) -> Self {
        subscription.without_notices();
        Self { subscription, task: None, _dispatcher: None }
    }

    /// The subscription.
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    /// Whether it has a callback.
    pub fn calls_back(&self) -> bool {
        self.task.is_some()
    }

    /// Ends it; see `flowmesh_subscription_close`.
    pub fn close(&self, timeout: Timeout) -> Result<()> {
        self.subscription.stream().client().check_process()?;
        let deadline = deadline_after(timeout);
        let (at_rest, inside) = match &self.task {
            Some(task) => (task.stop(deadline), task.runs_here()),
            None => (true, false),
        };
        self.subscription.stop();
        if !at_rest {
            return Err(callback_still_runs());
        }
        // Inside a callback there is one more batch that may have to be committed.
        match self.subscription.last_commit(deadline).filter(|_| !inside) {
            Some(commit) => self.subscription.stream().client().block_on(commit),
            None => Ok(()),
        }
    }

    /// As [`Delivery::close`], for a caller that does not wait; inside the callback, its end is waited
    /// for too.
    pub fn close_async(
        self: Arc<Self>,
        timeout: Timeout,
    ) -> Result<impl Future<Output = Result<()>> + Send + 'static> {
        self.subscription.stream().client().inner().check()?;
        let deadline = deadline_after(timeout);
        // At once: unless a callback runs, user data is released here, and not by a thread that drives
        // connections.
        if let Some(task) = &self.task {
            task.stop(Some(Instant::now()));
        }
        Ok(async move {
            let at_rest = match &self.task {
                Some(task) => {
                    matches!(select(pin!(task.ended()), pin!(until(deadline))).await, Either::Left(_))
                }
                None => true,
            };
            self.subscription.stop();
            if !at_rest {
                return Err(callback_still_runs());
            }
            match self.subscription.last_commit(deadline) {
                Some(commit) => commit.await,
                None => Ok(()),
            }
        })
    }
}

fn callback_still_runs() -> Error {
    Error::local(
        Status::DEADLINE_EXCEEDED,
        "close the subscription: its callback was still running at the timeout",
    )
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.stop(Some(Instant::now()));
        }
        if self.subscription.stream().client().check_process().is_ok() {
            self.subscription.stop();
        }
    }
}

/// Starts delivering.
pub fn deliver(
    subscription: Subscription,
    callback: MessageCallback,
    state: Option<StateCallback>,
    own: Option<&Dispatcher>,
) -> Result<Delivery> {
    let client = subscription.stream().client();
    if state.is_none() {
        subscription.without_notices();
    }
    let work = run(subscription.clone(), callback, state);
    let dispatcher = client.dispatcher_or(own)?;
    let task = dispatcher.spawn_asleep(client.identity(), work);
    let delivery = Delivery { subscription, task: Some(task.clone()), _dispatcher: Some(dispatcher) };
    // What fails from here on ends the task.
    delivery.subscription.begin(task.into())?;
    Ok(delivery)
}

/// One delivery, to its end. Each turn calls the application at most once.
async fn run(subscription: Subscription, mut callback: MessageCallback, state: Option<StateCallback>) {
    let mut wire = Vec::new();
    let mut lent = flowmesh_message_batch_t::default();
    let mut state = state;
    let mut tell = |state_now, reason: Option<Error>| {
        if let Some(callback) = &mut state {
            let reason = reason.map(flowmesh_error_t::from);
            callback.call(state_now, reason.as_ref());
        }
    };
    let end = loop {
        match subscription.next_for_callback(&mut wire).await {
            Ok(Progress::Messages) => {
                if let Err(e) = lent.refill(&mut wire) {
                    subscription.end(e.clone());
                    break e;
                }
                callback.call(&lent);
                lent.clear();
                subscription.handled();
            }
            Ok(Progress::Connected(_)) => tell(FLOWMESH_SUBSCRIPTION_CONNECTED, None),
            Ok(Progress::Lost(reason)) => tell(FLOWMESH_SUBSCRIPTION_LOST, Some(reason)),
            Ok(Progress::CommitFailed(reason)) => {
                tell(FLOWMESH_SUBSCRIPTION_COMMIT_FAILED, Some(reason));
            }
            Err(e) => break e,
        }
        // Only for another callback: nothing else may wake the application.
        if poll_fn(|cx| Poll::Ready(subscription.has_more(cx))).await {
            dispatcher::yield_now().await;
        }
    };
    tell(FLOWMESH_SUBSCRIPTION_ENDED, Some(end));
}

impl Default for flowmesh_message_batch_t {
    fn default() -> Self {
        Self { batch: Arc::new(MessageBatch::default()) }
    }
}

impl flowmesh_message_batch_t {
    /// Takes the next messages out of `wire`. The memory is used again unless the application
    /// retained the batch.
    fn refill(&mut self, wire: &mut Vec<bytes::Bytes>) -> Result<()> {
        if Arc::get_mut(&mut self.batch).is_none() {
            *self = Self::default();
        }
        match Arc::get_mut(&mut self.batch) {
            Some(batch) => batch.refill(wire),
            None => Ok(()),
        }
    }

    /// Lets go of the messages, so that an idle subscription holds none.
    fn clear(&mut self) {
        if let Some(batch) = Arc::get_mut(&mut self.batch) {
            batch.clear();
        }
    }
}

/// Closes a client and waits for its callbacks; see `flowmesh_client_close`.
pub fn close_client(client: &Client, timeout: Timeout) -> Result<()> {
    client.check_process()?;
    let deadline = deadline_after(timeout);
    if client.dispatchers().iter().any(Dispatcher::is_current) {
        return match client.wait(client.close(Timeout::After(Duration::ZERO))) {
            Err(e) if e.status() == Status::DEADLINE_EXCEEDED => Ok(()),
            result => result,
        };
    }
    client.wait(client.close(timeout))?;
    if client.dispatchers().iter().all(|d| d.join(Some(client.identity()), deadline)) {
        return Ok(());
    }
    Err(client.callback_still_runs())
}
