//! Queues: enqueueing, leasing, dead letters.

use std::{ffi::c_char, mem::MaybeUninit, sync::Arc};

use super::{
    boundary::{
        guard,
        handle::{self, Required as _},
        jobs::LeasedJob,
        nullable::{
            NullableBool, NullableCallOptions, NullableEnqueueOptions, NullableError, NullableInt64,
            NullableJobId, NullableNackOptions, NullableQueueBox, NullableReserveOptions,
        },
        options, view,
    },
    cancel::flowmesh_cancel_t,
    client::flowmesh_client_t,
    job::{flowmesh_job_batch_t, flowmesh_job_t},
    queue_calls as calls,
    retry_policy::flowmesh_retry_policy_t,
    status::flowmesh_status_t,
    view::{flowmesh_header_t, flowmesh_view_t},
};
use crate::client::Queue;

/// A job queue. Thread-safe. It keeps its client alive.
///
///     flowmesh_queue_t *mails = NULL;
///     flowmesh_job_t *job = NULL;
///     status = flowmesh_queue_open(client, "acme", "shop", "mails", &mails, &error);
///     if (status == FLOWMESH_OK) {
///         flowmesh_view_t payload = FLOWMESH_VIEW_LITERAL("to: bob");
///         status = flowmesh_queue_enqueue(mails, payload, NULL, NULL, NULL, &error);
///     }
///     if (status == FLOWMESH_OK) {
///         status = flowmesh_queue_reserve(mails, NULL, &job, &error);
///     }
///     if (status == FLOWMESH_OK && job != NULL) {
///         status = flowmesh_job_ack(job, NULL, &error); // or flowmesh_job_nack
///     }
///     flowmesh_job_free(job);
///     flowmesh_queue_free(mails);
pub struct flowmesh_queue_t {
    pub(super) queue: Arc<Queue>,
}

/// Options of flowmesh_queue_enqueue. Start from FLOWMESH_ENQUEUE_OPTIONS_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flowmesh_enqueue_options_t {
    /// sizeof(flowmesh_enqueue_options_t).
    pub size: usize,
    /// Deadline of the call: 0 is the client's default, -1 none.
    pub timeout_ms: i64,
    /// Ends the call from another thread; NULL for none.
    pub cancel: *const flowmesh_cancel_t,
    /// Trace that the call belongs to, a W3C `traceparent`; NULL for none.
    pub traceparent: *const c_char,
    /// Its `tracestate`; NULL for none.
    pub tracestate: *const c_char,
    /// How long until the job is due, at most a year; 0 is now.
    pub delay_ms: i64,
    /// `header_count` headers; may be NULL when there are none.
    pub headers: *const flowmesh_header_t,
    /// Number of headers.
    pub header_count: usize,
}

/// Options of flowmesh_queue_reserve and flowmesh_queue_receive. Start from
/// FLOWMESH_RESERVE_OPTIONS_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flowmesh_reserve_options_t {
    /// sizeof(flowmesh_reserve_options_t).
    pub size: usize,
    /// Deadline of the call, beyond wait_ms in whole seconds: 0 is the client's default, -1 none.
    pub timeout_ms: i64,
    /// Ends the call from another thread; NULL for none.
    pub cancel: *const flowmesh_cancel_t,
    /// Trace that the call belongs to, a W3C `traceparent`; NULL for none.
    pub traceparent: *const c_char,
    /// Its `tracestate`; NULL for none.
    pub tracestate: *const c_char,
    /// Length of the lease, at most 12 hours; 0 is 30 s.
    pub visibility_timeout_ms: i64,
    /// How long to wait for a job, rounded up to whole seconds: 0 not at all, -1 for ever.
    pub wait_ms: i64,
}

/// Options of flowmesh_job_nack and flowmesh_queue_nack. Start from FLOWMESH_NACK_OPTIONS_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flowmesh_nack_options_t {
    /// sizeof(flowmesh_nack_options_t).
    pub size: usize,
    /// Deadline of the call: 0 is the client's default, -1 none.
    pub timeout_ms: i64,
    /// Ends the call from another thread; NULL for none.
    pub cancel: *const flowmesh_cancel_t,
    /// Trace that the call belongs to, a W3C `traceparent`; NULL for none.
    pub traceparent: *const c_char,
    /// Its `tracestate`; NULL for none.
    pub tracestate: *const c_char,
    /// How long until the job is due again, at most a year; 0 is what the retry policy says.
    pub delay_ms: i64,
}

/// Counters of a queue; they survive restarts. Start from FLOWMESH_QUEUE_STATS_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flowmesh_queue_stats_t {
    /// sizeof(flowmesh_queue_stats_t).
    pub size: usize,
    /// Jobs ever enqueued, moved or replayed into the queue.
    pub total_jobs: i64,
    /// Waiting, due or not.
    pub pending_jobs: i64,
    /// Leased.
    pub in_flight_jobs: i64,
    /// Acknowledged.
    pub completed_jobs: i64,
    /// Moved to the dead-letter queue.
    pub failed_jobs: i64,
    /// Age of the oldest waiting job, 0 if none. Whole seconds.
    pub oldest_job_age_ms: i64,
}

/// Room that a job id needs: 32 hex digits and the NUL.
pub const FLOWMESH_JOB_ID_SIZE: usize = 33;

/// Names a queue. Does no I/O and does not block; any thread. The first enqueue, reserve or policy
/// creates the queue. Free the handle with flowmesh_queue_free.
///
/// FLOWMESH_INVALID_ARGUMENT: a name breaks the rules of the overview.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_open(
    client: Option<&flowmesh_client_t>,
    tenant: *const c_char,
    name_space: *const c_char,
    name: *const c_char,
    queue: Option<&mut MaybeUninit<*mut flowmesh_queue_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let client = &client.required("client")?.client;
        let [tenant, name_space, name] = view::path(tenant, name_space, name)?;
        let out = queue.required("queue")?;
        let queue = Arc::new(client.queue(tenant, name_space, name)?);
        handle::give(out, flowmesh_queue_t { queue });
        Ok(())
    })
}

/// Frees the handle; its jobs live on. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_free(queue: NullableQueueBox) {
    guard::plain((), || handle::free(queue));
}

/// Adds a job; the payload (at least 1 byte) is copied before the call returns. `job_id`, if not
/// NULL, has room for FLOWMESH_JOB_ID_SIZE bytes and receives the id, NUL-terminated; `seq`
/// receives the job's number in the queue. Blocks until the job is stored, up to the deadline;
/// any thread. Never repeated by the library: after a failure with FLOWMESH_OUTCOME_UNKNOWN the job
/// may be stored, and enqueueing it again may store it twice.
///
/// FLOWMESH_INVALID_ARGUMENT: empty payload, negative or too long delay.
/// FLOWMESH_RESOURCE_EXHAUSTED: larger than the server allows (4 MiB), or its storage is full.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_enqueue(
    queue: Option<&flowmesh_queue_t>,
    payload: flowmesh_view_t,
    options: NullableEnqueueOptions,
    job_id: NullableJobId,
    seq: NullableInt64<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let (id, number) = calls::enqueue(queue, payload, options, None)?.wait()?;
        view::copy_job_id(&id, job_id);
        if let Some(seq) = seq {
            seq.write(number);
        }
        Ok(())
    })
}

/// Leases the next due job, waiting up to options->wait_ms for one; *job becomes NULL when there was
/// none. Callers that wait are served in order. The job is yours to free (flowmesh_job_free); the
/// lease stays until it is acknowledged, given back, or its time is over. Blocks up to wait_ms and
/// then the deadline; any thread. Not repeated by the library: when a reply is lost, or the call is
/// cancelled, a job that was on its way is given to others, at the latest at the end of its lease.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_reserve(
    queue: Option<&flowmesh_queue_t>,
    options: NullableReserveOptions,
    job: Option<&mut MaybeUninit<*mut flowmesh_job_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let out = job.required("job")?;
        let reserved = calls::reserve(queue, options, None)?.wait()?;
        out.write(reserved.map_or(std::ptr::null_mut(), LeasedJob::into_raw));
        Ok(())
    })
}

/// Leases up to `max_jobs` due jobs (1 to 100; 0 is 1, above counts as 100), waiting up to
/// options->wait_ms for the first; fewer where the reply would pass 4 MiB. The batch, empty when there
/// was none, is yours to free (flowmesh_job_batch_free). Blocks up to wait_ms and then the deadline;
/// any thread. Otherwise as flowmesh_queue_reserve.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_receive(
    queue: Option<&flowmesh_queue_t>,
    max_jobs: i32,
    options: NullableReserveOptions,
    batch: Option<&mut MaybeUninit<*mut flowmesh_job_batch_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let out = batch.required("batch")?;
        handle::give(out, calls::receive(queue, max_jobs, options, None)?.wait()?);
        Ok(())
    })
}

/// Acknowledges a leased job by its id: it is done and gone. An id that is not leased (any more)
/// is no failure and changes nothing. See flowmesh_job_ack. Blocks until it is stored, up to the
/// deadline; any thread. Repeated by the library when the connection fails.
///
/// FLOWMESH_NOT_FOUND: no such queue.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_ack(
    queue: Option<&flowmesh_queue_t>,
    job_id: *const c_char,
    options: NullableCallOptions,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || calls::ack(queue, job_id, options, None)?.wait())
}

/// Gives a leased job back by its id, to be tried again after options->delay_ms or the policy's
/// backoff. A job at its last attempt goes to the dead-letter queue instead: that is no failure,
/// and *dead_lettered, if not NULL, says so. See flowmesh_job_nack. Blocks until it is stored, up
/// to the deadline; any thread. Never repeated by the library.
///
/// FLOWMESH_NOT_FOUND: the job is not leased (any more).
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_nack(
    queue: Option<&flowmesh_queue_t>,
    job_id: *const c_char,
    options: NullableNackOptions,
    dead_lettered: NullableBool<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let moved = calls::nack(queue, job_id, options, None)?.wait()?;
        if let Some(out) = dead_lettered {
            out.write(moved);
        }
        Ok(())
    })
}

/// Reads the counters. `stats->size` must be set (FLOWMESH_QUEUE_STATS_INIT). Blocks up to the
/// deadline; any thread. Repeated by the library when the connection fails.
///
/// FLOWMESH_NOT_FOUND: no such queue.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_stats(
    queue: Option<&flowmesh_queue_t>,
    options: NullableCallOptions,
    stats: *mut flowmesh_queue_stats_t,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let out = options::Out::new(stats, "stats")?;
        out.write(calls::stats(queue, options, None)?.wait()?);
        Ok(())
    })
}

/// Sets the retry policy; it counts from the next nack or expiry on. Backoffs are rounded up to
/// seconds. Blocks until it is stored, up to the deadline; any thread. Repeated by the library
/// when the connection fails.
///
/// FLOWMESH_INVALID_ARGUMENT: a field breaks the rule at its declaration.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_set_retry_policy(
    queue: Option<&flowmesh_queue_t>,
    policy: *const flowmesh_retry_policy_t,
    options: NullableCallOptions,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || calls::set_retry_policy(queue, policy, options, None)?.wait())
}

/// Reads the retry policy in force. `policy->size` must be set (FLOWMESH_RETRY_POLICY_INIT). Blocks
/// up to the deadline; any thread. Repeated by the library when the connection fails.
///
/// FLOWMESH_NOT_FOUND: no such queue.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_get_retry_policy(
    queue: Option<&flowmesh_queue_t>,
    options: NullableCallOptions,
    policy: *mut flowmesh_retry_policy_t,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let out = options::Out::new(policy, "policy")?;
        out.write(calls::get_retry_policy(queue, options, None)?.wait()?);
        Ok(())
    })
}

/// Lists dead letters of this queue that wait, in the order in which they would be delivered: up to
/// `max_jobs` (0 is 100), fewer where the reply would pass 4 MiB. There is no cursor: later ones
/// show once earlier ones are handled. The jobs are not leased: give their ids to
/// flowmesh_queue_replay_dlq_job. They are the jobs of another queue, whose name is that of this one
/// with "-dlq" behind it: to delete one, open that queue, lease it there, and acknowledge it. Their
/// headers x-flowmesh-original-queue, x-flowmesh-original-job-id, x-flowmesh-attempts and
/// x-flowmesh-failed-at tell where they come from. Free the batch with flowmesh_job_batch_free. Blocks up to the
/// deadline; any thread. Repeated by the library when the connection fails.
///
/// FLOWMESH_NOT_FOUND: no such queue.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_list_dlq_jobs(
    queue: Option<&flowmesh_queue_t>,
    max_jobs: i32,
    options: NullableCallOptions,
    batch: Option<&mut MaybeUninit<*mut flowmesh_job_batch_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let out = batch.required("batch")?;
        handle::give(out, calls::list_dlq_jobs(queue, max_jobs, options, None)?.wait()?);
        Ok(())
    })
}

/// Moves a dead letter back into this queue as a new job, due now, with no attempts counted.
/// `new_job_id`, if not NULL, has room for FLOWMESH_JOB_ID_SIZE bytes and receives its id; `seq` its
/// number. Blocks until it is stored, up to the deadline; any thread. Never repeated by the
/// library: after a failure with FLOWMESH_OUTCOME_UNKNOWN, FLOWMESH_NOT_FOUND at the next try means
/// that it was moved.
///
/// FLOWMESH_NOT_FOUND: no dead letter has this id.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_replay_dlq_job(
    queue: Option<&flowmesh_queue_t>,
    job_id: *const c_char,
    options: NullableCallOptions,
    new_job_id: NullableJobId,
    seq: NullableInt64<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let (id, number) = calls::replay_dlq_job(queue, job_id, options, None)?.wait()?;
        view::copy_job_id(&id, new_job_id);
        if let Some(seq) = seq {
            seq.write(number);
        }
        Ok(())
    })
}
