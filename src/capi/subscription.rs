//! Subscriptions: messages delivered to a callback as they are written.

use std::{
    ffi::{c_char, c_void},
    mem::MaybeUninit,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::{
    boundary::{
        callback::{MessageCallback, StateCallback, UserData},
        guard,
        handle::{self, Required as _},
        nullable::{
            NullableCallOptions, NullableCancel, NullableDispatcher, NullableDrop, NullableError,
            NullableErrorRef, NullableSubscriptionBox, NullableSubscriptionOptions,
            NullableSubscriptionOptionsBox, NullableUserData,
        },
        options, view,
    },
    dispatch::{self, Delivery},
    message::flowmesh_message_batch_t,
    operation::{Prepared, Work},
    status::flowmesh_status_t,
    stream::flowmesh_stream_t,
};
use crate::{
    client::{
        CallOptions, CancelToken, Commit, Error, Status, Stream, SubscribeOptions, Subscription,
        SubscriptionState, Timeout, rules,
    },
    runtime::{Dispatcher, deadline_after, lock},
};

/// How to subscribe. Thread-safe; copied when the subscription starts. Setters take the value or
/// refuse it (FLOWMESH_INVALID_ARGUMENT) and leave the old one; they do not block.
pub struct flowmesh_subscription_options_t {
    pub(super) options: Mutex<SubscribeOptions>,
    state: Mutex<Option<StateCallback>>,
    dispatcher: Mutex<Option<Dispatcher>>,
}

/// A stream that is being followed: its messages in offset order, without gap or repeat for as long
/// as the subscription lives. After a lost connection it connects again by itself and goes on
/// behind what it has received. Messages come to a callback (flowmesh_stream_subscribe) or when you
/// ask (flowmesh_subscription_open). Those that have arrived wait in bounded memory; then flow
/// control holds up the server, and nothing is dropped. Thread-safe.
///
/// Memory: at most the batch that is handed out, max_prefetch_bytes and one message, and 4 MiB
/// that the connection holds for each subscription. Idle, it has no thread, no timer and no
/// buffer.
///
/// Commits: nothing is committed unless you commit, or flowmesh_subscription_options_set_commit_mode
/// says so. Every mode commits only what was handled, so a message is delivered at least once: after
/// a crash, those handled since the last commit come again.
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
    pub(super) delivery: Arc<Delivery>,
}

/// Releases `user_data`: called once, after the last call of the callback it came with, on any
/// thread. Also when the call that took it fails.
pub type flowmesh_drop_t = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// Receives messages: at least one, lent for the call. One call at a time, on the subscription's
/// dispatcher; what it calls may block.
pub type flowmesh_message_callback_t =
    Option<unsafe extern "C" fn(batch: *const flowmesh_message_batch_t, user_data: *mut c_void)>;

/// Told when a subscription changes state: one of the FLOWMESH_SUBSCRIPTION constants, and for LOST,
/// COMMIT_FAILED and ENDED the reason, lent for the call (NULL otherwise). Never at the same time as
/// the subscription's message callback, and in order with it. Changes that nobody was told of in
/// time are told once, not once each.
pub type flowmesh_state_callback_t = Option<
    unsafe extern "C" fn(
        state: flowmesh_subscription_state_t,
        reason: NullableErrorRef<'_>,
        user_data: *mut c_void,
    ),
>;

/// State of a subscription.
pub type flowmesh_subscription_state_t = i32;

/// Not yet connected, or not yet again after a seek. Only flowmesh_subscription_get_state gives it.
pub const FLOWMESH_SUBSCRIPTION_CONNECTING: i32 = 0;
/// Connected, or connected again: the server follows the stream.
pub const FLOWMESH_SUBSCRIPTION_CONNECTED: i32 = 1;
/// The connection is lost; the subscription reconnects by itself.
pub const FLOWMESH_SUBSCRIPTION_LOST: i32 = 2;
/// An automatic commit failed, for the reason given: the next one covers it, or the close.
/// flowmesh_subscription_get_state does not give it.
pub const FLOWMESH_SUBSCRIPTION_COMMIT_FAILED: i32 = 4;
/// Over by itself: the server refused it, or its client was closed. The last call. Closing or freeing
/// the subscription is not told.
pub const FLOWMESH_SUBSCRIPTION_ENDED: i32 = 3;

/// Start after the last offset that the consumer group committed; at 0 when there is none.
pub const FLOWMESH_START_COMMITTED: i64 = -1;
/// Start with what is written from now on.
pub const FLOWMESH_START_NEW: i64 = -2;

/// What a subscription with a callback commits by itself.
pub type flowmesh_commit_mode_t = i32;

/// Nothing: the default.
pub const FLOWMESH_COMMIT_MANUAL: i32 = 0;
/// What the callback was given, when it has returned. The commit is sent without waiting for it; at
/// most one is under way, and then only the latest is sent.
pub const FLOWMESH_COMMIT_AFTER_CALLBACK: i32 = 1;
/// As AFTER_CALLBACK, but at most once per interval.
pub const FLOWMESH_COMMIT_PERIODIC: i32 = 2;

/// Makes options with every default; free them with flowmesh_subscription_options_free. Does not
/// block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_options_new(
    options: Option<&mut MaybeUninit<*mut flowmesh_subscription_options_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let made = flowmesh_subscription_options_t {
            options: Mutex::new(defaults()),
            state: Mutex::default(),
            dispatcher: Mutex::default(),
        };
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

/// The group that FLOWMESH_START_COMMITTED and commits mean. Default "default". 1 to 255
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
        rules::group("consumer_group", group)?;
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

/// The partition, from 0 on. Default 0, where all events are.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_options_set_partition(
    options: Option<&flowmesh_subscription_options_t>,
    partition: i32,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        rules::partition(partition)?;
        change(options, |o| o.partition = partition)
    })
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
        rules::between("max_messages", max_messages, 1, usize::MAX)?;
        change(options, |o| o.batch_messages = max_messages)
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
        rules::between("max_bytes", max_bytes, 1, usize::MAX)?;
        change(options, |o| o.batch_bytes = max_bytes)
    })
}

/// From so many bytes on that have arrived and wait for a callback or a
/// flowmesh_subscription_next, no more are taken from the connection. Each message counts 32 bytes
/// besides its own. Default 4 MiB; at least 1. With an embedded engine, it is one batch that waits.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_options_set_max_prefetch_bytes(
    options: Option<&flowmesh_subscription_options_t>,
    max_bytes: usize,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        rules::between("max_bytes", max_bytes, 1, usize::MAX)?;
        change(options, |o| o.max_prefetch_bytes = max_bytes)
    })
}

/// What is committed by itself, for the consumer group: one of the FLOWMESH_COMMIT constants.
/// `interval_ms` is at least 1 for FLOWMESH_COMMIT_PERIODIC and 0 for the others.
/// flowmesh_subscription_close sends and awaits the last commit; without a close it is sent at the
/// free but not awaited, and closing the client first loses it.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_options_set_commit_mode(
    options: Option<&flowmesh_subscription_options_t>,
    mode: flowmesh_commit_mode_t,
    interval_ms: i64,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let commit = match mode {
            FLOWMESH_COMMIT_PERIODIC => Commit::Periodic(positive_ms(interval_ms, "interval_ms")?),
            _ if interval_ms != 0 => {
                return Err(Error::invalid(format!(
                    "interval_ms must be 0 unless mode is FLOWMESH_COMMIT_PERIODIC, got {interval_ms}"
                )));
            }
            FLOWMESH_COMMIT_MANUAL => Commit::Manual,
            FLOWMESH_COMMIT_AFTER_CALLBACK => Commit::AfterCallback,
            _ => {
                return Err(Error::invalid(format!("mode must be a FLOWMESH_COMMIT constant, got {mode}")));
            }
        };
        change(options, |o| o.commit = commit)
    })
}

/// How long to wait before connecting again. The first attempt is made at once, the second after up
/// to `first_ms`; the bound doubles with each, up to `longest_ms`, and the wait is random up to the
/// bound. The next message begins it anew. Default 100 and 10000; at least 1, and `longest_ms` not
/// below `first_ms`.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_options_set_backoff(
    options: Option<&flowmesh_subscription_options_t>,
    first_ms: i64,
    longest_ms: i64,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let first = positive_ms(first_ms, "first_ms")?;
        let longest = positive_ms(longest_ms, "longest_ms")?;
        if longest < first {
            return Err(Error::invalid(format!(
                "longest_ms must not be below first_ms, got {longest_ms} and {first_ms}"
            )));
        }
        change(options, |o| (o.first_backoff, o.longest_backoff) = (first, longest))
    })
}

/// What runs the subscription's callbacks; NULL, the default, is its client's dispatcher. The
/// dispatcher may be freed at once, see flowmesh_dispatcher_free.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_options_set_dispatcher(
    options: Option<&flowmesh_subscription_options_t>,
    dispatcher: NullableDispatcher<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        *lock(&options.required("options")?.dispatcher) = dispatcher.map(|d| d.dispatcher.clone());
        Ok(())
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

fn positive_ms(value: i64, name: &str) -> Result<Duration, Error> {
    rules::position(name, value, 1)?;
    Ok(Duration::from_millis(value.unsigned_abs()))
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
        let callback = MessageCallback::new(callback, user_data.into())?;
        let stream = &stream.required("stream")?.stream;
        let out = subscription.required("subscription")?;
        let starting = start(stream, options, CallOptions::default())?;
        let subscription = stream.client().block_on(starting)?;
        handle::give(out, deliver(subscription, callback, Delivering::of(options))?);
        Ok(())
    })
}

/// The subscription, when its position is fixed.
pub(super) fn start(
    stream: &Stream,
    options: NullableSubscriptionOptions<'_>,
    call: CallOptions,
) -> Result<impl Work<Subscription>, Error> {
    let chosen = options.map_or_else(defaults, |o| lock(&o.options).clone());
    let subscription = stream.subscribe(chosen)?;
    Ok(async move {
        subscription.fix_position(&call).await?;
        Ok(subscription)
    })
}

/// How a subscription with a callback is delivered.
pub(super) struct Delivering {
    state: Option<StateCallback>,
    dispatcher: Option<Dispatcher>,
}

impl Delivering {
    /// As the options say. They give up their state callback.
    pub fn of(options: NullableSubscriptionOptions<'_>) -> Self {
        Self {
            state: options.and_then(|o| lock(&o.state).take()),
            dispatcher: options.and_then(|o| lock(&o.dispatcher).clone()),
        }
    }
}

/// A subscription that is delivered to `callback`.
pub(super) fn deliver(
    subscription: Subscription,
    callback: MessageCallback,
    how: Delivering,
) -> Result<flowmesh_subscription_t, Error> {
    let delivery = dispatch::deliver(subscription, callback, how.state, how.dispatcher.as_ref())?;
    Ok(flowmesh_subscription_t { delivery: Arc::new(delivery) })
}

/// Starts following without a callback: flowmesh_subscription_next gives the messages. As
/// flowmesh_stream_subscribe in everything else. `options` must hold neither a state callback
/// (flowmesh_subscription_get_state tells) nor a commit mode other than FLOWMESH_COMMIT_MANUAL.
/// Blocks up to the client's default deadline; any thread. Free it with
/// flowmesh_subscription_free.
///
/// There is no descriptor to watch for it: an event loop is better served by a callback and a
/// dispatcher that it runs.
///
///     status = flowmesh_subscription_open(stream, NULL, &sub, &error);
///     while (status == FLOWMESH_OK && running) {
///         status = flowmesh_subscription_next(sub, 1000, NULL, &batch, &error);
///         if (status == FLOWMESH_OK && batch != NULL) {
///             handle(batch);
///             flowmesh_message_batch_free(batch);
///             status = flowmesh_subscription_commit(sub, NULL, &error);
///         }
///     }
///     flowmesh_subscription_free(sub);
///
/// FLOWMESH_UNAVAILABLE, FLOWMESH_DEADLINE_EXCEEDED: the position could not be asked for.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_open(
    stream: Option<&flowmesh_stream_t>,
    options: NullableSubscriptionOptions<'_>,
    subscription: Option<&mut MaybeUninit<*mut flowmesh_subscription_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let stream = &stream.required("stream")?.stream;
        let out = subscription.required("subscription")?;
        let starting = start_pulled(stream, options, CallOptions::default())?;
        handle::give(out, stream.client().block_on(starting)?);
        Ok(())
    })
}

/// A subscription without a callback, when its position is fixed.
pub(super) fn start_pulled(
    stream: &Stream,
    options: NullableSubscriptionOptions<'_>,
    call: CallOptions,
) -> Result<impl Work<flowmesh_subscription_t>, Error> {
    if let Some(options) = options {
        if lock(&options.state).is_some() {
            return Err(Error::invalid("options must not hold a state callback: nothing calls back"));
        }
        if lock(&options.options).commit != Commit::Manual {
            return Err(Error::invalid(
                "options must not hold a commit mode: commit with flowmesh_subscription_commit",
            ));
        }
    }
    let starting = start(stream, options, call)?;
    Ok(async move { Ok(flowmesh_subscription_t { delivery: Arc::new(Delivery::pulled(starting.await?)) }) })
}

/// Gives the next messages: what has arrived, up to the limits of the options. Blocks until there is
/// one, for at most `timeout_ms` (0 does not wait, -1 for ever) and as long as `cancel`, if not NULL, is
/// not cancelled; *batch is NULL when the time was up, which is no failure. Several threads may call it:
/// each batch goes to one of them, in the order in which they asked. Nothing comes while the
/// subscription is paused. Free the batch with flowmesh_message_batch_free. Any thread.
///
/// FLOWMESH_CANCELLED: by `cancel`; the subscription goes on, and nothing is lost.
/// FLOWMESH_CLOSED: the subscription was closed, or its client.
/// FLOWMESH_FAILED_PRECONDITION: the subscription has a callback.
/// Others: the server refused it. The subscription is over, and every call says so.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_next(
    subscription: Option<&flowmesh_subscription_t>,
    timeout_ms: i64,
    cancel: NullableCancel<'_>,
    batch: Option<&mut MaybeUninit<*mut flowmesh_message_batch_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let delivery = &subscription.required("subscription")?.delivery;
        let out = batch.required("batch")?;
        let deadline = deadline_after(Timeout::of_wait_ms(timeout_ms)?);
        if delivery.calls_back() {
            return Err(Error::local(
                Status::FAILED_PRECONDITION,
                "subscription delivers to a callback: there is no next",
            ));
        }
        let subscription = delivery.subscription();
        let mut wire = Vec::new();
        let cancel = cancel.map(|c| c.token.clone());
        let time = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let taken = subscription.next_within(&mut wire, time, cancel);
        if subscription.stream().client().wait(taken)?.is_none() {
            out.write(std::ptr::null_mut());
            return Ok(());
        }
        let messages = flowmesh_message_batch_t::new(wire).inspect_err(|e| subscription.end(e.clone()))?;
        handle::give(out, messages);
        Ok(())
    })
}

/// Holds back what arrives: after this no callback starts and flowmesh_subscription_next gives
/// nothing, until flowmesh_subscription_resume. Nothing is lost: messages wait as far as
/// max_prefetch_bytes allows, then the server is held up. A callback that is running goes on to its
/// end. Closing the client is told all the same. Does not block; any thread, a callback too.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_pause(
    subscription: Option<&flowmesh_subscription_t>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || subscription.required("subscription")?.delivery.subscription().pause())
}

/// Ends a pause. Does not block; any thread, a callback too.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_resume(
    subscription: Option<&flowmesh_subscription_t>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || subscription.required("subscription")?.delivery.subscription().resume())
}

/// Goes on at `offset`: one from 0 on, FLOWMESH_START_COMMITTED or FLOWMESH_START_NEW, which mean
/// what is committed or written now. After FLOWMESH_OK no message from before the seek comes any
/// more: it waits until a callback that is running has returned, unless it is called inside it. A
/// flowmesh_subscription_next that another thread is in may still return one. A commit that
/// was due by itself and not yet sent is dropped; what was handled before the seek may so come
/// again elsewhere. Blocks up to the deadline; any thread, a callback too.
///
/// FLOWMESH_DEADLINE_EXCEEDED with the outcome "applied": done, but a callback was still running.
/// Others: the position could not be asked for, or the subscription is over. It goes on, if it
/// does, where it was.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_seek(
    subscription: Option<&flowmesh_subscription_t>,
    offset: i64,
    options: NullableCallOptions,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || seek(subscription, offset, options, None)?.wait())
}

/// The offset of the next message that will be handed out. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_get_position(
    subscription: Option<&flowmesh_subscription_t>,
    offset: Option<&mut MaybeUninit<i64>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let subscription = subscription.required("subscription")?.delivery.subscription();
        let out = offset.required("offset")?;
        subscription.stream().client().check_process()?;
        let position = subscription.position();
        out.write(position.ok_or_else(|| Error::defect(&"a subscription without a position"))?);
        Ok(())
    })
}

/// How the subscription stands with the server: CONNECTING, CONNECTED, LOST or ENDED. For the last
/// two `reason`, if not NULL, receives an error object that says why, to be freed with
/// flowmesh_error_free; otherwise NULL. This is ahead of what was told or handed out: messages may
/// still wait. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_get_state(
    subscription: Option<&flowmesh_subscription_t>,
    state: Option<&mut MaybeUninit<flowmesh_subscription_state_t>>,
    reason: NullableError<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let subscription = subscription.required("subscription")?.delivery.subscription();
        let out = state.required("state")?;
        subscription.stream().client().check_process()?;
        let (state, why) = subscription.state();
        out.write(match state {
            SubscriptionState::Connecting => FLOWMESH_SUBSCRIPTION_CONNECTING,
            SubscriptionState::Connected => FLOWMESH_SUBSCRIPTION_CONNECTED,
            SubscriptionState::Lost => FLOWMESH_SUBSCRIPTION_LOST,
            SubscriptionState::Ended => FLOWMESH_SUBSCRIPTION_ENDED,
        });
        match (reason, why) {
            (Some(reason), Some(why)) => handle::give(reason, why.into()),
            (Some(reason), None) => {
                reason.write(std::ptr::null_mut());
            }
            (None, _) => {}
        }
        Ok(())
    })
}

/// Commits, for the consumer group, everything that was handed out since the start or the last
/// seek: call it when that is handled. In a callback this includes the batch that it has. Where
/// several threads handle messages, commit what you know to be handled with
/// flowmesh_stream_commit_offset instead. Does nothing when nothing was handed out. Blocks up to the
/// deadline; any thread, a callback too. Repeated by the library when the connection fails.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_subscription_commit(
    subscription: Option<&flowmesh_subscription_t>,
    options: NullableCallOptions,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || commit(subscription, options, None)?.wait())
}

/// Ends the subscription: no callback starts any more, and flowmesh_subscription_next gives
/// FLOWMESH_CLOSED. Blocks for at most `timeout_ms` (0 does not wait, -1 for ever) until the callback
/// that runs has returned and the last automatic commit is confirmed; inside a callback of this
/// subscription it returns at once, and the commit follows. After FLOWMESH_OK no callback runs and
/// user_data has been released (inside a callback: when that returns). Messages received but not
/// handed out are read again by whoever subscribes next. A second close is fine, and tries a commit
/// that failed once more. Any thread.
///
/// FLOWMESH_DEADLINE_EXCEEDED: a callback still runs, and user_data is released when it returns; or
/// the last automatic commit is not confirmed.
/// Others: the last automatic commit failed; what it was for may come again.
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

// The operations, for both forms of each call.

pub(super) fn seek(
    subscription: Option<&flowmesh_subscription_t>,
    offset: i64,
    options: NullableCallOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<()>>, Error> {
    let subscription = subscription.required("subscription")?.delivery.subscription().clone();
    let call = CallOptions { operation: token, ..options::read(options, "options")?.call()? };
    // In the child of a fork its locks may be held for ever.
    subscription.stream().client().check_process()?;
    let (client, inside) = (subscription.stream().client().clone(), subscription.calls_here());
    Ok(Prepared::new(client, async move { subscription.seek(offset, inside, &call).await }))
}

pub(super) fn commit(
    subscription: Option<&flowmesh_subscription_t>,
    options: NullableCallOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<()>>, Error> {
    let subscription = subscription.required("subscription")?.delivery.subscription().clone();
    let call = CallOptions { operation: token, ..options::read(options, "options")?.call()? };
    let client = subscription.stream().client().clone();
    Ok(Prepared::new(client, async move { subscription.commit(&call).await }))
}
