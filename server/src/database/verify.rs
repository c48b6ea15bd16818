//! Checking a database that nobody has open: its structure, every row that has a checksum, and that
//! the tables agree with each other.

use std::path::Path;

use rusqlite::{Connection, Row};

use super::{
    job::{JobNumber, RawBody, StoredBody},
    schema, values,
};
use crate::error::Result;

/// SQLite stops after so many complaints about one file.
const MOST_COMPLAINTS: u32 = 100;

/// What the check of a database found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Jobs that have not been acknowledged.
    pub jobs: u64,
    /// KV values, expired ones that were not swept yet among them.
    pub values: u64,
    /// What is not as it was stored.
    pub damage: Vec<String>,
    /// What is worth knowing and harms nobody.
    pub notes: Vec<String>,
}

/// Checks the database in `file`.
///
/// # Errors
/// It cannot be opened, or is of another format. Damage is no error.
pub fn verify(file: &Path) -> Result<Checked> {
    let mut checked = Checked::default();
    let conn = match schema::open_existing(file) {
        Ok(conn) => conn,
        Err(schema::OpenError::Refused(e)) => return Err(e),
        Err(schema::OpenError::Sqlite(e)) => {
            checked.damage.push(format!("{}: {e}", file.display()));
            return Ok(checked);
        }
    };
    // Damage of the structure can end any of the checks; the others may still say more.
    for check in [structure, key, bodies, places, counts, entries] {
        if let Err(e) = check(&conn, &mut checked) {
            checked.damage.push(e.to_string());
        }
    }
    checked.damage.iter_mut().for_each(|what| *what = format!("{}: {what}", file.display()));
    Ok(checked)
}

fn structure(conn: &Connection, checked: &mut Checked) -> rusqlite::Result<()> {
    let mut statement = conn.prepare(&format!("PRAGMA integrity_check({MOST_COMPLAINTS})"))?;
    let complaints = statement.query_map([], |row| row.get::<_, String>(0))?;
    for complaint in complaints {
        let complaint = complaint?;
        if complaint != "ok" {
            checked.damage.push(complaint);
        }
    }
    Ok(())
}

fn key(conn: &Connection, checked: &mut Checked) -> rusqlite::Result<()> {
    if schema::job_id_key(conn)?.is_none() {
        checked.damage.push("the key of the job ids is damaged".to_owned());
    }
    Ok(())
}

fn bodies(conn: &Connection, checked: &mut Checked) -> rusqlite::Result<()> {
    let mut statement = conn.prepare("SELECT job, created_at, headers, payload, crc FROM jobs")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        let body =
            JobNumber::from_stored(number).and_then(|job| StoredBody::read(job, RawBody::from_row(row, 1)?));
        match body {
            Some(_) => checked.jobs += 1,
            None => checked.damage.push(format!("{} does not match its checksum", job(conn, number))),
        }
    }
    Ok(())
}

/// Where jobs stand.
const PLACES: &str =
    "(SELECT job FROM waiting UNION ALL SELECT job FROM leased UNION ALL SELECT job FROM damaged)";

/// Every job has one place, and every place a job.
fn places(conn: &Connection, checked: &mut Checked) -> rusqlite::Result<()> {
    let homeless = format!(
        "SELECT jobs.job FROM jobs LEFT JOIN {PLACES} AS place ON place.job = jobs.job
         GROUP BY jobs.job HAVING count(place.job) != 1"
    );
    tell(conn, checked, &homeless, "does not stand in exactly one of waiting, leased and damaged")?;
    let empty = format!("SELECT job FROM {PLACES} WHERE job NOT IN (SELECT job FROM jobs)");
    tell(conn, checked, &empty, "has a place and no body")?;
    let aside: i64 = conn.query_row("SELECT count(*) FROM damaged", [], |row| row.get(0))?;
    if aside > 0 {
        checked.notes.push(format!("{aside} damaged jobs were set aside by the server"));
    }
    Ok(())
}

fn tell(conn: &Connection, checked: &mut Checked, query: &str, what: &str) -> rusqlite::Result<()> {
    let mut statement = conn.prepare(query)?;
    let numbers = statement.query_map([], |row| row.get::<_, i64>(0))?;
    for number in numbers {
        checked.damage.push(format!("{} {what}", job(conn, number?)));
    }
    Ok(())
}

/// The counters of the queues are what their tables hold.
fn counts(conn: &Connection, checked: &mut Checked) -> rusqlite::Result<()> {
    let mut statement = conn.prepare("SELECT id, path, waiting, leased, next_seq FROM queues")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (id, path): (i64, String) = (row.get(0)?, row.get(1)?);
        let (first, end) = JobNumber::range(id);
        let count = |table: &str| -> rusqlite::Result<i64> {
            let query = format!("SELECT count(*) FROM {table} WHERE job >= ?1 AND job < ?2");
            conn.query_row(&query, [first, end], |row| row.get(0))
        };
        for (counter, stated, held) in [
            ("waiting", row.get::<_, i64>(2)?, count("waiting")? + count("damaged")?),
            ("leased", row.get(3)?, count("leased")?),
        ] {
            if stated != held {
                checked.damage.push(format!("queue {path} counts {stated} {counter} jobs and has {held}"));
            }
        }
        let next: i64 = row.get(4)?;
        let newest: Option<i64> =
            conn.query_row("SELECT max(job) FROM jobs WHERE job >= ?1 AND job < ?2", [first, end], |row| {
                row.get(0)
            })?;
        if let Some(newest) = newest.and_then(JobNumber::from_stored).filter(|job| job.seq() >= next) {
            checked.damage.push(format!("queue {path} would number a job {next} and has {}", newest.seq()));
        }
    }
    Ok(())
}

fn entries(conn: &Connection, checked: &mut Checked) -> rusqlite::Result<()> {
    let mut statement = conn.prepare(
        "SELECT value, expires_at, entries.crc, store, key, path
         FROM entries LEFT JOIN stores ON stores.id = store",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if values::is_sound(row) {
            checked.values += 1;
        } else {
            checked.damage.push(format!("{} does not match its checksum", entry(row)));
        }
    }
    Ok(())
}

/// A job as people know it.
fn job(conn: &Connection, number: i64) -> String {
    let queue = JobNumber::from_stored(number).and_then(|job| {
        let path: rusqlite::Result<String> =
            conn.query_row("SELECT path FROM queues WHERE id = ?1", [job.queue()], |row| row.get(0));
        Some(format!("job {} of queue {}", job.seq(), path.ok()?))
    });
    queue.unwrap_or_else(|| format!("job {number} of no queue"))
}

fn entry(row: &Row<'_>) -> String {
    let key: String = row.get(4).unwrap_or_else(|_| "(unreadable)".to_owned());
    match row.get::<_, String>(5) {
        Ok(store) => format!("key {key:?} of KV store {store}"),
        Err(_) => format!("key {key:?} of no KV store"),
    }
}
