//! Queues: the asynchronous forms of their calls.

use std::ffi::c_char;

use super::{
    boundary::nullable::{
        NullableCallOptions, NullableDrop, NullableEnqueueOptions, NullableError, NullableNackOptions,
        NullableOperation, NullableReserveOptions, NullableUserData,
    },
    operation::{
        self, flowmesh_bool_callback_t, flowmesh_done_callback_t, flowmesh_enqueued_callback_t,
        flowmesh_job_batch_callback_t, flowmesh_job_callback_t, flowmesh_queue_stats_callback_t,
        flowmesh_retry_policy_callback_t,
    },
    queue::flowmesh_queue_t,
    queue_calls as calls,
    retry_policy::flowmesh_retry_policy_t,
    status::flowmesh_status_t,
    view::flowmesh_view_t,
};

/// flowmesh_queue_enqueue as an asynchronous call, see COMPLETIONS; the payload is copied before it returns. Calls
/// may overtake each other: for order, enqueue the next job when the one before has ended, or use
/// a producer. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_enqueue_async(
    queue: Option<&flowmesh_queue_t>,
    payload: flowmesh_view_t,
    options: NullableEnqueueOptions,
    callback: flowmesh_enqueued_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| {
        calls::enqueue(queue, payload, options, token)
    })
}

/// flowmesh_queue_reserve as an asynchronous call, see COMPLETIONS. A job whose reply was under way
/// when the call was cancelled is given to others, at the latest at the end of its lease. Does not
/// block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_reserve_async(
    queue: Option<&flowmesh_queue_t>,
    options: NullableReserveOptions,
    callback: flowmesh_job_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| calls::reserve(queue, options, token))
}

/// flowmesh_queue_receive as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_receive_async(
    queue: Option<&flowmesh_queue_t>,
    max_jobs: i32,
    options: NullableReserveOptions,
    callback: flowmesh_job_batch_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| {
        calls::receive(queue, max_jobs, options, token)
    })
}

/// flowmesh_queue_ack as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_ack_async(
    queue: Option<&flowmesh_queue_t>,
    job_id: *const c_char,
    options: NullableCallOptions,
    callback: flowmesh_done_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| calls::ack(queue, job_id, options, token))
}

/// flowmesh_queue_nack as an asynchronous call, see COMPLETIONS; the callback's `result` says whether the job
/// was dead-lettered. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_nack_async(
    queue: Option<&flowmesh_queue_t>,
    job_id: *const c_char,
    options: NullableNackOptions,
    callback: flowmesh_bool_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| {
        calls::nack(queue, job_id, options, token)
    })
}

/// flowmesh_queue_stats as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_stats_async(
    queue: Option<&flowmesh_queue_t>,
    options: NullableCallOptions,
    callback: flowmesh_queue_stats_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| calls::stats(queue, options, token))
}

/// flowmesh_queue_set_retry_policy as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_set_retry_policy_async(
    queue: Option<&flowmesh_queue_t>,
    policy: *const flowmesh_retry_policy_t,
    options: NullableCallOptions,
    callback: flowmesh_done_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| {
        calls::set_retry_policy(queue, policy, options, token)
    })
}

/// flowmesh_queue_get_retry_policy as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_get_retry_policy_async(
    queue: Option<&flowmesh_queue_t>,
    options: NullableCallOptions,
    callback: flowmesh_retry_policy_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| {
        calls::get_retry_policy(queue, options, token)
    })
}

/// flowmesh_queue_list_dlq_jobs as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_list_dlq_jobs_async(
    queue: Option<&flowmesh_queue_t>,
    max_jobs: i32,
    options: NullableCallOptions,
    callback: flowmesh_job_batch_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| {
        calls::list_dlq_jobs(queue, max_jobs, options, token)
    })
}

/// flowmesh_queue_replay_dlq_job as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_replay_dlq_job_async(
    queue: Option<&flowmesh_queue_t>,
    job_id: *const c_char,
    options: NullableCallOptions,
    callback: flowmesh_enqueued_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| {
        calls::replay_dlq_job(queue, job_id, options, token)
    })
}
