//! Fetching: one poll at a time, for as many jobs as there is room for.
//!
//! A poll is never given up for another: a job may be on its way. It asks for what there was room
//! for when it began; what got free meanwhile the next one asks for, as soon as a job has come.

use std::{sync::Arc, time::Duration};

use super::{
    super::{
        backoff::Backoff,
        error::{Error, Result, Status},
        options::CallOptions,
        queues::Reserve,
        subscription::may_pass,
    },
    PollMode,
    event::{WorkerEvent, WorkerEventKind},
    shared::Shared,
    state::Phase,
};

/// The longest that a server waits with its answer.
const POLL_MS: i64 = 20_000;

/// How long to wait before an engine that must not be waited at is asked again: at first, and at
/// most.
const SAFE_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// Fetches jobs until the worker drains, or cannot.
pub(super) async fn run(shared: Arc<Shared>) {
    // Also when the runtime drops this task.
    let ended = Ended(shared.clone());
    let options = CallOptions { cancel: Some(shared.no_more_jobs.clone()), ..CallOptions::default() };
    let mut fetcher = Fetcher { shared, options, backoff: Backoff::default(), failing: false };
    let safe = match fetcher.shared.poll_mode {
        PollMode::LongPoll => Some(false),
        PollMode::Safe => Some(true),
        PollMode::Auto => fetcher.probe().await,
    };
    match safe {
        Some(true) => fetcher.poll_safely().await,
        Some(false) => fetcher.poll_long().await,
        None => {}
    }
    drop(ended);
}

struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.enter(Phase::Draining);
        state.fetching_ended();
        self.0.dispatch(state);
    }
}

struct Fetcher {
    shared: Arc<Shared>,
    options: CallOptions,
    backoff: Backoff,
    /// That jobs cannot be fetched was told.
    failing: bool,
}

impl Fetcher {
    /// Whether the peer is an engine that must not be asked to wait; `None` at the end.
    async fn probe(&mut self) -> Option<bool> {
        loop {
            match self.shared.queue.client().lacks_health_service(&self.options).await {
                Ok(original) => return Some(original),
                Err(error) => self.failed(error).await?,
            }
        }
    }

    async fn poll_long(&mut self) {
        while let Some(room) = self.room().await {
            // After a failure the first answer is not waited for: it tells that it is over.
            let polled = self.receive(room, if self.failing { 0 } else { POLL_MS }).await;
            if self.take(polled).await.is_none() {
                return;
            }
        }
    }

    /// One job at a time, without waiting at the engine, and with a pause of our own in between.
    async fn poll_safely(&mut self) {
        self.shared.leases_last();
        let (first, longest) = SAFE_PAUSE;
        let mut pause = first;
        while self.room().await.is_some() {
            let polled = self.receive(1, 0).await;
            let Some(jobs) = self.take(polled).await else { return };
            if jobs > 0 {
                pause = first;
            } else {
                self.pause(pause).await;
                pause = (pause * 2).min(longest);
            }
        }
    }

    /// Waits until there is room for jobs; `None` at the end.
    async fn room(&self) -> Option<usize> {
        let client = self.shared.queue.client();
        loop {
            let (room, phase) = {
                let state = self.shared.lock();
                (state.room(), state.phase)
            };
            if phase > Phase::Open {
                return None;
            }
            // A poll finds out what the end of the client means.
            if room > 0 || client.is_closed() {
                return Some(room.max(1));
            }
            // How the wait ends does not matter either.
            let _ = client.until_ended(&self.options, None, self.shared.room.notified()).await;
        }
    }

    async fn receive(&self, room: usize, wait_ms: i64) -> Result<Vec<flowmesh_proto::v1::Job>> {
        let reserve = Reserve { visibility_ms: self.shared.visibility_ms, wait_ms };
        let most = i32::try_from(room).unwrap_or(i32::MAX);
        self.shared.queue.receive(most, reserve, &self.options).await
    }

    /// Hands on what a poll brought: how many jobs; `None` at the end.
    async fn take(&mut self, polled: Result<Vec<flowmesh_proto::v1::Job>>) -> Option<usize> {
        let jobs = match polled {
            Ok(jobs) => jobs,
            Err(error) => {
                self.failed(error).await?;
                return Some(0);
            }
        };
        self.backoff = Backoff::default();
        if std::mem::take(&mut self.failing) {
            self.shared.tell(WorkerEvent::of_worker(WorkerEventKind::FetchResumed, None));
        }
        let count = jobs.len();
        if count > 0 {
            self.shared.arrived(jobs);
        }
        Some(count)
    }

    /// Tells a failure, and waits before the next attempt; `None` when there is none.
    async fn failed(&mut self, error: Error) -> Option<()> {
        if self.shared.no_more_jobs.is_cancelled() {
            return None;
        }
        let inner = self.shared.queue.client().inner();
        if !worth_repeating(error.status()) && !inner.may_pass_with_token(&error) {
            let mut state = self.shared.lock();
            // Verdicts could not be sent through a closed client, so no job is begun.
            state.enter(if error.status() == Status::CLOSED { Phase::Ended } else { Phase::Draining });
            state.tell(WorkerEvent::of_worker(WorkerEventKind::Ended, Some(error)));
            self.shared.dispatch(state);
            return None;
        }
        if !std::mem::replace(&mut self.failing, true) {
            self.shared.tell(WorkerEvent::of_worker(WorkerEventKind::FetchFailed, Some(error)));
        }
        let pause = self.backoff.next();
        self.pause(pause).await;
        Some(())
    }

    /// Waits; shorter at the end of the worker or of its client.
    async fn pause(&self, time: Duration) {
        let client = self.shared.queue.client();
        // How the wait ends does not matter: what comes next finds out.
        let _ = client.until_ended(&self.options, Some(time), std::future::pending::<()>()).await;
    }
}

/// Whether jobs may be had later. A queue may be made, storage be freed, a server be replaced.
fn worth_repeating(status: Status) -> bool {
    may_pass(status)
        || matches!(
            status,
            Status::NOT_FOUND | Status::RESOURCE_EXHAUSTED | Status::INTERNAL | Status::DATA_LOSS
        )
}
