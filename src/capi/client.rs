//! Clients and their options.

use std::{ffi::c_char, mem::MaybeUninit, sync::Mutex, time::Duration};

use super::{
    boundary::{
        guard,
        handle::{self, Required as _},
        nullable::{
            NullableCallOptions, NullableClientBox, NullableClientOptions, NullableClientOptionsBox,
            NullableDispatcher, NullableError, NullableText,
        },
        options, view,
    },
    cancel::flowmesh_cancel_t,
    operation::{Prepared, Work},
    status::flowmesh_status_t,
};
use crate::{
    client::{CallOptions, CancelToken, Client, ClientOptions, Error, Fsync, Result, Timeout},
    runtime::{Dispatcher, lock},
};

/// How to reach a server, or how to run the engine of an embedded endpoint. Thread-safe; the
/// client copies what it needs, so that options can be freed or changed after
/// flowmesh_client_open. Setters take the value or refuse it (FLOWMESH_INVALID_ARGUMENT) and leave
/// the old one; they do not block.
pub struct flowmesh_client_options_t {
    pub(super) options: Mutex<ClientOptions>,
    dispatcher: Mutex<Option<Dispatcher>>,
}

/// A connection to one endpoint, or an engine in this process. Thread-safe; one serves any number
/// of threads. Opening does no I/O: the first call connects, and a lost connection is made anew.
///
///     flowmesh_client_options_t *options = NULL;
///     status = flowmesh_client_options_new(&options, &error);
///     if (status == FLOWMESH_OK) {
///         status = flowmesh_client_options_set_timeout_ms(options, 5000, &error);
///     }
///     if (status == FLOWMESH_OK) {
///         status = flowmesh_client_open("localhost:50051", options, &client, &error);
///     }
///     flowmesh_client_options_free(options);
pub struct flowmesh_client_t {
    pub(super) client: Client,
}

/// Options of a single call. Start from FLOWMESH_CALL_OPTIONS_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flowmesh_call_options_t {
    /// sizeof(flowmesh_call_options_t).
    pub size: usize,
    /// Deadline of the call: 0 is the client's default, -1 none.
    pub timeout_ms: i64,
    /// Ends the call from another thread; NULL for none.
    pub cancel: *const flowmesh_cancel_t,
    /// Trace that the call belongs to, a W3C `traceparent`; NULL for none.
    pub traceparent: *const c_char,
    /// Its `tracestate`; NULL for none.
    pub tracestate: *const c_char,
}

/// When an embedded engine has acknowledged writes on disk.
pub type flowmesh_fsync_t = i32;

/// Before the call returns: they survive a power cut. The default.
pub const FLOWMESH_FSYNC_ALWAYS: i32 = 0;
/// Within a second; a crash of the process loses nothing.
pub const FLOWMESH_FSYNC_INTERVAL: i32 = 1;
/// When the system likes; a crash of the process loses nothing.
pub const FLOWMESH_FSYNC_NONE: i32 = 2;

/// Makes options with every default; free them with flowmesh_client_options_free. Does not block;
/// any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_options_new(
    options: Option<&mut MaybeUninit<*mut flowmesh_client_options_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let made = flowmesh_client_options_t { options: Mutex::default(), dispatcher: Mutex::default() };
        handle::give(options.required("options")?, made);
        Ok(())
    })
}

/// Frees options. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_options_free(options: NullableClientOptionsBox) {
    guard::plain((), || handle::free(options));
}

/// Deadline of calls whose options say 0. Default 30000; -1 for none; 0 is refused.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_options_set_timeout_ms(
    options: Option<&flowmesh_client_options_t>,
    timeout_ms: i64,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let timeout = match Timeout::of_call_ms(timeout_ms)? {
            Timeout::Default => {
                return Err(Error::invalid("timeout_ms must not be 0: it is the default itself"));
            }
            Timeout::Never => None,
            Timeout::After(time) => Some(time),
        };
        change(options, |o| o.timeout = timeout)
    })
}

/// How long one attempt to connect may take. Default 10000; at least 1.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_options_set_connect_timeout_ms(
    options: Option<&flowmesh_client_options_t>,
    timeout_ms: i64,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let timeout = match u64::try_from(timeout_ms) {
            Ok(ms) if ms > 0 => Duration::from_millis(ms),
            _ => return Err(Error::invalid(format!("timeout_ms must be at least 1, got {timeout_ms}"))),
        };
        change(options, |o| o.connect_timeout = timeout)
    })
}

/// The largest reply accepted. Default 256 MiB; at least 1024 bytes.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_options_set_max_message_bytes(
    options: Option<&flowmesh_client_options_t>,
    max_bytes: usize,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        if max_bytes < 1024 {
            return Err(Error::invalid(format!("max_bytes must be at least 1024, got {max_bytes}")));
        }
        change(options, |o| o.max_message_bytes = max_bytes)
    })
}

/// Embedded directories: when writes reach the disk, a FLOWMESH_FSYNC constant. Clients of one
/// process that open the same directory share the engine, and with it what the first one chose.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_options_set_fsync(
    options: Option<&flowmesh_client_options_t>,
    policy: flowmesh_fsync_t,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let policy = match policy {
            FLOWMESH_FSYNC_ALWAYS => Fsync::Always,
            FLOWMESH_FSYNC_INTERVAL => Fsync::Interval(Duration::from_secs(1)),
            FLOWMESH_FSYNC_NONE => Fsync::None,
            other => {
                return Err(Error::invalid(format!("policy must be a FLOWMESH_FSYNC constant, got {other}")));
            }
        };
        change(options, |o| o.fsync = policy)
    })
}

/// Whether a blocking call may look for its reply, for up to 60 microseconds, before it sleeps (default
/// true). The only blocking call of the process does so, where there is more than one processor and as
/// long as it is measured to be quicker; such a call then uses the processor all the time. False spares
/// the processor, for power or for others. Asynchronous calls always sleep.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_options_set_spin(
    options: Option<&flowmesh_client_options_t>,
    spin: bool,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || change(options, |o| o.spin = spin))
}

/// Embedded endpoints: whether calls that need a stream, queue or store create it (default true).
/// With false such calls end with FLOWMESH_NOT_FOUND where there is none.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_options_set_create(
    options: Option<&flowmesh_client_options_t>,
    create: bool,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || change(options, |o| o.create = create))
}

/// "embedded:" in memory: gives the engine a clock that moves only by flowmesh_test_clock_advance,
/// so that tests of delays, leases and times to live need not sleep. Other endpoints refuse it
/// when they are opened.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_options_set_test_clock(
    options: Option<&flowmesh_client_options_t>,
    test_clock: bool,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || change(options, |o| o.test_clock = test_clock))
}

/// What runs the callbacks of the client and of what is opened from it, unless that has a
/// dispatcher of its own. NULL is the default, a thread of the library. The dispatcher may be freed
/// at once, see flowmesh_dispatcher_free.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_options_set_dispatcher(
    options: Option<&flowmesh_client_options_t>,
    dispatcher: NullableDispatcher<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        *lock(&options.required("options")?.dispatcher) = dispatcher.map(|d| d.dispatcher.clone());
        Ok(())
    })
}

pub(super) fn change(
    options: Option<&flowmesh_client_options_t>,
    set: impl FnOnce(&mut ClientOptions),
) -> Result<()> {
    let options = options.required("options")?;
    set(&mut lock(&options.options));
    Ok(())
}

/// Makes a client for `endpoint`: "host:port", "http://host:port", "https://host:port" (TLS),
/// "unix:/path", "embedded:/dir" (or a relative directory; its parent must exist) or "embedded:"
/// (in memory, a world of its own). NULL is the environment's FLOWMESH_ENDPOINT, else
/// "localhost:50051". Does no I/O and does not block; any thread. Free the client with
/// flowmesh_client_free.
///
/// FLOWMESH_INVALID_ARGUMENT: malformed endpoint, or options that do not go with it.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_open(
    endpoint: NullableText,
    options: NullableClientOptions<'_>,
    client: Option<&mut MaybeUninit<*mut flowmesh_client_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let out = client.required("client")?;
        let mut chosen = match options {
            Some(o) => lock(&o.options).clone(),
            None => ClientOptions::default(),
        };
        chosen.endpoint = view::nullable_text(endpoint, "endpoint")?.map(str::to_owned);
        let dispatcher = options.and_then(|o| lock(&o.dispatcher).clone());
        handle::give(out, flowmesh_client_t { client: Client::open_on(chosen, dispatcher)? });
        Ok(())
    })
}

/// Connects now, for those who want to know early: waits until the endpoint answers a health
/// check, or until an embedded engine is open. Health is open to everybody, so a token is first
/// checked by the first other call. Blocks for at most `timeout_ms` (0 does not wait, -1 for ever);
/// any thread.
///
/// FLOWMESH_UNAVAILABLE: nobody answers there, or what answers speaks no HTTP/2, or TLS does not
/// trust it (the message says why). FLOWMESH_UNIMPLEMENTED: another HTTP/2 server, a proxy perhaps.
/// FLOWMESH_DEADLINE_EXCEEDED: not yet connected. Embedded: FLOWMESH_PERMISSION_DENIED,
/// FLOWMESH_FAILED_PRECONDITION (the directory's parent is missing, or it is in use by another process,
/// or written by a future version). Without a connect, the first call gives these.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_connect(
    client: Option<&flowmesh_client_t>,
    timeout_ms: i64,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || connect(client, timeout_ms, None)?.wait())
}

/// Closes the client for everything that was opened from it: waiting calls and subscriptions end
/// with FLOWMESH_CLOSED, later calls return it. Blocks for at most `timeout_ms` (0 does not wait,
/// -1 for ever) until all is quiet; inside a callback it returns at once. After FLOWMESH_OK no
/// callback of this client runs. A second close is fine. Any thread.
///
/// FLOWMESH_DEADLINE_EXCEEDED: a call or callback still runs, or waits on a dispatcher that the
/// application runs; nothing is delivered any more, but asynchronous calls still get their
/// completion. What calls left unsent or unacknowledged, each of them reports itself, in its outcome.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_close(
    client: Option<&flowmesh_client_t>,
    timeout_ms: i64,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let client = &client.required("client")?.client;
        super::dispatch::close_client(client, Timeout::of_wait_ms(timeout_ms)?)
    })
}

/// The number by which the log names the client; no other client of the process has it. 0 for
/// NULL. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_id(client: Option<&flowmesh_client_t>) -> u64 {
    guard::plain(0, || client.map_or(0, |c| c.client.id()))
}

/// Frees the handle. It does not close: streams, queues, stores and subscriptions of the client
/// work on, and the connection ends with the last of them. Does not block; any thread, a
/// callback's too.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_free(client: NullableClientBox) {
    guard::plain((), || handle::free(client));
}

/// Asks the server for a sign of life. Blocks up to the deadline; any thread.
///
/// FLOWMESH_UNAVAILABLE, FLOWMESH_DEADLINE_EXCEEDED: there was none.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_health_check(
    client: Option<&flowmesh_client_t>,
    options: NullableCallOptions,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || health_check(client, options, None)?.wait())
}

/// Whether the server's storage can take work; a server that is not ready is no failure. Blocks up
/// to the deadline; any thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_client_readiness_check(
    client: Option<&flowmesh_client_t>,
    options: NullableCallOptions,
    ready: Option<&mut MaybeUninit<bool>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let ready = ready.required("ready")?;
        ready.write(readiness_check(client, options, None)?.wait()?);
        Ok(())
    })
}

/// Moves the test clock of an "embedded:" client forward: what became due by then (leases, delays,
/// times to live) is due when the call returns. Does not block; any thread.
///
/// FLOWMESH_INVALID_ARGUMENT: `by_ms` is negative. FLOWMESH_FAILED_PRECONDITION: the client has no
/// test clock, see flowmesh_client_options_set_test_clock.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_test_clock_advance(
    client: Option<&flowmesh_client_t>,
    by_ms: i64,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let client = &client.required("client")?.client;
        let by = u64::try_from(by_ms)
            .map_err(|_| Error::invalid(format!("by_ms must not be negative, got {by_ms}")))?;
        client.advance_test_clock(Duration::from_millis(by))
    })
}

// The operations, for both forms of each call.

pub(super) fn connect(
    client: Option<&flowmesh_client_t>,
    timeout_ms: i64,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<()>>> {
    let client = client.required("client")?.client.clone();
    let call =
        CallOptions { timeout: Timeout::of_wait_ms(timeout_ms)?, operation: token, ..CallOptions::default() };
    Ok(Prepared::new(client.clone(), async move { client.connect(&call).await }))
}

pub(super) fn health_check(
    client: Option<&flowmesh_client_t>,
    options: NullableCallOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<()>>> {
    let client = client.required("client")?.client.clone();
    let call = CallOptions { operation: token, ..options::read(options, "options")?.call()? };
    Ok(Prepared::new(client.clone(), async move { client.health_check(&call).await }))
}

pub(super) fn readiness_check(
    client: Option<&flowmesh_client_t>,
    options: NullableCallOptions,
    token: Option<CancelToken>,
) -> Result<Prepared<impl Work<bool>>> {
    let client = client.required("client")?.client.clone();
    let call = CallOptions { operation: token, ..options::read(options, "options")?.call()? };
    Ok(Prepared::new(client.clone(), async move { client.readiness_check(&call).await }))
}
