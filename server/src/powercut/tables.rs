//! What the database holds, in the simplest form: as the tables tell, and as a model of the
//! operations predicts.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::clock::SECOND_NS;

/// Everything that counts.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Tables {
    pub queues: BTreeMap<i64, Queue>,
    /// By store and key: the value and when it expires.
    pub values: BTreeMap<(String, String), (Vec<u8>, Option<i64>)>,
    /// By stream and group.
    pub commits: BTreeMap<(String, String), i64>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Queue {
    pub name: String,
    pub next_seq: i64,
    pub completed: i64,
    pub failed: i64,
    /// Of a policy that was set: 1 s between attempts.
    pub max_attempts: Option<i32>,
    pub jobs: BTreeMap<i64, Job>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Job {
    pub payload: Vec<u8>,
    pub attempts: i64,
    pub place: Place,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Place {
    Waiting(i64),
    Leased(i64),
}

/// An operation; jobs are named by queue number and seq.
#[derive(Clone, Debug)]
pub enum Operation {
    Enqueue { queue: String, payload: Vec<u8>, delay: i64 },
    Lease { queue: String, max: usize, seconds: i64 },
    Ack { queue: String, job: (i64, i64) },
    Nack { queue: String, job: (i64, i64), delay: i64 },
    Policy { queue: String, max_attempts: i32 },
    Replay { queue: String, job: (i64, i64) },
    Set { store: String, key: String, value: Vec<u8>, ttl: i64 },
    Delete { store: String, key: String },
    Commit { stream: String, group: String, offset: i64 },
}

/// What the caller of an operation is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Enqueued(i64),
    /// Seq and attempts.
    Leased(Vec<(i64, i64)>),
    Done,
    DeadLettered,
    NotFound,
}

impl Tables {
    /// Ends leases whose time has come.
    pub fn expire(&mut self, now: i64) {
        let mut due = Vec::new();
        for (id, queue) in &self.queues {
            for (seq, job) in &queue.jobs {
                if let Place::Leased(until) = job.place
                    && until <= now
                {
                    due.push((until, *id, *seq));
                }
            }
        }
        due.sort_unstable();
        for (until, id, seq) in due {
            self.end_attempt(id, seq, now, |backoff| until + backoff);
        }
    }

    pub fn apply(&mut self, operation: &Operation, now: i64) -> Outcome {
        match operation {
            Operation::Enqueue { queue, payload, delay } => {
                let id = self.wanted(queue);
                Outcome::Enqueued(self.enqueue(id, payload.clone(), now + delay * SECOND_NS))
            }
            Operation::Lease { queue, max, seconds } => {
                let id = self.wanted(queue);
                let mut due = Vec::new();
                for (seq, job) in &self.queue(id).jobs {
                    if let Place::Waiting(at) = job.place
                        && at <= now
                    {
                        due.push((at, *seq));
                    }
                }
                due.sort_unstable();
                due.truncate(*max);
                let lease = |(_, seq): &(i64, i64)| {
                    let job = self.job(id, *seq);
                    job.attempts += 1;
                    job.place = Place::Leased(now + seconds * SECOND_NS);
                    (*seq, job.attempts)
                };
                Outcome::Leased(due.iter().map(lease).collect())
            }
            Operation::Ack { queue, job: (id, seq) } => {
                if self.id(queue) != Some(*id) {
                    return if self.id(queue).is_some() { Outcome::Done } else { Outcome::NotFound };
                }
                if self.is_leased(*id, *seq) {
                    self.queue(*id).jobs.remove(seq);
                    self.queue(*id).completed += 1;
                }
                Outcome::Done
            }
            Operation::Nack { queue, job: (id, seq), delay } => {
                if self.id(queue) != Some(*id) || !self.is_leased(*id, *seq) {
                    return Outcome::NotFound;
                }
                let explicit = (*delay > 0).then(|| now + delay * SECOND_NS);
                if self.end_attempt(*id, *seq, now, |backoff| explicit.unwrap_or(now + backoff)) {
                    Outcome::DeadLettered
                } else {
                    Outcome::Done
                }
            }
            Operation::Policy { queue, max_attempts } => {
                let id = self.wanted(queue);
                self.queue(id).max_attempts = Some(*max_attempts);
                Outcome::Done
            }
            Operation::Replay { queue, job: (dead, seq) } => {
                let Some(id) = self.id(queue) else { return Outcome::NotFound };
                if self.id(&format!("{queue}-dlq")) != Some(*dead) {
                    return Outcome::NotFound;
                }
                let Some(job) = self.queue(*dead).jobs.remove(seq) else { return Outcome::NotFound };
                Outcome::Enqueued(self.enqueue(id, job.payload, now))
            }
            Operation::Set { store, key, value, ttl } => {
                let expires = (*ttl > 0).then(|| now + ttl * SECOND_NS);
                self.values.insert((store.clone(), key.clone()), (value.clone(), expires));
                Outcome::Done
            }
            Operation::Delete { store, key } => {
                self.values.remove(&(store.clone(), key.clone()));
                Outcome::Done
            }
            Operation::Commit { stream, group, offset } => {
                let key = (stream.clone(), group.clone());
                if *offset < 0 {
                    self.commits.remove(&key);
                } else {
                    self.commits.insert(key, *offset);
                }
                Outcome::Done
            }
        }
    }

    pub fn id(&self, name: &str) -> Option<i64> {
        self.queues.iter().find(|(_, queue)| queue.name == name).map(|(id, _)| *id)
    }

    fn queue(&mut self, id: i64) -> &mut Queue {
        self.queues.get_mut(&id).expect("a queue that was looked up")
    }

    fn job(&mut self, id: i64, seq: i64) -> &mut Job {
        self.queue(id).jobs.get_mut(&seq).expect("a job that was looked up")
    }

    fn is_leased(&self, id: i64, seq: i64) -> bool {
        let job = self.queues.get(&id).and_then(|queue| queue.jobs.get(&seq));
        job.is_some_and(|job| matches!(job.place, Place::Leased(_)))
    }

    fn wanted(&mut self, name: &str) -> i64 {
        if let Some(id) = self.id(name) {
            return id;
        }
        let id = self.queues.last_key_value().map_or(0, |(id, _)| *id) + 1;
        let (name, jobs) = (name.to_owned(), BTreeMap::new());
        self.queues
            .insert(id, Queue { name, next_seq: 0, completed: 0, failed: 0, max_attempts: None, jobs });
        id
    }

    fn enqueue(&mut self, id: i64, payload: Vec<u8>, at: i64) -> i64 {
        let queue = self.queue(id);
        let seq = queue.next_seq;
        queue.next_seq += 1;
        queue.jobs.insert(seq, Job { payload, attempts: 0, place: Place::Waiting(at) });
        seq
    }

    /// A lease is over without an ack; true when the job went to the dead letters.
    fn end_attempt(&mut self, id: i64, seq: i64, now: i64, due: impl Fn(i64) -> i64) -> bool {
        let policy = self.queue(id).max_attempts;
        let attempts = self.job(id, seq).attempts;
        let limit = i64::from(policy.unwrap_or(3));
        if limit > 0 && attempts >= limit {
            let name = format!("{}-dlq", self.queue(id).name);
            let dead_letters = self.wanted(&name);
            let job = self.queue(id).jobs.remove(&seq).expect("a job that was looked up");
            self.queue(id).failed += 1;
            self.enqueue(dead_letters, job.payload, now);
            return true;
        }
        // The default policy doubles: 1 s, 2 s.
        let seconds = if policy.is_some() { 1 } else { 1 << (attempts - 1).min(5) };
        self.job(id, seq).place = Place::Waiting(due(seconds * SECOND_NS));
        false
    }

    /// As callers see it at `now`: without what has expired.
    pub fn at(&self, now: i64) -> Self {
        let mut seen = self.clone();
        seen.values.retain(|_, (_, expires)| expires.is_none_or(|at| at > now));
        seen
    }

    /// What is stored, checked for consistency.
    pub fn read(conn: &Connection) -> rusqlite::Result<Result<Self, String>> {
        let mut tables = Self::default();
        let mut counters = Vec::new();
        let mut stmt =
            conn.prepare("SELECT id, path, next_seq, completed, failed, waiting, leased FROM queues")?;
        let mut rows = stmt.query([])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            let (name, jobs) = (row.get(1)?, BTreeMap::new());
            let (next_seq, completed, failed) = (row.get(2)?, row.get(3)?, row.get(4)?);
            tables.queues.insert(id, Queue { name, next_seq, completed, failed, max_attempts: None, jobs });
            counters.push((id, row.get::<_, isize>(5)?, row.get::<_, isize>(6)?));
        }
        let mut stmt = conn.prepare("SELECT queue, max_attempts FROM policies")?;
        let mut rows = stmt.query([])?;
        while let Some(row) = rows.next()? {
            if let Some(queue) = tables.queues.get_mut(&row.get(0)?) {
                queue.max_attempts = row.get(1)?;
            }
        }
        let mut stmt = conn.prepare(
            "SELECT j.job, j.payload, w.visible_at, w.attempts, l.until, l.attempts FROM jobs j
             LEFT JOIN waiting w ON w.queue = j.job >> 40 AND w.job = j.job LEFT JOIN leased l ON l.job = j.job",
        )?;
        let mut rows = stmt.query([])?;
        while let Some(row) = rows.next()? {
            let job: i64 = row.get(0)?;
            let (waiting, leased): (Option<i64>, Option<i64>) = (row.get(2)?, row.get(4)?);
            let (place, attempts) = match (waiting, leased) {
                (Some(at), None) => (Place::Waiting(at), row.get(3)?),
                (None, Some(until)) => (Place::Leased(until), row.get(5)?),
                _ => return Ok(Err(format!("job {job} waits at {waiting:?} and is leased to {leased:?}"))),
            };
            let Some(queue) = tables.queues.get_mut(&(job >> 40)) else {
                return Ok(Err(format!("job {job} has no queue")));
            };
            queue.jobs.insert(job & ((1 << 40) - 1), Job { payload: row.get(1)?, attempts, place });
        }
        for (id, waiting, leased) in counters {
            let jobs = &tables.queues[&id].jobs;
            let is_leased = jobs.values().filter(|job| matches!(job.place, Place::Leased(_))).count();
            if ((jobs.len() - is_leased) as isize, is_leased as isize) != (waiting, leased) {
                return Ok(Err(format!(
                    "queue {id} counts {waiting} waiting and {leased} leased, has {jobs:?}"
                )));
            }
        }
        let orphans: i64 = conn.query_row(
            "SELECT (SELECT count(*) FROM waiting WHERE job NOT IN (SELECT job FROM jobs))
                  + (SELECT count(*) FROM leased WHERE job NOT IN (SELECT job FROM jobs))
                  + (SELECT count(*) FROM damaged)",
            [],
            |row| row.get(0),
        )?;
        if orphans > 0 {
            return Ok(Err(format!("{orphans} jobs without a body or set aside as damaged")));
        }
        let mut stmt = conn.prepare(
            "SELECT s.path, e.key, e.value, e.expires_at FROM entries e JOIN stores s ON s.id = e.store",
        )?;
        let mut rows = stmt.query([])?;
        while let Some(row) = rows.next()? {
            tables.values.insert((row.get(0)?, row.get(1)?), (row.get(2)?, row.get(3)?));
        }
        let mut stmt = conn.prepare("SELECT stream, consumer_group, last_offset FROM commits")?;
        let mut rows = stmt.query([])?;
        while let Some(row) = rows.next()? {
            tables.commits.insert((row.get(0)?, row.get(1)?), row.get(2)?);
        }
        Ok(Ok(tables))
    }
}

/// What the database may hold after a cut.
#[derive(Default)]
pub struct History {
    /// Acknowledged and synced.
    durable: Tables,
    /// States after that, each acknowledged without a sync.
    soft: Vec<Tables>,
    /// What transactions that failed would have led to, with how many `soft` there were.
    maybe: Vec<(usize, Tables)>,
}

impl History {
    /// What callers see.
    pub fn live(&self) -> &Tables {
        self.soft.last().unwrap_or(&self.durable)
    }

    /// A transaction was stored.
    pub fn stored(&mut self, tables: Tables, synced: bool) {
        if tables == *self.live() {
            // Nothing was written, so nothing was synced.
            return;
        }
        if synced {
            *self = Self { durable: tables, ..Self::default() };
        } else {
            self.soft.push(tables);
        }
    }

    /// A transaction failed: nobody knows what of it is on the disk, but it is all or nothing.
    pub fn failed(&mut self, tables: Tables) {
        self.maybe.push((self.soft.len(), tables));
    }

    /// Takes what was found after the database was opened again; false if it cannot be.
    pub fn reopened(&mut self, found: Tables, after_cut: bool, now: i64) -> bool {
        let soft = self.soft.len();
        let maybe = self.maybe.iter().filter(|(at, _)| after_cut || *at == soft).map(|(_, tables)| tables);
        let known = [&self.durable].into_iter().chain(&self.soft);
        let known = known.skip(if after_cut { 0 } else { soft });
        let wanted = found.at(now);
        let candidates: Vec<Tables> = known.chain(maybe).cloned().collect();
        for tables in candidates {
            // Opening ends the leases whose time has come, without a sync.
            let mut expired = tables.clone();
            expired.expire(now);
            if tables.at(now) == wanted {
                *self = Self { durable: found, ..Self::default() };
                return true;
            }
            if expired.at(now) == wanted {
                *self = Self { durable: tables, soft: vec![found], ..Self::default() };
                return true;
            }
        }
        false
    }
}
