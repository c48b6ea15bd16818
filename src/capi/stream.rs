//! Streams: writing, reading, consumer groups.

use std::{ffi::c_char, mem::MaybeUninit, sync::Arc};

use super::{
    boundary::{
        guard,
        handle::{self, Required as _},
        nullable::{
            NullableError, NullableOffsetOptions, NullableOffsets, NullableReadOptions, NullableStreamBox,
            NullableWriteOptions,
        },
        options, view,
    },
    cancel::flowmesh_cancel_t,
    client::flowmesh_client_t,
    message::flowmesh_message_batch_t,
    operation::{Prepared, Work},
    status::flowmesh_status_t,
    view::{flowmesh_header_t, flowmesh_view_t},
};
use crate::client::{CallOptions, CancelToken, Result, Stream};

/// A stream: an ordered, durable log. Thread-safe. It keeps its client alive.
///
///     flowmesh_stream_t *orders = NULL;
///     flowmesh_message_batch_t *batch = NULL;
///     status = flowmesh_stream_open(client, "acme", "shop", "orders", &orders, &error);
///     if (status == FLOWMESH_OK) {
///         status = flowmesh_stream_read(orders, 0, NULL, &batch, &error);
///     }
///     for (size_t i = 0; i < flowmesh_message_batch_count(batch); i++) {
///         const flowmesh_message_t *m = flowmesh_message_batch_at(batch, i);
///         printf("%lld: " FLOWMESH_VIEW_FMT "\n", (long long)m->offset,
///                FLOWMESH_VIEW_ARG(m->payload));
///     }
///     flowmesh_message_batch_free(batch);
///     flowmesh_stream_free(orders);
pub struct flowmesh_stream_t {
    pub(super) stream: Arc<Stream>,
}

/// An event to write. Start from FLOWMESH_EVENT_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flowmesh_event_t {
    /// sizeof(flowmesh_event_t); the same in every event of an array.
    pub size: usize,
    /// At least 1 byte.
    pub payload: flowmesh_view_t,
    /// `header_count` headers; may be NULL when there are none.
    pub headers: *const flowmesh_header_t,
    /// Number of headers.
    pub header_count: usize,
    /// Trace that the event, or the job of a producer, belongs to: a W3C `traceparent`; NULL for that
    /// of the call, if there is one. A header of that name counts more.
    pub traceparent: *const c_char,
    /// Its `tracestate`; NULL for none.
    pub tracestate: *const c_char,
}

/// Options of flowmesh_stream_write. Start from FLOWMESH_WRITE_OPTIONS_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flowmesh_write_options_t {
    /// sizeof(flowmesh_write_options_t).
    pub size: usize,
    /// Deadline of the call: 0 is the client's default, -1 none.
    pub timeout_ms: i64,
    /// Ends the call from another thread; NULL for none.
    pub cancel: *const flowmesh_cancel_t,
    /// Trace that the call belongs to, a W3C `traceparent`; NULL for none.
    pub traceparent: *const c_char,
    /// Its `tracestate`; NULL for none.
    pub tracestate: *const c_char,
}

/// Options of flowmesh_stream_read and flowmesh_stream_reader_open. Start from
/// FLOWMESH_READ_OPTIONS_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flowmesh_read_options_t {
    /// sizeof(flowmesh_read_options_t).
    pub size: usize,
    /// Deadline of each call: 0 is the client's default, -1 none.
    pub timeout_ms: i64,
    /// Ends the call from another thread; NULL for none.
    pub cancel: *const flowmesh_cancel_t,
    /// Trace that the call belongs to, a W3C `traceparent`; NULL for none.
    pub traceparent: *const c_char,
    /// Its `tracestate`; NULL for none.
    pub tracestate: *const c_char,
    /// At most so many messages, 1 to 1000 (above counts as 1000); 0 is 100.
    pub max_messages: i32,
    /// Partition, from 0 on; all events are in 0.
    pub partition: i32,
}

/// Options of calls about offsets. Start from FLOWMESH_OFFSET_OPTIONS_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flowmesh_offset_options_t {
    /// sizeof(flowmesh_offset_options_t).
    pub size: usize,
    /// Deadline of the call: 0 is the client's default, -1 none.
    pub timeout_ms: i64,
    /// Ends the call from another thread; NULL for none.
    pub cancel: *const flowmesh_cancel_t,
    /// Trace that the call belongs to, a W3C `traceparent`; NULL for none.
    pub traceparent: *const c_char,
    /// Its `tracestate`; NULL for none.
    pub tracestate: *const c_char,
    /// Partition; all events are in 0.
    pub partition: i32,
}

/// Where a consumer group stands. Start from FLOWMESH_GROUP_STATE_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flowmesh_group_state_t {
    /// sizeof(flowmesh_group_state_t).
    pub size: usize,
    /// Last offset that the group committed, -1 when none.
    pub committed_offset: i64,
    /// Last offset written, -1 when the stream is empty.
    pub latest_offset: i64,
    /// Messages that the group has still to process, -1 when the stream is empty.
    pub lag: i64,
}

/// Names a stream. Does no I/O and does not block; any thread. The first write or subscription
/// creates the stream. Free the handle with flowmesh_stream_free.
///
/// FLOWMESH_INVALID_ARGUMENT: a name breaks the rules of the overview.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_open(
    client: Option<&flowmesh_client_t>,
    tenant: *const c_char,
    name_space: *const c_char,
    name: *const c_char,
    stream: Option<&mut MaybeUninit<*mut flowmesh_stream_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let client = &client.required("client")?.client;
        let [tenant, name_space, name] = view::path(tenant, name_space, name)?;
        let out = stream.required("stream")?;
        let stream = Arc::new(client.stream(tenant, name_space, name)?);
        handle::give(out, flowmesh_stream_t { stream });
        Ok(())
    })
}

/// Frees the handle; its readers, batches and subscriptions live on. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_free(stream: NullableStreamBox) {
    guard::plain((), || handle::free(stream));
}

/// Appends `count` events as one batch: all of them or none, at consecutive offsets. They are
/// copied before the call returns. `offsets`, if not NULL, has room for `count` and receives the
/// offset of each. Blocks until the batch is stored, up to the deadline; any thread. Never
/// repeated by the library: after a failure with FLOWMESH_OUTCOME_UNKNOWN the batch may be stored,
/// and writing it again may store it twice.
///
/// FLOWMESH_INVALID_ARGUMENT: no event, an empty payload, a header that is not UTF-8.
/// FLOWMESH_RESOURCE_EXHAUSTED: the batch is larger than the server allows (4 MiB), or its storage
/// is full.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_write(
    stream: Option<&flowmesh_stream_t>,
    events: *const flowmesh_event_t,
    count: usize,
    options: NullableWriteOptions,
    offsets: NullableOffsets,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let written = write(stream, events, count, options, None)?.wait()?;
        view::copy_offsets(&written, offsets);
        Ok(())
    })
}

/// Reads messages from `offset` (at least 0) on, in order: up to options->max_messages, fewer where
/// the reply would pass 4 MiB, none past the end. Never waits for new ones. The batch belongs to
/// the caller: flowmesh_message_batch_free. Blocks up to the deadline; any thread. Repeated by
/// the library when the connection fails.
///
/// FLOWMESH_NOT_FOUND: nobody has written to the stream yet.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_read(
    stream: Option<&flowmesh_stream_t>,
    offset: i64,
    options: NullableReadOptions,
    batch: Option<&mut MaybeUninit<*mut flowmesh_message_batch_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let out = batch.required("batch")?;
        handle::give(out, read(stream, offset, options, None)?.wait()?);
        Ok(())
    })
}

/// Records `offset` as the last one that `consumer_group` has processed; -1 forgets. Any value
/// from -1 on is taken, also backwards. Blocks until it is stored, up to the deadline; any
/// thread. Repeated by the library when the connection fails.
///
/// FLOWMESH_INVALID_ARGUMENT: offset below -1, bad group name. FLOWMESH_NOT_FOUND: no such stream.
/// FLOWMESH_RESOURCE_EXHAUSTED: a new group, and the tenant has as many as the server allows or the
/// storage is full.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_commit_offset(
    stream: Option<&flowmesh_stream_t>,
    consumer_group: *const c_char,
    offset: i64,
    options: NullableOffsetOptions,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || commit_offset(stream, consumer_group, offset, options, None)?.wait())
}

/// Asks for the last offset that `consumer_group` committed, -1 when none. Blocks up to the
/// deadline; any thread. Repeated by the library when the connection fails.
///
/// FLOWMESH_NOT_FOUND: no such stream.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_get_offset(
    stream: Option<&flowmesh_stream_t>,
    consumer_group: *const c_char,
    options: NullableOffsetOptions,
    offset: Option<&mut MaybeUninit<i64>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let out = offset.required("offset")?;
        out.write(get_offset(stream, consumer_group, options, None)?.wait()?);
        Ok(())
    })
}

/// Asks for the last offset written, -1 when the stream is empty. Blocks up to the deadline; any
/// thread. Repeated by the library when the connection fails.
///
/// FLOWMESH_NOT_FOUND: no such stream.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_latest_offset(
    stream: Option<&flowmesh_stream_t>,
    options: NullableOffsetOptions,
    offset: Option<&mut MaybeUninit<i64>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let out = offset.required("offset")?;
        out.write(latest_offset(stream, options, None)?.wait()?);
        Ok(())
    })
}

/// Asks where `consumer_group` stands. `state->size` must be set (FLOWMESH_GROUP_STATE_INIT).
/// Blocks up to the deadline; any thread. Repeated by the library when the connection fails.
///
/// FLOWMESH_NOT_FOUND: no such stream.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_group_state(
    stream: Option<&flowmesh_stream_t>,
    consumer_group: *const c_char,
    options: NullableOffsetOptions,
    state: *mut flowmesh_group_state_t,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let out = options::Out::new(state, "state")?;
        out.write(group_state(stream, consumer_group, options, None)?.wait()?);
        Ok(())
    })
}

// The operations, for both forms of each call.

pub(super) fn write(
    stream: Option<&flowmesh_stream_t>,
    events: *const flowmesh_event_t,
    count: usize,
    options: NullableWriteOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<Vec<i64>>>> {
    let stream = Arc::clone(&stream.required("stream")?.stream);
    let call = CallOptions { operation: token, ..options::read(options, "options")?.call()? };
    let request = view::write_request(stream.encoded_path(), events, count, call.trace.as_ref())?;
    Ok(Prepared::new(
        stream.client().clone(),
        async move { stream.write_encoded(request, count, &call).await },
    ))
}

pub(super) fn read(
    stream: Option<&flowmesh_stream_t>,
    offset: i64,
    options: NullableReadOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<flowmesh_message_batch_t>>> {
    let stream = Arc::clone(&stream.required("stream")?.stream);
    let options = options::read(options, "options")?;
    let call = CallOptions { operation: token, ..options.call()? };
    let (partition, max_messages) = (options.partition, options.max_messages);
    Ok(Prepared::new(stream.client().clone(), async move {
        flowmesh_message_batch_t::new(stream.read(partition, offset, max_messages, &call).await?)
    }))
}

pub(super) fn commit_offset(
    stream: Option<&flowmesh_stream_t>,
    consumer_group: *const c_char,
    offset: i64,
    options: NullableOffsetOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<()>>> {
    let stream = Arc::clone(&stream.required("stream")?.stream);
    let group = view::text(consumer_group, "consumer_group")?.to_owned();
    let (call, partition) = about_offsets(options, token)?;
    Ok(Prepared::new(stream.client().clone(), async move {
        stream.commit_offset(&group, partition, offset, &call).await
    }))
}

pub(super) fn get_offset(
    stream: Option<&flowmesh_stream_t>,
    consumer_group: *const c_char,
    options: NullableOffsetOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<i64>>> {
    let stream = Arc::clone(&stream.required("stream")?.stream);
    let group = view::text(consumer_group, "consumer_group")?.to_owned();
    let (call, partition) = about_offsets(options, token)?;
    Ok(Prepared::new(stream.client().clone(), async move { stream.offset(&group, partition, &call).await }))
}

pub(super) fn latest_offset(
    stream: Option<&flowmesh_stream_t>,
    options: NullableOffsetOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<i64>>> {
    let stream = Arc::clone(&stream.required("stream")?.stream);
    let (call, partition) = about_offsets(options, token)?;
    Ok(Prepared::new(stream.client().clone(), async move { stream.latest_offset(partition, &call).await }))
}

pub(super) fn group_state(
    stream: Option<&flowmesh_stream_t>,
    consumer_group: *const c_char,
    options: NullableOffsetOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<flowmesh_group_state_t>>> {
    let stream = Arc::clone(&stream.required("stream")?.stream);
    let group = view::text(consumer_group, "consumer_group")?.to_owned();
    let (call, partition) = about_offsets(options, token)?;
    Ok(Prepared::new(stream.client().clone(), async move {
        let state = stream.group_state(&group, partition, &call).await?;
        Ok(flowmesh_group_state_t {
            size: size_of::<flowmesh_group_state_t>(),
            committed_offset: state.committed_offset,
            latest_offset: state.latest_offset,
            lag: state.lag,
        })
    }))
}

fn about_offsets(options: NullableOffsetOptions, token: Option<CancelToken>) -> Result<(CallOptions, i32)> {
    let options = options::read(options, "options")?;
    Ok((CallOptions { operation: token, ..options.call()? }, options.partition))
}
