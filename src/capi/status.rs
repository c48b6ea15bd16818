//! Status codes and their names.

use std::ffi::c_char;

use super::boundary::guard;

/// How a call ended: FLOWMESH_OK, a gRPC code (1 to 16) or one of the library's own (from 100).
/// Values are never reused; be ready for ones that a later version adds.
pub type flowmesh_status_t = i32;

/// Success.
pub const FLOWMESH_OK: i32 = 0;
/// The caller cancelled the call.
pub const FLOWMESH_CANCELLED: i32 = 1;
/// The other side failed without saying how.
pub const FLOWMESH_UNKNOWN: i32 = 2;
/// An argument breaks a rule; the message names both.
pub const FLOWMESH_INVALID_ARGUMENT: i32 = 3;
/// The call's time was up.
pub const FLOWMESH_DEADLINE_EXCEEDED: i32 = 4;
/// The resource, job or key does not exist.
pub const FLOWMESH_NOT_FOUND: i32 = 5;
/// It exists already.
pub const FLOWMESH_ALREADY_EXISTS: i32 = 6;
/// The token, or the system, does not permit it.
pub const FLOWMESH_PERMISSION_DENIED: i32 = 7;
/// The storage is full, or a message is larger than allowed.
pub const FLOWMESH_RESOURCE_EXHAUSTED: i32 = 8;
/// The present state does not permit the call.
pub const FLOWMESH_FAILED_PRECONDITION: i32 = 9;
/// A conflict ended the call.
pub const FLOWMESH_ABORTED: i32 = 10;
/// A value lies outside its range.
pub const FLOWMESH_OUT_OF_RANGE: i32 = 11;
/// The server does not know the call.
pub const FLOWMESH_UNIMPLEMENTED: i32 = 12;
/// Storage failed or is damaged, or a defect of the library or server.
pub const FLOWMESH_INTERNAL: i32 = 13;
/// The server cannot be reached or is stopping; try again later.
pub const FLOWMESH_UNAVAILABLE: i32 = 14;
/// Data were lost.
pub const FLOWMESH_DATA_LOSS: i32 = 15;
/// The token is missing, unknown or expired.
pub const FLOWMESH_UNAUTHENTICATED: i32 = 16;
/// The client, producer or subscription is closed, or the library was shut down.
pub const FLOWMESH_CLOSED: i32 = 100;
/// The process is the child of a fork; see flowmesh_after_fork_child.
pub const FLOWMESH_FORKED: i32 = 101;
/// A bounded buffer of the library is full; see flowmesh_producer_send.
pub const FLOWMESH_QUEUE_FULL: i32 = 102;

/// Name of a status without prefix, as in "NOT_FOUND"; "?" for one that this version does not
/// know. The text is static. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_status_name(status: flowmesh_status_t) -> *const c_char {
    guard::plain(c"?".as_ptr(), || {
        match status {
            FLOWMESH_OK => c"OK",
            FLOWMESH_CANCELLED => c"CANCELLED",
            FLOWMESH_UNKNOWN => c"UNKNOWN",
            FLOWMESH_INVALID_ARGUMENT => c"INVALID_ARGUMENT",
            FLOWMESH_DEADLINE_EXCEEDED => c"DEADLINE_EXCEEDED",
            FLOWMESH_NOT_FOUND => c"NOT_FOUND",
            FLOWMESH_ALREADY_EXISTS => c"ALREADY_EXISTS",
            FLOWMESH_PERMISSION_DENIED => c"PERMISSION_DENIED",
            FLOWMESH_RESOURCE_EXHAUSTED => c"RESOURCE_EXHAUSTED",
            FLOWMESH_FAILED_PRECONDITION => c"FAILED_PRECONDITION",
            FLOWMESH_ABORTED => c"ABORTED",
            FLOWMESH_OUT_OF_RANGE => c"OUT_OF_RANGE",
            FLOWMESH_UNIMPLEMENTED => c"UNIMPLEMENTED",
            FLOWMESH_INTERNAL => c"INTERNAL",
            FLOWMESH_UNAVAILABLE => c"UNAVAILABLE",
            FLOWMESH_DATA_LOSS => c"DATA_LOSS",
            FLOWMESH_UNAUTHENTICATED => c"UNAUTHENTICATED",
            FLOWMESH_CLOSED => c"CLOSED",
            FLOWMESH_FORKED => c"FORKED",
            FLOWMESH_QUEUE_FULL => c"QUEUE_FULL",
            _ => c"?",
        }
        .as_ptr()
    })
}
