//! Long polls: callers that wait for a job, served in order of arrival.
//!
//! Waiters live in the writer. A queue with waiters has one alarm, at the earlier of "a job
//! becomes due" and "a wait ends"; the writer sleeps until the first alarm of all.

use flowmesh_proto::v1::Job;

use super::{
    operation::{Answer, Reply},
    queues::{Queues, Tx},
};
use crate::{clock::SECOND_NS, engine::Lease};

/// A caller that waits for a job.
pub(super) struct Waiter {
    lease: Lease,
    pub(super) reply: Reply<Vec<Job>>,
    /// When the wait ends.
    until: i64,
}

/// What becomes of a caller that asks for jobs.
pub(super) enum Turn {
    /// It gets these, or none.
    Now(Vec<Job>),
    /// There are none, and it wants to wait for them.
    Wait,
    /// It is to ask again in the next transaction.
    Later,
}

impl Queues {
    /// What a new caller gets. Those that wait come first.
    pub(super) fn lease(
        &mut self,
        tx: &Tx<'_>,
        id: i64,
        lease: &Lease,
        answers: &mut Vec<Answer>,
    ) -> rusqlite::Result<Turn> {
        if !self.serve(tx, id, answers)? {
            return Ok(Turn::Later);
        }
        let jobs = if self.get(id).waiters.is_empty() { self.take(tx, id, lease)? } else { Vec::new() };
        let waits = jobs.is_empty() && lease.wait_seconds > 0;
        Ok(if waits { Turn::Wait } else { Turn::Now(jobs) })
    }

    /// Lets a caller wait behind those that came before.
    pub(super) fn wait(&mut self, now: i64, id: i64, lease: Lease, reply: Reply<Vec<Job>>) {
        let until = now.saturating_add(lease.wait_seconds.saturating_mul(SECOND_NS));
        self.get_mut(id).waiters.push_back(Waiter { lease, reply, until });
        self.set_alarm(id);
    }

    /// Serves the waiters of all queues in which a job may be due, and ends the waits whose time
    /// has come.
    pub(super) fn serve_due(&mut self, tx: &Tx<'_>, answers: &mut Vec<Answer>) -> rusqlite::Result<()> {
        while let Some(id) = self.to_serve.pop() {
            self.serve(tx, id, answers)?;
        }
        let due: Vec<i64> = self.alarms.range(..=(tx.now, i64::MAX)).map(|(_, id)| *id).collect();
        for id in due {
            if !self.serve(tx, id, answers)? {
                continue;
            }
            let queue = self.get_mut(id);
            let waiters = std::mem::take(&mut queue.waiters);
            for waiter in waiters {
                if waiter.until > tx.now {
                    queue.waiters.push_back(waiter);
                } else {
                    answers.push(Answer::Leased(waiter.reply, Ok(Vec::new())));
                }
            }
            self.set_alarm(id);
        }
        Ok(())
    }

    /// Gives due jobs of queue `id` to its waiters; those that have gone lease nothing. False when that
    /// has to wait, for leases that are overdue or because this transaction has leased enough: the alarm
    /// then stays in the past.
    fn serve(&mut self, tx: &Tx<'_>, id: i64, answers: &mut Vec<Answer>) -> rusqlite::Result<bool> {
        if self.get(id).waiters.is_empty() {
            return Ok(true);
        }
        if self.expiry.next <= tx.now {
            let name = self.get(id).name.clone();
            if !self.is_current(tx, &name)? {
                self.set_alarm(id);
                return Ok(false);
            }
        }
        let mut all = true;
        while let Some(front) = self.get(id).waiters.front() {
            if front.reply.is_closed() {
                self.get_mut(id).waiters.pop_front();
                continue;
            }
            if self.leasing.is_spent() {
                all = false;
                break;
            }
            let lease = front.lease;
            let jobs = self.take(tx, id, &lease)?;
            if jobs.is_empty() {
                break;
            }
            if let Some(waiter) = self.get_mut(id).waiters.pop_front() {
                answers.push(Answer::Leased(waiter.reply, Ok(jobs)));
            }
        }
        self.set_alarm(id);
        Ok(all)
    }

    /// Sets the alarm of queue `id` by its waiters and its jobs.
    pub(super) fn set_alarm(&mut self, id: i64) {
        let queue = self.get_mut(id);
        let end = queue.waiters.iter().map(|w| w.until).min();
        let alarm = end.map_or(i64::MAX, |end| end.min(queue.head));
        let before = std::mem::replace(&mut queue.alarm, alarm);
        if alarm != before {
            self.alarms.remove(&(before, id));
            if alarm != i64::MAX {
                self.alarms.insert((alarm, id));
            }
        }
    }

    /// Takes all waiters out, to end their waits.
    pub(super) fn drain_waiters(&mut self) -> Vec<Waiter> {
        self.alarms.clear();
        self.all_mut()
            .flat_map(|queue| {
                queue.alarm = i64::MAX;
                queue.waiters.drain(..)
            })
            .collect()
    }
}
