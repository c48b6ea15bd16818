//! Delivers subscriptions to callbacks, and closes what delivers.
//!
//! A delivery is a task of the library's callback thread: it pulls a batch, lends it to the
//! application, and gives the other deliveries a turn. Nothing waits in between, so what the
//! application does not take stays where flow control holds up the server.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    boundary::{
        batch::MessageBatch,
        callback::{MessageCallback, StateCallback},
    },
    error::flowmesh_error_t,
    message::flowmesh_message_batch_t,
    subscription::{
        FLOWMESH_SUBSCRIPTION_CONNECTED, FLOWMESH_SUBSCRIPTION_ENDED, FLOWMESH_SUBSCRIPTION_LOST,
    },
};
use crate::{
    client::{Client, Error, Progress, Result, Status, Subscription, Timeout},
    runtime::{Dispatcher, deadline_after, dispatcher},
};

/// A subscription that is being delivered. Dropping it ends it.
pub struct Delivery {
    task: Arc<dispatcher::Task>,
    client: Client,
}

impl Delivery {
    /// Ends it; see `flowmesh_subscription_close`.
    pub fn close(&self, timeout: Timeout) -> Result<()> {
        self.client.check_process()?;
        if self.task.stop(deadline_after(timeout)) {
            return Ok(());
        }
        Err(Error::local(
            Status::DEADLINE_EXCEEDED,
            "close the subscription: its callback was still running at the timeout",
        ))
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.task.stop(Some(Instant::now()));
    }
}

/// Starts delivering.
pub fn deliver(
    subscription: Subscription,
    callback: MessageCallback,
    state: Option<StateCallback>,
) -> Result<Delivery> {
    let client = subscription.stream().client().clone();
    let task = client.dispatcher()?.spawn(client.identity(), run(subscription, callback, state));
    Ok(Delivery { task, client })
}

/// One delivery, to its end. Each turn calls the application at most once.
async fn run(mut subscription: Subscription, mut callback: MessageCallback, state: Option<StateCallback>) {
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
        match subscription.next_batch(&mut wire).await {
            Ok(Progress::Messages) => {
                if let Err(e) = lent.refill(&mut wire) {
                    break e;
                }
                callback.call(&lent);
            }
            Ok(Progress::Connected(_)) => tell(FLOWMESH_SUBSCRIPTION_CONNECTED, None),
            Ok(Progress::Lost(reason)) => tell(FLOWMESH_SUBSCRIPTION_LOST, Some(reason)),
            Err(e) => break e,
        }
        dispatcher::yield_now().await;
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
}

/// Closes a client and waits for its callbacks; see `flowmesh_client_close`.
pub fn close_client(client: &Client, timeout: Timeout) -> Result<()> {
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
