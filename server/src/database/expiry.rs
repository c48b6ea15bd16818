//! The ends of leases, a bounded number in one transaction.
//!
//! A lease is over at its `until`, but its row goes when a transaction takes it: at most so many in
//! one, for a million leases may end at one instant and other calls must not wait for them all. What is
//! over and still has its row is *overdue*; a queue is *settled* when it has nothing overdue, and
//! *current* when the queue whose dead letters it takes is settled as well.
//!
//! Invariant: no caller can tell an overdue lease from one whose row was taken when it ended.
//!
//! - ACK, NACK and a delivery that failed compare `until` with the instant of their transaction: what
//!   is overdue is not leased.
//! - A call to which it matters where the jobs went waits until its queues are current: see
//!   [`Queues::must_wait`]. So do waiters, also those whose time is up. Jobs are thus handed out in ready
//!   order, counters and lists know no overdue leases, and the policy in force at the end applies.
//! - The leases of a queue end in order of (until, job), by whichever way, so dead letters get their
//!   numbers in that order.
//!
//! Nobody waits for ever: from a queue that is not settled nothing is leased, so what it waits for
//! only gets less. A queue with few overdue leases does not wait for the many of another one: they are
//! ended ahead of their turn when a call asks for it.

use std::collections::HashSet;

use rusqlite::params;

use super::{
    allowance::Allowance,
    job::JobNumber,
    jobs::{DELETE_LEASED, set_aside},
    operation::Operation,
    queues::{Queues, Tx, first_expiry},
    retry,
};
use crate::resource::ResourceName;

/// Jobs that one transaction leases; the last call may pass it. As many can become due at one instant
/// as there are, and as many calls wait for them as tenants may have.
const LEASES: usize = 1_000;

/// What the writer knows of leases that end.
pub(super) struct Expiry {
    /// No lease ends before this.
    pub next: i64,
    /// Leases that one transaction ends in their turn, and as many again ahead of it.
    step: usize,
    /// What is left in this transaction for those ahead of their turn.
    ahead: Allowance,
    /// Queues that were found not to be settled in this transaction: they stay so until its end, or
    /// a call would overtake one that had to wait.
    unsettled: HashSet<i64>,
}

/// What the writer knows of the leases of one queue.
pub(super) struct Ends {
    /// None ends before this.
    pub next: i64,
    /// Too many were overdue to end them ahead of their turn, the last with this `until`: the queue is
    /// not settled before the others have come that far.
    last_overdue: i64,
}

/// A row of `leased`.
type Row = (i64, i64, i64);

impl Expiry {
    pub(super) fn new(step: usize) -> Self {
        // Less than one would never end.
        let step = step.max(1);
        Self { next: 0, step, ahead: Allowance::of(step), unsettled: HashSet::new() }
    }
}

impl Ends {
    /// Of a queue of which nothing is known but how many leases it has.
    pub(super) fn of(leased: i64) -> Self {
        Self { next: if leased > 0 { i64::MIN } else { i64::MAX }, last_overdue: i64::MIN }
    }
}

impl Queues {
    /// At the beginning of a transaction: ends leases whose time has come, those that ended first
    /// first. Some may be left; then `expiry.next` stays in the past.
    pub(super) fn expire(&mut self, tx: &Tx<'_>) -> rusqlite::Result<()> {
        self.expiry.unsettled.clear();
        self.expiry.ahead = Allowance::of(self.expiry.step);
        self.leasing = Allowance::of(LEASES);
        if self.expiry.next > tx.now {
            return Ok(());
        }
        let mut allowance = Allowance::of(self.expiry.step);
        let overdue: Vec<Row> = tx
            .conn
            .prepare_cached(
                "SELECT job, until, attempts FROM leased WHERE until <= ?1 ORDER BY until, job LIMIT ?2",
            )?
            .query_map(params![tx.now, allowance.jobs as i64], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        self.end(tx, &overdue, &mut allowance)?;
        self.expiry.next = first_expiry(tx.conn)?;
        Ok(())
    }

    /// Whether `operation` has to wait for a later transaction: because leases are overdue, or because
    /// this one has leased enough.
    pub(super) fn must_wait(&mut self, tx: &Tx<'_>, operation: &Operation) -> rusqlite::Result<bool> {
        if matches!(operation, Operation::Lease { .. }) && self.leasing.is_spent() {
            return Ok(true);
        }
        if self.expiry.next > tx.now {
            return Ok(false);
        }
        let ready = match operation {
            // It takes what is due first, counts, or decides over what comes back.
            Operation::Lease { queue, .. }
            | Operation::SetPolicy { queue, .. }
            | Operation::Settle { queue: Some(queue), .. } => self.is_current(tx, queue)?,
            // It gets its number behind the dead letters that ought to be there.
            Operation::Enqueue { queue, .. } => self.has_its_dead_letters(tx, queue)?,
            // The same, if it sends a job to the dead letters.
            Operation::Nack { queue, job_id, .. } => {
                !self.would_bury(tx, queue, job_id)? || self.is_settled(tx, queue)?
            }
            // It enqueues in one and looks for the job in the other.
            Operation::Replay { queue, .. } => {
                self.has_its_dead_letters(tx, queue)? && self.is_current(tx, &queue.dead_letters())?
            }
            // The first dead letter would have made the queue.
            Operation::Ack { queue, .. } => {
                self.id(queue).is_some() || self.has_its_dead_letters(tx, queue)?
            }
            Operation::GiveBack { .. }
            | Operation::Settle { queue: None, .. }
            | Operation::Set { .. }
            | Operation::Delete { .. }
            | Operation::Commit { .. } => true,
        };
        Ok(!ready)
    }

    /// Whether nothing overdue belongs into queue `name`, be it as its own job or as a dead letter.
    pub(super) fn is_current(&mut self, tx: &Tx<'_>, name: &ResourceName) -> rusqlite::Result<bool> {
        Ok(self.expiry.next > tx.now
            || (self.has_its_dead_letters(tx, name)? && self.is_settled(tx, name)?))
    }

    fn has_its_dead_letters(&mut self, tx: &Tx<'_>, name: &ResourceName) -> rusqlite::Result<bool> {
        match name.source_of_dead_letters() {
            Some(source) => self.is_settled(tx, &source),
            None => Ok(true),
        }
    }

    /// Whether queue `name` has no overdue leases; ends them if they are few.
    fn is_settled(&mut self, tx: &Tx<'_>, name: &ResourceName) -> rusqlite::Result<bool> {
        let Some(id) = self.id(name) else { return Ok(true) };
        let ends = &self.get(id).ends;
        if ends.next > tx.now {
            return Ok(true);
        }
        if self.expiry.next <= ends.last_overdue || self.expiry.unsettled.contains(&id) {
            return Ok(false);
        }
        let settled = self.settle(tx, id)?;
        if !settled {
            self.expiry.unsettled.insert(id);
        }
        Ok(settled)
    }

    /// Looks for overdue leases of queue `id` and ends them if they are few; whether none is left.
    /// Reads over all its leases: not to be repeated before something has changed.
    fn settle(&mut self, tx: &Tx<'_>, id: i64) -> rusqlite::Result<bool> {
        let (first, end) = JobNumber::range(id);
        let (overdue, last_overdue, next): (usize, Option<i64>, Option<i64>) = tx
            .conn
            .prepare_cached(
                "SELECT count(*) FILTER (WHERE until <= ?3), max(until) FILTER (WHERE until <= ?3),
                 min(until) FILTER (WHERE until > ?3) FROM leased WHERE job >= ?1 AND job < ?2",
            )?
            .query_row([first, end, tx.now], |r| {
                Ok((usize::try_from(r.get::<_, i64>(0)?).unwrap_or(usize::MAX), r.get(1)?, r.get(2)?))
            })?;
        if overdue > self.expiry.step {
            self.get_mut(id).ends.last_overdue = last_overdue.unwrap_or(i64::MIN);
        }
        let mut ahead = self.expiry.ahead;
        if overdue > ahead.jobs {
            return Ok(false);
        }
        if overdue > 0 {
            // By job and not by `until`: others have more that is overdue.
            let rows: Vec<Row> = tx
                .conn
                .prepare_cached(
                    "SELECT job, until, attempts FROM leased
                     WHERE job >= ?1 AND job < ?2 AND +until <= ?3 ORDER BY +until, job",
                )?
                .query_map([first, end, tx.now], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?
                .collect::<rusqlite::Result<_>>()?;
            let all = self.end(tx, &rows, &mut ahead)?;
            self.expiry.ahead = ahead;
            if !all {
                return Ok(false);
            }
        }
        self.get_mut(id).ends.next = next.unwrap_or(i64::MAX);
        Ok(true)
    }

    /// Ends overdue leases, in this order; whether the allowance was enough for all of them.
    fn end(&mut self, tx: &Tx<'_>, overdue: &[Row], allowance: &mut Allowance) -> rusqlite::Result<bool> {
        for &(number, until, attempts) in overdue {
            if allowance.is_spent() {
                return Ok(false);
            }
            allowance.jobs -= 1;
            let Some(job) = JobNumber::from_stored(number).filter(|job| self.contains(job.queue())) else {
                tx.conn.prepare_cached(DELETE_LEASED)?.execute([number])?;
                tracing::error!(number, "a lease belongs to no queue and was dropped");
                continue;
            };
            let policy = &self.get(job.queue()).policy;
            if !retry::exhausted(policy, attempts) {
                let visible_at = until.saturating_add(retry::backoff_ns(policy, attempts));
                self.end_lease(tx, job)?;
                self.put_back(tx, job, visible_at, attempts)?;
                continue;
            }
            match self.bury(tx, job, attempts)? {
                Ok(size) => allowance.spend(0, size),
                Err(_) => {
                    self.end_lease(tx, job)?;
                    self.change(job.queue()).counters.waiting += 1;
                    set_aside(tx.conn, &self.get(job.queue()).name, number)?;
                }
            }
        }
        Ok(true)
    }
}
