//! Workers: jobs handed to a handler as they come, and settled by its verdict.

use std::{
    ffi::{c_char, c_void},
    mem::MaybeUninit,
    sync::{Arc, Mutex},
};

use super::{
    boundary::{
        callback::{JobHandler, UserData, WorkerEventCallback},
        guard,
        handle::{self, Required as _},
        jobs::{HandledJob, JobOwner},
        nullable::{
            NullableDispatcher, NullableDrop, NullableError, NullableOperation, NullableSize,
            NullableUserData, NullableWorkerBox, NullableWorkerOptions, NullableWorkerOptionsBox,
        },
        view,
    },
    error::flowmesh_error_t,
    job::flowmesh_job_t,
    operation::{self, Prepared, flowmesh_count_callback_t},
    queue::{FLOWMESH_JOB_ID_SIZE, flowmesh_queue_t},
    status::flowmesh_status_t,
};
use crate::{
    client::{
        Acked, CallOptions, Callbacks, Delivery, Error, EventCallback, PollMode, Queue, Result, Status,
        Timeout, Verdict, Worker, WorkerEvent, WorkerEventKind, WorkerOptions,
    },
    runtime::{Dispatcher, lock},
};

/// How a worker works. Thread-safe; copied when the worker opens. Setters take the value or refuse it
/// (FLOWMESH_INVALID_ARGUMENT) and leave the old one; they do not block.
pub struct flowmesh_worker_options_t {
    options: Mutex<WorkerOptions>,
    dispatcher: Mutex<Option<Dispatcher>>,
    event: Mutex<Option<WorkerEventCallback>>,
}

/// Hands the jobs of a queue to a handler and settles them by its verdicts. Thread-safe. It fetches
/// by long poll, hands a job over as soon as it comes, and sends verdicts in the background, many at
/// a time. What it promises: a job is handed out at most once per lease, and never when its lease is
/// over. An ack is repeated while the lease lasts, and never sent after its end, when it would take
/// the job from whoever has it by then; a nack is repeated only if the server has not seen it. A job
/// whose verdict is not stored comes again, so each job is handled at least once. Jobs are leased
/// ahead, so that short handlers need not wait for them, only as far as they have their turn within a
/// tenth of their lease by the handling times measured.
///
///     static flowmesh_verdict_t send_mail(flowmesh_job_t *job, int64_t *delay_ms, void *user_data)
///     {
///         if (deliver(job->payload, user_data)) {
///             return FLOWMESH_VERDICT_ACK;
///         }
///         *delay_ms = 60000; // without it, the retry policy says when
///         return FLOWMESH_VERDICT_NACK;
///     }
///
///     status = flowmesh_worker_open(mails, NULL, send_mail, server, NULL, &worker, &error);
///     ...
///     status = flowmesh_worker_close(worker, 30000, NULL, &error); // lets handlers finish
///     flowmesh_worker_free(worker);
pub struct flowmesh_worker_t {
    worker: Arc<Worker>,
}

impl Drop for flowmesh_worker_t {
    fn drop(&mut self) {
        // A close under way holds the worker.
        self.worker.end();
    }
}

/// What a handler decides: one of the FLOWMESH_VERDICT constants.
pub type flowmesh_verdict_t = i32;

/// The job is done: acknowledge it.
pub const FLOWMESH_VERDICT_ACK: i32 = 1;
/// The job is to be tried again: give it back. At its attempt limit it goes to the dead-letter queue,
/// which FLOWMESH_WORKER_DEAD_LETTERED tells.
pub const FLOWMESH_VERDICT_NACK: i32 = 2;
/// The job is the application's from now on: it settles it later, with flowmesh_job_settle, and frees
/// it. Until one of the two it counts as under way: so a program with one thread can have as many
/// jobs under way as the concurrency says.
pub const FLOWMESH_VERDICT_LEAVE: i32 = 3;

/// Handles a job and returns the verdict. `job` is lent for the call, unless the verdict is
/// FLOWMESH_VERDICT_LEAVE: then it is the application's, which may have settled and freed it already,
/// in any thread. *delay_ms is 0; with FLOWMESH_VERDICT_NACK it says how long until the job is due
/// again, at most a year (0 is what the retry policy says). Called by as many threads at once as the
/// concurrency says. It may block; flowmesh_job_time_left_ms says how long the job is still its own.
/// Anything else than a verdict, or a wrong delay, is FLOWMESH_VERDICT_NACK without a delay, and told
/// as FLOWMESH_WORKER_NOT_SETTLED.
pub type flowmesh_job_handler_t = Option<
    unsafe extern "C" fn(
        job: *mut flowmesh_job_t,
        delay_ms: *mut i64,
        user_data: *mut c_void,
    ) -> flowmesh_verdict_t,
>;

/// What a worker tells beside its jobs: one of the FLOWMESH_WORKER constants.
pub type flowmesh_worker_event_kind_t = i32;

/// Jobs cannot be fetched, see the reason; the worker goes on trying, with growing pauses. Told once
/// until FLOWMESH_WORKER_FETCH_RESUMED.
pub const FLOWMESH_WORKER_FETCH_FAILED: i32 = 1;
/// Jobs can be fetched again.
pub const FLOWMESH_WORKER_FETCH_RESUMED: i32 = 2;
/// The lease of a job ended before its verdict was stored: while its handler ran, while it was left to
/// the application, before it was handed out, or before the server could be reached. The handler had
/// better stop: its verdict is not sent. The job comes again, or goes to the dead-letter queue at its
/// attempt limit.
pub const FLOWMESH_WORKER_LEASE_LOST: i32 = 3;
/// A job that was given back had reached its attempt limit, and is in the dead-letter queue.
pub const FLOWMESH_WORKER_DEAD_LETTERED: i32 = 4;
/// A verdict could not be stored, see the reason and its outcome. Unless it was applied all the same,
/// the job comes again at the end of its lease.
pub const FLOWMESH_WORKER_NOT_SETTLED: i32 = 5;
/// The worker has ended by itself, see the reason: the server refuses it, or its client was closed. It
/// fetches nothing more.
pub const FLOWMESH_WORKER_ENDED: i32 = 6;

/// Something that happened to a worker, lent for the call. Reached only by pointer; later versions
/// append fields.
#[repr(C)]
#[derive(Debug)]
pub struct flowmesh_worker_event_t {
    /// What happened: one of the FLOWMESH_WORKER constants.
    pub kind: flowmesh_worker_event_kind_t,
    /// Deliveries of the job; 0 where it is not about a job.
    pub attempts: i32,
    /// The job's number in the queue; -1 where it is not about a job.
    pub seq: i64,
    /// The job's id, NUL-terminated; empty where it is not about a job.
    pub job_id: [c_char; FLOWMESH_JOB_ID_SIZE],
    /// Why, lent for the call; NULL where there is no reason.
    pub reason: *const flowmesh_error_t,
}

/// Is told what happens to a worker: one call at a time, in order. On the worker's dispatcher, or
/// without one on its client's: so it may come while the handler runs.
pub type flowmesh_worker_event_callback_t =
    Option<unsafe extern "C" fn(event: *const flowmesh_worker_event_t, user_data: *mut c_void)>;

/// How a worker asks for jobs: one of the FLOWMESH_POLL constants.
pub type flowmesh_poll_mode_t = i32;

/// As the server can. Found out when the worker opens, by a call of the standard health service, which
/// of all FlowMesh servers only the original engine lacks. The default.
pub const FLOWMESH_POLL_AUTO: i32 = 0;
/// The server waits until there is a job.
pub const FLOWMESH_POLL_LONG: i32 = 1;
/// One job at a time, without waiting at the server, 10 to 200 ms apart when there are none: for the
/// original engine, which loses jobs or stops otherwise. Its leases do not end by themselves, so late
/// verdicts are sent, and FLOWMESH_WORKER_LEASE_LOST is not told. Not for other servers.
pub const FLOWMESH_POLL_SAFE: i32 = 2;

/// Makes options with every default; free them with flowmesh_worker_options_free. Does not block; any
/// thread.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_worker_options_new(
    options: Option<&mut MaybeUninit<*mut flowmesh_worker_options_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let made = flowmesh_worker_options_t {
            options: Mutex::default(),
            dispatcher: Mutex::default(),
            event: Mutex::default(),
        };
        handle::give(options.required("options")?, made);
        Ok(())
    })
}

/// Frees options. An event callback that no worker took is dropped. Does not block; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_worker_options_free(options: NullableWorkerOptionsBox) {
    guard::plain((), || handle::free(options));
}

/// How many jobs are under way at once. Default 1; 1 to 4096, without a dispatcher of the worker's own
/// at most 512: then it has so many threads.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_worker_options_set_concurrency(
    options: Option<&flowmesh_worker_options_t>,
    concurrency: usize,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || lock(&options.required("options")?.options).set_concurrency(concurrency))
}

/// How many jobs at most are leased ahead, beside those that can be handled at once. Default 16; 0 to
/// 100. More make a worker with short handlers faster; fewer leave more to others. None are leased
/// ahead until the first job is done, and none where a job would wait for longer than a tenth of its
/// lease.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_worker_options_set_prefetch(
    options: Option<&flowmesh_worker_options_t>,
    prefetch: usize,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || lock(&options.required("options")?.options).set_prefetch(prefetch))
}

/// Length of the leases, at most 12 hours; 0, the default, is 30 s. Longer than a handler ever takes:
/// a job whose lease ends is handed out again.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_worker_options_set_visibility_timeout_ms(
    options: Option<&flowmesh_worker_options_t>,
    visibility_timeout_ms: i64,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        lock(&options.required("options")?.options).set_visibility_ms(visibility_timeout_ms)
    })
}

/// How to ask for jobs. Default FLOWMESH_POLL_AUTO.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_worker_options_set_poll_mode(
    options: Option<&flowmesh_worker_options_t>,
    poll_mode: flowmesh_poll_mode_t,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let options = options.required("options")?;
        lock(&options.options).poll_mode = match poll_mode {
            FLOWMESH_POLL_AUTO => PollMode::Auto,
            FLOWMESH_POLL_LONG => PollMode::LongPoll,
            FLOWMESH_POLL_SAFE => PollMode::Safe,
            other => {
                return Err(Error::invalid(format!(
                    "poll_mode must be one of the FLOWMESH_POLL constants, got {other}"
                )));
            }
        };
        Ok(())
    })
}

/// Has `dispatcher` call the handler and tell events. NULL, the default: the handler has threads of the
/// worker's own, named "flowmesh-worker", as many as the concurrency says. On a dispatcher that the
/// application runs, a handler that takes long should return FLOWMESH_VERDICT_LEAVE. The dispatcher
/// may be freed at once.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_worker_options_set_dispatcher(
    options: Option<&flowmesh_worker_options_t>,
    dispatcher: NullableDispatcher<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let replaced = {
            let mut own = lock(&options.required("options")?.dispatcher);
            std::mem::replace(&mut *own, dispatcher.map(|d| d.dispatcher.clone()))
        };
        // Ends threads, perhaps, with no lock held.
        drop(replaced);
        Ok(())
    })
}

/// Has `callback` told of events, by the next worker that opens with these options; setting it again
/// drops the one before. `drop_user_data` releases `user_data` once, after the last call, also when
/// this call fails.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_worker_options_set_event_callback(
    options: Option<&flowmesh_worker_options_t>,
    callback: flowmesh_worker_event_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = UserData::new(user_data, drop_user_data);
    guard::call(error, || {
        let callback = WorkerEventCallback::new(callback, user_data)?;
        let replaced = lock(&options.required("options")?.event).replace(callback);
        // Releases its user data with no lock held.
        drop(replaced);
        Ok(())
    })
}

/// Starts to work on `queue`, which it keeps alive; a queue that does not exist is created. It connects
/// in the background: what fails there is told as an event. `drop_user_data` releases `user_data`
/// once, after the last call of the handler, also when this call fails. Close the worker with
/// flowmesh_worker_close, free it with flowmesh_worker_free. Does not block; any thread.
///
/// FLOWMESH_RESOURCE_EXHAUSTED: no thread can be had.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_worker_open(
    queue: Option<&flowmesh_queue_t>,
    options: NullableWorkerOptions<'_>,
    handler: flowmesh_job_handler_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    worker: Option<&mut MaybeUninit<*mut flowmesh_worker_t>>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    let user_data = UserData::new(user_data, drop_user_data);
    guard::call(error, || {
        let handler = JobHandler::new(handler, user_data)?;
        let queue = Arc::clone(&queue.required("queue")?.queue);
        let out = worker.required("worker")?;
        let chosen = options.map_or_else(WorkerOptions::default, |o| lock(&o.options).clone());
        let dispatcher = options.and_then(|o| lock(&o.dispatcher).clone());
        let event = options.and_then(|o| lock(&o.event).take());
        let of = Queue::clone(&queue);
        let callbacks = Callbacks {
            handler: Box::new(move |delivery| handle_job(&queue, &handler, delivery)),
            event: event.map(|callback| -> EventCallback { Box::new(move |event| tell(&callback, event)) }),
        };
        let worker = Worker::open_on(of, &chosen, callbacks, dispatcher.as_ref())?;
        handle::give(out, flowmesh_worker_t { worker: Arc::new(worker) });
        Ok(())
    })
}

/// Drains the worker: it fetches nothing more; handlers finish, and the few jobs leased ahead are
/// handled too, as giving them back would cost them an attempt; then their verdicts are stored.
/// Blocks up to `timeout_ms` (0 does not wait, -1 for ever); it also waits for jobs that were left
/// to the application, so settle those first or in another thread; after flowmesh_worker_stop, or
/// when the client is closed, it does not, as no verdict would be stored. Inside a callback of this
/// worker it returns at once. Where the application runs the dispatcher, and inside other callbacks
/// of the dispatcher, the calling thread makes the callbacks that are still to be made. After
/// FLOWMESH_OK no callback runs and user data has been released (inside a callback: when the last
/// one has returned). `unfinished`, if not NULL, receives how many leased jobs have no stored
/// verdict, on success and failure alike. A second close is fine. Any thread. A job that was on its
/// way to the worker comes again at the end of its lease.
///
/// FLOWMESH_DEADLINE_EXCEEDED: jobs were under way at the timeout. None is begun any more and nothing
/// told; verdicts of those under way are still sent while the client is open.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_worker_close(
    worker: Option<&flowmesh_worker_t>,
    timeout_ms: i64,
    unfinished: NullableSize<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        // A callback may free the handle.
        let worker = Arc::clone(&worker.required("worker")?.worker);
        let timeout = Timeout::of_wait_ms(timeout_ms)?;
        worker.check_process()?;
        let closed = worker.queue().client().wait(worker.close(timeout));
        if let Some(unfinished) = unfinished {
            unfinished.write(worker.unfinished());
        }
        closed
    })
}

/// flowmesh_worker_close as an asynchronous call, see COMPLETIONS: `count` of the callback is how many
/// leased jobs have no stored verdict. It comes on the client's dispatcher. The worker drains from now
/// on; cancelling ends only the wait. Nobody makes callbacks but the dispatcher. Does not block; any
/// thread, a callback of the worker too.
///
/// FLOWMESH_CLOSED: the client is closed already; use flowmesh_worker_close.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_worker_close_async(
    worker: Option<&flowmesh_worker_t>,
    timeout_ms: i64,
    callback: flowmesh_count_callback_t,
    user_data: NullableUserData,
    drop_user_data: NullableDrop,
    operation: NullableOperation<'_>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    operation::start(callback, (user_data, drop_user_data), operation, error, |token| {
        let worker = &worker.required("worker")?.worker;
        worker.queue().client().inner().check()?;
        let options = CallOptions { operation: token, ..CallOptions::default() };
        let close = worker.close_async(Timeout::of_wait_ms(timeout_ms)?, options);
        Ok(Prepared::new(worker.queue().client().clone(), async move {
            let (count, closed) = close.await;
            Ok(Acked { count, error: closed.err() })
        }))
    })
}

/// Stops the worker at once: nothing more is fetched, handed out, sent or told. Jobs without a stored
/// verdict come again at the end of their lease. Handlers that run go on to their end; wait for them
/// with flowmesh_worker_close, which then waits for nothing else. Does not block; any thread, a
/// callback's too.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_worker_stop(
    worker: Option<&flowmesh_worker_t>,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || worker.required("worker")?.worker.stop())
}

/// Ends the worker as flowmesh_worker_close with timeout 0 does, and frees the handle. A handler that
/// is running goes on to its end, and its verdict is sent; none starts after this returns. Does not
/// block; any thread, a callback's too.
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_worker_free(worker: NullableWorkerBox) {
    guard::plain((), || handle::free(worker));
}

/// Gives the verdict on a job that its handler has left, or will leave, to the application:
/// FLOWMESH_VERDICT_ACK, or FLOWMESH_VERDICT_NACK, due again after `delay_ms` (at most a year; 0 is
/// what the retry policy says). It is sent in the background, as one that a handler returns, and makes
/// room for the next job. The job is still to be freed. Of several verdicts on a job the first counts;
/// also one by flowmesh_job_ack or flowmesh_job_nack. Does not block; any thread.
///
/// FLOWMESH_FAILED_PRECONDITION: the job is none of a worker's, or has its verdict. FLOWMESH_CLOSED: the
/// worker was stopped or its client closed, so the verdict is not sent.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn flowmesh_job_settle(
    job: Option<&flowmesh_job_t>,
    verdict: flowmesh_verdict_t,
    delay_ms: i64,
    error: NullableError<'_>,
) -> flowmesh_status_t {
    guard::call(error, || {
        let owner = JobOwner::of(job.required("job")?);
        owner.queue().client().check_process()?;
        let Some(verdict) = verdict_of(verdict, delay_ms)? else {
            return Err(Error::invalid("verdict must be FLOWMESH_VERDICT_ACK or FLOWMESH_VERDICT_NACK"));
        };
        let ticket = owner.take_ticket().ok_or_else(|| {
            Error::local(
                Status::FAILED_PRECONDITION,
                format!(
                    "job {} has its verdict, or was not handed out by a worker: then use flowmesh_job_ack",
                    owner.id()
                ),
            )
        })?;
        // An event would tell it too late: whoever has the job is waiting for the answer.
        owner.queue().client().inner().check()?;
        ticket.settle(verdict)
    })
}

/// A verdict as C says it; `None` for FLOWMESH_VERDICT_LEAVE.
fn verdict_of(verdict: flowmesh_verdict_t, delay_ms: i64) -> Result<Option<Verdict>> {
    match verdict {
        FLOWMESH_VERDICT_ACK => Ok(Some(Verdict::Ack)),
        FLOWMESH_VERDICT_NACK => Verdict::nack(delay_ms).map(Some),
        FLOWMESH_VERDICT_LEAVE => Ok(None),
        other => {
            Err(Error::invalid(format!("verdict must be one of the FLOWMESH_VERDICT constants, got {other}")))
        }
    }
}

/// Calls the handler with a job.
fn handle_job(queue: &Arc<Queue>, handler: &JobHandler, delivery: Delivery) {
    let Some(job) = HandledJob::new(queue, delivery.job, delivery.ticket) else { return };
    let (verdict, delay_ms) = handler.call(&job);
    match verdict_of(verdict, delay_ms) {
        Ok(Some(verdict)) => job.settle(verdict),
        Ok(None) => {}
        Err(error) => job.refuse(error),
    }
}

/// Tells an event.
fn tell(callback: &WorkerEventCallback, event: &WorkerEvent) {
    let reason = event.reason.clone().map(flowmesh_error_t::from);
    // Only jobs whose id could be shown get this far.
    let job_id = event.job.as_ref().and_then(|job| view::job_id(&job.id).ok());
    callback.call(&flowmesh_worker_event_t {
        kind: match event.kind {
            WorkerEventKind::FetchFailed => FLOWMESH_WORKER_FETCH_FAILED,
            WorkerEventKind::FetchResumed => FLOWMESH_WORKER_FETCH_RESUMED,
            WorkerEventKind::LeaseLost => FLOWMESH_WORKER_LEASE_LOST,
            WorkerEventKind::DeadLettered => FLOWMESH_WORKER_DEAD_LETTERED,
            WorkerEventKind::NotSettled => FLOWMESH_WORKER_NOT_SETTLED,
            WorkerEventKind::Ended => FLOWMESH_WORKER_ENDED,
        },
        attempts: event.job.as_ref().map_or(0, |job| job.attempts),
        seq: event.job.as_ref().map_or(-1, |job| job.seq),
        job_id: job_id.unwrap_or([0; FLOWMESH_JOB_ID_SIZE]),
        reason: reason.as_ref().map_or(std::ptr::null(), std::ptr::from_ref),
    });
}
