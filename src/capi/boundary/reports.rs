//! Delivery reports as C reads them, and the callbacks of a producer.

use std::{
    ffi::{c_char, c_void},
    ptr,
};

use super::{callback::UserData, view};
use crate::{
    capi::{
        error::{FLOWMESH_OUTCOME_APPLIED, FLOWMESH_OUTCOME_UNKNOWN, flowmesh_error_t},
        producer::{
            flowmesh_report_batch_t, flowmesh_report_callback_t, flowmesh_report_t,
            flowmesh_writable_callback_t,
        },
        queue::FLOWMESH_JOB_ID_SIZE,
        status::FLOWMESH_OK,
    },
    client::{Error, ProducerEvents, Reports, Result},
};

/// What the application wants back with the report of a message.
#[derive(Debug)]
pub struct MessageData(*mut c_void);

// SAFETY: the header says that reports come on threads of the library: the application hands over
// data that bears it.
unsafe impl Send for MessageData {}

impl MessageData {
    /// Of one message.
    pub fn new(data: *mut c_void) -> Self {
        Self(data)
    }
}

/// Reports, and the errors and ids that they point to.
///
/// Invariant: every pointer in `reports` is the application's own, or leads into `errors`, whose
/// boxes never move, or into `ids`, which does not change between two calls of `refill`.
#[derive(Default)]
pub struct ReportBatch {
    reports: Vec<flowmesh_report_t>,
    #[expect(clippy::vec_box, reason = "reports point to them while there come more")]
    errors: Vec<Box<flowmesh_error_t>>,
    ids: Vec<[c_char; FLOWMESH_JOB_ID_SIZE]>,
}

// SAFETY: the library's pointers lead into what the batch owns, and nobody changes it while it is
// shared; the application's are only handed back.
unsafe impl Send for ReportBatch {}
// SAFETY: as above.
unsafe impl Sync for ReportBatch {}

impl ReportBatch {
    /// The reports.
    pub fn reports(&self) -> &[flowmesh_report_t] {
        &self.reports
    }

    /// Takes these reports in place of the present ones; all memory is used again.
    fn refill(&mut self, reports: &Reports<MessageData>) {
        self.reports.clear();
        self.errors.clear();
        self.ids.clear();
        // So that no id moves when the next one comes.
        let jobs = reports.iter().filter(|r| r.result.is_ok_and(|receipt| receipt.job_id.is_some())).count();
        self.ids.reserve(jobs);
        let mut last: Option<&Error> = None;
        self.reports.extend(reports.iter().map(|report| {
            let mut public = flowmesh_report_t {
                message_data: report.tag.0,
                status: FLOWMESH_OK,
                outcome: FLOWMESH_OUTCOME_APPLIED,
                position: -1,
                job_id: ptr::null(),
                error: ptr::null(),
                attempts: i32::try_from(report.attempts).unwrap_or(i32::MAX),
            };
            match report.result {
                Ok(receipt) => {
                    public.position = receipt.position;
                    if let Some(Ok(id)) = receipt.job_id.map(view::job_id) {
                        self.ids.push(id);
                        public.job_id = self.ids.last().map_or(ptr::null(), |id| id.as_ptr());
                    }
                }
                Err(error) => {
                    // Messages of one request share its error.
                    if !last.is_some_and(|last| ptr::eq(last, error)) {
                        self.errors.push(Box::new(error.clone().into()));
                        last = Some(error);
                    }
                    let error = self.errors.last();
                    public.status = error.map_or(FLOWMESH_OK, |e| e.status());
                    public.outcome = error.map_or(FLOWMESH_OUTCOME_UNKNOWN, |e| e.outcome());
                    public.error = error.map_or(ptr::null(), |e| ptr::from_ref(&**e));
                }
            }
            public
        }));
    }
}

/// Receives reports.
pub struct ReportCallback {
    function: unsafe extern "C" fn(*const flowmesh_report_batch_t, *mut c_void),
    user_data: UserData,
}

impl ReportCallback {
    /// A callback, which must not be NULL.
    pub fn new(callback: flowmesh_report_callback_t, user_data: UserData) -> Result<Self> {
        let function = callback.ok_or_else(|| Error::invalid("callback must not be NULL"))?;
        Ok(Self { function, user_data })
    }

    fn call(&mut self, reports: &flowmesh_report_batch_t) {
        // SAFETY: the application gave function and data for each other; the reports live through
        // the call.
        unsafe { (self.function)(reports, self.user_data.as_ptr()) };
    }
}

/// Is told that there is room.
pub struct WritableCallback {
    function: unsafe extern "C" fn(*mut c_void),
    user_data: UserData,
}

impl WritableCallback {
    /// A callback, which must not be NULL.
    pub fn new(callback: flowmesh_writable_callback_t, user_data: UserData) -> Result<Self> {
        let function = callback.ok_or_else(|| Error::invalid("callback must not be NULL"))?;
        Ok(Self { function, user_data })
    }

    fn call(&mut self) {
        // SAFETY: the application gave function and data for each other.
        unsafe { (self.function)(self.user_data.as_ptr()) };
    }
}

/// The callbacks that the application gave for a producer.
#[derive(Default)]
pub struct ProducerCallbacks {
    /// Receives reports.
    pub report: Option<ReportCallback>,
    /// Is told that there is room.
    pub writable: Option<WritableCallback>,
    lent: flowmesh_report_batch_t,
}

impl ProducerCallbacks {
    /// For a producer; `None` when the application gave none.
    pub fn into_events(self) -> Option<Box<dyn ProducerEvents<MessageData>>> {
        if self.report.is_none() && self.writable.is_none() { None } else { Some(Box::new(self)) }
    }
}

impl ProducerEvents<MessageData> for ProducerCallbacks {
    fn takes_reports(&self) -> bool {
        self.report.is_some()
    }

    fn reports(&mut self, reports: &Reports<MessageData>) {
        if let Some(callback) = &mut self.report {
            self.lent.batch.refill(reports);
            callback.call(&self.lent);
        }
    }

    fn writable(&mut self) {
        if let Some(callback) = &mut self.writable {
            callback.call();
        }
    }
}
