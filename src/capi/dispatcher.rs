//! Dispatchers: what runs callbacks.

use std::{ffi::c_int, mem::MaybeUninit};

use super::{
    boundary::{
        guard,
        handle::{self, Required as _},
        nullable::{NullableDispatcherBox, NullableError, NullableSize},
    },
    status::flowmesh_status_t,
};
use crate::{
    client::{Error, Status, Timeout},
    runtime::{Dispatcher, Generation, deadline_after},
};

/// Runs callbacks: in threads of the library, or where the application's event loop calls
/// flowmesh_dispatcher_run. Thread-safe. Any number of clients can share one.
///
///     flowmesh_dispatcher_t *dispatcher = NULL;
///     struct pollfd watch = {-1, POLLIN, 0};
///     status = flowmesh_dispatcher_new(0, &dispatcher, &error);
///     if (status == FLOWMESH_OK) {
///         status = flowmesh_client_options_set_dispatcher(options, dispatcher, &error);
///     }
///     if (status == FLOWMESH_OK) {
///         status = flowmesh_dispatcher_fd(dispatcher, &watch.fd, &error);
///     }
///     while (status == FLOWMESH_OK && poll(&watch, 1, -1) >= 0) {
///         status = flowmesh_dispatcher_run(dispatcher, 0, 0, NULL, &error); // callbacks run here
///     }
pub struct flowmesh_dispatcher_t {
    pub(super) dispatcher: Dispatcher,
}

impl Drop for flowmesh_dispatcher_t {
    fn drop(&mut self) {
        self.dispatcher.release();
    }
}

/// Most threads of one dispatcher.
const MAX_THREADS: usize = 1024;

/// Makes a dispatcher. `threads` 0: the application runs it, with flowmesh_dispatcher_run. Otherwise
/// the library starts so many threads for it (at most 1024), named "flowmesh-callback". Does not
/// block; any thread. Free it with flowmesh_dispatcher_free.
///
/// FLOWMESH_RESOURCE_EXHAUSTED: no descriptor or no thread can be had.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_dispatcher_new(
    threads: usize,
    dispatcher: Option<&mut MaybeUninit<*mut flowmesh_dispatcher_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let out = dispatcher.required("dispatcher")?;
        if threads > MAX_THREADS {
            return Err(Error::invalid(format!("threads must be at most {MAX_THREADS}, got {threads}")));
        }
        let generation = Generation::current()?;
        let dispatcher = match threads {
            0 => generation.own_dispatcher()?,
            _ => generation.dispatcher_pool(threads, "flowmesh-callback")?,
        };
        handle::give(out, flowmesh_dispatcher_t { dispatcher });
        Ok(())
    })
}

/// The descriptor to watch where the application runs the dispatcher: readable exactly while
/// callbacks wait, or flowmesh_dispatcher_wake was called, and no thread is inside
/// flowmesh_dispatcher_run. Such a run may find nothing to call after a close that has made the
/// callback itself, and with an embedded engine, where a subscription looks for messages in its turn;
/// the turn counts. Level-triggered; good for poll, epoll and every event loop on them. Only watch it:
/// the library reads, writes and closes it, at the latest when the dispatcher and what uses it are
/// gone. Stop watching before you free the dispatcher. Does not block; any thread.
///
/// FLOWMESH_FAILED_PRECONDITION: the dispatcher has threads.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_dispatcher_fd(
    dispatcher: Option<&flowmesh_dispatcher_t>,
    fd: Option<&mut MaybeUninit<c_int>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let dispatcher = &dispatcher.required("dispatcher")?.dispatcher;
        let out = fd.required("fd")?;
        dispatcher.check_process()?;
        let fd = dispatcher.fd().ok_or_else(|| {
            let why = "dispatcher has threads of the library: there is nothing to watch";
            Error::local(Status::FAILED_PRECONDITION, why)
        })?;
        out.write(fd);
        Ok(())
    })
}

/// Runs callbacks in the calling thread: those that wait when it begins, but at most `max` (0 for no
/// limit). When none waits, it blocks until there is one, for at most `timeout_ms` (0 does not wait, -1
/// for ever), and meanwhile drives the connections itself. `count`, if not NULL, receives how many
/// ran: 0 when the time was up or flowmesh_dispatcher_wake was called, which are no failures. Several
/// threads may run one dispatcher; callbacks of one subscription still come one at a time.
///
/// FLOWMESH_CLOSED: flowmesh_shutdown was called, and every callback has run.
/// FLOWMESH_FAILED_PRECONDITION: the dispatcher has threads, or the caller is one of its callbacks.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_dispatcher_run(
    dispatcher: Option<&flowmesh_dispatcher_t>,
    max: usize,
    timeout_ms: i64,
    count: NullableSize<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        // A callback may free the handle.
        let dispatcher = dispatcher.required("dispatcher")?.dispatcher.clone();
        let ran = dispatcher.run(max, deadline_after(Timeout::of_wait_ms(timeout_ms)?))?;
        if let Some(count) = count {
            count.write(ran);
        }
        Ok(())
    })
}

/// Has one flowmesh_dispatcher_run return although no callback waits: one that waits now, or else
/// the next. Makes the descriptor readable until then. For telling an event loop of something
/// else. Does not block; any thread.
///
/// FLOWMESH_FAILED_PRECONDITION: the dispatcher has threads.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_dispatcher_wake(
    dispatcher: Option<&flowmesh_dispatcher_t>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || dispatcher.required("dispatcher")?.dispatcher.wake())
}

/// Frees the handle. Clients keep what they need of it: threads of the library work on until the
/// last of them is gone; where the application has run the dispatcher, callbacks that wait or come
/// later run on the library's default thread. Does not block; any thread that is not waiting in
/// flowmesh_dispatcher_run, a callback too.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_dispatcher_free(dispatcher: NullableDispatcherBox) {
    guard::plain((), || handle::free(dispatcher));
}
