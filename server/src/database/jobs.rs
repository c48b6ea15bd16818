//! Moves of jobs between their states, inside a transaction of the writer.
//!
//! A job is in exactly one of `waiting`, `leased` and `damaged`, and its body in `jobs`. A body
//! that does not match its checksum sets the job aside in `damaged` when it is met: it stays, is
//! counted as waiting, is reported in the log and by ACK, NACK and ReplayDLQJob of its id, and no
//! longer stands in the way of others.

use std::collections::BTreeMap;

use flowmesh_proto::v1::Job;
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    delivery::Undelivered,
    job::{Body, JobNumber, RawBody, StoredBody},
    queues::{Queues, Step, Tx},
    retry, timestamp,
};
use crate::{
    clock::SECOND_NS,
    engine::{Enqueued, Lease, Nacked},
    error::{Error, ErrorKind},
    resource::ResourceName,
};

/// Headers of a dead letter.
const ORIGINAL_QUEUE: &str = "x-flowmesh-original-queue";
const ORIGINAL_JOB_ID: &str = "x-flowmesh-original-job-id";
const FAILED_AT: &str = "x-flowmesh-failed-at";
const ATTEMPTS: &str = "x-flowmesh-attempts";

const INSERT_WAITING: &str = "INSERT INTO waiting VALUES (?1, ?2, ?3, ?4)";
const DELETE_WAITING: &str = "DELETE FROM waiting WHERE queue = ?1 AND visible_at = ?2 AND job = ?3";
const INSERT_LEASED: &str = "INSERT INTO leased VALUES (?1, ?2, ?3)";
pub(super) const DELETE_LEASED: &str = "DELETE FROM leased WHERE job = ?1";
const DELETE_UNTIL: &str = "DELETE FROM leased WHERE job = ?1 AND until > ?2";
const DELETE_THIS_LEASE: &str = "DELETE FROM leased WHERE job = ?1 AND until = ?2 AND attempts = ?3";
const DELETE_JOB: &str = "DELETE FROM jobs WHERE job = ?1";
const INSERT_DAMAGED: &str = "INSERT INTO damaged VALUES (?1)";

/// What the encoding of a job adds to its texts and payload: id, numbers, tags and lengths.
const JOB_OVERHEAD: usize = 112;

/// A job's encoded size, never less than it will be.
pub(super) fn encoded_size(path: &ResourceName, body: &StoredBody) -> usize {
    let headers: usize = body.headers.iter().map(|(k, v)| k.len() + v.len() + 16).sum();
    JOB_OVERHEAD + path.as_str().len() + headers + body.payload.len()
}

impl Queues {
    /// Adds a job to queue `id`.
    pub(super) fn enqueue(&mut self, tx: &Tx<'_>, id: i64, body: &Body, visible_at: i64) -> Step<Enqueued> {
        let queue = self.change(id);
        let seq = queue.counters.next_seq;
        let Some(job) = JobNumber::new(id, seq) else {
            let why = format!("queue {} has numbered all the jobs it can ({seq})", queue.name);
            return Ok(Err(Error::new(ErrorKind::ResourceExhausted, why)));
        };
        let created_at = tx.now.max(queue.counters.last_created_at);
        tx.conn.prepare_cached("INSERT INTO jobs VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
            job.get(),
            created_at,
            body.row_crc(job, created_at),
            (!body.headers.is_empty()).then_some(&body.headers),
            &body.payload[..]
        ])?;
        let counters = &mut queue.counters;
        counters.next_seq += 1;
        counters.last_created_at = created_at;
        self.put_back(tx, job, visible_at, 0)?;
        Ok(Ok(Enqueued { job_id: tx.ids.text(job), seq }))
    }

    /// Makes a job wait whose row is in none of the states, and has waiters looked at.
    pub(super) fn put_back(
        &mut self,
        tx: &Tx<'_>,
        job: JobNumber,
        visible_at: i64,
        attempts: i64,
    ) -> rusqlite::Result<()> {
        let id = job.queue();
        tx.conn.prepare_cached(INSERT_WAITING)?.execute([id, visible_at, job.get(), attempts])?;
        let queue = self.change(id);
        queue.counters.waiting += 1;
        queue.head = queue.head.min(visible_at);
        if !queue.waiters.is_empty() {
            self.to_serve.push(id);
        }
        Ok(())
    }

    /// Leases due jobs of queue `id` in ready order; none if nothing is due.
    pub(super) fn take(&mut self, tx: &Tx<'_>, id: i64, lease: &Lease) -> rusqlite::Result<Vec<Job>> {
        loop {
            if self.get(id).head > tx.now {
                return Ok(Vec::new());
            }
            // Nothing although something may be due: only damaged jobs were met. They are out of the
            // way now, so this ends.
            let taken = self.take_some(tx, id, lease)?;
            if !taken.is_empty() {
                return Ok(taken);
            }
        }
    }

    /// One look at the head of the ready order; always moves `head` on when it takes nothing.
    fn take_some(&mut self, tx: &Tx<'_>, id: i64, lease: &Lease) -> rusqlite::Result<Vec<Job>> {
        let mut taken = Vec::new();
        let until = tx.now.saturating_add(lease.visibility_seconds.saturating_mul(SECOND_NS));
        let mut damaged = Vec::new();
        let mut size = 0_usize;
        // Where the next look for a due job begins.
        let mut head = i64::MAX;
        let mut last = None;
        {
            let queue = self.get(id);
            let mut stmt = tx.conn.prepare_cached(
                "SELECT w.job, w.visible_at, w.attempts, j.created_at, j.headers, j.payload, j.crc
                 FROM waiting w LEFT JOIN jobs j ON j.job = w.job
                 WHERE w.queue = ?1 ORDER BY w.visible_at, w.job LIMIT ?2",
            )?;
            let mut rows = stmt.query([id, i64::try_from(lease.max_jobs).unwrap_or(i64::MAX)])?;
            while let Some(row) = rows.next()? {
                let visible_at: i64 = row.get(1)?;
                head = visible_at;
                if visible_at > tx.now {
                    break;
                }
                let number: i64 = row.get(0)?;
                let attempts = row.get::<_, i64>(2)?.saturating_add(1);
                let body = JobNumber::from_stored(number).and_then(|job| {
                    let body = StoredBody::read(job, RawBody::from_row(row, 3)?)?;
                    Some((job, body))
                });
                let Some((job, body)) = body else {
                    damaged.push((visible_at, number));
                    continue;
                };
                size = size.saturating_add(encoded_size(&queue.name, &body));
                if size > lease.max_bytes && !taken.is_empty() {
                    break;
                }
                last = Some((visible_at, number, attempts));
                taken.push(Job {
                    id: tx.ids.text(job),
                    resource_path: queue.name.as_str().to_owned(),
                    seq: job.seq(),
                    payload: body.payload,
                    headers: body.headers,
                    created_at: body.created_at,
                    visible_at,
                    reserve_until: until,
                    attempts: i32::try_from(attempts).unwrap_or(i32::MAX),
                });
            }
        }
        for (visible_at, number) in damaged {
            tx.conn.prepare_cached(DELETE_WAITING)?.execute([id, visible_at, number])?;
            set_aside(tx.conn, &self.get(id).name, number)?;
        }
        if let Some((visible_at, number, attempts)) = last {
            if taken.len() == 1 {
                tx.conn.prepare_cached(INSERT_LEASED)?.execute([number, until, attempts])?;
                tx.conn.prepare_cached(DELETE_WAITING)?.execute([id, visible_at, number])?;
            } else {
                // What was taken is exactly the beginning of the ready order.
                tx.conn
                    .prepare_cached(
                        "INSERT INTO leased SELECT job, ?4, attempts + 1 FROM waiting
                         WHERE queue = ?1 AND (visible_at, job) <= (?2, ?3)",
                    )?
                    .execute([id, visible_at, number, until])?;
                tx.conn
                    .prepare_cached("DELETE FROM waiting WHERE queue = ?1 AND (visible_at, job) <= (?2, ?3)")?
                    .execute([id, visible_at, number])?;
            }
            self.expiry.next = self.expiry.next.min(until);
            self.leasing.spend(taken.len(), size);
            let count = taken.len() as i64;
            let queue = self.change(id);
            queue.ends.next = queue.ends.next.min(until);
            let counters = &mut queue.counters;
            counters.waiting -= count;
            counters.leased += count;
            if counters.waiting == 0 {
                head = i64::MAX;
            }
        }
        self.get_mut(id).head = head;
        Ok(taken)
    }

    /// Undoes a lease that nobody was told of, unless it has ended meanwhile.
    pub(super) fn give_back(&mut self, tx: &Tx<'_>, lease: &Undelivered) -> rusqlite::Result<()> {
        let Undelivered { job, visible_at, until, attempts } = *lease;
        if until > tx.now
            && tx.conn.prepare_cached(DELETE_THIS_LEASE)?.execute([job.get(), until, attempts])? == 1
        {
            self.change(job.queue()).counters.leased -= 1;
            self.put_back(tx, job, visible_at, attempts - 1)?;
        }
        Ok(())
    }

    /// Removes a leased job for good; an id that is not leased changes nothing.
    pub(super) fn ack(&mut self, tx: &Tx<'_>, queue: &ResourceName, job_id: &str) -> Step<()> {
        let id = match self.existing(queue) {
            Ok(id) => id,
            Err(e) => return Ok(Err(e)),
        };
        let Some(job) = tx.ids.job(job_id).filter(|job| job.queue() == id) else { return Ok(Ok(())) };
        if tx.conn.prepare_cached(DELETE_UNTIL)?.execute([job.get(), tx.now])? == 0 {
            return Ok(if is_set_aside(tx.conn, job)? { Err(damage(queue, job_id)) } else { Ok(()) });
        }
        tx.conn.prepare_cached(DELETE_JOB)?.execute([job.get()])?;
        let counters = &mut self.change(id).counters;
        counters.leased -= 1;
        counters.completed += 1;
        Ok(Ok(()))
    }

    /// Gives a leased job back.
    pub(super) fn nack(
        &mut self,
        tx: &Tx<'_>,
        queue: &ResourceName,
        job_id: &str,
        delay_seconds: i64,
    ) -> Step<Nacked> {
        let id = match self.existing(queue) {
            Ok(id) => id,
            Err(e) => return Ok(Err(e)),
        };
        let not_leased = || Error::not_found(format!("job {job_id} is not leased from queue {queue}"));
        let Some(job) = tx.ids.job(job_id).filter(|job| job.queue() == id) else {
            return Ok(Err(not_leased()));
        };
        let Some(attempts) = leased_attempts(tx, job)? else {
            return Ok(Err(if is_set_aside(tx.conn, job)? { damage(queue, job_id) } else { not_leased() }));
        };
        let policy = &self.get(id).policy;
        if retry::exhausted(policy, attempts) {
            return Ok(self.bury(tx, job, attempts)?.map(|_| Nacked::DeadLettered));
        }
        let wait = if delay_seconds > 0 {
            delay_seconds.saturating_mul(SECOND_NS)
        } else {
            retry::backoff_ns(policy, attempts)
        };
        self.end_lease(tx, job)?;
        self.put_back(tx, job, tx.now.saturating_add(wait), attempts)?;
        Ok(Ok(Nacked::Waiting))
    }

    /// Whether a NACK of this job would make it a dead letter.
    pub(super) fn would_bury(
        &self,
        tx: &Tx<'_>,
        queue: &ResourceName,
        job_id: &str,
    ) -> rusqlite::Result<bool> {
        let id = self.id(queue);
        let Some(job) = tx.ids.job(job_id).filter(|job| Some(job.queue()) == id) else { return Ok(false) };
        let attempts = leased_attempts(tx, job)?;
        Ok(attempts.is_some_and(|attempts| retry::exhausted(&self.get(job.queue()).policy, attempts)))
    }

    pub(super) fn end_lease(&mut self, tx: &Tx<'_>, job: JobNumber) -> rusqlite::Result<()> {
        tx.conn.prepare_cached(DELETE_LEASED)?.execute([job.get()])?;
        self.change(job.queue()).counters.leased -= 1;
        Ok(())
    }

    /// Moves a leased job to its dead-letter queue, which is made at the first move; tells its size.
    pub(super) fn bury(&mut self, tx: &Tx<'_>, job: JobNumber, attempts: i64) -> Step<usize> {
        let name = self.get(job.queue()).name.clone();
        let job_id = tx.ids.text(job);
        let Some(stored) = read_body(tx.conn, job)? else { return Ok(Err(damage(&name, &job_id))) };
        let size = encoded_size(&name, &stored);
        let mut headers = stored.headers;
        headers.insert(ORIGINAL_QUEUE.to_owned(), name.as_str().to_owned());
        headers.insert(ORIGINAL_JOB_ID.to_owned(), job_id);
        headers.insert(FAILED_AT.to_owned(), timestamp::rfc3339(tx.now));
        headers.insert(ATTEMPTS.to_owned(), attempts.to_string());
        let dead_letters = self.created(tx, &name.dead_letters())?;
        if let Err(e) = self.enqueue(tx, dead_letters, &Body::new(stored.payload, headers), tx.now)? {
            return Ok(Err(e));
        }
        self.end_lease(tx, job)?;
        tx.conn.prepare_cached(DELETE_JOB)?.execute([job.get()])?;
        self.change(job.queue()).counters.failed += 1;
        Ok(Ok(size))
    }

    /// Moves a dead letter, waiting or leased, back to its main queue.
    pub(super) fn replay(&mut self, tx: &Tx<'_>, main: &ResourceName, job_id: &str) -> Step<Enqueued> {
        let id = match self.existing(main) {
            Ok(id) => id,
            Err(e) => return Ok(Err(e)),
        };
        let name = main.dead_letters();
        let unknown = || Error::not_found(format!("queue {name} has no job {job_id}"));
        let (Some(dead_letters), Some(job)) = (self.id(&name), tx.ids.job(job_id)) else {
            return Ok(Err(unknown()));
        };
        if job.queue() != dead_letters {
            return Ok(Err(unknown()));
        }
        let Some(stored) = read_body(tx.conn, job)? else {
            let exists = tx.conn.prepare_cached("SELECT 1 FROM jobs WHERE job = ?1")?.exists([job.get()])?;
            return Ok(Err(if exists { damage(&name, job_id) } else { unknown() }));
        };
        let created_at = stored.created_at;
        let body = Body::new(stored.payload, without_dead_letter_headers(stored.headers));
        let enqueued = match self.enqueue(tx, id, &body, tx.now)? {
            Ok(enqueued) => enqueued,
            Err(e) => return Ok(Err(e)),
        };
        if tx.conn.prepare_cached(DELETE_LEASED)?.execute([job.get()])? == 1 {
            self.change(dead_letters).counters.leased -= 1;
        } else {
            // Most entries became visible when they were made; others must be looked for.
            if tx.conn.prepare_cached(DELETE_WAITING)?.execute([dead_letters, created_at, job.get()])? == 0 {
                tx.conn
                    .prepare_cached("DELETE FROM waiting WHERE queue = ?1 AND job = ?2")?
                    .execute([dead_letters, job.get()])?;
            }
            self.change(dead_letters).counters.waiting -= 1;
        }
        tx.conn.prepare_cached(DELETE_JOB)?.execute([job.get()])?;
        Ok(Ok(enqueued))
    }
}

/// Of a job that is leased at this instant.
fn leased_attempts(tx: &Tx<'_>, job: JobNumber) -> rusqlite::Result<Option<i64>> {
    tx.conn
        .prepare_cached("SELECT attempts FROM leased WHERE job = ?1 AND until > ?2")?
        .query_row([job.get(), tx.now], |r| r.get(0))
        .optional()
}

fn read_body(conn: &Connection, job: JobNumber) -> rusqlite::Result<Option<StoredBody>> {
    let mut stmt =
        conn.prepare_cached("SELECT created_at, headers, payload, crc FROM jobs WHERE job = ?1")?;
    let mut rows = stmt.query([job.get()])?;
    Ok(rows.next()?.and_then(|row| StoredBody::read(job, RawBody::from_row(row, 0)?)))
}

pub(super) fn set_aside(conn: &Connection, queue: &ResourceName, number: i64) -> rusqlite::Result<()> {
    tracing::error!(%queue, seq = number & ((1 << 40) - 1), "the stored job is damaged and was set aside");
    conn.prepare_cached(INSERT_DAMAGED)?.execute([number])?;
    Ok(())
}

fn is_set_aside(conn: &Connection, job: JobNumber) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM damaged WHERE job = ?1")?.exists([job.get()])
}

fn damage(queue: &ResourceName, job_id: &str) -> Error {
    Error::internal(format!("job {job_id} of queue {queue} is damaged: its body does not match its checksum"))
}

fn without_dead_letter_headers(mut headers: BTreeMap<String, String>) -> BTreeMap<String, String> {
    headers
        .retain(|name, _| ![ORIGINAL_QUEUE, ORIGINAL_JOB_ID, FAILED_AT, ATTEMPTS].contains(&name.as_str()));
    headers
}

/// Waiting jobs of `queue` in ready order, without leasing them; damaged ones are left out.
pub(super) fn list_waiting(
    conn: &Connection,
    ids: &super::job_id::JobIds,
    queue: &ResourceName,
    max_jobs: usize,
    max_bytes: usize,
) -> rusqlite::Result<Vec<Job>> {
    let mut stmt = conn.prepare_cached(
        "SELECT w.job, w.visible_at, w.attempts, j.created_at, j.headers, j.payload, j.crc
         FROM waiting w LEFT JOIN jobs j ON j.job = w.job
         WHERE w.queue = (SELECT id FROM queues WHERE path = ?1) ORDER BY w.visible_at, w.job",
    )?;
    let mut rows = stmt.query([queue.as_str()])?;
    let mut jobs = Vec::new();
    let mut size = 0_usize;
    while jobs.len() < max_jobs {
        let Some(row) = rows.next()? else { break };
        let number: i64 = row.get(0)?;
        let body = JobNumber::from_stored(number)
            .and_then(|job| Some((job, StoredBody::read(job, RawBody::from_row(row, 3)?)?)));
        let Some((job, body)) = body else {
            tracing::error!(%queue, number, "the stored job is damaged and was left out of a list");
            continue;
        };
        size = size.saturating_add(encoded_size(queue, &body));
        if size > max_bytes && !jobs.is_empty() {
            break;
        }
        jobs.push(Job {
            id: ids.text(job),
            resource_path: queue.as_str().to_owned(),
            seq: job.seq(),
            payload: body.payload,
            headers: body.headers,
            created_at: body.created_at,
            visible_at: row.get(1)?,
            reserve_until: 0,
            attempts: row.get::<_, i32>(2)?,
        });
    }
    Ok(jobs)
}

/// Whole seconds since the oldest waiting job of queue `id` was made, 0 if none waits.
pub(super) fn oldest_age_seconds(conn: &Connection, id: i64, now: i64) -> rusqlite::Result<i64> {
    let (first, end) = JobNumber::range(id);
    let created_at: Option<i64> = conn
        .prepare_cached(
            "SELECT created_at FROM jobs j WHERE job >= ?1 AND job < ?2
             AND NOT EXISTS (SELECT 1 FROM leased l WHERE l.job = j.job) ORDER BY job LIMIT 1",
        )?
        .query_row([first, end], |r| r.get(0))
        .optional()?;
    Ok(created_at.map_or(0, |at| now.saturating_sub(at).max(0) / SECOND_NS))
}
