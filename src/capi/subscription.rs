//! Subscriptions: messages delivered to a callback as they are written.

use std::{
    ffi::{c_char, c_void},
    mem::MaybeUninit,
    sync::Mutex,
};

use super::{
    boundary::{
        callback::{MessageCallback, StateCallback, UserData},
        guard,
        handle::{self, Required as _},
        nullable::{
            NullableDrop, NullableError, NullableErrorRef, NullableSubscriptionBox,
            NullableSubscriptionOptions, NullableSubscriptionOptionsBox, NullableUserData,
        },
        view,
    },
    dispatch::{self, Delivery},
    message::flowmesh_message_batch_t,
    status::flowmesh_status_t,
    stream::flowmesh_stream_t,
};
use crate::{
    client::{Error, SubscribeOptions, Timeout},
    runtime::lock,
};

/// How to subscribe. Thread-safe; copied when the subscription starts. Setters take the value or
/// refuse it (FLOWMESH_INVALID_ARGUMENT) and leave the old one; they do not block.
pub struct flowmesh_subscription_options_t {
    pub(super) options: Mutex<SubscribeOptions>,
    state: Mutex<Option<StateCallback>>,
}

/// Messages of a stream delivered to a callback, in offset order, without gap or repeat for as
/// long as the subscription lives: after a lost connection it goes on by itself behind the last
/// message delivered. Messages wait in bounded memory while the callback runs; then the server is
/// held up by flow control, and nothing is dropped. Nothing is committed by itself. Thread-safe.
///
///     static void on_messages(const flowmesh_message_batch_t *batch, void *user_data)
///     {
///         size_t count = flowmesh_message_batch_count(batch);
///         for (size_t i = 0; i < count; i++) {
///             handle(flowmesh_message_batch_at(batch, i), user_data);
///         }
///     }
///
///     status = flowmesh_stream_subscribe(stream, NULL, on_messages, state, NULL, &sub, &error);
///     ...
///     flowmesh_subscription_close(sub, -1, NULL); // after this, no callback runs
///     flowmesh_subscription_free(sub);
pub struct flowmesh_subscription_t {
    pub(super) delivery: Delivery,
}

/// Releases `user_data`: called once, after the last call of the callback it came with, on any
/// thread. Also when the call that took it fails.
pub type flowmesh_drop_t = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// Receives messages: at least one, lent for the call. One call at a time, on a thread of the
/// library; what it calls may block.
pub type flowmesh_message_callback_t =
    Option<unsafe extern "C" fn(batch: *const flowmesh_message_batch_t, user_data: *mut c_void)>;

/// Told when a subscription changes state: one of the FLOWMESH_SUBSCRIPTION constants, and for LOST
/// and ENDED the reason, lent for the call (NULL otherwise). Never at the same time as the
/// subscription's message callback, and in order with it.
pub type flowmesh_state_callback_t = Option<
    unsafe extern "C" fn(
        state: flowmesh_subscription_state_t,
        reason: NullableErrorRef<'_>,
        user_data: *mut c_void,
    ),
>;

/// State of a subscription.
pub type flowmesh_subscription_state_t = i32;

/// Connected, or connected again: from here on nothing written is missed.
pub const FLOWMESH_SUBSCRIPTION_CONNECTED: i32 = 1;
/// The connection is lost; the subscription reconnects by itself.
pub const FLOWMESH_SUBSCRIPTION_LOST: i32 = 2;
/// Over by itself: the server refused it, or its client was closed. The last call. Closing or freeing
/// the subscription is not told.
pub const FLOWMESH_SUBSCRIPTION_ENDED: i32 = 3;

/// Start after the last offset that the consumer group committed; at 0 when there is none.
pub const FLOWMESH_START_COMMITTED: i64 = -1;
/// Start with what is written from now on.
pub const FLOWMESH_START_NEW: i64 = -2;

/// Makes options with every default; free them with flowmesh_subscription_options_free. Does not
/// block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_options_new(
    options: Option<&mut MaybeUninit<*mut flowmesh_subscription_options_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let made =
            flowmesh_subscription_options_t { options: Mutex::new(defaults()), state: Mutex::new(None) };
        handle::give(options.required("options")?, made);
        Ok(())
    })
}

/// Frees options. A state callback that no subscription took is dropped. Does not block; any
/// thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_options_free(options: NullableSubscriptionOptionsBox) {
    guard::plain((), || handle::free(options));
}

/// The group whose committed offset FLOWMESH_START_COMMITTED means. Default "default". 1 to 255
/// bytes, no control characters.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_options_set_consumer_group(
    options: Option<&flowmesh_subscription_options_t>,
    consumer_group: *const c_char,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let group = view::text(consumer_group, "consumer_group")?;
        change(options, |o| group.clone_into(&mut o.consumer_group))
    })
}

/// Where to start: an offset from 0 on, FLOWMESH_START_COMMITTED (the default) or
/// FLOWMESH_START_NEW.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_options_set_start_offset(
    options: Option<&flowmesh_subscription_options_t>,
    start_offset: i64,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        if start_offset < FLOWMESH_START_NEW {
            return Err(Error::invalid(format!(
                "start_offset must be an offset, FLOWMESH_START_COMMITTED or FLOWMESH_START_NEW, got {start_offset}"
            )));
        }
        change(options, |o| o.start_offset = start_offset)
    })
}

/// The partition. Default 0, where all events are.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_options_set_partition(
    options: Option<&flowmesh_subscription_options_t>,
    partition: i32,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || change(options, |o| o.partition = partition))
}

/// At most so many messages in one call of the callback. Default 1024; at least 1.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_options_set_max_batch_messages(
    options: Option<&flowmesh_subscription_options_t>,
    max_messages: usize,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let max = at_least_1(max_messages, "max_messages")?;
        change(options, |o| o.batch_messages = max)
    })
}

/// A call of the callback gets no more messages when those it has reach so many bytes. Default 256
/// KiB; at least 1.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_options_set_max_batch_bytes(
    options: Option<&flowmesh_subscription_options_t>,
    max_bytes: usize,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let max = at_least_1(max_bytes, "max_bytes")?;
        change(options, |o| o.batch_bytes = max)
    })
}

/// Has `callback` told of changes of state, by the next subscription that starts with these
/// options; setting it again drops the one before. `drop_user_data` releases `user_data` once,
/// after the last call, also when this call fails.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_options_set_state_callback(
    options: Option<&flowmesh_subscription_options_t>,
    callback: flowmesh_state_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = UserData::new(user_data, drop_user_data);
    guard::call(error, || {
        let callback = StateCallback::new(callback, user_data)?;
        let replaced = lock(&options.required("options")?.state).replace(callback);
        // Releases its user data with no lock held.
        drop(replaced);
        Ok(())
    })
}

/// As a client without wishes has it: a group is only needed for its commit.
fn defaults() -> SubscribeOptions {
    SubscribeOptions {
        consumer_group: "default".to_owned(),
        start_offset: FLOWMESH_START_COMMITTED,
        ..SubscribeOptions::default()
    }
}

fn at_least_1(value: usize, name: &str) -> Result<usize, Error> {
    if value == 0 {
        return Err(Error::invalid(format!("{name} must be at least 1, got 0")));
    }
    Ok(value)
}

fn change(
    options: Option<&flowmesh_subscription_options_t>,
    set: impl FnOnce(&mut SubscribeOptions),
) -> Result<(), Error> {
    set(&mut lock(&options.required("options")?.options));
    Ok(())
}

/// Starts delivering messages to `callback`. It returns when the position is fixed: -1 and -2 have
/// become an offset, so that nothing written after the call is missed. A stream that does not
/// exist is created. `drop_user_data` releases `user_data` once, after the last callback, also when
/// this call fails. Close the subscription with flowmesh_subscription_close, free it with
/// flowmesh_subscription_free. Blocks up to the client's default deadline; any thread.
///
/// FLOWMESH_UNAVAILABLE, FLOWMESH_DEADLINE_EXCEEDED: the position could not be asked for.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_subscribe(
    stream: Option<&flowmesh_stream_t>,
    options: NullableSubscriptionOptions<'_>,
    callback: flowmesh_message_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    subscription: Option<&mut MaybeUninit<*mut flowmesh_subscription_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = UserData::new(user_data, drop_user_data);
    guard::call(error, || {
        let callback = MessageCallback::new(callback, user_data)?;
        let stream = &stream.required("stream")?.stream;
        let out = subscription.required("subscription")?;
        let chosen = options.map_or_else(defaults, |o| lock(&o.options).clone());
        let mut messages = stream.subscribe(chosen)?;
        let client = stream.client().clone();
        let messages = client.block_on(async move {
            messages.fix_position().await?;
            Ok(messages)
        })?;
        let state = options.and_then(|o| lock(&o.state).take());
        let delivery = dispatch::deliver(messages, callback, state)?;
        handle::give(out, flowmesh_subscription_t { delivery });
        Ok(())
    })
}

/// Ends the subscription: no callback starts any more. Blocks for at most `timeout_ms` (0 does not
/// wait, -1 for ever) until the one that runs has returned; inside a callback of this subscription
/// it returns at once. After FLOWMESH_OK none runs and user_data has been released (inside a
/// callback: when that returns). Messages received but not delivered are read again by whoever
/// subscribes next. A second close is fine. Any thread.
///
/// FLOWMESH_DEADLINE_EXCEEDED: a callback still runs; user_data is released when it returns.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_close(
    subscription: Option<&flowmesh_subscription_t>,
    timeout_ms: i64,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let delivery = &subscription.required("subscription")?.delivery;
        delivery.close(Timeout::of_wait_ms(timeout_ms)?)
    })
}

/// Ends the subscription as flowmesh_subscription_close with timeout 0 does, and frees the handle. A
/// callback that is running goes on to its end; none starts after this returns. Does not block;
/// any thread, a callback's too.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_free(subscription: NullableSubscriptionBox) {
    guard::plain((), || handle::free(subscription));
}
