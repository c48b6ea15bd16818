//! Handles: boxes that C holds by pointer. A box holds a reference-counted client object, so
//! that children outlive their parents and any order of frees is safe.

use std::mem::MaybeUninit;

use crate::client::{Error, Result};

/// A parameter that C must not leave NULL.
pub trait Required<T> {
    /// The value, or INVALID_ARGUMENT naming the parameter.
    fn required(self, name: &str) -> Result<T>;
}

impl<T> Required<T> for Option<T> {
    fn required(self, name: &str) -> Result<T> {
        self.ok_or_else(|| Error::invalid(format!("{name} must not be NULL")))
    }
}

/// Gives `value` to C, who frees it.
pub fn give<T>(out: &mut MaybeUninit<*mut T>, value: T) {
    out.write(Box::into_raw(Box::new(value)));
}

/// Takes back what [`give`] gave.
pub fn free<T>(handle: Option<Box<T>>) {
    drop(handle);
}
