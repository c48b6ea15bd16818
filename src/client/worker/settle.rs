//! Verdicts on their way to the server, many at a time, each until its lease ends.

use std::{
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::{
    super::{
        backoff::Backoff,
        embedded,
        error::{Error, Outcome, Result, Status},
        options::{CallOptions, Timeout},
        queues::Nacked,
        subscription::may_pass,
    },
    Verdict,
    event::WorkerEventKind,
    shared::Shared,
    state::Settlement,
};
use crate::runtime::park::Sleep;

/// How many verdicts are under way at once.
const MOST_AT_ONCE: usize = 100;

/// Sends verdicts until the worker is at its end and none is left.
pub(super) async fn run(shared: Arc<Shared>) {
    // Also when the runtime drops this task.
    let _ended = Ended(shared.clone());
    let mut closed = pin!(shared.queue.client().inner().closed().wait());
    let mut cut_off = false;
    let mut running = FuturesUnordered::new();
    loop {
        {
            let mut state = shared.lock();
            while running.len() < MOST_AT_ONCE
                && let Some(settlement) = state.next_verdict()
            {
                running.push(send(shared.clone(), settlement));
            }
            if cut_off {
                state.cut_off();
            }
            if running.is_empty() && state.nothing_to_send() {
                return;
            }
        }
        let mut more = pin!(shared.verdicts.notified());
        std::future::poll_fn(|cx| {
            let mut progress = running.len() < MOST_AT_ONCE && more.as_mut().poll(cx).is_ready();
            embedded::gathered(|| {
                while let Poll::Ready(Some(())) = running.poll_next_unpin(cx) {
                    progress = true;
                }
            });
            if !cut_off && closed.as_mut().poll(cx).is_ready() {
                (cut_off, progress) = (true, true);
            }
            if progress { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.sending_ended();
        self.0.dispatch(state);
    }
}

/// Sends one verdict: until it is stored, cannot be, or the lease is over. Says what else there is
/// to tell.
async fn send(shared: Arc<Shared>, settlement: Settlement) {
    let event = match attempts(&shared, &settlement).await {
        Ok(Stored::AsGiven) => None,
        Ok(Stored::DeadLettered) => Some((WorkerEventKind::DeadLettered, None)),
        Err(told) => Some(told),
    };
    shared.settled(&settlement, event);
}

/// What became of a verdict.
enum Stored {
    AsGiven,
    /// It was a nack, at the attempt limit.
    DeadLettered,
}

async fn attempts(
    shared: &Shared,
    settlement: &Settlement,
) -> std::result::Result<Stored, (WorkerEventKind, Option<Error>)> {
    let mut backoff = Backoff::default();
    let mut last = None;
    loop {
        let left = shared.left(&settlement.held.lease);
        if left.is_zero() {
            return Err((WorkerEventKind::LeaseLost, last));
        }
        match attempt(shared, settlement, left).await {
            Ok(stored) => return Ok(stored),
            Err(error) if may_repeat(settlement.verdict, &error) && !shared.abandoned.is_cancelled() => {
                last = Some(error);
            }
            // The server says that the job is not leased.
            Err(error) if error.status() == Status::NOT_FOUND => {
                return Err((WorkerEventKind::LeaseLost, Some(error)));
            }
            Err(error) => return Err((WorkerEventKind::NotSettled, Some(error))),
        }
        pause(shared, backoff.next().min(left)).await;
    }
}

async fn attempt(shared: &Shared, settlement: &Settlement, left: Duration) -> Result<Stored> {
    let options = CallOptions {
        timeout: time(shared, left),
        cancel: Some(shared.abandoned.clone()),
        ..CallOptions::default()
    };
    let id = &settlement.held.name.id;
    match settlement.verdict {
        Verdict::Ack => shared.queue.ack(id, &options).await.map(|()| Stored::AsGiven),
        Verdict::Nack { delay_ms } => match shared.queue.nack(id, delay_ms, &options).await? {
            Nacked::Waiting => Ok(Stored::AsGiven),
            Nacked::DeadLettered => Ok(Stored::DeadLettered),
        },
    }
}

/// While the lease is ours, an ack can be repeated; a nack only if the server has not seen it: the
/// job may be leased to somebody else already.
fn may_repeat(verdict: Verdict, error: &Error) -> bool {
    may_pass(error.status()) && (verdict == Verdict::Ack || error.outcome() == Outcome::NotApplied)
}

/// The time for one attempt: what the client gives a call, within the lease.
fn time(shared: &Shared, left: Duration) -> Timeout {
    Timeout::After(shared.queue.client().inner().options().timeout.map_or(left, |time| time.min(left)))
}

/// Waits; shorter when the worker is stopped.
async fn pause(shared: &Shared, time: Duration) {
    let mut over = pin!(Sleep::until(Instant::now() + time));
    let mut stopped = pin!(shared.abandoned.event().wait());
    std::future::poll_fn(|cx| {
        if stopped.as_mut().poll(cx).is_ready() { Poll::Ready(()) } else { over.as_mut().poll(cx) }
    })
    .await;
}
