//! The file: its format, its tables, and how connections to it are opened.
//!
//! Format version 1. A job's body is written once, by its enqueue, and removed by its ack; where
//! the job stands is a small row in exactly one of `waiting`, `leased` and `damaged`, so a lease
//! moves a few bytes whatever the size of the payload.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::Place;
use crate::error::Error;

/// "This is a FlowMesh database", in the header of the file.
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"FLMW");
const FORMAT_VERSION: i32 = 1;

const TABLES: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
-- next_seq is also the number of jobs ever enqueued; last_created_at keeps created_at in order of seq
CREATE TABLE queues (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE,
    next_seq INTEGER NOT NULL, waiting INTEGER NOT NULL, leased INTEGER NOT NULL,
    completed INTEGER NOT NULL, failed INTEGER NOT NULL, last_created_at INTEGER NOT NULL);
CREATE TABLE policies (
    queue INTEGER PRIMARY KEY, max_attempts INTEGER NOT NULL, initial_backoff_seconds INTEGER NOT NULL,
    max_backoff_seconds INTEGER NOT NULL, backoff_multiplier REAL NOT NULL, backoff_strategy TEXT NOT NULL);
-- job = queue << 40 | seq, everywhere
CREATE TABLE jobs (
    job INTEGER PRIMARY KEY, created_at INTEGER NOT NULL, crc INTEGER NOT NULL, headers BLOB, payload BLOB NOT NULL);
CREATE TABLE waiting (
    queue INTEGER NOT NULL, visible_at INTEGER NOT NULL, job INTEGER NOT NULL, attempts INTEGER NOT NULL,
    PRIMARY KEY (queue, visible_at, job)) WITHOUT ROWID;
CREATE TABLE leased (job INTEGER PRIMARY KEY, until INTEGER NOT NULL, attempts INTEGER NOT NULL);
CREATE INDEX leased_until ON leased (until);
-- waiting jobs whose body does not match its checksum: set aside, counted as waiting, never leased
CREATE TABLE damaged (job INTEGER PRIMARY KEY);
CREATE TABLE stores (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE);
CREATE TABLE entries (
    store INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, expires_at INTEGER, crc INTEGER NOT NULL,
    PRIMARY KEY (store, key)) WITHOUT ROWID;
CREATE INDEX entries_expiry ON entries (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE commits (
    stream TEXT NOT NULL, consumer_group TEXT NOT NULL, last_offset INTEGER NOT NULL,
    PRIMARY KEY (stream, consumer_group)) WITHOUT ROWID;
";

/// Older ones can corrupt a database when its WAL is reset while it is read.
const OLDEST_SQLITE: i32 = 3_051_003;

/// More statements than the code has.
const STATEMENT_CACHE: usize = 64;

/// How opening ends when nobody is to blame but the file.
pub(super) enum OpenError {
    /// It cannot be opened, or is not ours to open.
    Refused(Error),
    /// SQLite failed.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for OpenError {
    fn from(e: rusqlite::Error) -> Self {
        Self::Sqlite(e)
    }
}

/// The SQLite that was linked must be fit for files that others depend on.
fn check_sqlite(version: i32) -> Result<(), Error> {
    if version >= OLDEST_SQLITE {
        return Ok(());
    }
    let text = rusqlite::version();
    Err(Error::internal(format!("the SQLite of this system is {text}; 3.51.3 or newer is needed")))
}

/// The connection that writes, on a file of this format (made when it does not exist yet).
pub(super) fn open_file(place: &Place) -> std::result::Result<Connection, OpenError> {
    check_sqlite(rusqlite::version_number()).map_err(OpenError::Refused)?;
    // The process before this one may have ended after a failed sync.
    let failed = |e| OpenError::Refused(Error::io(format_args!("{}-wal", place.path().display()), &e));
    if !planted!(WalTrusted) {
        place.rewrite_wal().map_err(failed)?;
    }
    let conn = place.connect(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    let objects: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
    if objects > 0 || application(&conn)? != (0, 0) {
        check_format(&conn, place.path())?;
    }
    // Counts in a new file only. Most transactions change a few bytes on each of a few pages, and
    // each page goes into the WAL whole: halving the default saves a tenth of their CPU time.
    conn.pragma_update(None, "page_size", 2048)?;
    use_wal(&conn, place.path())?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "cache_size", -65_536)?;
    tune(&conn)?;
    if objects == 0 {
        create(&conn)?;
    }
    // The entries of the file and its WAL must be as durable as what these will hold. SQLite syncs
    // the directory, too, but takes no notice when that fails.
    let failed = |e| Error::io(format_args!("{}: syncing its directory", place.path().display()), &e);
    place.sync_entries().map_err(|e| OpenError::Refused(failed(e)))?;
    Ok(conn)
}

/// SQLite says which mode it is in, and fails silently when it cannot change it. With a rollback
/// journal it does not sync the directory that the journal is removed from: after a power cut the
/// journal is there again and takes back what was acknowledged.
fn use_wal(conn: &Connection, path: &Path) -> std::result::Result<(), OpenError> {
    if planted!(AnyJournal) {
        return Ok(conn.pragma_update(None, "journal_mode", "WAL")?);
    }
    // It answers before it has changed the file: only the end of the statement tells.
    let mut stmt = conn.prepare("PRAGMA journal_mode = WAL")?;
    let modes: Vec<String> = stmt.query_map([], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mode = modes.concat();
    if mode == "wal" {
        return Ok(());
    }
    let why =
        format!("{}: the write-ahead log cannot be used, the journal mode stays {mode}", path.display());
    Err(OpenError::Refused(Error::internal(why)))
}

/// Refuses a file that is not of this format.
fn check_format(conn: &Connection, path: &Path) -> std::result::Result<(), OpenError> {
    let refuse = |why: String| Err(OpenError::Refused(Error::internal(format!("{}: {why}", path.display()))));
    match application(conn)? {
        (APPLICATION_ID, FORMAT_VERSION) => Ok(()),
        (APPLICATION_ID, version) => refuse(format!(
            "the database has format version {version}, this program knows version {FORMAT_VERSION}"
        )),
        _ => refuse("the file is an SQLite database of another application".to_owned()),
    }
}

/// Whose file it is, and its format.
fn application(conn: &Connection) -> rusqlite::Result<(i32, i32)> {
    let read = |name| conn.pragma_query_value(None, name, |r| r.get(0));
    Ok((read("application_id")?, read("user_version")?))
}

/// A connection that only reads a file of this format, which another process may have open.
#[cfg(feature = "net")]
pub(super) fn open_existing(path: &Path) -> std::result::Result<Connection, OpenError> {
    check_sqlite(rusqlite::version_number()).map_err(OpenError::Refused)?;
    let conn = open_reader(&Place::file(path))?;
    check_format(&conn, path)?;
    Ok(conn)
}

/// The one connection of a database in memory.
pub(super) fn open_memory() -> rusqlite::Result<Connection> {
    let conn = Connection::open_in_memory()?;
    tune(&conn)?;
    create(&conn)?;
    Ok(conn)
}

/// A connection that only reads.
pub(super) fn open_reader(place: &Place) -> rusqlite::Result<Connection> {
    let conn = place.connect(OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    conn.pragma_update(None, "cache_size", -8_192)?;
    tune(&conn)?;
    Ok(conn)
}

/// A connection for checkpoints. It syncs what it copies, whatever the policy for commits: the
/// WAL is overwritten afterwards.
pub(super) fn open_checkpointer(place: &Place) -> rusqlite::Result<Connection> {
    let conn = place.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    tune(&conn)?;
    Ok(conn)
}

fn tune(conn: &Connection) -> rusqlite::Result<()> {
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(())
}

fn create(conn: &Connection) -> rusqlite::Result<()> {
    let key = new_key(conn)?;
    conn.execute_batch("BEGIN IMMEDIATE")?;
    conn.execute_batch(TABLES)?;
    let mut stored = key.to_vec();
    stored.extend_from_slice(&crc32c::crc32c(&key).to_le_bytes());
    conn.execute("INSERT INTO meta VALUES ('job_id_key', ?1)", [stored])?;
    conn.pragma_update(None, "application_id", APPLICATION_ID)?;
    conn.pragma_update(None, "user_version", FORMAT_VERSION)?;
    conn.execute_batch("COMMIT")
}

fn new_key(conn: &Connection) -> rusqlite::Result<[u8; 16]> {
    // What is stored of a dead letter depends on its id, down to the length of its checksum.
    #[cfg(test)]
    if crate::powercut::is_reproducible() {
        return Ok([7; 16]);
    }
    let mut key = [0; 16];
    // A machine without random numbers has no ids to give; SQLite's own source is the way out.
    if getrandom::fill(&mut key).is_err() {
        key = conn.query_row("SELECT randomblob(16)", [], |r| r.get(0))?;
    }
    Ok(key)
}

/// The key of the job ids; `None` when it is damaged.
pub(super) fn job_id_key(conn: &Connection) -> rusqlite::Result<Option<[u8; 16]>> {
    let stored: Option<Vec<u8>> =
        conn.query_row("SELECT value FROM meta WHERE name = 'job_id_key'", [], |r| r.get(0)).optional()?;
    Ok(stored.and_then(|stored| {
        let (key, crc) = stored.split_first_chunk::<16>()?;
        (crc == crc32c::crc32c(key).to_le_bytes()).then_some(*key)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sqlite_that_corrupts_its_wal_is_refused() {
        assert!(check_sqlite(rusqlite::version_number()).is_ok());
        assert!(check_sqlite(3_051_002).is_err());
    }
}
