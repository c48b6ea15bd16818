//! The writer: applies operations in one transaction, commits it once, then answers all.
//!
//! The only writer of the file. Nothing is answered before its transaction is stored as the
//! policy asks; when the transaction fails, everything in it is answered with that error and the
//! pictures in memory are taken from the tables again.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use rusqlite::{Connection, config::DbConfig, ffi};

use super::{
    Place,
    checkpoint::Checkpoints,
    commits::Commits,
    delivery::Undelivered,
    health::{Health, is_failed_sync},
    job_id::JobIds,
    lock,
    operation::{Answer, Operation},
    queues::{Queues, Step, Tx},
    readers::Readers,
    reopen::Reopening,
    values::Values,
    waiters::Turn,
};
use crate::{
    clock::{Clock, SECOND_NS},
    commit::Sink,
    engine::FsyncPolicy,
    error::{Error, Result},
};
use flowmesh_proto::v1::Job;

/// How long timers rest after a failed transaction; operations are tried at once.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Applies operations to the database.
pub(super) struct Writer {
    pub conn: Arc<Mutex<Connection>>,
    pub ids: JobIds,
    pub queues: Queues,
    pub values: Values,
    pub commits: Commits,
    pub clock: Clock,
    pub create: bool,
    pub health: Arc<Health>,
    pub sync: SyncState,
    /// `None` in memory.
    pub checkpoints: Option<Checkpoints>,
    pub readers: Arc<Readers>,
    pub reopening: Reopening,
    /// When the first lease ends, for readers.
    pub lease_end: Arc<AtomicI64>,
    pub answers: Vec<Answer>,
    /// Operations for the next transaction: see [`Queues::must_wait`].
    pub waiting: Vec<Operation>,
    pub alarm: Alarm,
}

/// How commits reach the disk.
pub(super) struct SyncState {
    policy: FsyncPolicy,
    /// `None` in memory, where nothing is synced.
    pub(super) place: Option<Place>,
    /// Whether the connection syncs when it commits.
    full: bool,
    /// When the WAL must be synced at the latest (policy `interval`).
    due: Option<Instant>,
    /// A sync failed: frames that were thought written may be gone although they can be read.
    suspect: bool,
}

/// When the writer wants to run without being called.
#[derive(Default)]
pub(super) struct Alarm {
    /// Instant of the engine's clock, and the same for a thread that sleeps.
    due: Option<(i64, Instant)>,
    rest_until: Option<Instant>,
    sync: Option<Instant>,
}

impl SyncState {
    pub(super) fn new(policy: FsyncPolicy, place: Option<Place>) -> Self {
        Self { policy, place, full: true, due: None, suspect: false }
    }

    /// The file was opened again, which left nothing in doubt.
    pub(super) fn reopened(&mut self) {
        self.full = true;
        self.suspect = false;
    }

    /// Has the next commit synced or not.
    fn prepare(&mut self, conn: &Connection, acknowledges: bool) -> rusqlite::Result<()> {
        let full = acknowledges && self.policy == FsyncPolicy::Always;
        if self.place.is_some() && full != self.full {
            conn.execute_batch(if full {
                "PRAGMA synchronous = FULL"
            } else {
                "PRAGMA synchronous = NORMAL"
            })?;
            self.full = full;
        }
        Ok(())
    }

    fn committed(&mut self) {
        if let (FsyncPolicy::Interval(interval), Some(_), None) = (self.policy, &self.place, self.due) {
            self.due = Instant::now().checked_add(interval);
        }
    }

    /// The periodic sync. SQLite only appends to the WAL between checkpoints, which sync on their
    /// own, so syncing that file is all.
    fn sync_if_due(&mut self, health: &Health) {
        if self.due.is_none_or(|due| due > Instant::now()) {
            return;
        }
        self.due = None;
        let Some(place) = &self.place else { return };
        // A second sync after one that failed would leave out what the first one lost.
        match if self.suspect { place.rewrite_wal() } else { place.sync_wal() } {
            Ok(()) => self.suspect = false,
            Err(e) => {
                tracing::error!(file = health.file(), error = %e, "the periodic sync failed");
                self.suspect = true;
                // Also when nobody writes any more.
                self.committed();
            }
        }
    }

    /// After a failed sync: writes the WAL again, before anything else is promised. Frames that are
    /// missing from the disk would otherwise cut off all that follow them.
    fn regain_trust(&mut self) -> rusqlite::Result<()> {
        if let Some(place) = self.place.as_ref().filter(|_| self.suspect) {
            place.rewrite_wal().map_err(|e| {
                rusqlite::Error::SqliteFailure(
                    ffi::Error::new(ffi::SQLITE_IOERR_FSYNC),
                    Some(format!("writing the write-ahead log again after a failed sync: {e}")),
                )
            })?;
            self.suspect = false;
        }
        Ok(())
    }
}

impl Sink for Writer {
    type Op = Operation;

    fn run(&mut self, batch: &mut Vec<Operation>) {
        if let Err(error) = self.health.check() {
            self.refuse_all(batch, &error);
            return;
        }
        self.sync.sync_if_due(&self.health);
        let conn = self.conn.clone();
        let mut conn = lock(&conn);
        let now = self.clock.now_ns();
        if batch.is_empty() && self.first_alarm() > now {
            self.set_alarm(now);
            return;
        }
        let reopened = self.reopen_if_due(&mut conn, now);
        match reopened.and_then(|()| self.transact_and_answer(&conn, now, batch)) {
            Ok(()) => {
                self.alarm.rest_until = None;
                if let Some(checkpoints) = &mut self.checkpoints
                    && let Err(e) = checkpoints.after_commit(&conn)
                {
                    self.sync.suspect |= is_failed_sync(&e);
                    tracing::warn!(file = self.health.file(), error = %e, "a checkpoint failed");
                    // Now, because reads look where it may have left nothing.
                    if let Err(e) = self.reopen_if_due(&mut conn, now) {
                        tracing::error!(file = self.health.file(), error = %e, "it will be tried again");
                    }
                }
            }
            Err(e) => self.give_up(&conn, batch, &e),
        }
        self.set_alarm(now);
    }

    fn next_wake(&self) -> Option<Instant> {
        let due = self.alarm.due.map(|(_, at)| self.alarm.rest_until.map_or(at, |rest| rest.max(at)));
        match (due, self.alarm.sync) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn recover(&mut self) {
        let conn = self.conn.clone();
        let error = Error::internal("the operation ended in a panic");
        for answer in self.answers.drain(..) {
            answer.fail(&error);
        }
        self.roll_back(&lock(&conn));
    }

    fn close(&mut self) {
        self.refuse_all(&mut Vec::new(), &Error::closing());
        if !self.checkpoints.take().is_none_or(Checkpoints::end)
            && let Err(e) = lock(&self.conn).set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        {
            tracing::error!(file = self.health.file(), error = %e, "the file is closed with a checkpoint");
        }
        // Closing the file copies the WAL into it. The connection's place is taken by an empty one.
        if self.sync.place.is_some() && !self.health.is_damaged() {
            match Connection::open_in_memory() {
                Ok(empty) => *lock(&self.conn) = empty,
                Err(e) => tracing::warn!(file = self.health.file(), error = %e, "the file stays open"),
            }
        }
    }
}

impl Writer {
    /// One transaction and its answers; then, as long as an answer finds nobody, one more in which the
    /// jobs that it leased go to others.
    fn transact_and_answer(
        &mut self,
        conn: &Connection,
        now: i64,
        batch: &mut Vec<Operation>,
    ) -> rusqlite::Result<()> {
        loop {
            self.transact(conn, now, batch)?;
            self.lease_end.store(self.queues.expiry.next, Ordering::SeqCst);
            let untold: Vec<Job> = self.answers.drain(..).filter_map(Answer::send).flatten().collect();
            if untold.is_empty() {
                return Ok(());
            }
            batch.push(Operation::GiveBack { leases: Undelivered::of(&self.ids, &untold) });
        }
    }

    /// One transaction: what is due by now, then the operations in order.
    fn transact(&mut self, conn: &Connection, now: i64, batch: &mut Vec<Operation>) -> rusqlite::Result<()> {
        self.sync.suspect |= self.checkpoints.as_ref().is_some_and(Checkpoints::take_failed_sync);
        self.sync.regain_trust()?;
        if !self.waiting.is_empty() {
            // They came first.
            self.waiting.append(batch);
            std::mem::swap(&mut self.waiting, batch);
        }
        self.sync.prepare(conn, batch.iter().any(|op| self.acknowledges_change(op)))?;
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let ids = self.ids.clone();
        let tx = Tx { conn, ids: &ids, now, create: self.create };
        self.queues.expire(&tx)?;
        self.values.sweep(&tx)?;
        let mut operations = batch.drain(..);
        let applied = operations.try_for_each(|operation| self.apply_or_keep(&tx, operation));
        // Those behind one that failed.
        self.waiting.extend(operations);
        applied?;
        self.queues.serve_due(&tx, &mut self.answers)?;
        self.queues.save(conn)?;
        if planted!(DatabaseAnswersEarly) {
            self.answers.drain(..).for_each(|answer| drop(answer.send()));
        }
        conn.prepare_cached("COMMIT")?.execute([])?;
        self.values.committed();
        self.sync.committed();
        Ok(())
    }

    /// Whether the reply to `operation` promises something that must be on disk. A lease need not
    /// be: if a crash of the machine loses it, the job waits again.
    fn acknowledges_change(&self, operation: &Operation) -> bool {
        match operation {
            Operation::Lease { queue, .. } => self.create && self.queues.id(queue).is_none(),
            Operation::GiveBack { .. } | Operation::Settle { .. } => false,
            _ => true,
        }
    }

    fn apply_or_keep(&mut self, tx: &Tx<'_>, operation: Operation) -> rusqlite::Result<()> {
        match self.queues.must_wait(tx, &operation) {
            Ok(false) => self.apply(tx, operation),
            other => {
                self.waiting.push(operation);
                other.map(drop)
            }
        }
    }

    /// Applies one operation. Its answer waits for the commit; an error ends the transaction.
    fn apply(&mut self, tx: &Tx<'_>, operation: Operation) -> rusqlite::Result<()> {
        let Self { queues, values, commits, answers, waiting, .. } = self;
        match operation {
            Operation::Enqueue { queue, body, delay_seconds, reply } => {
                let visible_at = tx.now.saturating_add(delay_seconds.saturating_mul(SECOND_NS));
                let step = match queues.wanted(tx, &queue) {
                    Ok(Ok(id)) => queues.enqueue(tx, id, &body, visible_at),
                    Ok(Err(e)) => Ok(Err(e)),
                    Err(e) => Err(e),
                };
                answer(answers, step, |result| Answer::Enqueued(reply, result))
            }
            Operation::Lease { queue, lease, reply } => {
                let id = match queues.wanted(tx, &queue) {
                    Ok(Ok(id)) => id,
                    other => {
                        return answer(answers, other.map(|r| r.map(|_| Vec::new())), |r| {
                            Answer::Leased(reply, r)
                        });
                    }
                };
                match queues.lease(tx, id, &lease, answers) {
                    Ok(Turn::Wait) => {
                        queues.wait(tx.now, id, lease, reply);
                        Ok(())
                    }
                    Ok(Turn::Later) => {
                        waiting.push(Operation::Lease { queue, lease, reply });
                        Ok(())
                    }
                    Ok(Turn::Now(jobs)) => answer(answers, Ok(Ok(jobs)), |r| Answer::Leased(reply, r)),
                    Err(e) => answer(answers, Err(e), |r| Answer::Leased(reply, r)),
                }
            }
            Operation::GiveBack { leases } => leases.iter().try_for_each(|lease| queues.give_back(tx, lease)),
            Operation::Ack { queue, job_id, reply } => {
                answer(answers, queues.ack(tx, &queue, &job_id), |r| Answer::Done(reply, r))
            }
            Operation::Nack { queue, job_id, delay_seconds, reply } => {
                answer(answers, queues.nack(tx, &queue, &job_id, delay_seconds), |r| Answer::Nacked(reply, r))
            }
            Operation::SetPolicy { queue, policy, reply } => {
                answer(answers, queues.set_policy(tx, &queue, policy), |r| Answer::Done(reply, r))
            }
            Operation::Replay { queue, job_id, reply } => {
                answer(answers, queues.replay(tx, &queue, &job_id), |r| Answer::Enqueued(reply, r))
            }
            Operation::Settle { reply, .. } => answer(answers, Ok(Ok(())), |r| Answer::Done(reply, r)),
            Operation::Set { store, key, value, ttl_seconds, reply } => {
                answer(answers, values.set(tx, &store, &key, &value, ttl_seconds), |r| Answer::Done(reply, r))
            }
            Operation::Delete { store, key, reply } => {
                answer(answers, values.delete(tx, &store, &key), |r| Answer::Done(reply, r))
            }
            Operation::Commit { stream, group, offset, reply } => {
                answer(answers, commits.commit(tx, &stream, &group, offset), |r| Answer::Done(reply, r))
            }
        }
    }

    /// Ends a transaction that failed: nothing of it is stored, and every caller is told so.
    fn give_up(&mut self, conn: &Connection, batch: &mut Vec<Operation>, e: &rusqlite::Error) {
        self.sync.suspect |= is_failed_sync(e);
        let error = self.health.error(e);
        tracing::error!(file = self.health.file(), error = %e, "a transaction failed");
        self.roll_back(conn);
        for answer in self.answers.drain(..) {
            answer.fail(&error);
        }
        for operation in self.waiting.drain(..).chain(batch.drain(..)) {
            operation.fail(&error);
        }
        self.alarm.rest_until = Instant::now().checked_add(REST_AFTER_FAILURE);
    }

    /// Brings the pictures in memory back to what is stored.
    pub(super) fn roll_back(&mut self, conn: &Connection) {
        if self.reopening.is_closed() {
            // They are what was stored when it was closed.
            return;
        }
        let mut reload = || -> rusqlite::Result<()> {
            if !conn.is_autocommit() {
                conn.execute_batch("ROLLBACK")?;
            }
            let orphans = self.queues.reload(conn)?;
            for waiter in orphans {
                // Whoever waited has gone if this does not reach it.
                let _ = waiter.reply.send(Err(Error::internal("the queue could not be created")));
            }
            self.values.reload(conn)?;
            self.commits.reload(conn)
        };
        if let Err(e) = reload() {
            // The pictures may now differ from the tables; going on could only do harm.
            self.health.set_damaged(format!("cannot be read after a failed transaction: {e}"));
        }
        self.lease_end.store(self.queues.expiry.next, Ordering::SeqCst);
    }

    fn refuse_all(&mut self, batch: &mut Vec<Operation>, error: &Error) {
        for operation in self.waiting.drain(..).chain(batch.drain(..)) {
            operation.fail(error);
        }
        for waiter in self.queues.drain_waiters() {
            // Whoever waited has gone if this does not reach it.
            let _ = waiter.reply.send(Err(error.clone()));
        }
        self.alarm = Alarm::default();
    }

    /// The instant at which there is something to do without an operation.
    fn first_alarm(&self) -> i64 {
        if !self.waiting.is_empty() {
            return i64::MIN;
        }
        let waiters = self.queues.alarms.first().map_or(i64::MAX, |(at, _)| *at);
        waiters.min(self.queues.expiry.next).min(self.values.next_expiry).min(self.reopening.alarm())
    }

    fn set_alarm(&mut self, now: i64) {
        let at = self.first_alarm();
        if at == i64::MAX {
            self.alarm.due = None;
        } else if self.alarm.due.is_none_or(|(known, _)| known != at || at <= now || self.came_early(now)) {
            // On a test clock nobody sleeps; its advance rings. What this run has left is done at once
            // on any clock, unless it failed.
            let left = at <= now && self.alarm.rest_until.is_none();
            let rest = self.clock.until(at).or(left.then_some(Duration::ZERO));
            self.alarm.due = rest.map(|rest| (at, Instant::now() + rest));
        }
        self.alarm.sync = self.sync.due;
    }

    /// Whether the sleeper's clock was ahead of the engine's.
    fn came_early(&self, now: i64) -> bool {
        self.alarm.due.is_some_and(|(at, instant)| at > now && instant <= Instant::now())
    }
}

/// Notes an answer; where the step failed, one that the end of the transaction overwrites.
fn answer<T>(
    answers: &mut Vec<Answer>,
    step: Step<T>,
    make: impl FnOnce(Result<T>) -> Answer,
) -> rusqlite::Result<()> {
    match step {
        Ok(result) => {
            answers.push(make(result));
            Ok(())
        }
        Err(e) => {
            answers.push(make(Err(Error::internal("the transaction failed"))));
            Err(e)
        }
    }
}
