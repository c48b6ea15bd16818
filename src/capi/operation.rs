//! Asynchronous calls: what they have in common, and the handle that cancels one.
//!
//! A noun's file checks the arguments of a call once, into a [`Prepared`] operation; the blocking
//! form waits for it, the asynchronous one starts it.

use std::{
    ffi::{c_char, c_void},
    pin::Pin,
};

use super::{
    boundary::{
        callback::UserData,
        completion::{Callback, Completion},
        guard,
        handle::{self, Required as _},
        nullable::{
            NullableDrop, NullableError, NullableErrorPtr, NullableGroupState, NullableJob, NullableJobBatch,
            NullableKeyList, NullableMessageBatch, NullableOperation, NullableOperationBox,
            NullableQueueStats, NullableRetryPolicy, NullableSubscription, NullableUserData, NullableValue,
        },
    },
    status::flowmesh_status_t,
};
use crate::{
    client::{CancelToken, Client, Result},
    runtime::Process,
};

/// One asynchronous call that was accepted, for cancelling it. Those who never cancel pass NULL for
/// it. Thread-safe.
///
///     static void on_value(flowmesh_error_t *error, flowmesh_value_t *value, void *user_data)
///     {
///         struct request *request = user_data;
///         if (error != NULL) {
///             fail(request, flowmesh_error_message(error));
///         } else {
///             answer(request, flowmesh_value_data(value));
///         }
///         flowmesh_error_free(error); // both are yours
///         flowmesh_value_free(value);
///     }
///
///     status = flowmesh_kv_get_async(kv, key, NULL, on_value, request, free_request, NULL, &error);
pub struct flowmesh_operation_t {
    token: CancelToken,
    maker: Process,
}

/// Called once when a call has ended: `error` is NULL on success, otherwise it is yours to free with
/// flowmesh_error_free. So are the results of the other callbacks below, unless they are lent for
/// the call; on failure they are NULL.
pub type flowmesh_done_callback_t =
    Option<unsafe extern "C" fn(error: NullableErrorPtr, user_data: *mut c_void)>;

/// Receives a yes or no; false on failure.
pub type flowmesh_bool_callback_t =
    Option<unsafe extern "C" fn(error: NullableErrorPtr, result: bool, user_data: *mut c_void)>;

/// Receives how many were done, on success and on failure.
pub type flowmesh_count_callback_t =
    Option<unsafe extern "C" fn(error: NullableErrorPtr, count: usize, user_data: *mut c_void)>;

/// Receives an offset; -1 on failure.
pub type flowmesh_offset_callback_t =
    Option<unsafe extern "C" fn(error: NullableErrorPtr, offset: i64, user_data: *mut c_void)>;

/// Receives the offset of each event that was written, lent for the call; none on failure.
pub type flowmesh_offsets_callback_t = Option<
    unsafe extern "C" fn(error: NullableErrorPtr, offsets: *const i64, count: usize, user_data: *mut c_void),
>;

/// Receives messages: free them with flowmesh_message_batch_free.
pub type flowmesh_batch_callback_t = Option<
    unsafe extern "C" fn(error: NullableErrorPtr, batch: NullableMessageBatch, user_data: *mut c_void),
>;

/// Receives where a consumer group stands, lent for the call.
pub type flowmesh_group_state_callback_t =
    Option<unsafe extern "C" fn(error: NullableErrorPtr, state: NullableGroupState, user_data: *mut c_void)>;

/// Receives the id, lent for the call, and the number of a new job; NULL and -1 on failure.
pub type flowmesh_enqueued_callback_t = Option<
    unsafe extern "C" fn(error: NullableErrorPtr, job_id: *const c_char, seq: i64, user_data: *mut c_void),
>;

/// Receives a job: free it with flowmesh_job_free. NULL without an error: there was none.
pub type flowmesh_job_callback_t =
    Option<unsafe extern "C" fn(error: NullableErrorPtr, job: NullableJob, user_data: *mut c_void)>;

/// Receives jobs: free them with flowmesh_job_batch_free.
pub type flowmesh_job_batch_callback_t =
    Option<unsafe extern "C" fn(error: NullableErrorPtr, batch: NullableJobBatch, user_data: *mut c_void)>;

/// Receives counters of a queue, lent for the call.
pub type flowmesh_queue_stats_callback_t =
    Option<unsafe extern "C" fn(error: NullableErrorPtr, stats: NullableQueueStats, user_data: *mut c_void)>;

/// Receives a retry policy, lent for the call.
pub type flowmesh_retry_policy_callback_t = Option<
    unsafe extern "C" fn(error: NullableErrorPtr, policy: NullableRetryPolicy, user_data: *mut c_void),
>;

/// Receives a value: free it with flowmesh_value_free.
pub type flowmesh_value_callback_t =
    Option<unsafe extern "C" fn(error: NullableErrorPtr, value: NullableValue, user_data: *mut c_void)>;

/// Receives keys: free them with flowmesh_key_list_free.
pub type flowmesh_key_list_callback_t =
    Option<unsafe extern "C" fn(error: NullableErrorPtr, keys: NullableKeyList, user_data: *mut c_void)>;

/// Receives a subscription: free it with flowmesh_subscription_free.
pub type flowmesh_subscription_callback_t = Option<
    unsafe extern "C" fn(error: NullableErrorPtr, subscription: NullableSubscription, user_data: *mut c_void),
>;

/// Ends the call with FLOWMESH_CANCELLED, unless it has ended already: its callback runs once, soon,
/// and tells which. A write that was cancelled may have happened, see flowmesh_error_outcome. Does
/// not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_operation_cancel(
    operation: Option<&flowmesh_operation_t>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let operation = operation.required("operation")?;
        // As with flowmesh_cancel_cancel.
        operation.maker.check()?;
        operation.token.cancel();
        Ok(())
    })
}

/// Frees the handle and nothing else: the call goes on. Does not block; any thread, the call's
/// callback too.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_operation_free(operation: NullableOperationBox) {
    guard::plain((), || handle::free(operation));
}

/// What an operation does.
pub(super) trait Work<T>: Future<Output = Result<T>> + Send + 'static {}

impl<T, F: Future<Output = Result<T>> + Send + 'static> Work<T> for F {}

/// An operation whose arguments were checked and copied, and that nobody has begun. It is boxed at
/// once: it takes some kilobytes, which every hand-over from here to where it runs would copy.
pub(super) struct Prepared<W> {
    client: Client,
    work: Pin<Box<W>>,
}

impl<W> Prepared<W> {
    /// An operation of `client`.
    pub fn new(client: Client, work: W) -> Self {
        Self { client, work: Box::pin(work) }
    }

    /// Runs it to its end: the blocking form.
    pub fn wait<T: Send + 'static>(self) -> Result<T>
    where
        W: Work<T>,
    {
        self.client.block_on(self.work)
    }
}

/// The asynchronous form: has `callback` called with what `prepare` prepares, which gets the token
/// that the operation's handle sets.
pub(super) fn start<F, T, W>(
    callback: Option<F>,
    (user_data, drop_user_data): (NullableUserData, NullableDrop),
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
    prepare: impl FnOnce(Option<CancelToken>) -> Result<Prepared<W>>,
) -> flowmesh_status_t
where
    F: Callback<T>,
    T: Send + 'static,
    W: Work<T>,
{
    // It is ours from here on, whatever comes.
    let user_data = UserData::new(user_data, drop_user_data);
    guard::call(error, || {
        let completion = Completion::new(callback, user_data)?;
        let token = operation.is_some().then(CancelToken::new);
        let Prepared { client, work } = prepare(token.clone())?;
        client.start(work, move |result| completion.complete(result))?;
        give(operation, token);
        Ok(())
    })
}

/// Hands the handle of a call that was accepted to those who want it.
pub(super) fn give(operation: NullableOperation<'_>, token: Option<CancelToken>) {
    if let (Some(out), Some(token)) = (operation, token) {
        handle::give(out, flowmesh_operation_t { token, maker: Process::this() });
    }
}
