//! Commits what a subscription has handled, by itself.
//!
//! At most one commit is under way, and only the latest offset waits for its turn: however slow the
//! server, nothing piles up and nothing goes backwards. What was not handled is never committed.
//! With nothing to commit there is no task and no timer.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::future::{Either, select};
use tokio::sync::Notify;

use super::{Commit, Progress, SubscribeOptions, prefetch::Prefetch, what};
use crate::{
    client::{
        error::{Error, Result, Status},
        options::CallOptions,
        streams::Stream,
    },
    runtime::{lock, park::Sleep},
};

/// The commits of one subscription.
pub(super) struct Commits {
    stream: Stream,
    options: Arc<SubscribeOptions>,
    /// Is told of failures.
    prefetch: Arc<Prefetch>,
    state: Mutex<State>,
    /// A task has ended.
    rest: Notify,
    /// A periodic commit is not to wait for its time.
    hurry: Notify,
}

#[derive(Default)]
struct State {
    /// Handled, and neither committed nor being committed.
    due: Option<i64>,
    /// A task commits.
    at_work: bool,
    /// There will be no more: nothing waits for its time any longer.
    closing: bool,
}

impl Commits {
    pub fn new(stream: Stream, options: Arc<SubscribeOptions>, prefetch: Arc<Prefetch>) -> Self {
        Self { stream, options, prefetch, state: Mutex::default(), rest: Notify::new(), hurry: Notify::new() }
    }

    /// Everything up to `offset` has been handled.
    pub fn handled(self: &Arc<Self>, offset: i64) {
        let wait = match self.options.commit {
            Commit::Manual => return,
            Commit::AfterCallback => Duration::ZERO,
            Commit::Periodic(interval) => interval,
        };
        let mut state = lock(&self.state);
        state.due = Some(offset);
        if state.at_work {
            return;
        }
        state.at_work = true;
        drop(state);
        let work = AtWork(self.clone());
        let spawned = self.stream.client().inner().driver().and_then(|driver| {
            driver.spawn(async move {
                let commits = &work.0;
                while let Some(offset) = commits.next(wait).await {
                    if let Err(error) = commits.send(offset).await {
                        commits.prefetch.tell(Progress::CommitFailed(error));
                        return;
                    }
                }
            })
        });
        if let Err(error) = spawned {
            self.prefetch.tell(Progress::CommitFailed(error));
        }
    }

    /// What was handled is not to be committed any more: a seek has made it void.
    pub fn forget(&self) {
        lock(&self.state).due = None;
    }

    /// Nothing more will be handled but what a callback under way has.
    pub fn close(&self) {
        lock(&self.state).closing = true;
        self.hurry.notify_one();
    }

    /// Commits what is due and waits for it.
    pub async fn flush(&self, deadline: Option<Instant>) -> Result<()> {
        let flush = pin!(async {
            self.rested().await;
            // It stays due until it is confirmed, in case the time is up before.
            let Some(offset) = lock(&self.state).due else { return Ok(()) };
            self.send(offset).await?;
            lock(&self.state).due.take_if(|due| *due == offset);
            Ok(())
        });
        let Some(deadline) = deadline else { return flush.await };
        match select(flush, pin!(Sleep::until(deadline))).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => Err(Error::local(
                Status::DEADLINE_EXCEEDED,
                format!("close the {}: the last commit was not confirmed in time", what(&self.stream)),
            )),
        }
    }

    /// Whether [`Commits::flush`] has anything to wait for.
    pub fn has_due(&self) -> bool {
        let state = lock(&self.state);
        state.due.is_some() || state.at_work
    }

    /// The next offset to commit, when its time has come; `None` when there is none.
    async fn next(&self, wait: Duration) -> Option<i64> {
        let now = {
            let state = lock(&self.state);
            state.due.is_none() || state.closing || wait.is_zero()
        };
        if !now && let Some(at) = Instant::now().checked_add(wait) {
            select(pin!(Sleep::until(at)), pin!(self.hurry.notified())).await;
        }
        let mut state = lock(&self.state);
        // Under the same lock, so that what is handled later starts a new task.
        let due = state.due.take();
        state.at_work = due.is_some();
        due
    }

    async fn send(&self, offset: i64) -> Result<()> {
        let SubscribeOptions { consumer_group, partition, .. } = &*self.options;
        let result =
            self.stream.commit_offset(consumer_group, *partition, offset, &CallOptions::default()).await;
        if result.is_err() {
            // Later ones cover it; without any, `flush` tries again.
            lock(&self.state).due.get_or_insert(offset);
        }
        result
    }

    async fn rested(&self) {
        loop {
            let mut rest = pin!(self.rest.notified());
            rest.as_mut().enable();
            if !lock(&self.state).at_work {
                return;
            }
            rest.await;
        }
    }
}

/// The task that commits; it may also be dropped with the runtime.
struct AtWork(Arc<Commits>);

impl Drop for AtWork {
    fn drop(&mut self) {
        lock(&self.0.state).at_work = false;
        self.0.rest.notify_waiters();
    }
}
