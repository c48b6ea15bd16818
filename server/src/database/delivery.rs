//! A caller's wait for leased jobs, and the way back for jobs that did not reach it.
//!
//! Giving back must not block, wherever it happens: it is handed to the writer.

use flowmesh_proto::v1::Job;
use tokio::sync::oneshot;

use super::{
    job::JobNumber,
    job_id::JobIds,
    operation::{Operation, Reply},
    writer::Writer,
};
use crate::{
    commit::Committer,
    engine::Leased,
    error::{Error, Result},
};

/// A lease that may have been for nobody.
#[derive(Debug, Clone, Copy)]
pub(super) struct Undelivered {
    pub job: JobNumber,
    /// When it became due.
    pub visible_at: i64,
    /// Of this lease and no other, with `attempts`.
    pub until: i64,
    pub attempts: i64,
}

impl Undelivered {
    pub(super) fn of(ids: &JobIds, jobs: &[Job]) -> Vec<Self> {
        let of = |job: &Job| {
            Some(Self {
                job: ids.job(&job.id)?,
                visible_at: job.visible_at,
                until: job.reserve_until,
                attempts: i64::from(job.attempts),
            })
        };
        jobs.iter().filter_map(of).collect()
    }
}

/// A caller that waits for what [`Operation::Lease`] brings. Dropped, it gives back what has come.
pub(super) struct Wait<'a> {
    result: oneshot::Receiver<Result<Vec<Job>>>,
    ids: &'a JobIds,
    committer: &'a Committer<Writer>,
}

impl<'a> Wait<'a> {
    /// With the means to answer it.
    pub(super) fn new(ids: &'a JobIds, committer: &'a Committer<Writer>) -> (Reply<Vec<Job>>, Self) {
        let (reply, result) = oneshot::channel();
        (reply, Self { result, ids, committer })
    }

    pub(super) async fn end(mut self) -> Result<Leased> {
        let ended = (&mut self.result).await;
        let jobs = ended.unwrap_or_else(|_| Err(Error::internal("the operation ended in a panic")))?;
        if jobs.is_empty() {
            return Ok(Leased::none());
        }
        let (leases, way_back) = (Undelivered::of(self.ids, &jobs), self.committer.back_door());
        Ok(Leased::new(jobs, move || way_back.leave(Operation::GiveBack { leases })))
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        // An answer that comes later finds nobody, and the writer gives the jobs back itself.
        self.result.close();
        if let Ok(Ok(jobs)) = self.result.try_recv()
            && !jobs.is_empty()
        {
            let leases = Undelivered::of(self.ids, &jobs);
            self.committer.back_door().leave(Operation::GiveBack { leases });
        }
    }
}
