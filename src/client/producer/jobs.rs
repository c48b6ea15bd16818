//! How the sending task enqueues: one job per call, several calls on the way at once, begun in the
//! order of the sends and reported in it.

use std::{collections::VecDeque, sync::Arc, task::Poll, time::Instant};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::{
    attempts::Attempts,
    batch::Batch,
    buffer::Shared,
    reports::{JobOutcome, Outcomes, Reports},
    sender::{Sending, cut_short},
};
use crate::client::{error::Outcome, queues::Queue};

/// Enqueues to `queue` until nothing is left.
pub(super) async fn run<T: Send + 'static>(sending: Sending<T>, queue: Arc<Queue>) {
    let shared = sending.shared.clone();
    let at_once = shared.options.max_in_flight;
    let mut window = Window { shared: shared.clone(), slots: VecDeque::new(), first: 0, begun: 0 };
    let mut calls = FuturesUnordered::new();
    loop {
        while calls.len() < at_once
            && let Some((number, job, since)) = window.begin()
        {
            let (shared, queue) = (shared.clone(), queue.clone());
            calls.push(async move { (number, enqueue(&shared, &queue, job, since).await) });
        }
        if calls.is_empty() {
            match Shared::next_batch(&shared).await {
                Some(batch) => window.extend(batch),
                None => break,
            }
            continue;
        }
        let takes_more = calls.len() < at_once;
        let more = std::future::poll_fn(|cx| {
            let mut ended = false;
            while let Poll::Ready(Some((number, outcome))) = calls.poll_next_unpin(cx) {
                window.end(number, outcome);
                ended = true;
            }
            if ended {
                return Poll::Ready(None);
            }
            if !takes_more {
                return Poll::Pending;
            }
            shared.poll_batch(cx).map(Some)
        })
        .await;
        match more {
            Some(batch) => window.extend(batch),
            None => window.report(),
        }
    }
    sending.end();
}

async fn enqueue<T: Send + 'static>(
    shared: &Arc<Shared<T>>,
    queue: &Arc<Queue>,
    job: Bytes,
    since: Instant,
) -> JobOutcome {
    let mut attempts = Attempts::new(since, shared.options.delivery_timeout);
    let result = match shared.stop_error() {
        Some(stopped) => Err(stopped),
        None => {
            let enqueue = |options| {
                let (queue, job) = (queue.clone(), job.clone());
                async move { queue.enqueue_encoded(job, &options).await }
            };
            attempts.run(shared, |_| false, enqueue).await
        }
    };
    JobOutcome { result, attempts: attempts.count }
}

/// Jobs from the oldest without a report to the newest that was taken.
struct Window<T: Send + 'static> {
    shared: Arc<Shared<T>>,
    slots: VecDeque<Slot<T>>,
    /// The number of the first slot.
    first: u64,
    /// How many of the slots were begun.
    begun: usize,
}

struct Slot<T> {
    tag: T,
    bytes: usize,
    state: SlotState,
}

enum SlotState {
    Waiting(Bytes, Instant),
    OnTheWay,
    Ended(JobOutcome),
}

impl<T: Send + 'static> Window<T> {
    fn extend(&mut self, batch: Batch<T>) {
        let since = batch.since();
        self.slots.extend(batch.into_messages().map(|(tag, job)| Slot {
            tag,
            bytes: job.len(),
            state: SlotState::Waiting(job, since),
        }));
    }

    /// The next job to enqueue.
    fn begin(&mut self) -> Option<(u64, Bytes, Instant)> {
        let slot = self.slots.get_mut(self.begun)?;
        let SlotState::Waiting(job, since) = std::mem::replace(&mut slot.state, SlotState::OnTheWay) else {
            return None;
        };
        let number = self.first + self.begun as u64;
        self.begun += 1;
        Some((number, job, since))
    }

    fn end(&mut self, number: u64, outcome: JobOutcome) {
        let index = usize::try_from(number - self.first).unwrap_or(usize::MAX);
        if let Some(slot) = self.slots.get_mut(index) {
            slot.state = SlotState::Ended(outcome);
        }
    }

    /// Reports the jobs that have ended, up to the first that has not.
    fn report(&mut self) {
        let ended = self.slots.iter().take_while(|slot| matches!(slot.state, SlotState::Ended(_))).count();
        self.report_first(ended, |state| match state {
            SlotState::Ended(outcome) => Some(outcome),
            _ => None,
        });
    }

    fn report_first(&mut self, count: usize, outcome: impl Fn(SlotState) -> Option<JobOutcome>) {
        let (mut tags, mut jobs, mut bytes) = (Vec::with_capacity(count), Vec::with_capacity(count), 0);
        for slot in self.slots.drain(..count) {
            tags.push(slot.tag);
            jobs.extend(outcome(slot.state));
            bytes += slot.bytes;
        }
        self.first += count as u64;
        self.begun = self.begun.saturating_sub(count);
        if count > 0 {
            Shared::report(&self.shared, Reports::new(tags, Outcomes::Jobs(jobs)), bytes);
        }
    }
}

impl<T: Send + 'static> Drop for Window<T> {
    fn drop(&mut self) {
        let error = cut_short(&self.shared);
        self.report_first(self.slots.len(), |state| {
            let (outcome, attempts) = match state {
                SlotState::Ended(outcome) => return Some(outcome),
                SlotState::Waiting(..) => (Outcome::NotApplied, 0),
                SlotState::OnTheWay => (Outcome::Unknown, 1),
            };
            Some(JobOutcome { result: Err(error.clone().with_outcome(outcome)), attempts })
        });
    }
}
