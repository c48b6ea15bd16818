//! Jobs and batches of them.

use std::{
    ffi::{c_char, c_void},
    mem::MaybeUninit,
    sync::Arc,
};

use super::{
    boundary::{
        guard,
        handle::{self, Required as _},
        jobs::{JobBatch, JobOwner},
        nullable::{
            NullableBool, NullableCallOptions, NullableDrop, NullableError, NullableJobBatchBox,
            NullableJobBox, NullableNackOptions, NullableOperation, NullableSize, NullableUserData,
        },
        options, view,
    },
    operation::{
        self, Prepared, Work, flowmesh_bool_callback_t, flowmesh_count_callback_t, flowmesh_done_callback_t,
    },
    queue::FLOWMESH_JOB_ID_SIZE,
    status::flowmesh_status_t,
    view::{flowmesh_header_t, flowmesh_view_t},
};
use crate::client::{Acked, CallOptions, CancelToken, Job, Nacked, Queue, Result};

/// A job. Reached only by pointer; later versions append fields, so never copy it by value or rely
/// on its size. Immutable, thread-safe. One from flowmesh_queue_reserve is yours to free; one from a
/// batch is borrowed from it. It keeps its queue alive.
#[repr(C)]
#[derive(Debug)]
pub struct flowmesh_job_t {
    /// Of the library.
    pub owner: *const c_void,
    /// Id, NUL-terminated.
    pub id: [c_char; FLOWMESH_JOB_ID_SIZE],
    /// Number in the queue, from 0.
    pub seq: i64,
    /// As enqueued.
    pub payload: flowmesh_view_t,
    /// `header_count` headers; see also flowmesh_job_get_header.
    pub headers: *const flowmesh_header_t,
    /// Number of headers.
    pub header_count: usize,
    /// The queue, as "tenant/namespace/queue/name".
    pub resource_path: flowmesh_view_t,
    /// When it was enqueued, by the server's clock.
    pub created_at_ns: i64,
    /// When it last became due, by the server's clock.
    pub visible_at_ns: i64,
    /// When its lease ends, by the server's clock; 0 when it is not leased.
    pub reserve_until_ns: i64,
    /// Deliveries, this one included.
    pub attempts: i32,
}

/// Jobs and everything in them. Immutable, thread-safe.
///
///     size_t acked = 0;
///     status = flowmesh_queue_receive(queue, 100, NULL, &batch, &error);
///     if (status == FLOWMESH_OK) {
///         for (size_t i = 0; i < flowmesh_job_batch_count(batch); i++) {
///             handle(flowmesh_job_batch_at(batch, i));
///         }
///         status = flowmesh_job_batch_ack(batch, NULL, &acked, &error);
///     }
///     flowmesh_job_batch_free(batch);
pub struct flowmesh_job_batch_t {
    batch: JobBatch,
}

impl flowmesh_job_batch_t {
    /// A batch of jobs, leased for `visibility_ms` from now on, or only listed.
    pub(super) fn new(queue: &Arc<Queue>, jobs: Vec<Job>, visibility_ms: Option<i64>) -> Result<Self> {
        Ok(Self { batch: JobBatch::new(queue, jobs, visibility_ms)? })
    }
}

/// Acknowledges the job: it is done and gone. When its lease is over and somebody else has the job,
/// that lease is acknowledged; when nobody has it, nothing happens, and neither is a failure: look at
/// flowmesh_job_time_left_ms first. Blocks until it is stored, up to the deadline; any thread.
/// Repeated by the library when the connection fails.
///
/// FLOWMESH_FAILED_PRECONDITION: the job was listed, not leased.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_job_ack(
    job: Option<&flowmesh_job_t>,
    options: NullableCallOptions,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || ack(job, options, None)?.wait())
}

/// Gives the job back, to be tried again after options->delay_ms or the policy's backoff. A job at its
/// last attempt goes to the dead-letter queue instead: that is no failure, and *dead_lettered, if not
/// NULL, says so. Blocks until it is stored, up to the deadline; any thread. Never repeated by the
/// library.
///
/// FLOWMESH_NOT_FOUND: the job is not leased any more. FLOWMESH_FAILED_PRECONDITION: it was listed,
/// not leased.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_job_nack(
    job: Option<&flowmesh_job_t>,
    options: NullableNackOptions,
    dead_lettered: NullableBool<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let moved = nack(job, options, None)?.wait()?;
        if let Some(out) = dead_lettered {
            out.write(moved);
        }
        Ok(())
    })
}

/// flowmesh_job_ack as an asynchronous call, see COMPLETIONS; the job may be freed at once. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_job_ack_async(
    job: Option<&flowmesh_job_t>,
    options: NullableCallOptions,
    callback: flowmesh_done_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| ack(job, options, token))
}

/// flowmesh_job_nack as an asynchronous call, see COMPLETIONS; the callback's `result` says whether the job was
/// dead-lettered. The job may be freed at once. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_job_nack_async(
    job: Option<&flowmesh_job_t>,
    options: NullableNackOptions,
    callback: flowmesh_bool_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| nack(job, options, token))
}

/// What is left of the lease, 0 when it is over or the job is NULL or not leased. Counted from the
/// job's arrival by this process's own clock (a test clock's, where there is one), so that clocks
/// need not agree; the server's count began a network transit earlier. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_job_time_left_ms(job: Option<&flowmesh_job_t>) -> i64 {
    guard::plain(0, || job.map_or(0, |job| JobOwner::of(job).time_left_ms()))
}

/// Looks up the header `key` of `job`: true, and its value in `value`, or false. The value is
/// borrowed from the job. False also for NULL arguments. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_job_get_header(
    job: Option<&flowmesh_job_t>,
    key: *const c_char,
    value: Option<&mut MaybeUninit<flowmesh_view_t>>,
) -> bool {
    guard::plain(false, || job.is_some_and(|j| view::find_header(j.headers, j.header_count, key, value)))
}

/// Frees a job from flowmesh_queue_reserve, or one that a worker's handler was called with, and every
/// view into it; its lease stays. Not for jobs of a batch. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_job_free(job: NullableJobBox) {
    guard::plain((), || JobOwner::free(job));
}

/// Number of jobs; 0 for NULL. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_job_batch_count(batch: Option<&flowmesh_job_batch_t>) -> usize {
    guard::plain(0, || batch.map_or(0, |b| b.batch.len()))
}

/// Job `index`, counted from 0; NULL when there is none. Borrowed until the batch is freed. Does not
/// block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_job_batch_at(
    batch: Option<&flowmesh_job_batch_t>,
    index: usize,
) -> *const flowmesh_job_t {
    guard::plain(std::ptr::null(), || batch.map_or(std::ptr::null(), |b| b.batch.at(index)))
}

/// Acknowledges every job of the batch, many at a time; *acked, if not NULL, receives how many were
/// acknowledged, on success and failure alike (the one output that a failure changes). One
/// failure does not stop the others; the first is reported. Blocks until all are stored, up to
/// the deadline; any thread. Repeated by the library when the connection fails.
///
/// FLOWMESH_FAILED_PRECONDITION: the jobs were listed, not leased.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_job_batch_ack(
    batch: Option<&flowmesh_job_batch_t>,
    options: NullableCallOptions,
    acked: NullableSize<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let result = ack_all(batch, options, None)?.wait()?;
        if let Some(acked) = acked {
            acked.write(result.count);
        }
        result.error.map_or(Ok(()), Err)
    })
}

/// flowmesh_job_batch_ack as an asynchronous call, see COMPLETIONS; the batch may be freed at once. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_job_batch_ack_async(
    batch: Option<&flowmesh_job_batch_t>,
    options: NullableCallOptions,
    callback: flowmesh_count_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| ack_all(batch, options, token))
}

/// Frees a batch, its jobs and every view into them; their leases stay. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_job_batch_free(batch: NullableJobBatchBox) {
    guard::plain((), || handle::free(batch));
}

// The operations, for both forms of each call.

fn ack(
    job: Option<&flowmesh_job_t>,
    options: NullableCallOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<()>>> {
    let owner = JobOwner::of(job.required("job")?);
    owner.check_leased()?;
    owner.settled_by_call();
    let call = CallOptions { operation: token, ..options::read(options, "options")?.call()? };
    let (queue, id) = (Arc::clone(owner.queue()), owner.id().to_owned());
    Ok(Prepared::new(queue.client().clone(), async move { queue.ack(&id, &call).await }))
}

fn nack(
    job: Option<&flowmesh_job_t>,
    options: NullableNackOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<bool>>> {
    let owner = JobOwner::of(job.required("job")?);
    owner.check_leased()?;
    owner.settled_by_call();
    nack_job(Arc::clone(owner.queue()), owner.id().to_owned(), options, token)
}

/// Gives the job `id` back; yields whether it was dead-lettered.
pub(super) fn nack_job(
    queue: Arc<Queue>,
    id: String,
    options: NullableNackOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<bool>>> {
    let options = options::read(options, "options")?;
    let (call, delay_ms) = (CallOptions { operation: token, ..options.call()? }, options.delay_ms);
    Ok(Prepared::new(queue.client().clone(), async move {
        Ok(queue.nack(&id, delay_ms, &call).await? == Nacked::DeadLettered)
    }))
}

fn ack_all(
    batch: Option<&flowmesh_job_batch_t>,
    options: NullableCallOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<Acked>>> {
    let batch = &batch.required("batch")?.batch;
    let call = CallOptions { operation: token, ..options::read(options, "options")?.call()? };
    let mut ids = Vec::with_capacity(batch.len());
    for owner in batch.owners() {
        owner.check_leased()?;
        ids.push(owner.id().to_owned());
    }
    let queue = Arc::clone(batch.queue());
    Ok(Prepared::new(queue.client().clone(), async move { Ok(queue.ack_all(&ids, &call).await) }))
}
