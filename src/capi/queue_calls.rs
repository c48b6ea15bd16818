//! Queues: what each call does, for its blocking and its asynchronous form.

use std::{ffi::c_char, sync::Arc};

use super::{
    boundary::{
        handle::Required as _,
        jobs::LeasedJob,
        nullable::{
            NullableCallOptions, NullableEnqueueOptions, NullableNackOptions, NullableReserveOptions,
        },
        options,
        view::{self, JobId},
    },
    job::{flowmesh_job_batch_t, nack_job},
    operation::{Prepared, Work},
    queue::{flowmesh_queue_stats_t, flowmesh_queue_t, flowmesh_reserve_options_t},
    retry_policy::flowmesh_retry_policy_t,
    view::flowmesh_view_t,
};
use crate::client::{CallOptions, CancelToken, Enqueued, NewJob, Reserve, Result};

pub(super) fn enqueue(
    queue: Option<&flowmesh_queue_t>,
    payload: flowmesh_view_t,
    options: NullableEnqueueOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<(JobId, i64)>>> {
    let queue = Arc::clone(&queue.required("queue")?.queue);
    let options = options::read(options, "options")?;
    let job = NewJob {
        payload: view::copy(payload, "payload")?,
        headers: view::headers(options.headers, options.header_count, "options->headers")?,
        delay_ms: options.delay_ms,
    };
    let call = CallOptions { operation: token, ..options.call()? };
    Ok(Prepared::new(queue.client().clone(), async move { named(&queue.enqueue(job, &call).await?) }))
}

pub(super) fn reserve(
    queue: Option<&flowmesh_queue_t>,
    options: NullableReserveOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<Option<LeasedJob>>>> {
    let queue = Arc::clone(&queue.required("queue")?.queue);
    let (call, reserve) = lease(options, token)?;
    Ok(Prepared::new(queue.client().clone(), async move {
        let job = queue.reserve(reserve, &call).await?;
        job.map(|job| LeasedJob::new(&queue, job, reserve.visibility_ms)).transpose()
    }))
}

pub(super) fn receive(
    queue: Option<&flowmesh_queue_t>,
    max_jobs: i32,
    options: NullableReserveOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<flowmesh_job_batch_t>>> {
    let queue = Arc::clone(&queue.required("queue")?.queue);
    let (call, reserve) = lease(options, token)?;
    Ok(Prepared::new(queue.client().clone(), async move {
        let jobs = queue.receive(max_jobs, reserve, &call).await?;
        flowmesh_job_batch_t::new(&queue, jobs, Some(reserve.visibility_ms))
    }))
}

pub(super) fn ack(
    queue: Option<&flowmesh_queue_t>,
    job_id: *const c_char,
    options: NullableCallOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<()>>> {
    let queue = Arc::clone(&queue.required("queue")?.queue);
    let id = view::text(job_id, "job_id")?.to_owned();
    let call = plain(options, token)?;
    Ok(Prepared::new(queue.client().clone(), async move { queue.ack(&id, &call).await }))
}

pub(super) fn nack(
    queue: Option<&flowmesh_queue_t>,
    job_id: *const c_char,
    options: NullableNackOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<bool>>> {
    let queue = Arc::clone(&queue.required("queue")?.queue);
    let id = view::text(job_id, "job_id")?.to_owned();
    nack_job(queue, id, options, token)
}

pub(super) fn stats(
    queue: Option<&flowmesh_queue_t>,
    options: NullableCallOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<flowmesh_queue_stats_t>>> {
    let queue = Arc::clone(&queue.required("queue")?.queue);
    let call = plain(options, token)?;
    Ok(Prepared::new(queue.client().clone(), async move {
        let stats = queue.stats(&call).await?;
        Ok(flowmesh_queue_stats_t {
            size: size_of::<flowmesh_queue_stats_t>(),
            total_jobs: stats.total_jobs,
            pending_jobs: stats.pending_jobs,
            in_flight_jobs: stats.in_flight_jobs,
            completed_jobs: stats.completed_jobs,
            failed_jobs: stats.failed_jobs,
            oldest_job_age_ms: stats.oldest_job_age_seconds.saturating_mul(1000),
        })
    }))
}

pub(super) fn set_retry_policy(
    queue: Option<&flowmesh_queue_t>,
    policy: *const flowmesh_retry_policy_t,
    options: NullableCallOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<()>>> {
    let queue = Arc::clone(&queue.required("queue")?.queue);
    let policy = options::read_required(policy, "policy")?.check()?;
    let call = plain(options, token)?;
    Ok(Prepared::new(queue.client().clone(), async move { queue.set_retry_policy(policy, &call).await }))
}

pub(super) fn get_retry_policy(
    queue: Option<&flowmesh_queue_t>,
    options: NullableCallOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<flowmesh_retry_policy_t>>> {
    let queue = Arc::clone(&queue.required("queue")?.queue);
    let call = plain(options, token)?;
    Ok(Prepared::new(queue.client().clone(), async move {
        flowmesh_retry_policy_t::of(&queue.retry_policy(&call).await?)
    }))
}

pub(super) fn list_dlq_jobs(
    queue: Option<&flowmesh_queue_t>,
    max_jobs: i32,
    options: NullableCallOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<flowmesh_job_batch_t>>> {
    let queue = Arc::clone(&queue.required("queue")?.queue);
    let call = plain(options, token)?;
    Ok(Prepared::new(queue.client().clone(), async move {
        let jobs = queue.list_dlq_jobs(max_jobs, &call).await?;
        flowmesh_job_batch_t::new(&queue, jobs, None)
    }))
}

pub(super) fn replay_dlq_job(
    queue: Option<&flowmesh_queue_t>,
    job_id: *const c_char,
    options: NullableCallOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<(JobId, i64)>>> {
    let queue = Arc::clone(&queue.required("queue")?.queue);
    let id = view::text(job_id, "job_id")?.to_owned();
    let call = plain(options, token)?;
    Ok(Prepared::new(queue.client().clone(), async move { named(&queue.replay_dlq_job(&id, &call).await?) }))
}

/// The options of a call that has no others.
fn plain(options: NullableCallOptions, token: Option<CancelToken>) -> Result<CallOptions> {
    Ok(CallOptions { operation: token, ..options::read(options, "options")?.call()? })
}

/// The options of a call that leases jobs.
fn lease(options: NullableReserveOptions, token: Option<CancelToken>) -> Result<(CallOptions, Reserve)> {
    let options: flowmesh_reserve_options_t = options::read(options, "options")?;
    let reserve = Reserve { visibility_ms: options.visibility_timeout_ms, wait_ms: options.wait_ms };
    Ok((CallOptions { operation: token, ..options.call()? }, reserve))
}

/// Id and number of a new job.
fn named(enqueued: &Enqueued) -> Result<(JobId, i64)> {
    Ok((view::job_id(&enqueued.job_id)?, enqueued.seq))
}
