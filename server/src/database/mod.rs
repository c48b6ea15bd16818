//! Queues, KV values and commits: SQLite.
//!
//! One writer with group commit ([`writer`]), reads in the caller's thread ([`readers`]),
//! checkpoints in the background ([`checkpoint`]). Leases that are over are ended a bounded number
//! at a time ([`expiry`]). Fields are validated before they come here.

mod allowance;
mod checkpoint;
mod commits;
#[cfg(feature = "net")]
mod copy;
mod delivery;
mod expiry;
mod fork;
mod health;
mod job;
mod job_id;
mod jobs;
mod operation;
mod place;
mod queues;
mod readers;
mod reopen;
mod retry;
mod schema;
#[cfg(test)]
mod tests;
mod timestamp;
mod values;
#[cfg(feature = "net")]
mod verify;
mod waiters;
mod writer;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use flowmesh_proto::v1::{Job, QueueStats, RetryPolicy};
use rusqlite::{Connection, OptionalExtension};
use tokio::sync::oneshot;

pub use self::place::Place;
use self::{
    checkpoint::Checkpoints,
    commits::Commits,
    delivery::Wait,
    health::Health,
    job_id::JobIds,
    operation::{Operation, Reply},
    queues::{Queues, first_expiry},
    readers::Readers,
    reopen::Reopening,
    schema::OpenError,
    values::{StoreIds, Values},
    writer::{Alarm, SyncState, Writer},
};
#[cfg(feature = "net")]
pub use self::{
    copy::copy,
    verify::{Checked, verify},
};
use crate::{
    clock::Clock,
    commit::Committer,
    engine::{Enqueued, FsyncPolicy, KvStore, Lease, Leased, Nacked, NewJob, QueueStore},
    error::{Error, Result},
    resource::ResourceName,
};

/// How to open a [`Database`].
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// The file, made when missing (its directory must exist); `None` for memory.
    pub place: Option<Place>,
    /// When acknowledged changes reach the disk.
    pub fsync: FsyncPolicy,
    /// Whether calls that need a queue or store create it.
    pub create: bool,
    /// Queues and stores, each, that a tenant may have. Dead-letter queues are made all the same.
    pub max_resources: usize,
    /// Commits, one per stream and consumer group, that a tenant may have.
    pub max_groups: usize,
    /// The clock.
    pub clock: Clock,
    /// Pages in the WAL from which on they are copied into the file.
    pub checkpoint_pages: i64,
    /// Leases that are ended in one transaction, in their turn, and as many again ahead of it.
    pub expiry_step: usize,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self {
            place: None,
            fsync: FsyncPolicy::Always,
            create: true,
            max_resources: usize::MAX,
            max_groups: usize::MAX,
            clock: Clock::System,
            checkpoint_pages: 2_000,
            expiry_step: 500,
        }
    }
}

/// Queues, KV stores and commits of consumer groups in one file, or in memory.
///
/// A file whose structure is damaged opens all the same; its calls then fail and
/// [`Database::is_ready`] tells.
pub struct Database {
    health: Arc<Health>,
    clock: Clock,
    /// `None` when the file was found damaged as it was opened.
    open: Option<Open>,
    closed: AtomicBool,
}

struct Open {
    committer: Committer<Writer>,
    readers: Arc<Readers>,
    stores: StoreIds,
    ids: JobIds,
    /// No lease ends before this instant.
    lease_end: Arc<AtomicI64>,
    checkpoints: Option<Arc<checkpoint::Shared>>,
    #[cfg(test)]
    writer: Arc<Mutex<Connection>>,
}

impl Database {
    /// Opens or creates a database. Refuses one of another format or application.
    pub fn open(options: DatabaseOptions) -> Result<Self> {
        fork::prepare().map_err(|e| Error::io("preparing for forks", &e))?;
        let health = Arc::new(Health::new(options.place.as_ref().map(Place::path)));
        let clock = options.clock.clone();
        let opened = match &options.place {
            Some(place) => {
                schema::open_file(place).and_then(|conn| Open::of_file(conn, place, &options, &health))
            }
            None => schema::open_memory()
                .map_err(OpenError::from)
                .and_then(|conn| Open::of_memory(conn, &options, &health)),
        };
        let open = match opened {
            Ok(open) => Some(open),
            Err(e) => {
                let error = match e {
                    OpenError::Refused(error) => error,
                    OpenError::Sqlite(e) => health.error(&e),
                };
                if !health.is_damaged() {
                    return Err(error);
                }
                None
            }
        };
        Ok(Self { health, clock, open, closed: AtomicBool::new(false) })
    }

    /// Whether calls can succeed.
    pub fn is_ready(&self) -> bool {
        self.health.check().is_ok() && self.open.as_ref().is_some_and(|open| !open.readers.are_paused())
    }

    /// Stores what was handed in, ends waiting calls with UNAVAILABLE and refuses later ones.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        if let Some(open) = &self.open {
            // Readers first: the last connection to go tidies the files up, and only the writer can.
            open.readers.close();
            open.committer.close();
        }
    }

    /// Records `offset` as the last one that `group` has processed of `stream`; -1 forgets.
    pub async fn commit_offset(&self, stream: &ResourceName, group: &str, offset: i64) -> Result<()> {
        let (stream, group) = (stream.clone(), group.to_owned());
        self.submit(|reply| Operation::Commit { stream, group, offset, reply }).await
    }

    /// What [`Database::commit_offset`] recorded, -1 when nothing.
    pub async fn committed_offset(&self, stream: &ResourceName, group: &str) -> Result<i64> {
        self.clear_doubt().await?;
        self.parts()?.readers.read(|conn| commits::committed(conn, stream, group))
    }

    fn parts(&self) -> Result<&Open> {
        self.health.check()?;
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::closing());
        }
        self.open.as_ref().ok_or_else(|| Error::internal(format!("{} is not open", self.health.file())))
    }

    async fn submit<T>(&self, operation: impl FnOnce(Reply<T>) -> Operation) -> Result<T> {
        let (reply, result) = oneshot::channel();
        self.parts()?.committer.submit(operation(reply)).map_err(|_| Error::closing())?;
        result.await.unwrap_or_else(|_| Err(Error::internal("the operation ended in a panic")))
    }

    /// Waits until leases of `queue` that are over by now are over in the tables, too.
    async fn settle(&self, queue: ResourceName) -> Result<()> {
        if self.parts()?.lease_end.load(Ordering::SeqCst) <= self.clock.now_ns() {
            self.submit(|reply| Operation::Settle { queue: Some(queue), reply }).await?;
        }
        self.clear_doubt().await
    }

    /// To be called before a read. After a sync that failed in the background, what would be read may
    /// be gone: the writer looks to that first.
    async fn clear_doubt(&self) -> Result<()> {
        if self.parts()?.checkpoints.as_ref().is_some_and(|checkpoints| checkpoints.has_failed_sync()) {
            self.submit(|reply| Operation::Settle { queue: None, reply }).await?;
        }
        Ok(())
    }

    /// The number of a KV store; `None` when there is none, which reads like an empty one.
    fn store(&self, store: &ResourceName) -> Result<Option<i64>> {
        Ok(read_lock(&self.parts()?.stores).get(store).copied())
    }
}

#[cfg(test)]
impl Database {
    /// Looks into the tables.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> Result<R> {
        look(&lock(&self.parts()?.writer)).map_err(|e| Error::internal(e.to_string()))
    }

    pub(crate) fn job_id(&self, job: i64) -> Option<String> {
        Some(self.open.as_ref()?.ids.text(job::JobNumber::from_stored(job)?))
    }

    pub(crate) fn hold(&self) -> impl Sized + '_ {
        self.open.as_ref().map(|open| open.committer.hold())
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.open.as_ref().is_none_or(|open| open.committer.is_closed())
    }

    pub(crate) fn quiesce(&self) {
        if let Some(open) = &self.open {
            open.committer.quiesce();
        }
    }

    pub(crate) fn checkpointer_is_idle(&self) -> bool {
        let shared = self.open.as_ref().and_then(|open| open.checkpoints.as_ref());
        shared.is_none_or(|shared| shared.is_idle())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.close();
    }
}

impl Open {
    fn of_file(
        mut conn: Connection,
        place: &Place,
        options: &DatabaseOptions,
        health: &Arc<Health>,
    ) -> std::result::Result<Self, OpenError> {
        let checkpoints = Checkpoints::start(place, options.checkpoint_pages, &mut conn, health.clone())?;
        let readers = Readers::of_file(place.clone(), health.clone());
        Self::start(Arc::new(Mutex::new(conn)), Some(checkpoints), readers, options, health)
    }

    fn of_memory(
        conn: Connection,
        options: &DatabaseOptions,
        health: &Arc<Health>,
    ) -> std::result::Result<Self, OpenError> {
        let conn = Arc::new(Mutex::new(conn));
        let readers = Readers::of_memory(conn.clone(), health.clone());
        Self::start(conn, None, readers, options, health)
    }

    fn start(
        shared: Arc<Mutex<Connection>>,
        checkpoints: Option<Checkpoints>,
        readers: Readers,
        options: &DatabaseOptions,
        health: &Arc<Health>,
    ) -> std::result::Result<Self, OpenError> {
        let conn = lock(&shared);
        let Some(key) = schema::job_id_key(&conn)? else {
            let why = format!("{}: the key of the job ids is damaged", health.file());
            health.set_damaged("the key of the job ids is damaged");
            return Err(OpenError::Refused(Error::internal(why)));
        };
        let ids = JobIds::new(key);
        let queues = Queues::load(&conn, options.max_resources, options.expiry_step)?;
        let values = Values::load(&conn, options.max_resources)?;
        let commits = Commits::load(&conn, options.max_groups)?;
        let lease_end = Arc::new(AtomicI64::new(first_expiry(&conn)?));
        let readers = Arc::new(readers);
        drop(conn);
        let stores = values.ids();
        let watched = checkpoints.as_ref().map(|checkpoints| checkpoints.shared.clone());
        #[cfg(test)]
        let for_tests = shared.clone();
        let writer = Writer {
            conn: shared,
            ids: ids.clone(),
            queues,
            values,
            commits,
            clock: options.clock.clone(),
            create: options.create,
            health: health.clone(),
            sync: SyncState::new(options.fsync, options.place.clone()),
            checkpoints,
            readers: readers.clone(),
            reopening: Reopening::default(),
            lease_end: lease_end.clone(),
            answers: Vec::new(),
            waiting: Vec::new(),
            alarm: Alarm::default(),
        };
        let committer = Committer::start("fm-database", writer)
            .map_err(|e| OpenError::Refused(Error::io("thread of the database", &e)))?;
        options.clock.on_advance(committer.waker());
        Ok(Self {
            committer,
            readers,
            stores,
            ids,
            lease_end,
            checkpoints: watched,
            #[cfg(test)]
            writer: for_tests,
        })
    }
}

#[async_trait]
impl QueueStore for Database {
    async fn enqueue(&self, queue: &ResourceName, job: NewJob) -> Result<Enqueued> {
        let (queue, delay_seconds) = (queue.clone(), job.delay_seconds);
        let body = job.into();
        self.submit(|reply| Operation::Enqueue { queue, body, delay_seconds, reply }).await
    }

    async fn lease(&self, queue: &ResourceName, lease: Lease) -> Result<Leased> {
        let queue = queue.clone();
        let Open { committer, ids, .. } = self.parts()?;
        let (reply, wait) = Wait::new(ids, committer);
        committer.submit(Operation::Lease { queue, lease, reply }).map_err(|_| Error::closing())?;
        wait.end().await
    }

    async fn ack(&self, queue: &ResourceName, job_id: &str) -> Result<()> {
        let (queue, job_id) = (queue.clone(), job_id.to_owned());
        self.submit(|reply| Operation::Ack { queue, job_id, reply }).await
    }

    async fn nack(&self, queue: &ResourceName, job_id: &str, delay_seconds: i64) -> Result<Nacked> {
        let (queue, job_id) = (queue.clone(), job_id.to_owned());
        self.submit(|reply| Operation::Nack { queue, job_id, delay_seconds, reply }).await
    }

    async fn stats(&self, queue: &ResourceName) -> Result<QueueStats> {
        self.settle(queue.clone()).await?;
        let now = self.clock.now_ns();
        let stats = self.parts()?.readers.read(|conn| {
            let row = conn
                .prepare_cached(
                    "SELECT id, next_seq, waiting, leased, completed, failed FROM queues WHERE path = ?1",
                )?
                .query_row([queue.as_str()], |r| {
                    let stats = QueueStats {
                        total_jobs: r.get(1)?,
                        pending_jobs: r.get(2)?,
                        in_flight_jobs: r.get(3)?,
                        completed_jobs: r.get(4)?,
                        failed_jobs: r.get(5)?,
                        oldest_job_age_seconds: 0,
                    };
                    Ok((r.get(0)?, stats))
                })
                .optional()?;
            let Some((id, stats)) = row else { return Ok(None) };
            let oldest_job_age_seconds = jobs::oldest_age_seconds(conn, id, now)?;
            Ok(Some(QueueStats { oldest_job_age_seconds, ..stats }))
        })?;
        stats.ok_or_else(|| missing(queue))
    }

    async fn set_retry_policy(&self, queue: &ResourceName, policy: RetryPolicy) -> Result<()> {
        let queue = queue.clone();
        self.submit(|reply| Operation::SetPolicy { queue, policy, reply }).await
    }

    async fn retry_policy(&self, queue: &ResourceName) -> Result<RetryPolicy> {
        // It may be the queue of dead letters whose first is to come.
        self.settle(queue.clone()).await?;
        let policy = self.parts()?.readers.read(|conn| {
            let Some(id) = queue_id(conn, queue)? else { return Ok(None) };
            Ok(Some(queues::read_policy(conn, id)?.unwrap_or_else(retry::default_policy)))
        })?;
        policy.ok_or_else(|| missing(queue))
    }

    async fn dead_letters(
        &self,
        queue: &ResourceName,
        max_jobs: usize,
        max_bytes: usize,
    ) -> Result<Vec<Job>> {
        self.settle(queue.clone()).await?;
        self.settle(queue.dead_letters()).await?;
        let parts = self.parts()?;
        let jobs = parts.readers.read(|conn| {
            if queue_id(conn, queue)?.is_none() {
                return Ok(None);
            }
            jobs::list_waiting(conn, &parts.ids, &queue.dead_letters(), max_jobs, max_bytes).map(Some)
        })?;
        jobs.ok_or_else(|| missing(queue))
    }

    async fn replay_dead_letter(&self, queue: &ResourceName, job_id: &str) -> Result<Enqueued> {
        let (queue, job_id) = (queue.clone(), job_id.to_owned());
        self.submit(|reply| Operation::Replay { queue, job_id, reply }).await
    }
}

#[async_trait]
impl KvStore for Database {
    async fn set(&self, store: &ResourceName, key: &str, value: Bytes, ttl_seconds: i64) -> Result<()> {
        let (store, key) = (store.clone(), key.to_owned());
        self.submit(|reply| Operation::Set { store, key, value, ttl_seconds, reply }).await
    }

    async fn get(&self, store: &ResourceName, key: &str) -> Result<Option<Bytes>> {
        let Some(id) = self.store(store)? else { return Ok(None) };
        self.clear_doubt().await?;
        let now = self.clock.now_ns();
        self.parts()?.readers.read(|conn| values::get(conn, (id, store), key, now)).flatten()
    }

    async fn delete(&self, store: &ResourceName, key: &str) -> Result<()> {
        if self.store(store)?.is_none() {
            return Ok(());
        }
        let (store, key) = (store.clone(), key.to_owned());
        self.submit(|reply| Operation::Delete { store, key, reply }).await
    }

    async fn exists(&self, store: &ResourceName, key: &str) -> Result<bool> {
        Ok(self.get(store, key).await?.is_some())
    }

    async fn list_keys(&self, store: &ResourceName, prefix: &str) -> Result<Vec<String>> {
        let Some(id) = self.store(store)? else { return Ok(Vec::new()) };
        self.clear_doubt().await?;
        let now = self.clock.now_ns();
        self.parts()?.readers.read(|conn| values::list(conn, (id, store), prefix, now)).flatten()
    }
}

fn queue_id(conn: &Connection, queue: &ResourceName) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT id FROM queues WHERE path = ?1")?
        .query_row([queue.as_str()], |r| r.get(0))
        .optional()
}

fn missing(queue: &ResourceName) -> Error {
    Error::not_found(format!("queue {queue} does not exist"))
}

// A panic while a lock was held is caught by the committer, which then reloads; the locks
// themselves protect single steps that a panic cannot leave half done.

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_lock<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write_lock<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
