//! The engine: what a data directory (or memory) offers to the services.
//!
//! Three seams, at the level of FlowMesh's own nouns: [`StreamStore`], [`QueueStore`] and
//! [`KvStore`]. The local engine implements them with a segment log (`streams`) and SQLite
//! (`database`); a distributed one can take their place.

mod delivery;
pub(crate) mod directory;
mod fsync;
mod local;

pub use delivery::{Delivery, Leased};
pub use fsync::FsyncPolicy;
#[cfg(test)]
pub(crate) use {
    directory::{check_format, make},
    local::Local,
};

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use flowmesh_proto::v1::{Job, QueueStats, RetryPolicy};

use crate::{clock::Clock, error::Result, resource::ResourceName};

/// How to open an engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The data directory, made when missing (its parent must exist); `None` for memory.
    pub data_dir: Option<PathBuf>,
    /// When writes reach the disk.
    pub fsync: FsyncPolicy,
    /// Whether calls that need a stream, queue or store create it.
    pub create: bool,
    /// Streams, queues and stores, each, that a tenant may have; those that are there stay.
    pub max_resources: usize,
    /// Consumer groups that a tenant may have, each counted once for every stream it has a commit of;
    /// those that are there stay.
    pub max_groups: usize,
    /// The clock.
    pub clock: Clock,
}

impl EngineOptions {
    /// Durable storage in `dir` with the defaults of the contract.
    pub fn directory(dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: Some(dir.into()), ..Self::memory() }
    }

    /// Storage in memory with the defaults of the contract.
    pub fn memory() -> Self {
        Self {
            data_dir: None,
            fsync: FsyncPolicy::Always,
            create: true,
            max_resources: usize::MAX,
            max_groups: usize::MAX,
            clock: Clock::System,
        }
    }
}

/// Ordered, durable logs and the commits of their consumer groups.
#[async_trait]
pub trait StreamStore: Send + Sync {
    /// Appends `events` (encoded and checked `Event` messages, at least one) as one batch;
    /// returns the first offset.
    async fn append(&self, stream: &ResourceName, events: Vec<Bytes>) -> Result<i64>;

    /// Up to `max_messages` encoded `Message`s from `offset` on, cut before `max_bytes` unless
    /// the first alone is larger. Past the end: empty.
    async fn read(
        &self,
        stream: &ResourceName,
        offset: i64,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>>;

    /// Offset of the newest readable message, -1 when empty.
    async fn latest(&self, stream: &ResourceName) -> Result<i64>;

    /// Opens a stream for following, creating it where creation is on.
    async fn follow(&self, stream: &ResourceName) -> Result<Box<dyn Follow>>;

    /// Records `offset` as the last one that `group` has processed; -1 forgets.
    async fn commit(&self, stream: &ResourceName, group: &str, offset: i64) -> Result<()>;

    /// What [`StreamStore::commit`] recorded, -1 when nothing.
    async fn committed(&self, stream: &ResourceName, group: &str) -> Result<i64>;
}

/// A stream held open by a subscriber.
#[async_trait]
pub trait Follow: Send {
    /// Offset of the newest readable message, -1 when empty.
    fn latest(&self) -> i64;

    /// Messages from `offset` on, at least one, cut before `max_bytes` unless the first alone is
    /// larger; waits while there are none. Ends with UNAVAILABLE when the engine closes.
    async fn next(&mut self, offset: i64, max_bytes: usize) -> Result<Vec<Bytes>>;
}

/// A job to enqueue.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// At least 1 byte.
    pub payload: Bytes,
    /// Metadata.
    pub headers: BTreeMap<String, String>,
    /// Seconds until it is due.
    pub delay_seconds: i64,
}

/// A job that was enqueued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enqueued {
    /// Its id, 32 hex digits.
    pub job_id: String,
    /// Its number in the queue.
    pub seq: i64,
}

/// How to lease jobs.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// At most this many jobs.
    pub max_jobs: usize,
    /// At most this many encoded bytes, unless one job alone is larger.
    pub max_bytes: usize,
    /// Length of the lease in seconds.
    pub visibility_seconds: i64,
    /// How long to wait for the first job, in seconds of the engine's clock; 0 for not at all.
    pub wait_seconds: i64,
}

/// What became of a job that was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nacked {
    /// It waits for its next attempt.
    Waiting,
    /// It reached its attempt limit and is in the dead-letter queue.
    DeadLettered,
}

/// Job queues.
#[async_trait]
pub trait QueueStore: Send + Sync {
    /// Adds a job.
    async fn enqueue(&self, queue: &ResourceName, job: NewJob) -> Result<Enqueued>;

    /// Leases due jobs in ready order. Waiters are served in order of arrival; dropping the
    /// future ends the wait, and nothing is leased afterwards. Nor is it when the jobs do not get
    /// further than this: see [`Delivery`].
    async fn lease(&self, queue: &ResourceName, lease: Lease) -> Result<Leased>;

    /// Removes a leased job; any other id is fine and changes nothing.
    async fn ack(&self, queue: &ResourceName, job_id: &str) -> Result<()>;

    /// Gives a leased job back; NOT_FOUND when it is not leased.
    async fn nack(&self, queue: &ResourceName, job_id: &str, delay_seconds: i64) -> Result<Nacked>;

    /// The counters.
    async fn stats(&self, queue: &ResourceName) -> Result<QueueStats>;

    /// Replaces the retry policy (checked by the caller).
    async fn set_retry_policy(&self, queue: &ResourceName, policy: RetryPolicy) -> Result<()>;

    /// The retry policy in force.
    async fn retry_policy(&self, queue: &ResourceName) -> Result<RetryPolicy>;

    /// Waiting dead letters of `queue` in ready order, at most `max_jobs` and `max_bytes`.
    async fn dead_letters(&self, queue: &ResourceName, max_jobs: usize, max_bytes: usize)
    -> Result<Vec<Job>>;

    /// Moves a dead letter back into `queue`.
    async fn replay_dead_letter(&self, queue: &ResourceName, job_id: &str) -> Result<Enqueued>;
}

/// Key-value stores.
#[async_trait]
pub trait KvStore: Send + Sync {
    /// Stores a value; `ttl_seconds` 0 keeps it for ever.
    async fn set(&self, store: &ResourceName, key: &str, value: Bytes, ttl_seconds: i64) -> Result<()>;

    /// The value, `None` when absent or expired.
    async fn get(&self, store: &ResourceName, key: &str) -> Result<Option<Bytes>>;

    /// Removes a key if it is there.
    async fn delete(&self, store: &ResourceName, key: &str) -> Result<()>;

    /// Whether the key is there.
    async fn exists(&self, store: &ResourceName, key: &str) -> Result<bool>;

    /// Every key that starts with `prefix`, in byte order.
    async fn list_keys(&self, store: &ResourceName, prefix: &str) -> Result<Vec<String>>;
}

/// What the whole engine can do beside storing.
pub trait Lifecycle: Send + Sync {
    /// Whether storage can take work.
    fn is_ready(&self) -> bool;

    /// Commits what was handed in, ends waiting calls with UNAVAILABLE and releases the storage.
    /// Blocks until done; calls after the first do nothing.
    fn close(&self);
}

/// An open engine. Clones share it; it closes when [`Engine::close`] is called or the last
/// clone is gone.
#[derive(Clone)]
pub struct Engine {
    /// Streams and consumer groups.
    pub streams: Arc<dyn StreamStore>,
    /// Queues.
    pub queues: Arc<dyn QueueStore>,
    /// KV stores.
    pub kv: Arc<dyn KvStore>,
    /// The storage below.
    pub lifecycle: Arc<dyn Lifecycle>,
}

impl Engine {
    /// Whether storage can take work.
    pub fn is_ready(&self) -> bool {
        self.lifecycle.is_ready()
    }

    /// Commits what was handed in, ends waiting calls with UNAVAILABLE and releases the storage.
    pub fn close(&self) {
        self.lifecycle.close();
    }
}
