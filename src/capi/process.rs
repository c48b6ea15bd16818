//! What concerns the whole process: version, shutdown, fork.

use std::ffi::c_char;

use super::{
    boundary::{guard, nullable::NullableError},
    status::flowmesh_status_t,
};
use crate::{client::Timeout, runtime};

/// Version of the library, "major.minor.patch"; compare with FLOWMESH_VERSION_STRING. The text is
/// static. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Ends the library's work in this process: subscriptions and waiting calls end, later calls
/// return FLOWMESH_CLOSED, threads stop, embedded engines close their directories. Frees still
/// work. Blocks for at most `timeout_ms` (0 does not wait, -1 for ever), whatever is in flight;
/// call it from any thread, in a callback it does not wait for that callback. Not needed before
/// exit.
///
/// FLOWMESH_DEADLINE_EXCEEDED: something still runs; the rest is done, none starts any more. Shut down
/// again to wait for it.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_shutdown(timeout_ms: i64, error: NullableError<'_>) -> flowmesh_status_t {
    guard::call(error, || runtime::shutdown(Timeout::of_wait_ms(timeout_ms)?))
}

/// Makes the library usable in the child of a fork: call it there once, before any other call.
/// What the parent made stays unusable in the child (FLOWMESH_FORKED) and can be freed; new
/// clients work. Elsewhere it does nothing. Does not block.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_after_fork_child(error: NullableError<'_>) -> flowmesh_status_t {
    guard::call(error, || {
        runtime::after_fork_child();
        Ok(())
    })
}
