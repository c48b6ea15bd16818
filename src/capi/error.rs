//! The error object.

use std::ffi::{CString, c_char};

use super::{
    boundary::{
        guard,
        nullable::{NullableErrorBox, NullableErrorRef},
    },
    status::{FLOWMESH_OK, flowmesh_status_t},
};
use crate::client::{Error, Outcome};

/// Why a call failed, in detail. Immutable; any thread. It belongs to the caller of the failed
/// call, or to the callback of an asynchronous one, which free it. The reasons in reports, events and
/// changes of state are lent for the call.
///
///     if (flowmesh_kv_delete(kv, key, NULL, &error) != FLOWMESH_OK) {
///         fprintf(stderr, "%s: %s\n", flowmesh_status_name(flowmesh_error_status(error)),
///                 flowmesh_error_message(error));
///         flowmesh_error_free(error);
///         error = NULL;
///     }
pub struct flowmesh_error_t {
    status: flowmesh_status_t,
    message: CString,
    detail: CString,
    retryable: bool,
    outcome: flowmesh_outcome_t,
}

/// Whether a failed call changed anything: one of the FLOWMESH_OUTCOME constants.
pub type flowmesh_outcome_t = i32;

/// The change may or may not have happened.
pub const FLOWMESH_OUTCOME_UNKNOWN: i32 = 0;
/// The change did not happen and will not.
pub const FLOWMESH_OUTCOME_NOT_APPLIED: i32 = 1;
/// The change happened, although the call failed.
pub const FLOWMESH_OUTCOME_APPLIED: i32 = 2;

impl From<Error> for flowmesh_error_t {
    fn from(e: Error) -> Self {
        Self {
            status: e.status().0,
            message: text(e.message()),
            detail: text(e.server_detail().unwrap_or_default()),
            retryable: e.is_retryable(),
            outcome: match e.outcome() {
                Outcome::Unknown => FLOWMESH_OUTCOME_UNKNOWN,
                Outcome::NotApplied => FLOWMESH_OUTCOME_NOT_APPLIED,
                Outcome::Applied => FLOWMESH_OUTCOME_APPLIED,
            },
        }
    }
}

impl flowmesh_error_t {
    /// The status.
    pub(super) fn status(&self) -> flowmesh_status_t {
        self.status
    }

    /// The outcome.
    pub(super) fn outcome(&self) -> flowmesh_outcome_t {
        self.outcome
    }
}

/// NUL bytes, which C could not see past, become spaces.
fn text(s: &str) -> CString {
    CString::new(s.replace('\0', " ")).unwrap_or_default()
}

/// The status that the call returned; FLOWMESH_OK for NULL. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_error_status(error: NullableErrorRef<'_>) -> flowmesh_status_t {
    guard::plain(FLOWMESH_OK, || error.map_or(FLOWMESH_OK, |e| e.status))
}

/// What was tried, on which resource, which rule or reason stopped it; "" for NULL. UTF-8, for
/// people: do not match it. Borrowed until the error is freed. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_error_message(error: NullableErrorRef<'_>) -> *const c_char {
    guard::plain(c"".as_ptr(), || error.map_or(c"".as_ptr(), |e| e.message.as_ptr()))
}

/// The server's own words, or "" when it said nothing; "" for NULL. Borrowed until the error is
/// freed. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_error_detail(error: NullableErrorRef<'_>) -> *const c_char {
    guard::plain(c"".as_ptr(), || error.map_or(c"".as_ptr(), |e| e.detail.as_ptr()))
}

/// Whether the same call may succeed later without any change to it. Look at the outcome before
/// you repeat a write or enqueue. False for NULL. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_error_retryable(error: NullableErrorRef<'_>) -> bool {
    guard::plain(false, || error.is_some_and(|e| e.retryable))
}

/// Whether the call changed anything; FLOWMESH_OUTCOME_UNKNOWN for NULL. Does not block; any
/// thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_error_outcome(error: NullableErrorRef<'_>) -> flowmesh_outcome_t {
    guard::plain(FLOWMESH_OUTCOME_UNKNOWN, || error.map_or(FLOWMESH_OUTCOME_UNKNOWN, |e| e.outcome))
}

/// Frees an error. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_error_free(error: NullableErrorBox) {
    guard::plain((), || drop(error));
}
