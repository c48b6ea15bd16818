//! Completions of asynchronous calls: how a result reaches the callback of the application.

use std::{
    ffi::{c_char, c_void},
    ptr,
};

use super::{callback::UserData, jobs::LeasedJob, view::JobId};
use crate::{
    capi::{
        error::flowmesh_error_t,
        job::{flowmesh_job_batch_t, flowmesh_job_t},
        kv::{flowmesh_key_list_t, flowmesh_value_t},
        message::flowmesh_message_batch_t,
        queue::flowmesh_queue_stats_t,
        retry_policy::flowmesh_retry_policy_t,
        stream::flowmesh_group_state_t,
        subscription::flowmesh_subscription_t,
    },
    client::{Acked, Error, Result},
};

/// The application's callback for the result of one call. Dropping it uncalled releases the user
/// data all the same, unless another callback shares them (`D` is then an `Arc`).
pub struct Completion<F, D = UserData> {
    function: F,
    user_data: D,
}

impl<F, D: AsRef<UserData>> Completion<F, D> {
    /// A completion; the callback must not be NULL.
    pub fn new(callback: Option<F>, user_data: D) -> Result<Self> {
        let function = callback.ok_or_else(|| Error::invalid("callback must not be NULL"))?;
        Ok(Self { function, user_data })
    }

    /// Calls the application, then releases its data.
    pub fn complete<T>(self, result: Result<T>)
    where
        F: Callback<T>,
    {
        // SAFETY: the application gave function and data for each other.
        unsafe { self.function.call(result, self.user_data.as_ref().as_ptr()) };
    }
}

/// A function of C that takes an error and, next to it, a `T` in the form of C.
pub trait Callback<T>: Copy + Send + 'static {
    /// Calls it: with what the call yielded, or with the error and no result.
    ///
    /// # Safety
    /// `user_data` must be what the application gave for the function.
    unsafe fn call(self, result: Result<T>, user_data: *mut c_void);
}

/// A result that is one argument in C.
pub trait Argument: Sized {
    /// That argument.
    type C;
    /// What stands for the result of a call that failed.
    const NONE: Self::C;

    /// Calls with it. What is lent lives through the call, what is given is C's to free.
    fn pass(self, call: impl FnOnce(Self::C));
}

macro_rules! plain {
    ($($name:ty = $none:expr),+) => {$(
        impl Argument for $name {
            type C = Self;
            const NONE: Self = $none;

            fn pass(self, call: impl FnOnce(Self)) {
                call(self);
            }
        }
    )+};
}

macro_rules! given {
    ($($name:ty),+) => {$(
        impl Argument for $name {
            type C = *mut Self;
            const NONE: *mut Self = ptr::null_mut();

            fn pass(self, call: impl FnOnce(*mut Self)) {
                call(Box::into_raw(Box::new(self)));
            }
        }
    )+};
}

macro_rules! lent {
    ($($name:ty),+) => {$(
        impl Argument for $name {
            type C = *const Self;
            const NONE: *const Self = ptr::null();

            fn pass(self, call: impl FnOnce(*const Self)) {
                call(&raw const self);
            }
        }
    )+};
}

plain!(bool = false, i64 = -1);
given!(
    flowmesh_value_t,
    flowmesh_key_list_t,
    flowmesh_message_batch_t,
    flowmesh_job_batch_t,
    flowmesh_subscription_t
);
lent!(flowmesh_group_state_t, flowmesh_queue_stats_t, flowmesh_retry_policy_t);

impl Argument for Option<LeasedJob> {
    type C = *mut flowmesh_job_t;
    const NONE: Self::C = ptr::null_mut();

    fn pass(self, call: impl FnOnce(Self::C)) {
        call(self.map_or(Self::NONE, LeasedJob::into_raw));
    }
}

type Function<A> = unsafe extern "C" fn(*mut flowmesh_error_t, A, *mut c_void);

impl<T: Argument<C: 'static>> Callback<T> for Function<T::C> {
    unsafe fn call(self, result: Result<T>, user_data: *mut c_void) {
        match result {
            // SAFETY: the caller's promise.
            Ok(result) => result.pass(|argument| unsafe { self(ptr::null_mut(), argument, user_data) }),
            // SAFETY: the caller's promise.
            Err(e) => unsafe { self(give_error(e), T::NONE, user_data) },
        }
    }
}

/// The result is that there was no error.
impl Callback<()> for unsafe extern "C" fn(*mut flowmesh_error_t, *mut c_void) {
    unsafe fn call(self, result: Result<()>, user_data: *mut c_void) {
        let error = result.map_or_else(give_error, |()| ptr::null_mut());
        // SAFETY: the caller's promise.
        unsafe { self(error, user_data) };
    }
}

/// Some may have been acknowledged although others failed.
impl Callback<Acked> for Function<usize> {
    unsafe fn call(self, result: Result<Acked>, user_data: *mut c_void) {
        let acked = result.unwrap_or_else(|e| Acked { count: 0, error: Some(e) });
        let error = acked.error.map_or(ptr::null_mut(), give_error);
        // SAFETY: the caller's promise.
        unsafe { self(error, acked.count, user_data) };
    }
}

/// Offsets, lent.
impl Callback<Vec<i64>> for unsafe extern "C" fn(*mut flowmesh_error_t, *const i64, usize, *mut c_void) {
    unsafe fn call(self, result: Result<Vec<i64>>, user_data: *mut c_void) {
        let (error, offsets) = match result {
            Ok(offsets) => (ptr::null_mut(), offsets),
            Err(e) => (give_error(e), Vec::new()),
        };
        let data = if offsets.is_empty() { ptr::null() } else { offsets.as_ptr() };
        // SAFETY: the caller's promise; the offsets live through the call.
        unsafe { self(error, data, offsets.len(), user_data) };
    }
}

/// The id, lent, and the number of a job that was enqueued.
impl Callback<(JobId, i64)> for unsafe extern "C" fn(*mut flowmesh_error_t, *const c_char, i64, *mut c_void) {
    unsafe fn call(self, result: Result<(JobId, i64)>, user_data: *mut c_void) {
        match result {
            // SAFETY: the caller's promise; the id lives through the call.
            Ok((id, seq)) => unsafe { self(ptr::null_mut(), id.as_ptr(), seq, user_data) },
            // SAFETY: the caller's promise.
            Err(e) => unsafe { self(give_error(e), ptr::null(), -1, user_data) },
        }
    }
}

fn give_error(e: Error) -> *mut flowmesh_error_t {
    Box::into_raw(Box::new(e.into()))
}
