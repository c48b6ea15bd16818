//! Structs that start with their size.
//!
//! Callers built against an older header pass shorter structs, against a newer one longer ones. A
//! struct shorter than in the first release was never initialised; a longer one is fine as long
//! as what this library does not know is zero.

use std::{ffi::c_char, fmt::Display, mem::MaybeUninit, ptr, slice};

use super::view;
use crate::{
    capi::{
        cancel::flowmesh_cancel_t,
        client::flowmesh_call_options_t,
        kv::flowmesh_set_options_t,
        queue::{
            flowmesh_enqueue_options_t, flowmesh_nack_options_t, flowmesh_queue_stats_t,
            flowmesh_reserve_options_t,
        },
        retry_policy::flowmesh_retry_policy_t,
        statistics::flowmesh_client_stats_t,
        stream::{
            flowmesh_event_t, flowmesh_group_state_t, flowmesh_offset_options_t, flowmesh_read_options_t,
            flowmesh_write_options_t,
        },
    },
    client::{CallOptions, Error, Result, Timeout, TraceContext, trace},
};

/// A `#[repr(C)]` struct whose first field is `size: usize`.
///
/// # Safety
/// The size must be the first field, and all zero bits a valid value.
pub unsafe trait SizePrefixed: Copy {
    /// Its name in C.
    const NAME: &'static str;
    /// Its size in the first release, tail padding included: a field appended later begins
    /// behind it. Fixed for ever.
    const FIRST: usize;
}

macro_rules! size_prefixed {
    ($($name:ident = $first:literal)+) => {
        $(
            const _: () = assert!(size_of::<$name>() >= $first && std::mem::offset_of!($name, size) == 0);

            // SAFETY: `size` comes first (checked above); every field is a number or a raw pointer.
            unsafe impl SizePrefixed for $name {
                const NAME: &'static str = stringify!($name);
                const FIRST: usize = $first;
            }
        )+
    };
}

#[cfg(not(target_pointer_width = "64"))]
compile_error!("the sizes of the first release are those of 64-bit systems");

size_prefixed! {
    flowmesh_call_options_t = 40
    flowmesh_write_options_t = 40
    flowmesh_read_options_t = 48
    flowmesh_offset_options_t = 48
    flowmesh_enqueue_options_t = 64
    flowmesh_reserve_options_t = 56
    flowmesh_nack_options_t = 48
    flowmesh_set_options_t = 48
    flowmesh_event_t = 56
    flowmesh_group_state_t = 32
    flowmesh_queue_stats_t = 56
    flowmesh_client_stats_t = 176
    flowmesh_retry_policy_t = 40
}

/// Reads optional options; NULL is all zero, which is every default.
pub fn read<T: SizePrefixed>(options: *const T, name: &str) -> Result<T> {
    if options.is_null() {
        // SAFETY: all zero bits are a valid value (trait contract).
        return Ok(unsafe { MaybeUninit::zeroed().assume_init() });
    }
    read_required(options, name)
}

/// Reads a struct that must be there.
pub fn read_required<T: SizePrefixed>(from: *const T, name: impl Display) -> Result<T> {
    let size = size_of_required(from, &name)?;
    let known = size.min(size_of::<T>());
    // SAFETY: C promises `size` readable bytes at `from`, and `known` is no more.
    let unknown = unsafe { slice::from_raw_parts(from.cast::<u8>().add(known), size - known) };
    if let Some(at) = unknown.iter().position(|&byte| byte != 0) {
        return Err(Error::invalid(format!(
            "{name} sets byte {} of a {}, but this version of the library knows only {} bytes of it",
            known + at,
            T::NAME,
            size_of::<T>()
        )));
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: both sides have `known` bytes and do not overlap; all bit patterns of numbers and raw
    // pointers are valid, and what was not copied is zero.
    unsafe {
        ptr::copy_nonoverlapping(from.cast::<u8>(), value.as_mut_ptr().cast::<u8>(), known);
        Ok(value.assume_init())
    }
}

/// The size that a struct says it has.
pub fn size_of_required<T: SizePrefixed>(from: *const T, name: impl Display) -> Result<usize> {
    if from.is_null() {
        return Err(Error::invalid(format!("{name} must not be NULL")));
    }
    if !from.is_aligned() {
        return Err(Error::invalid(format!("{name} must be aligned as a {}", T::NAME)));
    }
    // SAFETY: not NULL, aligned, and its first field is the size (trait contract).
    let size = unsafe { from.cast::<usize>().read() };
    // More than a page is no struct but memory that nobody initialised: do not walk through it.
    if !(T::FIRST..=4096).contains(&size) {
        return Err(Error::invalid(format!(
            "{name} has a size field of {size}: set it to sizeof({0}) = {1}, best by its _INIT macro",
            T::NAME,
            size_of::<T>()
        )));
    }
    Ok(size)
}

/// Where C wants a struct written.
pub struct Out<T> {
    to: *mut T,
    size: usize,
}

impl<T: SizePrefixed> Out<T> {
    /// Checks what C says about the place.
    pub fn new(to: *mut T, name: &str) -> Result<Self> {
        Ok(Self { to, size: size_of_required(to, name)? })
    }

    /// Writes as much of `value` as there is room for, behind the size field, and zeroes after it.
    pub fn write(self, value: T) {
        let from = size_of::<usize>();
        let known = self.size.min(size_of::<T>());
        // SAFETY: C promises `size` writable bytes at `to`, and `known` is no more; `value` has at
        // least `known` bytes and is not in C's hands.
        unsafe {
            let to = self.to.cast::<u8>();
            ptr::copy_nonoverlapping((&raw const value).cast::<u8>().add(from), to.add(from), known - from);
            ptr::write_bytes(to.add(known), 0, self.size - known);
        }
    }
}

/// What all options of a call have in common.
fn call(
    timeout_ms: i64,
    cancel: *const flowmesh_cancel_t,
    traceparent: *const c_char,
    tracestate: *const c_char,
) -> Result<CallOptions> {
    // SAFETY: NULL, or a handle that C keeps alive during the call.
    let cancel = unsafe { cancel.as_ref() };
    Ok(CallOptions {
        timeout: Timeout::of_call_ms(timeout_ms)?,
        cancel: cancel.map(|c| c.token.clone()),
        trace: trace(traceparent, tracestate)?,
        ..CallOptions::default()
    })
}

/// A trace context given as two texts.
fn trace(traceparent: *const c_char, tracestate: *const c_char) -> Result<Option<TraceContext>> {
    let texts = trace_texts(traceparent, tracestate)?;
    texts.map(|(parent, state)| TraceContext::new(parent, state)).transpose()
}

/// `traceparent` and `tracestate`, which are well-formed.
pub fn trace_texts<'a>(
    traceparent: *const c_char,
    tracestate: *const c_char,
) -> Result<Option<(&'a str, Option<&'a str>)>> {
    let state = view::nullable_text(tracestate, "tracestate")?;
    match view::nullable_text(traceparent, "traceparent")? {
        Some(parent) => trace::check(parent, state).map(|()| Some((parent, state))),
        None if state.is_some() => Err(Error::invalid("tracestate must not be given without a traceparent")),
        None => Ok(None),
    }
}

macro_rules! options_of_calls {
    ($($name:ident)+) => {
        $(
            impl $name {
                /// Deadline, cancel token and trace.
                pub(in crate::capi) fn call(&self) -> Result<CallOptions> {
                    call(self.timeout_ms, self.cancel, self.traceparent, self.tracestate)
                }
            }
        )+
    };
}

options_of_calls! {
    flowmesh_call_options_t
    flowmesh_write_options_t
    flowmesh_read_options_t
    flowmesh_offset_options_t
    flowmesh_enqueue_options_t
    flowmesh_reserve_options_t
    flowmesh_nack_options_t
    flowmesh_set_options_t
}
