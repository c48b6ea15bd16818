//! The reader that pages through a stream.

use std::{mem::MaybeUninit, sync::Mutex};

use super::{
    boundary::{
        guard,
        handle::{self, Required as _},
        nullable::{NullableCallOptions, NullableError, NullableReadOptions, NullableReaderBox},
        options,
    },
    message::flowmesh_message_batch_t,
    status::flowmesh_status_t,
    stream::flowmesh_stream_t,
};
use crate::client::StreamReader;

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
    reader: Mutex<StreamReader>,
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
        let reader = stream.reader(offset, options.max_messages, options.partition, options.call()?)?;
        handle::give(out, flowmesh_stream_reader_t { reader: Mutex::new(reader) });
        Ok(())
    })
}

/// Reads the next page; an empty batch means that the end is reached for now (also when nobody has
/// written to the stream yet). After a failure the reader stays where it was. Options given here
/// replace those of the reader. Free the batch with flowmesh_message_batch_free. Blocks up to the
/// deadline; any thread. Repeated by the library when the connection fails.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_reader_next(
    reader: Option<&flowmesh_stream_reader_t>,
    options: NullableCallOptions,
    batch: Option<&mut MaybeUninit<*mut flowmesh_message_batch_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let reader = &reader.required("reader")?.reader;
        let out = batch.required("batch")?;
        let call = options::read_optional(options, "options")?;
        let mut reader = reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let messages = guard::block_on(reader.next(call))?;
        handle::give(out, flowmesh_message_batch_t::new(messages)?);
        Ok(())
    })
}

/// Frees a reader. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_stream_reader_free(reader: NullableReaderBox) {
    guard::plain((), || handle::free(reader));
}
