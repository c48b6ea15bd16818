//! The guard around every export: no panic crosses into C, and errors go out by one way.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
};

use super::{handle, nullable::NullableError};
use crate::{
    capi::status::{FLOWMESH_OK, flowmesh_status_t},
    client::{Error, Result, Status},
};

/// Runs a call that can fail. On success *error is NULL, on failure an error object. `f` writes
/// its outputs last, when nothing can fail any more.
pub fn call(error: NullableError<'_>, f: impl FnOnce() -> Result<()>) -> flowmesh_status_t {
    let result = catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| Err(defect(&*panic)));
    match (result, error) {
        (Ok(()), None) => FLOWMESH_OK,
        (Ok(()), Some(out)) => {
            out.write(ptr::null_mut());
            FLOWMESH_OK
        }
        (Err(e), None) => e.status().0,
        (Err(e), Some(out)) => {
            let status = e.status().0;
            handle::give(out, e.into());
            status
        }
    }
}

/// Runs a call that cannot fail; a panic yields `fallback`.
pub fn plain<T>(fallback: T, f: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or(fallback)
}

/// The error that a panic becomes.
pub fn defect(panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text");
    Error::local(Status::INTERNAL, format!("a defect of libflowmesh, please report it: {text}"))
}
