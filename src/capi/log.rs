//! The log callback of the process.

use std::ffi::{c_char, c_void};

use super::{
    boundary::{
        callback::{LogCallback, UserData},
        guard,
        nullable::{NullableDrop, NullableError, NullableLogCallback, NullableUserData},
    },
    status::flowmesh_status_t,
};
use crate::{
    client::{Error, Result},
    log::{self, Level},
};

/// How much a log record matters: one of the FLOWMESH_LOG constants.
pub type flowmesh_log_level_t = i32;

/// Something failed and somebody has to act.
pub const FLOWMESH_LOG_ERROR: i32 = 1;
/// Something failed and the library deals with it: a lost connection, a refused job.
pub const FLOWMESH_LOG_WARN: i32 = 2;
/// What happens rarely: connected, resumed, shut down.
pub const FLOWMESH_LOG_INFO: i32 = 3;
/// More, for those who look for a fault.
pub const FLOWMESH_LOG_DEBUG: i32 = 4;

/// Told what happens in the library: how much it matters, what it is about ("connection", "call",
/// "subscription", "producer", "worker", "engine", "process"), the number of the client
/// (flowmesh_client_id; 0 for none), and one line of UTF-8. The texts are lent for the call. They
/// are for people and may change; they never hold payloads, keys or tokens.
///
/// Any thread that is in the library may call it, the application's own too, and several at once.
/// The thread may be in the middle of something: be short, and call nothing of the library but
/// flowmesh_log_set_callback. What it causes itself is not told.
pub type flowmesh_log_callback_t = Option<
    unsafe extern "C" fn(
        level: flowmesh_log_level_t,
        target: *const c_char,
        client_id: u64,
        text: *const c_char,
        user_data: *mut c_void,
    ),
>;

/// Sets the log callback of the process, which is told records from FLOWMESH_LOG_ERROR up to `level`,
/// in place of the former one. NULL is silence, the default; `level` does not count then. When
/// this returns, the former callback does not run any more and its user_data is released; so it
/// blocks while another thread is inside that callback. Inside the callback it does not wait, and
/// user_data is released when the callback returns. flowmesh_shutdown leaves the callback; the
/// child of a fork has none. Any thread.
///
///     static void on_log(flowmesh_log_level_t level, const char *target, uint64_t client_id,
///                        const char *text, void *user_data)
///     {
///         fprintf(user_data, "%d %s client %" PRIu64 ": %s\n", level, target, client_id, text);
///     }
///
///     status = flowmesh_log_set_callback(FLOWMESH_LOG_INFO, on_log, stderr, NULL, &error);
///
/// FLOWMESH_INVALID_ARGUMENT: `level` is no FLOWMESH_LOG constant.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_log_set_callback(
    level: flowmesh_log_level_t,
    callback: NullableLogCallback,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = UserData::new(user_data, drop_user_data);
    guard::call(error, || {
        let Some(callback) = LogCallback::new(callback, user_data) else {
            log::set_callback(None);
            return Ok(());
        };
        let level = checked(level)?;
        log::listen_to_engines();
        log::set_callback(Some((level, Box::new(move |record| callback.call(record)))));
        Ok(())
    })
}

fn checked(level: flowmesh_log_level_t) -> Result<Level> {
    match level {
        FLOWMESH_LOG_ERROR => Ok(Level::Error),
        FLOWMESH_LOG_WARN => Ok(Level::Warn),
        FLOWMESH_LOG_INFO => Ok(Level::Info),
        FLOWMESH_LOG_DEBUG => Ok(Level::Debug),
        other => Err(Error::invalid(format!("level must be a FLOWMESH_LOG constant, got {other}"))),
    }
}
