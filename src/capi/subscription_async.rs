//! Subscriptions: the asynchronous forms of their calls.

use std::sync::Arc;

use super::{
    boundary::{
        callback::{MessageCallback, UserData},
        completion::Completion,
        guard,
        handle::Required as _,
        nullable::{
            NullableCallOptions, NullableDrop, NullableError, NullableOperation, NullableSubscriptionOptions,
            NullableUserData,
        },
    },
    operation::{self, Prepared, flowmesh_done_callback_t, flowmesh_subscription_callback_t},
    status::flowmesh_status_t,
    stream::flowmesh_stream_t,
    subscription::{
        Delivering, commit, deliver, flowmesh_message_callback_t, flowmesh_subscription_t, seek, start,
        start_pulled,
    },
};
use crate::client::{CallOptions, CancelToken, Error, Timeout};

/// flowmesh_stream_subscribe as an asynchronous call, see COMPLETIONS: `subscribed` runs once, with
/// the subscription or an error, on the client's dispatcher. Delivery to `callback` begins right
/// before: on a dispatcher with several threads, or on another one, the two may run at the same
/// time. Both get `user_data`, which is released after the last call of either. Does not block;
/// any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_subscribe_async(
    stream: Option<&flowmesh_stream_t>,
    options: NullableSubscriptionOptions<'_>,
    callback: flowmesh_message_callback_t,
    subscribed: flowmesh_subscription_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = Arc::new(UserData::new(user_data, drop_user_data));
    guard::call(error, || {
        let callback = MessageCallback::new(callback, user_data.clone())?;
        let subscribed = subscribed.ok_or_else(|| Error::invalid("subscribed must not be NULL"))?;
        let subscribed = Completion::new(Some(subscribed), user_data)?;
        let stream = &stream.required("stream")?.stream;
        let token = operation.is_some().then(CancelToken::new);
        let call = CallOptions { operation: token.clone(), ..CallOptions::default() };
        let starting = start(stream, options, call)?;
        let how = Delivering::of(options);
        stream.client().start(starting, move |started| {
            subscribed.complete(started.and_then(|subscription| deliver(subscription, callback, how)));
        })?;
        operation::give(operation, token);
        Ok(())
    })
}

/// flowmesh_subscription_open as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_open_async(
    stream: Option<&flowmesh_stream_t>,
    options: NullableSubscriptionOptions<'_>,
    callback: flowmesh_subscription_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| {
        let stream = &stream.required("stream")?.stream;
        let call = CallOptions { operation: token, ..CallOptions::default() };
        Ok(Prepared::new(stream.client().clone(), start_pulled(stream, options, call)?))
    })
}

/// flowmesh_subscription_seek as an asynchronous call, see COMPLETIONS. Does not block; any thread, a
/// callback too.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_seek_async(
    subscription: Option<&flowmesh_subscription_t>,
    offset: i64,
    options: NullableCallOptions,
    callback: flowmesh_done_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| {
        seek(subscription, offset, options, token)
    })
}

/// flowmesh_subscription_commit as an asynchronous call, see COMPLETIONS: what it commits is what was
/// handed out when it is carried out. Does not block; any thread, a callback too.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_commit_async(
    subscription: Option<&flowmesh_subscription_t>,
    options: NullableCallOptions,
    callback: flowmesh_done_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| commit(subscription, options, token))
}

/// flowmesh_subscription_close as an asynchronous call, see COMPLETIONS: the callback runs when the
/// one of the subscription has returned, also where it was called in that. It cannot be cancelled.
/// Does not block; any thread, a callback too.
///
/// FLOWMESH_CLOSED: the client is closed already, and the subscription with it.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_close_async(
    subscription: Option<&flowmesh_subscription_t>,
    timeout_ms: i64,
    callback: flowmesh_done_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    operation::start(callback, (user_data, drop_user_data), None, error, |_| {
        let delivery = Arc::clone(&subscription.required("subscription")?.delivery);
        let timeout = Timeout::of_wait_ms(timeout_ms)?;
        let client = delivery.subscription().stream().client().clone();
        Ok(Prepared::new(client, delivery.close_async(timeout)?))
    })
}
