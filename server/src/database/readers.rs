//! Connections for reads, used in the caller's thread.
//!
//! A read takes microseconds; a read of many rows keeps its connection, never a lock that others
//! wait for. In memory there is one connection for everything, so reads take turns with writes.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rusqlite::Connection;

use super::{Place, health::Health, lock, schema};
use crate::error::{Error, ErrorKind, Result};

/// Connections kept open when nobody reads.
const KEPT: usize = 4;

/// Where reads find a connection.
pub(super) struct Readers {
    source: Source,
    health: Arc<Health>,
}

enum Source {
    File { place: Place, pool: Pool },
    Memory(Arc<Mutex<Connection>>),
}

#[derive(Default)]
struct Pool {
    state: Mutex<Connections>,
    /// Rung when a paused pool has none in use any more.
    unused: Condvar,
}

#[derive(Default)]
struct Connections {
    idle: Vec<Connection>,
    in_use: usize,
    paused: bool,
}

impl Pool {
    /// Runs `read` on a connection, unless the pool is paused.
    fn with<R>(
        &self,
        open: impl FnOnce() -> rusqlite::Result<Connection>,
        read: impl FnOnce(&Connection) -> rusqlite::Result<R>,
    ) -> Option<rusqlite::Result<R>> {
        /// Also when `read` panics.
        struct InUse<'a>(&'a Pool);
        impl Drop for InUse<'_> {
            fn drop(&mut self) {
                let mut connections = lock(&self.0.state);
                connections.in_use -= 1;
                if connections.in_use == 0 && connections.paused {
                    self.0.unused.notify_all();
                }
            }
        }
        let mut connections = lock(&self.state);
        if connections.paused {
            return None;
        }
        connections.in_use += 1;
        let kept = connections.idle.pop();
        drop(connections);
        let _in_use = InUse(self);
        let conn = match kept.map_or_else(open, Ok) {
            Ok(conn) => conn,
            Err(e) => return Some(Err(e)),
        };
        let result = read(&conn);
        let mut connections = lock(&self.state);
        let spare = if connections.idle.len() < KEPT && !connections.paused {
            connections.idle.push(conn);
            None
        } else {
            Some(conn)
        };
        // Closing one is no work for under the lock.
        drop(connections);
        drop(spare);
        Some(result)
    }

    fn take_idle(&self) -> Vec<Connection> {
        std::mem::take(&mut lock(&self.state).idle)
    }
}

impl Readers {
    pub(super) fn of_file(place: Place, health: Arc<Health>) -> Self {
        Self { source: Source::File { place, pool: Pool::default() }, health }
    }

    pub(super) fn of_memory(conn: Arc<Mutex<Connection>>, health: Arc<Health>) -> Self {
        Self { source: Source::Memory(conn), health }
    }

    /// Runs `read` on a connection that sees everything acknowledged so far.
    pub(super) fn read<R>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> Result<R> {
        self.health.check()?;
        let result = match &self.source {
            Source::Memory(conn) => read(&lock(conn)),
            Source::File { place, pool } => match pool.with(|| schema::open_reader(place), read) {
                Some(result) => result,
                None => {
                    let why = format!("{} is being opened again after a failed sync", self.health.file());
                    return Err(Error::new(ErrorKind::Unavailable, why));
                }
            },
        };
        result.map_err(|e| self.health.error(&e))
    }

    /// Closes the connections nobody uses.
    pub(super) fn close(&self) {
        if let Source::File { pool, .. } = &self.source {
            drop(pool.take_idle());
        }
    }

    /// Closes all connections, waiting for those in use, and refuses reads until [`Readers::resume`].
    pub(super) fn pause(&self) {
        let Source::File { pool, .. } = &self.source else { return };
        lock(&pool.state).paused = true;
        drop(pool.take_idle());
        let mut connections = lock(&pool.state);
        while connections.in_use > 0 {
            connections = pool.unused.wait(connections).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn resume(&self) {
        if let Source::File { pool, .. } = &self.source {
            lock(&pool.state).paused = false;
        }
    }

    /// Whether reads are refused.
    pub(super) fn are_paused(&self) -> bool {
        matches!(&self.source, Source::File { pool, .. } if lock(&pool.state).paused)
    }
}
