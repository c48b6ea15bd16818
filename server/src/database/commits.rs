//! Commits of consumer groups: their table.
//!
//! A row per stream and group, from its first commit until it is forgotten. Rows are counted by tenant,
//! for a commit needs no more than leave to read: whoever has it must not fill the disk.

use rusqlite::{Connection, OptionalExtension, params};

use super::queues::{Step, Tx};
use crate::{limits::Census, resource::ResourceName};

/// The writer's picture of the table: how many rows each tenant has.
pub(super) struct Commits {
    census: Census,
}

impl Commits {
    pub(super) fn load(conn: &Connection, max_groups: usize) -> rusqlite::Result<Self> {
        let mut commits = Self { census: Census::of_groups(max_groups) };
        commits.reload(conn)?;
        Ok(commits)
    }

    /// Takes the picture from the table.
    pub(super) fn reload(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        self.census.clear();
        if !self.census.is_limited() {
            return Ok(());
        }
        let mut stmt = conn.prepare_cached("SELECT stream, count(*) FROM commits GROUP BY stream")?;
        let mut rows = stmt.query([])?;
        while let Some(row) = rows.next()? {
            // A name that is damaged fails the calls that ask for it, and no others.
            let Ok(stream) = row.get_ref(0)?.as_str() else { continue };
            let groups = usize::try_from(row.get::<_, i64>(1)?).unwrap_or_default();
            self.census.count_many(&ResourceName::from_stored(stream.to_owned()), groups);
        }
        Ok(())
    }

    /// Records the last offset that `group` has processed; -1 forgets, which makes room for another.
    pub(super) fn commit(
        &mut self,
        tx: &Tx<'_>,
        stream: &ResourceName,
        group: &str,
        offset: i64,
    ) -> Step<()> {
        if offset < 0 {
            let mut delete =
                tx.conn.prepare_cached("DELETE FROM commits WHERE stream = ?1 AND consumer_group = ?2")?;
            if delete.execute([stream.as_str(), group])? > 0 {
                self.census.forget(stream);
            }
            return Ok(Ok(()));
        }
        let row = params![stream.as_str(), group, offset];
        let update = "UPDATE commits SET last_offset = ?3 WHERE stream = ?1 AND consumer_group = ?2";
        if tx.conn.prepare_cached(update)?.execute(row)? == 0 {
            if let Err(e) = self.census.admit(stream, 0) {
                return Ok(Err(e));
            }
            tx.conn.prepare_cached("INSERT INTO commits VALUES (?1, ?2, ?3)")?.execute(row)?;
            self.census.count(stream);
        }
        Ok(Ok(()))
    }
}

/// What [`Commits::commit`] recorded, -1 when nothing.
pub(super) fn committed(conn: &Connection, stream: &ResourceName, group: &str) -> rusqlite::Result<i64> {
    let offset = conn
        .prepare_cached("SELECT last_offset FROM commits WHERE stream = ?1 AND consumer_group = ?2")?
        .query_row([stream.as_str(), group], |r| r.get(0))
        .optional()?;
    Ok(offset.unwrap_or(-1))
}
