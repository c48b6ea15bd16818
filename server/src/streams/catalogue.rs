//! The streams of a log, by name and by id, and what each of them shares between the writer and
//! its readers.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use tokio::sync::Notify;

use super::{index::Index, segment::Damage};
use crate::{limits::Census, resource::ResourceName};

/// One stream.
pub struct Stream {
    /// Its id in this log.
    pub id: u32,
    /// Its name.
    pub name: ResourceName,
    /// Rung when messages were published and when the log closes.
    pub changed: Notify,
    /// Damage that may have hit the end of this stream: which offset comes next is not known.
    pub suspect: OnceLock<Damage>,
    index: RwLock<Index>,
    next: AtomicI64,
    staged: AtomicI64,
}

impl Stream {
    /// A stream with the messages that `index` lists.
    pub fn new(id: u32, name: ResourceName, index: Index) -> Self {
        let next = index.next();
        Self {
            id,
            name,
            changed: Notify::new(),
            suspect: OnceLock::new(),
            index: RwLock::new(index),
            next: AtomicI64::new(next),
            staged: AtomicI64::new(next),
        }
    }

    /// Offset after the last message that readers may see.
    pub fn next(&self) -> i64 {
        self.next.load(Ordering::Acquire)
    }

    /// The index, to look something up. Never held across a read from a file.
    pub fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index, to change it.
    pub fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The offset after the last one that the writer has given out. Only the writer calls this
    /// and the two below.
    pub fn staged(&self) -> i64 {
        self.staged.load(Ordering::Relaxed)
    }

    /// Gives out offsets up to `next`.
    pub fn stage(&self, next: i64) {
        self.staged.store(next, Ordering::Relaxed);
    }

    /// Shows readers what the index has.
    pub fn publish(&self, next: i64) {
        self.next.store(next, Ordering::Release);
        self.changed.notify_waiters();
    }
}

/// All streams of a log.
#[derive(Default)]
pub struct Catalogue {
    /// Set when the log closes, before the streams' followers are woken.
    pub closed: AtomicBool,
    tables: RwLock<Tables>,
}

#[derive(Default)]
struct Tables {
    by_name: HashMap<ResourceName, Arc<Stream>>,
    by_id: HashMap<u32, Arc<Stream>>,
}

impl Catalogue {
    fn tables(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream called `name`.
    pub fn get(&self, name: &ResourceName) -> Option<Arc<Stream>> {
        self.tables().by_name.get(name).cloned()
    }

    /// The stream with this id.
    pub fn by_id(&self, id: u32) -> Option<Arc<Stream>> {
        self.tables().by_id.get(&id).cloned()
    }

    /// Counts every stream.
    pub fn count(&self, census: &mut Census) {
        census.recount(self.tables().by_name.keys());
    }

    /// Adds a stream.
    pub fn insert(&self, stream: Arc<Stream>) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        tables.by_id.insert(stream.id, stream.clone());
        tables.by_name.insert(stream.name.clone(), stream);
    }

    /// Tells every follower that the log has closed.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for stream in self.tables().by_id.values() {
            stream.changed.notify_waiters();
        }
    }
}
