//! A job in the hands of its handler.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use flowmesh_proto::v1::Job;

use super::{
    super::{
        error::{Error, Result, Status},
        lease::Lease,
        rules,
    },
    event::{JobName, WorkerEvent, WorkerEventKind},
    shared::Shared,
    state::Held,
};

/// What is to become of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is done and gone.
    Ack,
    /// It is to be tried again, after so many ms (0: the retry policy's backoff).
    Nack {
        /// At most a year; in effect whole seconds, rounded up.
        delay_ms: i64,
    },
}

impl Verdict {
    /// To be tried again after `delay_ms`, which must be a delay that the contract allows.
    pub fn nack(delay_ms: i64) -> Result<Self> {
        rules::delay_seconds("delay_ms", delay_ms)?;
        Ok(Self::Nack { delay_ms })
    }
}

/// What the handler gets.
#[derive(Debug)]
pub struct Delivery {
    /// The job.
    pub job: Job,
    /// Its place among the jobs under way.
    pub ticket: Ticket,
}

/// A job's place among the jobs under way: with its end the next job comes. Dropped without a
/// verdict, the job stays leased until its lease ends.
pub struct Ticket {
    shared: Arc<Shared>,
    number: u64,
    held: Held,
    since: Instant,
    ended: bool,
}

impl Ticket {
    pub(super) fn open(shared: Arc<Shared>, number: u64, held: Held) -> Self {
        Self { shared, number, held, since: Instant::now(), ended: false }
    }

    /// Gives the verdict; it is sent in the background. When the lease is over it is not sent, and
    /// that has been, or will be, told as an event. CLOSED when the worker was stopped.
    pub fn settle(mut self, verdict: Verdict) -> Result<()> {
        self.ended = true;
        if self.shared.done(self.number, Some(verdict), self.since.elapsed()) || !self.shared.is_stopped() {
            return Ok(());
        }
        Err(Error::local(
            Status::CLOSED,
            format!(
                "settle job {} of {}: the worker was stopped, or its client closed",
                self.held.name.id,
                self.shared.queue.canonical_path()
            ),
        ))
    }

    /// The verdict was given by other means; the place stays taken.
    pub fn settled_elsewhere(&self) {
        self.shared.settled_elsewhere(self.number);
    }

    /// Tells, as an event, that the verdict given is none.
    pub fn report(&self, error: Error) {
        let name = self.held.name.clone();
        self.shared.tell(WorkerEvent::of_job(WorkerEventKind::NotSettled, name, Some(error)));
    }

    /// The job's lease.
    pub fn lease(&self) -> Lease {
        self.held.lease
    }

    /// What is left of the lease; zero when it is over.
    pub fn time_left(&self) -> Duration {
        self.held.lease.left(self.shared.queue.client())
    }

    /// Names the job.
    pub fn name(&self) -> &JobName {
        &self.held.name
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // In the child of a fork the worker's lock may be held for ever.
        if !self.ended && self.shared.queue.client().check_process().is_ok() {
            self.shared.done(self.number, None, self.since.elapsed());
        }
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").field("job", &self.held.name).finish_non_exhaustive()
    }
}
