//! What a worker has to tell beside its jobs.

use std::sync::Arc;

use super::super::error::Error;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerEventKind {
    /// Jobs cannot be fetched, for the reason given; the worker goes on trying. Told once until
    /// they can be fetched again.
    FetchFailed,
    /// Jobs can be fetched again.
    FetchResumed,
    /// The lease of a job ended before its verdict was stored: while its handler ran, while it was
    /// left to the application, or before it was handed out. Its verdict is not sent any more; the
    /// job comes again, or goes to the dead-letter queue at its attempt limit.
    LeaseLost,
    /// A job that was given back had reached its attempt limit, and is in the dead-letter queue.
    DeadLettered,
    /// A verdict could not be stored, for the reason given. The job comes again at the end of its
    /// lease, unless the outcome says that the verdict may have been applied.
    NotSettled,
    /// The worker ended by itself, for the reason given: it fetches nothing more.
    Ended,
}

/// Names a job in an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobName {
    /// Its id.
    pub id: String,
    /// Its number in the queue.
    pub seq: i64,
    /// Deliveries, the one in hand included.
    pub attempts: i32,
}

/// Something a worker tells.
#[derive(Debug, Clone)]
pub struct WorkerEvent {
    /// What happened.
    pub kind: WorkerEventKind,
    /// The job it happened to, if it was one.
    pub job: Option<Arc<JobName>>,
    /// Why, where there is a reason.
    pub reason: Option<Error>,
}

impl WorkerEvent {
    pub(super) fn of_worker(kind: WorkerEventKind, reason: Option<Error>) -> Self {
        Self { kind, job: None, reason }
    }

    pub(super) fn of_job(kind: WorkerEventKind, job: Arc<JobName>, reason: Option<Error>) -> Self {
        Self { kind, job: Some(job), reason }
    }
}
