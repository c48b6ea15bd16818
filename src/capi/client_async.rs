//! Clients: the asynchronous forms of their calls.

use super::{
    boundary::{
        callback::UserData,
        completion::Completion,
        guard,
        handle::Required as _,
        nullable::{NullableCallOptions, NullableDrop, NullableError, NullableOperation, NullableUserData},
    },
    client::{connect, flowmesh_client_t, health_check, readiness_check},
    operation::{self, flowmesh_bool_callback_t, flowmesh_done_callback_t},
    status::flowmesh_status_t,
};
use crate::client::{CancelToken, Timeout};

/// flowmesh_client_connect as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_connect_async(
    client: Option<&flowmesh_client_t>,
    timeout_ms: i64,
    callback: flowmesh_done_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| connect(client, timeout_ms, token))
}

/// Begins to close the client as flowmesh_client_close does: calls after this one return
/// FLOWMESH_CLOSED. The callback runs when nothing of the client is left to run, as its last one, or
/// when `timeout_ms` is over (0 does not wait, -1 for ever; FLOWMESH_DEADLINE_EXCEEDED). Cancelling the
/// operation ends the wait only. See COMPLETIONS. Does not block; any thread.
///
/// FLOWMESH_CLOSED: flowmesh_shutdown has closed the client already.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_close_async(
    client: Option<&flowmesh_client_t>,
    timeout_ms: i64,
    callback: flowmesh_done_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = UserData::new(user_data, drop_user_data);
    guard::call(error, || {
        let completion = Completion::new(callback, user_data)?;
        let client = &client.required("client")?.client;
        let timeout = Timeout::of_wait_ms(timeout_ms)?;
        let token = operation.is_some().then(CancelToken::new);
        client.start_close(timeout, token.clone(), move |result| completion.complete(result))?;
        operation::give(operation, token);
        Ok(())
    })
}

/// flowmesh_client_health_check as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_health_check_async(
    client: Option<&flowmesh_client_t>,
    options: NullableCallOptions,
    callback: flowmesh_done_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| health_check(client, options, token))
}

/// flowmesh_client_readiness_check as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_readiness_check_async(
    client: Option<&flowmesh_client_t>,
    options: NullableCallOptions,
    callback: flowmesh_bool_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| readiness_check(client, options, token))
}
