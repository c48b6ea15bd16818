//! Bytes and texts between C and Rust.

use std::{
    collections::BTreeMap,
    ffi::{CStr, c_char},
    mem::MaybeUninit,
    ptr, slice,
};

use bytes::{Bytes, BytesMut};
use flowmesh_proto::{requests, wire};

use super::options;
use crate::{
    capi::{
        queue::FLOWMESH_JOB_ID_SIZE,
        stream::flowmesh_event_t,
        view::{flowmesh_header_t, flowmesh_view_t},
    },
    client::{
        Error, Result, Status, TraceContext,
        trace::{self, TRACEPARENT},
    },
};

/// No bytes.
pub const EMPTY: flowmesh_view_t = flowmesh_view_t { data: ptr::null(), len: 0 };

/// A view of `bytes`, good as long as they are.
pub fn of(bytes: &[u8]) -> flowmesh_view_t {
    flowmesh_view_t { data: bytes.as_ptr(), len: bytes.len() }
}

/// The bytes that C lends for the call.
pub fn bytes<'a>(view: flowmesh_view_t, name: &str) -> Result<&'a [u8]> {
    if view.len == 0 {
        return Ok(&[]);
    }
    if view.data.is_null() {
        return Err(Error::invalid(format!("{name} must not have NULL data with a length of {}", view.len)));
    }
    if view.len > isize::MAX as usize {
        return Err(Error::invalid(format!("{name} has a length of {}, more than any object", view.len)));
    }
    // SAFETY: not NULL, and C promises `len` readable bytes for the call; the length was checked.
    Ok(unsafe { slice::from_raw_parts(view.data, view.len) })
}

/// The UTF-8 text of a view.
pub fn utf8<'a>(view: flowmesh_view_t, name: &str) -> Result<&'a str> {
    checked(bytes(view, name)?, name)
}

/// A copy of the bytes of a view.
pub fn copy(view: flowmesh_view_t, name: &str) -> Result<Bytes> {
    bytes(view, name).map(Bytes::copy_from_slice)
}

/// A NUL-terminated UTF-8 text.
pub fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str> {
    if text.is_null() {
        return Err(Error::invalid(format!("{name} must not be NULL")));
    }
    // SAFETY: not NULL, and C promises that it ends in NUL and stays as it is during the call.
    checked(unsafe { CStr::from_ptr(text) }.to_bytes(), name)
}

/// A NUL-terminated UTF-8 text, `None` for NULL.
pub fn nullable_text<'a>(ptr: *const c_char, name: &str) -> Result<Option<&'a str>> {
    if ptr.is_null() { Ok(None) } else { text(ptr, name).map(Some) }
}

/// The three names of a resource.
pub fn path<'a>(
    tenant: *const c_char,
    name_space: *const c_char,
    name: *const c_char,
) -> Result<[&'a str; 3]> {
    Ok([text(tenant, "tenant")?, text(name_space, "namespace")?, text(name, "name")?])
}

fn checked<'a>(bytes: &'a [u8], name: &str) -> Result<&'a str> {
    std::str::from_utf8(bytes)
        .map_err(|e| Error::invalid(format!("{name} must be UTF-8, but is not at byte {}", e.valid_up_to())))
}

/// `count` headers at `headers`.
fn header_slice<'a>(
    headers: *const flowmesh_header_t,
    count: usize,
    name: &str,
) -> Result<&'a [flowmesh_header_t]> {
    if count == 0 {
        return Ok(&[]);
    }
    if headers.is_null() {
        return Err(Error::invalid(format!("{name} must not be NULL with a header_count of {count}")));
    }
    if count > isize::MAX as usize / size_of::<flowmesh_header_t>() {
        return Err(Error::invalid(format!("{name} has a header_count of {count}, more than any array")));
    }
    // SAFETY: not NULL, and C promises `count` headers for the call; the length was checked.
    Ok(unsafe { slice::from_raw_parts(headers, count) })
}

fn header<'a>(header: &flowmesh_header_t, name: &str) -> Result<wire::Header<'a>> {
    let part = |view, of: &str| match bytes(view, of) {
        Ok(bytes) => checked(bytes, of),
        Err(e) => Err(e),
    };
    let key = part(header.key, "key").map_err(|e| within(name, &e))?;
    let value = part(header.value, "value").map_err(|e| within(name, &e))?;
    Ok(wire::Header { key, value })
}

fn within(name: &str, e: &Error) -> Error {
    Error::invalid(format!("{name}: {}", e.message()))
}

/// Headers as a map; of equal keys the last counts.
pub fn headers(
    headers: *const flowmesh_header_t,
    count: usize,
    name: &str,
) -> Result<BTreeMap<String, String>> {
    header_slice(headers, count, name)?
        .iter()
        .map(|h| header(h, name).map(|h| (h.key.to_owned(), h.value.to_owned())))
        .collect()
}

/// Payload and headers of one event, checked and not copied.
pub fn event<'a>(
    event: *const flowmesh_event_t,
) -> Result<(&'a [u8], impl Iterator<Item = wire::Header<'a>> + Clone)> {
    parts(options::read_required(event, "event")?, None)
}

/// Payload and headers. An event that names no trace, neither in its headers nor beside them,
/// belongs to that of the call.
fn parts<'a>(
    event: flowmesh_event_t,
    call: Option<&'a TraceContext>,
) -> Result<(&'a [u8], impl Iterator<Item = wire::Header<'a>> + Clone)> {
    let payload = bytes(event.payload, "payload")?;
    let headers = header_slice(event.headers, event.header_count, "headers")?;
    let mut named = false;
    for h in headers {
        named |= header(h, "headers")?.key == TRACEPARENT;
    }
    let own = options::trace_texts(event.traceparent, event.tracestate)?;
    let trace = match (own, call) {
        _ if named => [None, None],
        (Some((parent, state)), _) => trace::headers(parent, state),
        (None, Some(call)) => call.headers(),
        (None, None) => [None, None],
    };
    let trace = trace.into_iter().flatten().map(|(key, value)| wire::Header { key, value });
    // Each was checked right above, so that none is left out.
    Ok((payload, headers.iter().filter_map(|h| header(h, "").ok()).chain(trace)))
}

/// A write of events to the stream of `path` (see `requests::path`) in wire form. The size of the
/// first event is the stride of the array. An event whose headers name no trace gets those of
/// `trace`.
pub fn write_request(
    path: &[u8],
    events: *const flowmesh_event_t,
    count: usize,
    trace: Option<&TraceContext>,
) -> Result<Bytes> {
    if count == 0 {
        return Err(Error::invalid("count must be at least 1: a write takes at least one event"));
    }
    let stride = options::size_of_required(events, "events")?;
    if count > isize::MAX as usize / stride {
        return Err(Error::invalid(format!("count is {count}, more events than any array")));
    }
    let mut request = BytesMut::new();
    for index in 0..count {
        // SAFETY: C promises `count` events, `stride` bytes apart; the product was checked.
        let event = unsafe { events.byte_add(index * stride) };
        let name = EventName(index);
        // Compared before anything else is read: a size that is wrong may lead out of the array.
        let size = options::size_of_required(event, &name)?;
        if size != stride {
            return Err(Error::invalid(format!(
                "{name}.size is {size}, but that of events[0] is {stride}; all must be the same"
            )));
        }
        let event = options::read_required(event, &name)?;
        let (payload, headers) = parts(event, trace).map_err(|e| within(&name.to_string(), &e))?;
        if payload.is_empty() {
            return Err(Error::invalid(format!("{name}.payload must not be empty")));
        }
        if index == 0 {
            request.reserve(path.len() + count.saturating_mul(payload.len() + 16).min(8 << 20));
            request.extend_from_slice(path);
        }
        requests::put_event(&mut request, payload, headers);
    }
    Ok(request.freeze())
}

/// Names an event of an array in messages; made into text only when there is one.
struct EventName(usize);

impl std::fmt::Display for EventName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "events[{}]", self.0)
    }
}

/// Copies offsets to where C has room for as many as it gave events.
pub fn copy_offsets(offsets: &[i64], out: *mut i64) {
    if !out.is_null() {
        // SAFETY: not NULL, and C promises room for one offset per event.
        unsafe { ptr::copy_nonoverlapping(offsets.as_ptr(), out, offsets.len()) };
    }
}

/// A job id as C keeps it.
pub type JobId = [c_char; FLOWMESH_JOB_ID_SIZE];

/// A job id for C.
pub fn job_id(id: &str) -> Result<JobId> {
    let mut out = [0; FLOWMESH_JOB_ID_SIZE];
    if id.len() >= FLOWMESH_JOB_ID_SIZE || id.contains('\0') {
        return Err(Error::local(
            Status::INTERNAL,
            format!("the server gave a job the id {id:?}; ids have 32 hex digits"),
        ));
    }
    for (to, from) in out.iter_mut().zip(id.bytes()) {
        *to = from as c_char;
    }
    Ok(out)
}

/// Copies a job id to where C has room for FLOWMESH_JOB_ID_SIZE bytes.
pub fn copy_job_id(id: &JobId, out: *mut c_char) {
    if !out.is_null() {
        // SAFETY: not NULL, and C promises room for FLOWMESH_JOB_ID_SIZE bytes.
        unsafe { ptr::copy_nonoverlapping(id.as_ptr(), out, id.len()) };
    }
}

/// Looks `key` up among headers that the library made.
pub fn find_header(
    headers: *const flowmesh_header_t,
    count: usize,
    key: *const c_char,
    value: Option<&mut MaybeUninit<flowmesh_view_t>>,
) -> bool {
    let (Ok(key), Ok(headers), Some(value)) =
        (text(key, "key"), header_slice(headers, count, "headers"), value)
    else {
        return false;
    };
    let found = headers.iter().find(|h| bytes(h.key, "key").is_ok_and(|k| k == key.as_bytes()));
    if let Some(header) = found {
        value.write(header.value);
    }
    found.is_some()
}
