//! Jobs as C reads them: structs that point into what the library keeps of the job.

use std::{
    mem::ManuallyDrop,
    ptr::{self, NonNull},
    sync::Arc,
    time::{Duration, Instant},
};

use flowmesh_proto::v1::Job;

use super::view;
use crate::{
    capi::{job::flowmesh_job_t, view::flowmesh_header_t},
    client::{Error, Queue, Result, Status},
};

/// What a `flowmesh_job_t` stands on.
///
/// Invariant: the pointers in `public` lead into `job` and `headers`, which nobody changes, and
/// `public.owner` is the owner's own address.
pub struct JobOwner {
    public: flowmesh_job_t,
    #[expect(dead_code, reason = "`public.headers` points into it")]
    headers: Vec<flowmesh_header_t>,
    job: Job,
    queue: Arc<Queue>,
    /// When the job arrived and for how long it is leased; `None` when it was only listed.
    lease: Option<(Instant, Duration)>,
    /// Whether the application frees it, not a batch.
    alone: bool,
}

impl JobOwner {
    /// Puts a job where its address is fixed. A leased job belongs to us for `lease`.
    fn place(queue: &Arc<Queue>, job: Job, lease: Option<Duration>, alone: bool) -> Result<NonNull<Self>> {
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
        let lease = lease.map(|length| (Instant::now(), length));
        let owner = Box::new(Self { public, headers, job, queue: Arc::clone(queue), lease, alone });
        let owner = NonNull::from(Box::leak(owner));
        // SAFETY: just leaked, and nobody else knows it yet.
        unsafe { (*owner.as_ptr()).public.owner = owner.as_ptr().cast_const().cast() };
        Ok(owner)
    }

    /// Takes back what [`LeasedJob::into_raw`] gave; leaves jobs of a batch to their batch.
    pub fn free(job: Option<NonNull<flowmesh_job_t>>) {
        let Some(job) = job else { return };
        // SAFETY: C promises a job of this library that it has not freed; its `owner` was made by
        // `place`, and an owner that is `alone` belongs to the application, who gives it up here.
        unsafe {
            let owner = (*job.as_ptr()).owner.cast_mut().cast::<Self>();
            if (*owner).alone {
                drop(Box::from_raw(owner));
            }
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
        let Some((since, length)) = self.lease else { return 0 };
        let passed = match self.queue.client().test_clock_ns() {
            // The lease began at reserve_until - length of that clock, and it has no jitter.
            Some(now) => return (self.job.reserve_until.saturating_sub(now) / 1_000_000).max(0),
            None => since.elapsed(),
        };
        i64::try_from(length.saturating_sub(passed).as_millis()).unwrap_or(i64::MAX)
    }
}

/// A job on its way to C.
pub struct LeasedJob(NonNull<JobOwner>);

// SAFETY: it owns the job, which nobody changes after `place`.
unsafe impl Send for LeasedJob {}

impl LeasedJob {
    /// A job that is leased for `lease`.
    pub fn new(queue: &Arc<Queue>, job: Job, lease: Duration) -> Result<Self> {
        JobOwner::place(queue, job, Some(lease), true).map(Self)
    }

    /// Gives it to C.
    pub fn into_raw(self) -> *mut flowmesh_job_t {
        let owner = ManuallyDrop::new(self).0;
        // SAFETY: the owner lives until `JobOwner::free`.
        unsafe { &raw mut (*owner.as_ptr()).public }
    }
}

impl Drop for LeasedJob {
    fn drop(&mut self) {
        // SAFETY: made by `place`, and never given away.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// Jobs that C frees together.
pub struct JobBatch {
    queue: Arc<Queue>,
    jobs: Vec<NonNull<JobOwner>>,
}

// SAFETY: the batch owns its jobs; they are not changed after `place`.
unsafe impl Send for JobBatch {}
// SAFETY: as above.
unsafe impl Sync for JobBatch {}

impl JobBatch {
    /// A batch of jobs, leased for `lease` or only listed.
    pub fn new(queue: &Arc<Queue>, jobs: Vec<Job>, lease: Option<Duration>) -> Result<Self> {
        let mut batch = Self { queue: Arc::clone(queue), jobs: Vec::with_capacity(jobs.len()) };
        for job in jobs {
            batch.jobs.push(JobOwner::place(queue, job, lease, false)?);
        }
        Ok(batch)
    }

    /// Number of jobs.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// The job at `index` for C, NULL when there is none.
    pub fn at(&self, index: usize) -> *const flowmesh_job_t {
        // SAFETY: the batch keeps its owners alive.
        self.jobs.get(index).map_or(ptr::null(), |owner| unsafe { &raw const (*owner.as_ptr()).public })
    }

    /// The jobs' owners.
    pub fn owners(&self) -> impl Iterator<Item = &JobOwner> {
        // SAFETY: the batch keeps its owners alive, and nobody changes them.
        self.jobs.iter().map(|owner| unsafe { owner.as_ref() })
    }

    /// The queue they came from.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }
}

impl Drop for JobBatch {
    fn drop(&mut self) {
        for owner in &self.jobs {
            // SAFETY: made by `place`, not `alone`, and nobody else frees it.
            drop(unsafe { Box::from_raw(owner.as_ptr()) });
        }
    }
}
