//! The reader that pages through a stream.

use std::mem::MaybeUninit;

use super::{
    boundary::{
        guard,
        handle::{self, Required as _},
        nullable::{
            NullableCallOptions, NullableDrop, NullableError, NullableOperation, NullableReadOptions,
            NullableReaderBox, NullableUserData,
        },
        options,
    },
    message::flowmesh_message_batch_t,
    operation::{self, Prepared, Work, flowmesh_batch_callback_t},
    status::flowmesh_status_t,
    stream::flowmesh_stream_t,
};
use crate::client::{CallOptions, CancelToken, Reader, Result};

/// Pages through a stream, remembering where it is. Thread-safe: each page goes to one caller. It
/// keeps the stream alive.
///
///     flowmesh_stream_reader_t *reader = NULL;
///     status = flowmesh_stream_reader_open(stream, 0, NULL, &reader, &error);
///     for (size_t n = 1; status == FLOWMESH_OK && n > 0;) {
///         status = flowmesh_stream_reader_next(reader, NULL, &batch, &error);
///         if (status == FLOWMESH_OK) {
///             n = flowmesh_message_batch_count(batch); // 0: at the end for now
///             handle(batch);
///             flowmesh_message_batch_free(batch);
///         }
///     }
///     flowmesh_stream_reader_free(reader);
pub struct flowmesh_stream_reader_t {
    reader: Reader,
    /// For calls without options of their own.
    call: CallOptions,
}

/// Makes a reader that starts at `offset` (at least 0); options->max_messages is its page size.
/// Does no I/O and does not block; any thread. Free it with flowmesh_stream_reader_free.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_reader_open(
    stream: Option<&flowmesh_stream_t>,
    offset: i64,
    options: NullableReadOptions,
    reader: Option<&mut MaybeUninit<*mut flowmesh_stream_reader_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let stream = &stream.required("stream")?.stream;
        let out = reader.required("reader")?;
        let options = options::read(options, "options")?;
        let reader = stream.reader(options.partition, offset, options.max_messages)?;
        handle::give(out, flowmesh_stream_reader_t { reader, call: options.call()? });
        Ok(())
    })
}

/// Reads the next page; an empty batch means that the end is reached for now. After a failure the
/// reader stays where it was. Options given here replace those of the reader. Free the batch with
/// flowmesh_message_batch_free. Blocks up to the deadline; any thread. Repeated by the library when the connection fails.
///
/// FLOWMESH_NOT_FOUND: nobody has written to the stream yet.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_reader_next(
    reader: Option<&flowmesh_stream_reader_t>,
    options: NullableCallOptions,
    batch: Option<&mut MaybeUninit<*mut flowmesh_message_batch_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let out = batch.required("batch")?;
        handle::give(out, next(reader, options, None)?.wait()?);
        Ok(())
    })
}

/// flowmesh_stream_reader_next as an asynchronous call, see COMPLETIONS. Several at once get pages that follow
/// each other, but their callbacks may overtake. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_reader_next_async(
    reader: Option<&flowmesh_stream_reader_t>,
    options: NullableCallOptions,
    callback: flowmesh_batch_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = (user_data, drop_user_data);
    operation::start(callback, user_data, operation, error, |token| next(reader, options, token))
}

/// Frees a reader. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_reader_free(reader: NullableReaderBox) {
    guard::plain((), || handle::free(reader));
}

/// The operation, for both forms of the call.
fn next(
    reader: Option<&flowmesh_stream_reader_t>,
    options: NullableCallOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<flowmesh_message_batch_t>>> {
    let own = reader.required("reader")?;
    let call =
        if options.is_null() { own.call.clone() } else { options::read(options, "options")?.call()? };
    let (reader, call) = (own.reader.clone(), CallOptions { operation: token, ..call });
    Ok(Prepared::new(reader.stream().client().clone(), async move {
        flowmesh_message_batch_t::new(reader.next_page(&call).await?)
    }))
}
