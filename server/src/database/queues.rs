//! The writer's picture of the queues: what it needs to know about each without asking SQLite.
//!
//! The picture equals the tables whenever no transaction is open. A transaction marks what it
//! changes, [`Queues::save`] writes those counters once before the commit; after a rollback
//! [`Queues::reload`] takes the picture from the tables again.

use std::collections::{BTreeSet, HashMap, VecDeque};

use flowmesh_proto::v1::RetryPolicy;
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    allowance::Allowance,
    expiry::{Ends, Expiry},
    job_id::JobIds,
    retry,
    waiters::Waiter,
};
use crate::{
    error::{Error, Result},
    limits::Census,
    resource::ResourceName,
};

/// Result of a step inside a transaction: the outer error rolls the transaction back, the inner
/// one refuses the operation, which has then changed nothing.
pub(super) type Step<T> = rusqlite::Result<Result<T>>;

/// What the steps of one transaction share.
pub(super) struct Tx<'a> {
    pub conn: &'a Connection,
    pub ids: &'a JobIds,
    /// The instant of the whole transaction.
    pub now: i64,
    /// Whether missing queues and stores are made.
    pub create: bool,
}

/// The stored numbers of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// Also the number of jobs ever enqueued.
    pub next_seq: i64,
    pub waiting: i64,
    pub leased: i64,
    pub completed: i64,
    pub failed: i64,
    /// `created_at` never falls while seq rises: the oldest job is the one with the lowest seq.
    pub last_created_at: i64,
}

pub(super) struct Queue {
    pub name: ResourceName,
    pub counters: Counters,
    pub policy: RetryPolicy,
    /// No job becomes due before this.
    pub head: i64,
    pub ends: Ends,
    /// In order of arrival.
    pub waiters: VecDeque<Waiter>,
    /// Key of this queue in `Queues::alarms`.
    pub alarm: i64,
    changed: bool,
}

/// All queues.
pub(super) struct Queues {
    by_id: HashMap<i64, Queue>,
    by_name: HashMap<ResourceName, i64>,
    census: Census,
    last_id: i64,
    changed: Vec<i64>,
    /// When queues with waiters want attention: (instant, queue).
    pub(super) alarms: BTreeSet<(i64, i64)>,
    /// Queues with waiters in which something may have become due in this transaction.
    pub(super) to_serve: Vec<i64>,
    pub(super) expiry: Expiry,
    /// Of leases that this transaction may still make.
    pub(super) leasing: Allowance,
}

impl Queues {
    pub(super) fn load(conn: &Connection, max_queues: usize, expiry_step: usize) -> rusqlite::Result<Self> {
        let mut queues = Self {
            by_id: HashMap::new(),
            by_name: HashMap::new(),
            census: Census::new("queues", max_queues),
            last_id: 0,
            changed: Vec::new(),
            alarms: BTreeSet::new(),
            to_serve: Vec::new(),
            expiry: Expiry::new(expiry_step),
            leasing: Allowance::of(0),
        };
        queues.reload(conn)?;
        Ok(queues)
    }

    /// Takes everything but the waiters from the tables; returns the waiters whose queue is gone.
    pub(super) fn reload(&mut self, conn: &Connection) -> rusqlite::Result<Vec<Waiter>> {
        let mut policies = read_policies(conn)?;
        let mut by_id = HashMap::new();
        let mut stmt = conn.prepare_cached(
            "SELECT id, path, next_seq, waiting, leased, completed, failed, last_created_at FROM queues",
        )?;
        let mut rows = stmt.query([])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            let counters = Counters {
                next_seq: row.get(2)?,
                waiting: row.get(3)?,
                leased: row.get(4)?,
                completed: row.get(5)?,
                failed: row.get(6)?,
                last_created_at: row.get(7)?,
            };
            let mut queue = Queue::new(ResourceName::from_stored(row.get(1)?));
            queue.counters = counters;
            queue.ends = Ends::of(counters.leased);
            queue.head = if counters.waiting > 0 { i64::MIN } else { i64::MAX };
            if let Some(policy) = policies.remove(&id) {
                queue.policy = policy;
            }
            if let Some(old) = self.by_id.get_mut(&id) {
                queue.waiters = std::mem::take(&mut old.waiters);
            }
            by_id.insert(id, queue);
        }
        self.by_name = by_id.iter().map(|(id, q)| (q.name.clone(), *id)).collect();
        self.census.recount(self.by_name.keys());
        self.last_id = by_id.keys().copied().max().unwrap_or(0);
        let gone =
            std::mem::replace(&mut self.by_id, by_id).into_values().flat_map(|queue| queue.waiters).collect();
        self.changed.clear();
        self.to_serve.clear();
        self.expiry.next = first_expiry(conn)?;
        self.alarms.clear();
        let ids: Vec<_> =
            self.by_id.iter().filter(|(_, q)| !q.waiters.is_empty()).map(|(id, _)| *id).collect();
        for id in ids {
            self.set_alarm(id);
        }
        Ok(gone)
    }

    /// Writes the counters that the transaction changed.
    pub(super) fn save(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        if self.changed.is_empty() {
            return Ok(());
        }
        let mut stmt = conn.prepare_cached(
            "UPDATE queues SET next_seq = ?2, waiting = ?3, leased = ?4, completed = ?5, failed = ?6,
             last_created_at = ?7 WHERE id = ?1",
        )?;
        for id in self.changed.drain(..) {
            if let Some(queue) = self.by_id.get_mut(&id) {
                let c = queue.counters;
                queue.changed = false;
                stmt.execute(params![
                    id,
                    c.next_seq,
                    c.waiting,
                    c.leased,
                    c.completed,
                    c.failed,
                    c.last_created_at
                ])?;
            }
        }
        Ok(())
    }

    pub(super) fn id(&self, name: &ResourceName) -> Option<i64> {
        self.by_name.get(name).copied()
    }

    /// The queue, or NOT_FOUND.
    pub(super) fn existing(&self, name: &ResourceName) -> Result<i64> {
        self.id(name).ok_or_else(|| Error::not_found(format!("queue {name} does not exist")))
    }

    /// The queue, made if the engine makes queues on use.
    pub(super) fn wanted(&mut self, tx: &Tx<'_>, name: &ResourceName) -> Step<i64> {
        match self.existing(name) {
            Err(_) if tx.create => match self.census.admit(name, 0) {
                Ok(()) => Ok(Ok(self.created(tx, name)?)),
                Err(e) => Ok(Err(e)),
            },
            found => Ok(found),
        }
    }

    /// The queue, made if it is not there.
    pub(super) fn created(&mut self, tx: &Tx<'_>, name: &ResourceName) -> rusqlite::Result<i64> {
        if let Some(id) = self.id(name) {
            return Ok(id);
        }
        let id = self.last_id + 1;
        tx.conn
            .prepare_cached("INSERT INTO queues VALUES (?1, ?2, 0, 0, 0, 0, 0, 0)")?
            .execute(params![id, name.as_str()])?;
        self.last_id = id;
        self.census.count(name);
        self.by_name.insert(name.clone(), id);
        self.by_id.insert(id, Queue::new(name.clone()));
        Ok(id)
    }

    /// A queue known to exist, to look at.
    pub(super) fn get(&self, id: i64) -> &Queue {
        &self.by_id[&id]
    }

    /// A queue known to exist, to change what is not stored.
    pub(super) fn get_mut(&mut self, id: i64) -> &mut Queue {
        self.by_id.get_mut(&id).unwrap_or_else(|| unreachable!("queue {id} was looked up before"))
    }

    /// A queue known to exist, to change its counters.
    pub(super) fn change(&mut self, id: i64) -> &mut Queue {
        let queue =
            self.by_id.get_mut(&id).unwrap_or_else(|| unreachable!("queue {id} was looked up before"));
        if !queue.changed {
            queue.changed = true;
            self.changed.push(id);
        }
        queue
    }

    /// Whether there is a queue of this number (rows may name one that damage removed).
    pub(super) fn contains(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    /// All queues, for ends that concern all waiters.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Queue> {
        self.by_id.values_mut()
    }

    pub(super) fn set_policy(&mut self, tx: &Tx<'_>, name: &ResourceName, policy: RetryPolicy) -> Step<()> {
        let id = match self.wanted(tx, name)? {
            Ok(id) => id,
            Err(e) => return Ok(Err(e)),
        };
        tx.conn.prepare_cached("INSERT OR REPLACE INTO policies VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(
            params![
                id,
                policy.max_attempts,
                policy.initial_backoff_seconds,
                policy.max_backoff_seconds,
                policy.backoff_multiplier,
                policy.backoff_strategy
            ],
        )?;
        self.get_mut(id).policy = policy;
        Ok(Ok(()))
    }
}

impl Queue {
    fn new(name: ResourceName) -> Self {
        Self {
            name,
            counters: Counters::default(),
            policy: retry::default_policy(),
            head: i64::MAX,
            ends: Ends::of(0),
            waiters: VecDeque::new(),
            alarm: i64::MAX,
            changed: false,
        }
    }
}

/// When the first lease ends; never, if there is none.
pub(super) fn first_expiry(conn: &Connection) -> rusqlite::Result<i64> {
    let first = conn
        .prepare_cached("SELECT until FROM leased ORDER BY until LIMIT 1")?
        .query_row([], |r| r.get(0))
        .optional()?;
    Ok(first.unwrap_or(i64::MAX))
}

const POLICY_COLUMNS: &str =
    "max_attempts, initial_backoff_seconds, max_backoff_seconds, backoff_multiplier, backoff_strategy";

fn policy_from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<RetryPolicy> {
    Ok(RetryPolicy {
        max_attempts: row.get(0)?,
        initial_backoff_seconds: row.get(1)?,
        max_backoff_seconds: row.get(2)?,
        backoff_multiplier: row.get(3)?,
        backoff_strategy: row.get(4)?,
    })
}

fn read_policies(conn: &Connection) -> rusqlite::Result<HashMap<i64, RetryPolicy>> {
    conn.prepare_cached(&format!("SELECT {POLICY_COLUMNS}, queue FROM policies"))?
        .query_map([], |row| Ok((row.get(5)?, policy_from_row(row)?)))?
        .collect()
}

/// The policy stored for queue `id`, if there is one.
pub(super) fn read_policy(conn: &Connection, id: i64) -> rusqlite::Result<Option<RetryPolicy>> {
    conn.prepare_cached(&format!("SELECT {POLICY_COLUMNS} FROM policies WHERE queue = ?1"))?
        .query_row([id], policy_from_row)
        .optional()
}
