//! Callbacks of the application: function, user data, and how to release it.
//!
//! The user data is released exactly once: when the last owner of its [`UserData`] goes, which
//! is after the last call, and also when the export that took it fails.

use std::{
    ffi::{CString, c_char, c_void},
    sync::Arc,
};

use super::jobs::HandledJob;
use crate::{
    capi::{
        error::flowmesh_error_t,
        job::flowmesh_job_t,
        log::{flowmesh_log_callback_t, flowmesh_log_level_t},
        message::flowmesh_message_batch_t,
        subscription::{
            flowmesh_drop_t, flowmesh_message_callback_t, flowmesh_state_callback_t,
            flowmesh_subscription_state_t,
        },
        worker::{
            flowmesh_job_handler_t, flowmesh_verdict_t, flowmesh_worker_event_callback_t,
            flowmesh_worker_event_t,
        },
    },
    client::{Error, Result},
    log::Record,
};

/// What the application wants back in its callback.
pub struct UserData {
    data: *mut c_void,
    release: flowmesh_drop_t,
}

// SAFETY: the header says that callbacks and releases run on threads of the library: the
// application hands over data that bears it.
unsafe impl Send for UserData {}
// SAFETY: nothing is done with a shared one but to copy the pointer, for callbacks that the header
// says may run at the same time.
unsafe impl Sync for UserData {}

impl UserData {
    /// Takes ownership.
    pub fn new(data: *mut c_void, release: flowmesh_drop_t) -> Self {
        Self { data, release }
    }

    /// The data, for a call.
    pub fn as_ptr(&self) -> *mut c_void {
        self.data
    }
}

impl AsRef<UserData> for UserData {
    fn as_ref(&self) -> &UserData {
        self
    }
}

impl Drop for UserData {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the application gave the function for this data; this is its one call.
            unsafe { release(self.data) };
        }
    }
}

/// Receives messages.
pub struct MessageCallback {
    function: unsafe extern "C" fn(*const flowmesh_message_batch_t, *mut c_void),
    user_data: Arc<UserData>,
}

impl MessageCallback {
    /// A callback, which must not be NULL.
    pub fn new(callback: flowmesh_message_callback_t, user_data: Arc<UserData>) -> Result<Self> {
        let function = callback.ok_or_else(|| Error::invalid("callback must not be NULL"))?;
        Ok(Self { function, user_data })
    }

    /// Lends `batch` to the application.
    pub fn call(&mut self, batch: &flowmesh_message_batch_t) {
        // SAFETY: the application gave function and data for each other; the batch lives through
        // the call.
        unsafe { (self.function)(batch, self.user_data.data) };
    }
}

/// Is told of changes of state.
pub struct StateCallback {
    function: unsafe extern "C" fn(flowmesh_subscription_state_t, Option<&flowmesh_error_t>, *mut c_void),
    user_data: UserData,
}

impl StateCallback {
    /// A callback, which must not be NULL.
    pub fn new(callback: flowmesh_state_callback_t, user_data: UserData) -> Result<Self> {
        let function = callback.ok_or_else(|| Error::invalid("callback must not be NULL"))?;
        Ok(Self { function, user_data })
    }

    /// Tells the application.
    pub fn call(&mut self, state: flowmesh_subscription_state_t, reason: Option<&flowmesh_error_t>) {
        // SAFETY: the application gave function and data for each other; the reason lives through
        // the call.
        unsafe { (self.function)(state, reason, self.user_data.data) };
    }
}

/// Handles jobs of a worker, several at a time.
pub struct JobHandler {
    function: unsafe extern "C" fn(*mut flowmesh_job_t, *mut i64, *mut c_void) -> flowmesh_verdict_t,
    user_data: UserData,
}

// SAFETY: the header says that handlers run on several threads at once: the application hands over
// data that bears it.
unsafe impl Sync for JobHandler {}

impl JobHandler {
    /// A handler, which must not be NULL.
    pub fn new(handler: flowmesh_job_handler_t, user_data: UserData) -> Result<Self> {
        let function = handler.ok_or_else(|| Error::invalid("handler must not be NULL"))?;
        Ok(Self { function, user_data })
    }

    /// Calls the application; its verdict, and the delay that goes with it.
    pub fn call(&self, job: &HandledJob) -> (flowmesh_verdict_t, i64) {
        let mut delay_ms = 0;
        // SAFETY: the application gave function and data for each other; job and delay live through
        // the call.
        let verdict = unsafe { (self.function)(job.public(), &raw mut delay_ms, self.user_data.data) };
        (verdict, delay_ms)
    }
}

/// Is told what happens to a worker.
pub struct WorkerEventCallback {
    function: unsafe extern "C" fn(*const flowmesh_worker_event_t, *mut c_void),
    user_data: UserData,
}

// SAFETY: it is called by one thread at a time, and the application hands over data that any thread
// may have.
unsafe impl Sync for WorkerEventCallback {}

impl WorkerEventCallback {
    /// A callback, which must not be NULL.
    pub fn new(callback: flowmesh_worker_event_callback_t, user_data: UserData) -> Result<Self> {
        let function = callback.ok_or_else(|| Error::invalid("callback must not be NULL"))?;
        Ok(Self { function, user_data })
    }

    /// Tells the application.
    pub fn call(&self, event: &flowmesh_worker_event_t) {
        // SAFETY: the application gave function and data for each other; the event lives through the
        // call.
        unsafe { (self.function)(event, self.user_data.data) };
    }
}

/// Is told what happens.
pub struct LogCallback {
    function: unsafe extern "C" fn(flowmesh_log_level_t, *const c_char, u64, *const c_char, *mut c_void),
    user_data: UserData,
}

// SAFETY: the header says that several threads may call it at once.
unsafe impl Sync for LogCallback {}

impl LogCallback {
    /// A callback; `None`, and the user data released, for NULL.
    pub fn new(callback: flowmesh_log_callback_t, user_data: UserData) -> Option<Self> {
        Some(Self { function: callback?, user_data })
    }

    /// Tells the application.
    pub fn call(&self, record: &Record<'_>) {
        // Neither holds a control character.
        let target = CString::new(record.target).unwrap_or_default();
        let text = CString::new(record.text).unwrap_or_default();
        // SAFETY: the application gave function and data for each other; the texts live through
        // the call.
        unsafe {
            (self.function)(
                record.level as flowmesh_log_level_t,
                target.as_ptr(),
                record.client,
                text.as_ptr(),
                self.user_data.data,
            );
        }
    }
}
