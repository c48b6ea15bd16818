//! Cancelling calls from another thread.

use std::mem::MaybeUninit;

use super::{
    boundary::{
        guard,
        handle::{self, Required as _},
        nullable::{NullableCancelBox, NullableError},
    },
    status::flowmesh_status_t,
};
use crate::{client::CancelToken, runtime::Process};

/// Ends blocked calls from another thread: put it into the options of any number of calls. Once
/// cancelled it stays so. Thread-safe.
///
///     flowmesh_reserve_options_t options = FLOWMESH_RESERVE_OPTIONS_INIT;
///     options.wait_ms = -1;
///     options.cancel = cancel; // another thread calls flowmesh_cancel_cancel(cancel)
///     status = flowmesh_queue_reserve(queue, &options, &job, &error);
pub struct flowmesh_cancel_t {
    pub(super) token: CancelToken,
    maker: Process,
}

/// Makes a token; free it with flowmesh_cancel_free. Does not block; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_cancel_new(
    cancel: Option<&mut MaybeUninit<*mut flowmesh_cancel_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        handle::give(
            cancel.required("cancel")?,
            flowmesh_cancel_t { token: CancelToken::new(), maker: Process::this() },
        );
        Ok(())
    })
}

/// Ends every call that holds `cancel`, now or later, with FLOWMESH_CANCELLED. The outcome of a
/// cancelled write is unknown unless it had not been sent. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_cancel_cancel(
    cancel: Option<&flowmesh_cancel_t>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let cancel = cancel.required("cancel")?;
        // What waits for it in the parent cannot be woken from here, and its locks may be held for ever.
        cancel.maker.check()?;
        cancel.token.cancel();
        Ok(())
    })
}

/// Frees the handle; calls that hold the token keep it. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_cancel_free(cancel: NullableCancelBox) {
    guard::plain((), || handle::free(cancel));
}
