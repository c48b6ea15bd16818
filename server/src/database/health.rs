//! What an SQLite error means to callers, and whether the database can still be used.
//!
//! Damage to the structure of the file ends queue, KV and commit calls for good (the file must be
//! looked at), the process goes on. Everything else fails the calls it hits and nothing more.

use std::{path::Path, sync::OnceLock};

use rusqlite::ffi;

use crate::error::{Error, ErrorKind, Result};

/// Shared by all connections of a database.
pub(super) struct Health {
    file: String,
    damage: OnceLock<String>,
}

impl Health {
    pub(super) fn new(path: Option<&Path>) -> Self {
        let file = path.map_or_else(|| "the database in memory".to_owned(), |p| p.display().to_string());
        Self { file, damage: OnceLock::new() }
    }

    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// Refuses calls once the structure is known to be damaged.
    pub(super) fn check(&self) -> Result<()> {
        match self.damage.get() {
            None => Ok(()),
            Some(damage) => Err(Error::internal(format!("{}: {damage}", self.file))),
        }
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.damage.get().is_some()
    }

    /// From now on [`Health::check`] fails.
    pub(super) fn set_damaged(&self, damage: impl Into<String>) {
        let damage = damage.into();
        if self.damage.set(damage.clone()).is_ok() {
            tracing::error!(
                file = self.file,
                damage,
                "the database is damaged; queue, KV and commit calls fail"
            );
        }
    }

    /// The error that callers get; notes structural damage.
    pub(super) fn error(&self, e: &rusqlite::Error) -> Error {
        if is_damage(e) {
            self.set_damaged(e.to_string());
        }
        let kind = if is_out_of_space(e) { ErrorKind::ResourceExhausted } else { ErrorKind::Internal };
        Error::new(kind, format!("{}: {e}", self.file))
    }
}

/// Whether the structure of the file is damaged (or it is no database at all).
pub(super) fn is_damage(e: &rusqlite::Error) -> bool {
    matches!(
        e.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
    ) || matches!(
        // A column of a type that we never store.
        e,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..)
    )
}

fn is_out_of_space(e: &rusqlite::Error) -> bool {
    e.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
        // The shared index of the WAL could not grow.
        || e.sqlite_error().is_some_and(|e| e.extended_code == ffi::SQLITE_IOERR_SHMSIZE)
}

/// Whether a sync failed: what was written since the last good one may be lost although it can
/// still be read.
pub(super) fn is_failed_sync(e: &rusqlite::Error) -> bool {
    e.sqlite_error()
        .is_some_and(|e| matches!(e.extended_code, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC))
}
