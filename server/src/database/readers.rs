//! Connections for reads, used in the caller's thread.
//!
//! A read takes microseconds; a read of many rows keeps its connection, never a lock that others
//! wait for. In memory there is one connection for everything, so reads take turns with writes.

use std::sync::{Arc, Mutex};

use rusqlite::Connection;

use super::{Place, health::Health, lock, schema};
use crate::error::Result;

/// Connections kept open when nobody reads.
const KEPT: usize = 4;

/// Where reads find a connection.
pub(super) struct Readers {
    source: Source,
    health: Arc<Health>,
}

enum Source {
    File { place: Place, idle: Mutex<Vec<Connection>> },
    Memory(Arc<Mutex<Connection>>),
}

impl Readers {
    pub(super) fn of_file(place: Place, health: Arc<Health>) -> Self {
        Self { source: Source::File { place, idle: Mutex::default() }, health }
    }

    pub(super) fn of_memory(conn: Arc<Mutex<Connection>>, health: Arc<Health>) -> Self {
        Self { source: Source::Memory(conn), health }
    }

    /// Runs `read` on a connection that sees everything acknowledged so far.
    pub(super) fn read<R>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> Result<R> {
        self.health.check()?;
        let result = match &self.source {
            Source::Memory(conn) => read(&lock(conn)),
            Source::File { place, idle } => {
                let kept = lock(idle).pop();
                kept.map_or_else(|| schema::open_reader(place), Ok).and_then(|conn| {
                    let result = read(&conn);
                    let mut idle = lock(idle);
                    if idle.len() < KEPT {
                        idle.push(conn);
                    }
                    result
                })
            }
        };
        result.map_err(|e| self.health.error(&e))
    }

    /// Closes the connections nobody uses.
    pub(super) fn close(&self) {
        if let Source::File { idle, .. } = &self.source {
            lock(idle).clear();
        }
    }
}
