//! Streams: the asynchronous forms of their calls.

use std::ffi::c_char;

use super::{
    boundary::nullable::{
        NullableDrop, NullableError, NullableOffsetOptions, NullableOperation, NullableReadOptions,
        NullableUserData, NullableWriteOptions,
    },
    operation::{
        self, flowmesh_batch_callback_t, flowmesh_done_callback_t, flowmesh_group_state_callback_t,
        flowmesh_offset_callback_t, flowmesh_offsets_callback_t,
    },
    status::flowmesh_status_t,
    stream::{
        commit_offset, flowmesh_event_t, flowmesh_stream_t, get_offset, group_state, latest_offset, read,
        write,
    },
};

/// flowmesh_stream_write as an asynchronous call, see COMPLETIONS; the events are copied before it returns. Calls may
/// overtake each other: for order, write the next batch when the one before has ended, or use a
/// producer. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_write_async(
    stream: Option<&flowmesh_stream_t>,
    events: *const flowmesh_event_t,
    count: usize,
    options: NullableWriteOptions,
    callback: flowmesh_offsets_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| {
        write(stream, events, count, options, token)
    })
}

/// flowmesh_stream_read as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_read_async(
    stream: Option<&flowmesh_stream_t>,
    offset: i64,
    options: NullableReadOptions,
    callback: flowmesh_batch_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| read(stream, offset, options, token))
}

/// flowmesh_stream_commit_offset as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_commit_offset_async(
    stream: Option<&flowmesh_stream_t>,
    consumer_group: *const c_char,
    offset: i64,
    options: NullableOffsetOptions,
    callback: flowmesh_done_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| {
        commit_offset(stream, consumer_group, offset, options, token)
    })
}

/// flowmesh_stream_get_offset as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_get_offset_async(
    stream: Option<&flowmesh_stream_t>,
    consumer_group: *const c_char,
    options: NullableOffsetOptions,
    callback: flowmesh_offset_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| {
        get_offset(stream, consumer_group, options, token)
    })
}

/// flowmesh_stream_latest_offset as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_latest_offset_async(
    stream: Option<&flowmesh_stream_t>,
    options: NullableOffsetOptions,
    callback: flowmesh_offset_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| latest_offset(stream, options, token))
}

/// flowmesh_stream_group_state as an asynchronous call, see COMPLETIONS. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_group_state_async(
    stream: Option<&flowmesh_stream_t>,
    consumer_group: *const c_char,
    options: NullableOffsetOptions,
    callback: flowmesh_group_state_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| {
        group_state(stream, consumer_group, options, token)
    })
}
