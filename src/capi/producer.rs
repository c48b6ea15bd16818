//! Producers: messages accepted at once, gathered, sent, and reported.

use std::{
    ffi::{c_char, c_void},
    mem::MaybeUninit,
    sync::Mutex,
    time::Duration,
};

use super::{
    boundary::{
        callback::UserData,
        guard,
        handle::{self, Required as _},
        nullable::{
            NullableDispatcher, NullableDrop, NullableError, NullableOperation, NullableProducerBox,
            NullableProducerOptions, NullableProducerOptionsBox, NullableSize, NullableUserData,
        },
        reports::{MessageData, ProducerCallbacks, ReportBatch, ReportCallback, WritableCallback},
        view,
    },
    error::{flowmesh_error_t, flowmesh_outcome_t},
    operation::{self, Prepared, flowmesh_count_callback_t, flowmesh_done_callback_t},
    queue::flowmesh_queue_t,
    status::flowmesh_status_t,
    stream::{flowmesh_event_t, flowmesh_stream_t},
};
use crate::{
    client::{Acked, CallOptions, Error, NewMessage, Producer, ProducerOptions, Target, Timeout},
    runtime::{Dispatcher, lock},
};

/// How to produce. Thread-safe; copied when the producer is opened, and the callbacks go to the
/// first producer opened with it. Setters take the value or refuse it
/// (FLOWMESH_INVALID_ARGUMENT) and leave the old one; they do not block.
pub struct flowmesh_producer_options_t {
    options: Mutex<ProducerOptions>,
    callbacks: Mutex<ProducerCallbacks>,
    dispatcher: Mutex<Option<Dispatcher>>,
}

/// Sends messages to one stream or queue without waiting for each: flowmesh_producer_send accepts
/// a message, and a delivery report says what became of it. While one request is under way, what
/// is sent meanwhile gathers into the next one; an idle producer sends at once. Thread-safe.
///
///     static void on_reports(const flowmesh_report_batch_t *reports, void *user_data)
///     {
///         for (size_t i = 0; i < flowmesh_report_batch_count(reports); i++) {
///             const flowmesh_report_t *r = flowmesh_report_batch_at(reports, i);
///             if (r->status != FLOWMESH_OK) {
///                 failed(user_data, r->message_data, flowmesh_error_message(r->error));
///             }
///         }
///     }
///
///     status = flowmesh_producer_options_new(&options, &error);
///     status = flowmesh_producer_options_set_report_callback(options, on_reports, app, NULL, &error);
///     status = flowmesh_stream_producer_open(stream, options, &producer, &error);
///     while (next_order(&event.payload)) {
///         status = flowmesh_producer_send(producer, &event, order, -1, &error);
///     }
///     status = flowmesh_producer_close(producer, 10000, &unsent, &error);
///     flowmesh_producer_free(producer);
///
/// Reports. Exactly one for every message accepted, whatever happens to connection, client, process
/// (but for a crash) or the producer itself; one callback at a time, in the order of the sends, many
/// reports in one call.
///
/// Order. A stream gets the messages of one producer in the order in which they were sent (from
/// one thread, or one after the other), over every repeat: one request is on the way at a time. Only
/// one that was given up with its outcome unknown may still be on its way, and be stored behind what
/// was sent after it; set stop_on_error where that must not be. Jobs are sent in the order of the
/// sends, but up to max_in_flight at once, and those that are on the way together are stored in any
/// order; with a max_in_flight of 1, `seq` rises in the order of the sends, with the same exception.
///
/// Failures. What happens when a request fails:
///   certainly not stored, may pass later (no connection, FLOWMESH_RESOURCE_EXHAUSTED): sent again,
///     with growing pauses, until the delivery timeout; then reported, not applied.
///   perhaps stored (connection lost, or no answer, after it was sent): reported, with the outcome
///     unknown. With retry_unknown it is sent again, which can store the whole request twice: all
///     messages that were in it.
///   refused for what is in it (FLOWMESH_INVALID_ARGUMENT): halved and sent again, until only those
///     messages are reported that the server refuses; others are stored in their order.
///   refused for good (no permission, ...): reported, not applied. The next ones are still sent,
///     unless stop_on_error is set.
pub struct flowmesh_producer_t {
    producer: Producer<MessageData>,
}

/// Reports in the order of the sends: at least one. Lent to a callback for the call.
#[derive(Default)]
pub struct flowmesh_report_batch_t {
    pub(super) batch: ReportBatch,
}

/// What became of one message. Borrowed from its batch; later versions append fields, so never
/// copy it by value or rely on its size.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flowmesh_report_t {
    /// As given to flowmesh_producer_send.
    pub message_data: *mut c_void,
    /// FLOWMESH_OK: it is stored.
    pub status: flowmesh_status_t,
    /// Whether it is stored; after a failure too.
    pub outcome: flowmesh_outcome_t,
    /// Its offset in the stream, or its number (seq) in the queue; -1 after a failure.
    pub position: i64,
    /// Id of the job, ends in NUL; NULL from a stream and after a failure.
    pub job_id: *const c_char,
    /// Why it failed; NULL when it did not.
    pub error: *const flowmesh_error_t,
    /// How often it was tried.
    pub attempts: i32,
}

/// Receives reports, lent for the call. One call at a time, on the producer's dispatcher; what it
/// calls may block.
pub type flowmesh_report_callback_t =
    Option<unsafe extern "C" fn(reports: *const flowmesh_report_batch_t, user_data: *mut c_void)>;

/// Told, after a send was refused with FLOWMESH_QUEUE_FULL, that at least half of the buffer is free
/// again, or that the producer has ended: once for all refusals before it. Never at the same time
/// as the producer's report callback.
pub type flowmesh_writable_callback_t = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// Makes options with every default; free them with flowmesh_producer_options_free. Does not block;
/// any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_producer_options_new(
    options: Option<&mut MaybeUninit<*mut flowmesh_producer_options_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let made = flowmesh_producer_options_t {
            options: Mutex::default(),
            callbacks: Mutex::default(),
            dispatcher: Mutex::default(),
        };
        handle::give(options.required("options")?, made);
        Ok(())
    })
}

/// Frees options. Callbacks that no producer took are dropped. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_producer_options_free(options: NullableProducerOptionsBox) {
    guard::plain((), || handle::free(options));
}

/// At most so many messages wait for their outcome. Default 100000; at least 1. When as many
/// reports wait for their callback, nothing more is sent until they are delivered.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_producer_options_set_max_buffered_messages(
    options: Option<&flowmesh_producer_options_t>,
    max_messages: usize,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || change(options, |o| o.max_buffered_messages = max_messages))
}

/// At most so many bytes of messages wait for their outcome; one that is larger is accepted when
/// nothing else waits. Default 64 MiB; at least 1.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_producer_options_set_max_buffered_bytes(
    options: Option<&flowmesh_producer_options_t>,
    max_bytes: usize,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || change(options, |o| o.max_buffered_bytes = max_bytes))
}

/// Streams: at most so many messages in one request. Default 10000; at least 1.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_producer_options_set_max_batch_messages(
    options: Option<&flowmesh_producer_options_t>,
    max_messages: usize,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || change(options, |o| o.max_batch_messages = max_messages))
}

/// Streams: at most so many bytes in one request; a single message may have more, up to 4 MiB.
/// Default 1 MiB; 1 to 64 MiB. More than 4 MiB is only for servers that are set up to allow it.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_producer_options_set_max_batch_bytes(
    options: Option<&flowmesh_producer_options_t>,
    max_bytes: usize,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || change(options, |o| o.max_batch_bytes = max_bytes))
}

/// Queues: at most so many jobs on the way at once. Default 64; 1 to 200. With 1 they are stored in
/// the order of the sends.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_producer_options_set_max_in_flight(
    options: Option<&flowmesh_producer_options_t>,
    max_in_flight: usize,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || change(options, |o| o.max_in_flight = max_in_flight))
}

/// How long the producer tries to deliver a message, from when it was accepted. Default 120000; -1
/// for ever; 0 is refused. One attempt takes at most the client's default deadline.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_producer_options_set_delivery_timeout_ms(
    options: Option<&flowmesh_producer_options_t>,
    timeout_ms: i64,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let timeout = match timeout_ms {
            -1 => None,
            1.. => Some(Duration::from_millis(timeout_ms.unsigned_abs())),
            _ => {
                return Err(Error::invalid(format!(
                    "timeout_ms must be -1 (for ever) or at least 1, got {timeout_ms}"
                )));
            }
        };
        change(options, |o| o.delivery_timeout = timeout)
    })
}

/// Whether a request that may have been stored is sent again. Default false: its messages are
/// reported with FLOWMESH_OUTCOME_UNKNOWN. True means at least once: they can be stored twice.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_producer_options_set_retry_unknown(
    options: Option<&flowmesh_producer_options_t>,
    retry_unknown: bool,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || change(options, |o| o.retry_unknown = retry_unknown))
}

/// Whether the first message that fails ends the producer, so that nothing is stored behind a
/// gap. Then what has not been sent is reported as not applied, with FLOWMESH_ABORTED, and so are
/// later sends refused. Jobs that are on the way together with the failed one may still be stored.
/// Default false.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_producer_options_set_stop_on_error(
    options: Option<&flowmesh_producer_options_t>,
    stop_on_error: bool,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || change(options, |o| o.stop_on_error = stop_on_error))
}

/// Has `callback` receive the delivery reports of the next producer opened with these options;
/// setting it again drops the one before. `drop_user_data` releases `user_data` once, after the
/// last call, also when this call fails. Without a callback, flowmesh_producer_flush and _close
/// tell that messages failed.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_producer_options_set_report_callback(
    options: Option<&flowmesh_producer_options_t>,
    callback: flowmesh_report_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = UserData::new(user_data, drop_user_data);
    guard::call(error, || {
        let callback = ReportCallback::new(callback, user_data)?;
        let replaced = lock(&options.required("options")?.callbacks).report.replace(callback);
        // Releases its user data with no lock held.
        drop(replaced);
        Ok(())
    })
}

/// Has `callback` told when there is room again after FLOWMESH_QUEUE_FULL, for the next producer
/// opened with these options; as flowmesh_producer_options_set_report_callback otherwise.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_producer_options_set_writable_callback(
    options: Option<&flowmesh_producer_options_t>,
    callback: flowmesh_writable_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = UserData::new(user_data, drop_user_data);
    guard::call(error, || {
        let callback = WritableCallback::new(callback, user_data)?;
        let replaced = lock(&options.required("options")?.callbacks).writable.replace(callback);
        // Releases its user data with no lock held.
        drop(replaced);
        Ok(())
    })
}

/// What runs the producer's callbacks; NULL, the default, is its client's dispatcher. The dispatcher
/// may be freed at once, see flowmesh_dispatcher_free.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_producer_options_set_dispatcher(
    options: Option<&flowmesh_producer_options_t>,
    dispatcher: NullableDispatcher<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        *lock(&options.required("options")?.dispatcher) = dispatcher.map(|d| d.dispatcher.clone());
        Ok(())
    })
}

fn change(
    options: Option<&flowmesh_producer_options_t>,
    set: impl FnOnce(&mut ProducerOptions),
) -> Result<(), Error> {
    let mut options = lock(&options.required("options")?.options);
    let mut changed = options.clone();
    set(&mut changed);
    changed.check()?;
    *options = changed;
    Ok(())
}

/// Opens a producer as the options say; NULL means the defaults.
fn open(target: Target, options: NullableProducerOptions<'_>) -> Result<flowmesh_producer_t, Error> {
    let producer = match options {
        None => Producer::open(target, ProducerOptions::default(), None, None)?,
        Some(o) => {
            let (options, dispatcher) = (lock(&o.options).clone(), lock(&o.dispatcher).clone());
            let callbacks = std::mem::take(&mut *lock(&o.callbacks));
            Producer::open(target, options, callbacks.into_events(), dispatcher.as_ref())?
        }
    };
    Ok(flowmesh_producer_t { producer })
}

/// Opens a producer of events for `stream`, which it keeps alive. Does no I/O and does not block;
/// any thread. Close it with flowmesh_producer_close, free it with flowmesh_producer_free.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_producer_open(
    stream: Option<&flowmesh_stream_t>,
    options: NullableProducerOptions<'_>,
    producer: Option<&mut MaybeUninit<*mut flowmesh_producer_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let stream = &stream.required("stream")?.stream;
        let out = producer.required("producer")?;
        handle::give(out, open(Target::Stream(stream.clone()), options)?);
        Ok(())
    })
}

/// Opens a producer of jobs for `queue`; as flowmesh_stream_producer_open otherwise. Does not block;
/// any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_queue_producer_open(
    queue: Option<&flowmesh_queue_t>,
    options: NullableProducerOptions<'_>,
    producer: Option<&mut MaybeUninit<*mut flowmesh_producer_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let queue = &queue.required("queue")?.queue;
        let out = producer.required("producer")?;
        handle::give(out, open(Target::Queue(queue.clone()), options)?);
        Ok(())
    })
}

/// Accepts an event, or a job with payload and headers of `event`. It is copied before the call
/// returns; `message_data` comes back in its report, untouched. When the buffer is full, blocks for
/// at most `timeout_ms` (0 does not wait, -1 for ever) until there is room; closing the producer
/// from another thread ends the wait. After FLOWMESH_OK exactly one report follows, after anything
/// else none. It makes no callbacks: the thread that alone runs the producer's dispatcher must not wait
/// here without limit, as there may be no room before it has run reports. Any thread, a callback's too.
///
/// FLOWMESH_QUEUE_FULL: no room within the time; the writable callback tells when there is. A thread
/// of the producer's dispatcher gets it at once when all that is missing is that reports are
/// delivered there. FLOWMESH_INVALID_ARGUMENT: an empty payload, a header that is not UTF-8, or more
/// than fits into a request. FLOWMESH_CLOSED: the producer or its client was closed.
/// FLOWMESH_ABORTED: see flowmesh_producer_options_set_stop_on_error.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_producer_send(
    producer: Option<&flowmesh_producer_t>,
    event: *const flowmesh_event_t,
    message_data: NullableUserData,
    timeout_ms: i64,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || send(producer, event, 0, message_data, timeout_ms))
}

/// As flowmesh_producer_send, of a job that is due after `delay_ms`, at most a year. Queues only. Blocks
/// for at most `timeout_ms` while the buffer is full; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_producer_send_delayed(
    producer: Option<&flowmesh_producer_t>,
    event: *const flowmesh_event_t,
    delay_ms: i64,
    message_data: NullableUserData,
    timeout_ms: i64,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || send(producer, event, delay_ms, message_data, timeout_ms))
}

fn send(
    producer: Option<&flowmesh_producer_t>,
    event: *const flowmesh_event_t,
    delay_ms: i64,
    message_data: *mut c_void,
    timeout_ms: i64,
) -> Result<(), Error> {
    let producer = &producer.required("producer")?.producer;
    let (payload, headers) = view::event(event)?;
    let wait = Timeout::of_wait_ms(timeout_ms)?;
    producer.send(&NewMessage { payload, headers, delay_ms }, MessageData::new(message_data), wait)
}

/// Waits until every message accepted before has been reported and the callback has returned.
/// Blocks for at most `timeout_ms` (0 does not wait, -1 for ever); any thread, also of the
/// producer's dispatcher: what would have to run there is run inside this call, and so are the
/// callbacks of a dispatcher that the application runs itself.
///
/// FLOWMESH_DEADLINE_EXCEEDED: not everything was reported in time; it still will be.
/// FLOWMESH_FAILED_PRECONDITION: inside a callback of this producer, which would wait for itself.
/// FLOWMESH_ABORTED: without a report callback, messages failed since the last flush.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_producer_flush(
    producer: Option<&flowmesh_producer_t>,
    timeout_ms: i64,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || producer.required("producer")?.producer.flush(Timeout::of_wait_ms(timeout_ms)?))
}

/// flowmesh_producer_flush as an asynchronous call, see COMPLETIONS; the completion comes on the
/// client's dispatcher. Does not block; any thread, a callback of the producer too.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_producer_flush_async(
    producer: Option<&flowmesh_producer_t>,
    timeout_ms: i64,
    callback: flowmesh_done_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    operation::start(callback, (user_data, drop_user_data), operation, error, |token| {
        let producer = &producer.required("producer")?.producer;
        producer.client().inner().check()?;
        let options = CallOptions { operation: token, ..CallOptions::default() };
        let flush = producer.flush_async(Timeout::of_wait_ms(timeout_ms)?, options);
        Ok(Prepared::new(producer.client().clone(), flush))
    })
}

/// Accepts no more messages, sends what was accepted, and ends. Blocks for at most `timeout_ms` (0
/// does not wait, -1 for ever). At the timeout the producer gives up what has no outcome yet: those
/// messages are reported with FLOWMESH_CLOSED, not applied, or with an unknown outcome when they
/// were on the way. `unsent`, if not NULL, says how many those are; it is set in every case but bad
/// arguments and a forked process. After FLOWMESH_OK every report has been delivered, no callback
/// runs and user_data has been released. Inside a callback of this producer it returns at once:
/// with a `timeout_ms` of 0 the producer gives up, otherwise it goes on to its end by itself. A
/// second close is fine. Any thread; callbacks run as with flowmesh_producer_flush.
///
/// FLOWMESH_DEADLINE_EXCEEDED: reports are still to come, those of messages given up at once; close
/// again to wait for them. FLOWMESH_ABORTED: as with flowmesh_producer_flush.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_producer_close(
    producer: Option<&flowmesh_producer_t>,
    timeout_ms: i64,
    unsent: NullableSize<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let producer = &producer.required("producer")?.producer;
        let (given_up, closed) = producer.close(Timeout::of_wait_ms(timeout_ms)?);
        if let Some(unsent) = unsent {
            unsent.write(given_up);
        }
        closed
    })
}

/// flowmesh_producer_close as an asynchronous call, see COMPLETIONS: `count` of the callback is how
/// many messages were given up. It comes on the client's dispatcher. Cancelling ends the wait only.
/// Does not block; any thread, a callback of the producer too.
///
/// FLOWMESH_CLOSED: the client is closed already; use flowmesh_producer_close.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_producer_close_async(
    producer: Option<&flowmesh_producer_t>,
    timeout_ms: i64,
    callback: flowmesh_count_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    operation::start(callback, (user_data, drop_user_data), operation, error, |token| {
        let producer = &producer.required("producer")?.producer;
        producer.client().inner().check()?;
        let options = CallOptions { operation: token, ..CallOptions::default() };
        let close = producer.close_async(Timeout::of_wait_ms(timeout_ms)?, options);
        Ok(Prepared::new(producer.client().clone(), async move {
            let (count, closed) = close.await;
            Ok(Acked { count, error: closed.err() })
        }))
    })
}

/// Ends the producer as flowmesh_producer_close with timeout 0 does, and frees the handle. Messages
/// without an outcome are given up, and reported on the dispatcher. Does not block; any thread, a
/// callback's too.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_producer_free(producer: NullableProducerBox) {
    guard::plain((), || handle::free(producer));
}

/// Number of reports; 0 for NULL. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_report_batch_count(reports: Option<&flowmesh_report_batch_t>) -> usize {
    guard::plain(0, || reports.map_or(0, |r| r.batch.reports().len()))
}

/// Report `index`, counted from 0; NULL when there is none. Borrowed from the batch. Does not block;
/// any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_report_batch_at(
    reports: Option<&flowmesh_report_batch_t>,
    index: usize,
) -> *const flowmesh_report_t {
    guard::plain(std::ptr::null(), || {
        reports.and_then(|r| r.batch.reports().get(index)).map_or(std::ptr::null(), std::ptr::from_ref)
    })
}
