//! Jobs as C reads them: structs that point into what the library keeps of the job.

use std::{
    ptr::{self, NonNull},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use flowmesh_proto::v1::Job;

use super::view;
use crate::{
    capi::{job::flowmesh_job_t, view::flowmesh_header_t},
    client::{Error, Lease, Queue, Result, Status, Ticket, Verdict},
    runtime::lock,
};

/// What a `flowmesh_job_t` stands on.
///
/// Invariant: the pointers in `public` lead into `job` and `headers`, which nobody changes, and
/// `public.owner` is the owner's own address, in an `Arc`.
pub struct JobOwner {
    public: flowmesh_job_t,
    #[expect(dead_code, reason = "`public.headers` points into it")]
    headers: Vec<flowmesh_header_t>,
    job: Job,
    queue: Arc<Queue>,
    /// `None` when the job was only listed.
    lease: Option<Lease>,
    /// The application has a reference of its own, which its `free` gives up.
    given: AtomicBool,
    /// The job's place in its worker, if it is under way in one and has no verdict.
    ticket: Mutex<Option<Ticket>>,
}

// SAFETY: the pointers lead into what the owner owns and nobody changes.
unsafe impl Send for JobOwner {}
// SAFETY: as above.
unsafe impl Sync for JobOwner {}

impl JobOwner {
    /// Puts a job where its address is fixed.
    fn place(queue: &Arc<Queue>, job: Job, lease: Option<Lease>) -> Result<Arc<Self>> {
        let headers: Vec<_> = job
            .headers
            .iter()
            .map(|(key, value)| flowmesh_header_t {
                key: view::of(key.as_bytes()),
                value: view::of(value.as_bytes()),
            })
            .collect();
        let public = flowmesh_job_t {
            owner: ptr::null(),
            id: view::job_id(&job.id)?,
            seq: job.seq,
            payload: view::of(&job.payload),
            headers: headers.as_ptr(),
            header_count: headers.len(),
            resource_path: view::of(job.resource_path.as_bytes()),
            created_at_ns: job.created_at,
            visible_at_ns: job.visible_at,
            reserve_until_ns: job.reserve_until,
            attempts: job.attempts,
        };
        let owner = Arc::into_raw(Arc::new(Self {
            public,
            headers,
            job,
            queue: Arc::clone(queue),
            lease,
            given: AtomicBool::new(false),
            ticket: Mutex::default(),
        }));
        // SAFETY: the only reference, just made; nobody else knows the owner yet.
        unsafe {
            (*owner.cast_mut()).public.owner = owner.cast();
            Ok(Arc::from_raw(owner))
        }
    }

    /// Gives a reference to C, for [`JobOwner::free`].
    fn give(owner: Arc<Self>) -> *mut flowmesh_job_t {
        owner.given.store(true, Ordering::Release);
        let owner = Arc::into_raw(owner);
        // SAFETY: the owner lives until `free`; nothing is written through the pointer.
        unsafe { (&raw const (*owner).public).cast_mut() }
    }

    /// Takes back what [`JobOwner::give`] gave; leaves jobs of a batch to their batch.
    pub fn free(job: Option<NonNull<flowmesh_job_t>>) {
        let Some(job) = job else { return };
        // SAFETY: C promises a job of this library that it has not freed; its `owner` was set by
        // `place`.
        unsafe { Self::take_back((*job.as_ptr()).owner.cast()) };
    }

    /// Gives up the reference of C, if it has one.
    ///
    /// # Safety
    /// `owner` must be alive, and its pointer that of `public.owner`.
    unsafe fn take_back(owner: *const Self) {
        // SAFETY: it is alive.
        if unsafe { (*owner).given.swap(false, Ordering::AcqRel) } {
            // SAFETY: the owner is in an `Arc` (type invariant), and `give` has leaked one reference
            // to it, which is given up only here.
            drop(unsafe { Arc::from_raw(owner) });
        }
    }

    /// The owner of a job that C holds.
    pub fn of(job: &flowmesh_job_t) -> &Self {
        // SAFETY: C promises a job of this library, alive for the call; `place` set its `owner`.
        unsafe { &*job.owner.cast::<Self>() }
    }

    /// The queue it came from.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.job.id
    }

    /// Refuses a job that was only listed.
    pub fn check_leased(&self) -> Result<()> {
        if self.lease.is_some() {
            return Ok(());
        }
        Err(Error::local(
            Status::FAILED_PRECONDITION,
            format!(
                "job {} was listed, not leased: only a reserved or received job can be given back",
                self.id()
            ),
        ))
    }

    /// What is left of the lease.
    pub fn time_left_ms(&self) -> i64 {
        let left = self.lease.map(|lease| lease.left(self.queue.client()).as_millis());
        i64::try_from(left.unwrap_or(0)).unwrap_or(i64::MAX)
    }

    /// Takes the job's place in its worker, `None` when it has none (any more).
    pub fn take_ticket(&self) -> Option<Ticket> {
        lock(&self.ticket).take()
    }

    /// The application gives the verdict by a call of its own; the worker's would come on top.
    pub fn settled_by_call(&self) {
        if let Some(ticket) = &*lock(&self.ticket) {
            ticket.settled_elsewhere();
        }
    }
}

/// A job on its way to C.
pub struct LeasedJob(Arc<JobOwner>);

impl LeasedJob {
    /// A job that is leased for `visibility_ms` from now on.
    pub fn new(queue: &Arc<Queue>, job: Job, visibility_ms: i64) -> Result<Self> {
        let lease = Lease::begin(&job, visibility_ms);
        JobOwner::place(queue, job, Some(lease)).map(Self)
    }

    /// Gives it to C.
    pub fn into_raw(self) -> *mut flowmesh_job_t {
        JobOwner::give(self.0)
    }
}

/// A job of a worker, while its handler runs. The application has a reference too: it may free the
/// job at any time, also before the handler returns.
pub struct HandledJob {
    owner: Arc<JobOwner>,
    public: *mut flowmesh_job_t,
}

impl HandledJob {
    /// A job with its place in the worker. One that cannot be shown to C is given back.
    pub fn new(queue: &Arc<Queue>, job: Job, ticket: Ticket) -> Option<Self> {
        match JobOwner::place(queue, job, Some(ticket.lease())) {
            Ok(owner) => {
                *lock(&owner.ticket) = Some(ticket);
                let public = JobOwner::give(Arc::clone(&owner));
                Some(Self { owner, public })
            }
            Err(_) => {
                // A stopped worker sends no verdicts, and wants to hear of none.
                let _ = ticket.settle(Verdict::Nack { delay_ms: 0 });
                None
            }
        }
    }

    /// For the handler.
    pub fn public(&self) -> *mut flowmesh_job_t {
        self.public
    }

    /// The handler has returned what is no verdict, as `error` tells; the job is given back.
    pub fn refuse(self, error: Error) {
        if let Some(ticket) = &*lock(&self.owner.ticket) {
            ticket.report(error);
        }
        self.settle(Verdict::Nack { delay_ms: 0 });
    }

    /// The handler has returned its verdict; the job is gone.
    pub fn settle(self, verdict: Verdict) {
        if let Some(ticket) = self.owner.take_ticket() {
            // A stopped worker sends no verdicts, and wants to hear of none.
            let _ = ticket.settle(verdict);
        }
        // SAFETY: the handler's own reference keeps it alive.
        unsafe { JobOwner::take_back(self.owner.public.owner.cast()) };
    }
}

/// Jobs that C frees together.
pub struct JobBatch {
    queue: Arc<Queue>,
    jobs: Vec<Arc<JobOwner>>,
}

impl JobBatch {
    /// A batch of jobs, leased for `visibility_ms` from now on, or only listed.
    pub fn new(queue: &Arc<Queue>, jobs: Vec<Job>, visibility_ms: Option<i64>) -> Result<Self> {
        let mut batch = Self { queue: Arc::clone(queue), jobs: Vec::with_capacity(jobs.len()) };
        for job in jobs {
            let lease = visibility_ms.map(|ms| Lease::begin(&job, ms));
            batch.jobs.push(JobOwner::place(queue, job, lease)?);
        }
        Ok(batch)
    }

    /// Number of jobs.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// The job at `index` for C, NULL when there is none.
    pub fn at(&self, index: usize) -> *const flowmesh_job_t {
        self.jobs.get(index).map_or(ptr::null(), |owner| &raw const owner.public)
    }

    /// The jobs' owners.
    pub fn owners(&self) -> impl Iterator<Item = &JobOwner> {
        self.jobs.iter().map(|owner| &**owner)
    }

    /// The queue they came from.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }
}
