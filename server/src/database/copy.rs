//! Copying a database that somebody may be writing to: what one moment holds, by SQLite's own means.

use std::{fs::File, path::Path, time::Duration};

use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};

use super::schema;
use crate::error::{Error, Result};

/// How long to wait for who holds the file against readers: the recovery of another process.
const PATIENCE: Duration = Duration::from_secs(10);

/// Copies `from` to the new file `to`, durably.
///
/// # Errors
/// It cannot be read or written, or is damaged in a page that is copied.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let failed = |e: rusqlite::Error| Error::internal(format!("copying {}: {e}", from.display()));
    let source = schema::open_existing(from).map_err(|e| match e {
        schema::OpenError::Refused(e) => e,
        schema::OpenError::Sqlite(e) => failed(e),
    })?;
    source.busy_timeout(PATIENCE).map_err(failed)?;
    let mut target = Connection::open(to).map_err(failed)?;
    let step = Backup::new(&source, &mut target).and_then(|backup| backup.step(-1)).map_err(failed)?;
    if step != StepResult::Done {
        return Err(Error::internal(format!("copying {}: the file stayed locked", from.display())));
    }
    target.close().map_err(|(_, e)| failed(e))?;
    File::open(to).and_then(|file| file.sync_all()).map_err(|e| Error::io(to.display(), &e))
}
