//! Opening the file again after a sync failed in a checkpoint.
//!
//! What a checkpoint has copied SQLite takes for stored, in the index that its connections share: it
//! reads those pages from the file and not from the WAL, and does not copy them again. After a failed
//! sync they may not be there. The index goes with the last connection. So all are closed, without a
//! checkpoint, the WAL is written again, and whoever opens the file then finds everything to be copied
//! once more. Until that has worked there are no checkpoints, and the WAL grows.

use rusqlite::{Connection, config::DbConfig, ffi};

use super::{
    Place, lock,
    schema::{self, OpenError},
    writer::Writer,
};
use crate::{clock::SECOND_NS, commit::try_lock};

/// Between two attempts that no caller waits for.
const PAUSE_NS: i64 = 10 * SECOND_NS;

/// What the writer knows about it.
#[derive(Default)]
pub(super) struct Reopening {
    /// What the WAL held when the file was closed; `None` while it is open.
    closed: Option<Wal>,
    /// Not before this instant, unless somebody waits for a closed file.
    again_at: i64,
}

impl Reopening {
    /// Whether the file is closed. Its connection is an empty one then.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// When a closed file wants to be tried again.
    pub(super) fn alarm(&self) -> i64 {
        if self.is_closed() { self.again_at } else { i64::MAX }
    }
}

/// The transactions in the WAL.
#[derive(Clone, Copy)]
struct Wal {
    frames: i64,
    page_size: i64,
}

impl Wal {
    fn of(conn: &Connection) -> rusqlite::Result<Self> {
        let (frames, _) = frames(conn)?;
        let page_size = conn.pragma_query_value(None, "page_size", |row| row.get(0))?;
        Ok(Self { frames, page_size })
    }

    /// Bytes of the file that they take: a head, and one before each page.
    fn len(self) -> u64 {
        (32 + self.frames * (24 + self.page_size)).unsigned_abs()
    }
}

/// Frames in the WAL, and how many of them are taken for copied.
fn frames(conn: &Connection) -> rusqlite::Result<(i64, i64)> {
    conn.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| Ok((row.get(1)?, row.get(2)?)))
}

impl Writer {
    /// Opens the file again when that is due. After an error the file may be closed.
    pub(super) fn reopen_if_due(&mut self, conn: &mut Connection, now: i64) -> rusqlite::Result<()> {
        let (Some(checkpoints), Some(place)) = (&mut self.checkpoints, &self.sync.place) else {
            return Ok(());
        };
        let reopening = &mut self.reopening;
        let is_due = checkpoints.have_ended() && now >= reopening.again_at;
        if !is_due && !reopening.is_closed() {
            return Ok(());
        }
        let shared = checkpoints.shared.clone();
        // A checkpoint that is under way ends by itself, and the next transaction comes here again.
        // While the file is closed there is none.
        let copier =
            if reopening.is_closed() { Some(lock(&shared.copier)) } else { try_lock(&shared.copier) };
        let Some(mut copier) = copier else { return Ok(()) };
        reopening.again_at = now.saturating_add(PAUSE_NS);
        if !reopening.is_closed() {
            let wal = Wal::of(conn)?;
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            let empty = Connection::open_in_memory()?;
            self.readers.pause();
            copier.conn = None;
            reopening.closed = Some(wal);
            // This is what is done about it.
            checkpoints.take_failed_sync();
            if let Err((still_open, e)) = std::mem::replace(conn, empty).close() {
                *conn = still_open;
                reopening.closed = None;
                self.readers.resume();
                return Err(e);
            }
        }
        let Some(wal) = reopening.closed else { return Ok(()) };
        let mut opened = open(place, wal)?;
        let (found, copied) = frames(&opened)?;
        if found < wal.frames {
            let lost = format!("of {} pages in the write-ahead log {found} are left", wal.frames);
            self.health.set_damaged(format!("after a failed sync, {lost}"));
            return Err(failure(lost));
        }
        checkpoints.resume(&mut copier, place, &mut opened)?;
        // Another process may have kept the index; then it will be tried once more.
        shared.set_ended(&mut copier, copied > 0);
        drop(copier);
        *conn = opened;
        reopening.closed = None;
        self.sync.reopened();
        self.readers.resume();
        self.roll_back(conn);
        if copied > 0 {
            tracing::warn!(file = self.health.file(), "another process has it open: no checkpoints yet");
        } else {
            tracing::info!(file = self.health.file(), "opened again after a failed sync");
        }
        Ok(())
    }
}

fn open(place: &Place, wal: Wal) -> rusqlite::Result<Connection> {
    if wal.frames > 0 {
        // What follows are transactions that failed: their callers were told so.
        place.cut_wal(wal.len()).map_err(|e| failure(format!("cutting the write-ahead log: {e}")))?;
    }
    schema::open_file(place).map_err(|e| match e {
        OpenError::Refused(e) => failure(e.message().to_owned()),
        OpenError::Sqlite(e) => e,
    })
}

fn failure(what: String) -> rusqlite::Error {
    let what = format!("opening the file again after a failed sync: {what}");
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CANTOPEN), Some(what))
}
