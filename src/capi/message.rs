//! Messages and batches of them.

use std::{ffi::c_char, mem::MaybeUninit, sync::Arc};

use bytes::Bytes;

use super::{
    boundary::{
        batch::MessageBatch,
        guard,
        handle::{self, Required as _},
        nullable::{NullableError, NullableMessageBatchBox},
        view,
    },
    status::flowmesh_status_t,
    view::{flowmesh_header_t, flowmesh_view_t},
};
use crate::client::Error;

/// Messages in ascending offset and everything in them. Immutable, thread-safe. One that a call
/// gave you is yours to free; one given to a callback is lent for the call, and
/// flowmesh_message_batch_retain keeps it.
pub struct flowmesh_message_batch_t {
    pub(super) batch: Arc<MessageBatch>,
}

/// A message of a stream. Borrowed from its batch; later versions append fields, so never copy it
/// by value or rely on its size.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flowmesh_message_t {
    /// Position in the stream, from 0.
    pub offset: i64,
    /// When it was written, by the server's clock.
    pub created_at_ns: i64,
    /// As written.
    pub payload: flowmesh_view_t,
    /// `header_count` headers; see also flowmesh_message_get_header.
    pub headers: *const flowmesh_header_t,
    /// Number of headers.
    pub header_count: usize,
    /// Id of the message.
    pub id: flowmesh_view_t,
    /// The stream, as "tenant/namespace/stream/name".
    pub resource_path: flowmesh_view_t,
    /// Partition, always 0.
    pub partition: i32,
    /// Version of the schema that the payload was checked against, 0 for none.
    pub schema_version: i32,
}

impl flowmesh_message_batch_t {
    /// A batch over messages in wire form.
    pub(super) fn new(wire: Vec<Bytes>) -> Result<Self, Error> {
        Ok(Self { batch: Arc::new(MessageBatch::parse(wire)?) })
    }
}

/// Number of messages; 0 for NULL. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_message_batch_count(batch: Option<&flowmesh_message_batch_t>) -> usize {
    guard::plain(0, || batch.map_or(0, |b| b.batch.messages().len()))
}

/// Message `index`, counted from 0; NULL when there is none. Borrowed until the batch is freed.
/// Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_message_batch_at(
    batch: Option<&flowmesh_message_batch_t>,
    index: usize,
) -> *const flowmesh_message_t {
    guard::plain(std::ptr::null(), || {
        batch.and_then(|b| b.batch.messages().get(index)).map_or(std::ptr::null(), std::ptr::from_ref)
    })
}

/// Gives you a batch of your own with the same messages, without copying them: for keeping what a
/// callback was lent. Free it with flowmesh_message_batch_free. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_message_batch_retain(
    batch: Option<&flowmesh_message_batch_t>,
    retained: Option<&mut MaybeUninit<*mut flowmesh_message_batch_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let batch = Arc::clone(&batch.required("batch")?.batch);
        handle::give(retained.required("retained")?, flowmesh_message_batch_t { batch });
        Ok(())
    })
}

/// Frees a batch and every view into it. Not for a batch that was lent to a callback. Does not
/// block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_message_batch_free(batch: NullableMessageBatchBox) {
    guard::plain((), || handle::free(batch));
}

/// Looks up the header `key` of `message`: true, and its value in `value`, or false. The value is
/// borrowed from the message. False also for NULL arguments. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_message_get_header(
    message: Option<&flowmesh_message_t>,
    key: *const c_char,
    value: Option<&mut MaybeUninit<flowmesh_view_t>>,
) -> bool {
    guard::plain(false, || message.is_some_and(|m| view::find_header(m.headers, m.header_count, key, value)))
}
