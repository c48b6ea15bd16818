//! KV values: their tables.
//!
//! An expired key is absent from its instant on because every read compares; the sweep only
//! frees its space.

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params, types::ValueRef};

use super::{
    queues::{Step, Tx},
    read_lock, write_lock,
};
use crate::{clock::SECOND_NS, error::Error, limits::Census, resource::ResourceName};

/// Expired keys removed in one transaction.
const SWEEP_STEP: i64 = 1_000;

/// Numbers of the stores. Stores are never removed, so what a reader finds here stays true.
pub(super) type StoreIds = Arc<RwLock<HashMap<ResourceName, i64>>>;

/// The writer's picture of the KV tables.
pub(super) struct Values {
    ids: StoreIds,
    /// Made in this transaction; published when it is stored.
    created: HashMap<ResourceName, i64>,
    census: Census,
    last_id: i64,
    /// No key expires before this.
    pub(super) next_expiry: i64,
}

impl Values {
    pub(super) fn load(conn: &Connection, max_stores: usize) -> rusqlite::Result<Self> {
        let mut values = Self {
            ids: StoreIds::default(),
            created: HashMap::new(),
            census: Census::new("KV stores", max_stores),
            last_id: 0,
            next_expiry: i64::MAX,
        };
        values.reload(conn)?;
        Ok(values)
    }

    pub(super) fn ids(&self) -> StoreIds {
        self.ids.clone()
    }

    /// Takes the picture from the tables.
    pub(super) fn reload(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let stored: HashMap<_, _> = conn
            .prepare_cached("SELECT path, id FROM stores")?
            .query_map([], |r| Ok((ResourceName::from_stored(r.get(0)?), r.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        self.last_id = stored.values().copied().max().unwrap_or(0);
        self.census.recount(stored.keys());
        *write_lock(&self.ids) = stored;
        self.created.clear();
        self.next_expiry = first_expiry(conn)?;
        Ok(())
    }

    /// To be called when the transaction is stored.
    pub(super) fn committed(&mut self) {
        if !self.created.is_empty() {
            write_lock(&self.ids).extend(self.created.drain());
        }
    }

    fn id(&self, store: &ResourceName) -> Option<i64> {
        read_lock(&self.ids).get(store).or_else(|| self.created.get(store)).copied()
    }

    pub(super) fn set(
        &mut self,
        tx: &Tx<'_>,
        store: &ResourceName,
        key: &str,
        value: &[u8],
        ttl_seconds: i64,
    ) -> Step<()> {
        let id = match self.id(store) {
            Some(id) => id,
            None if tx.create => {
                if let Err(e) = self.census.admit(store, 0) {
                    return Ok(Err(e));
                }
                let id = self.last_id + 1;
                tx.conn
                    .prepare_cached("INSERT INTO stores VALUES (?1, ?2)")?
                    .execute(params![id, store.as_str()])?;
                self.last_id = id;
                self.census.count(store);
                self.created.insert(store.clone(), id);
                id
            }
            None => return Ok(Err(Error::not_found(format!("KV store {store} does not exist")))),
        };
        let expires_at =
            (ttl_seconds > 0).then(|| tx.now.saturating_add(ttl_seconds.saturating_mul(SECOND_NS)));
        tx.conn
            .prepare_cached("INSERT OR REPLACE INTO entries VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![id, key, value, expires_at, entry_crc(id, key, value, expires_at)])?;
        self.next_expiry = self.next_expiry.min(expires_at.unwrap_or(i64::MAX));
        Ok(Ok(()))
    }

    pub(super) fn delete(&self, tx: &Tx<'_>, store: &ResourceName, key: &str) -> Step<()> {
        if let Some(id) = self.id(store) {
            tx.conn
                .prepare_cached("DELETE FROM entries WHERE store = ?1 AND key = ?2")?
                .execute(params![id, key])?;
        }
        Ok(Ok(()))
    }

    /// Frees some of what has expired; more may be left, then `next_expiry` stays in the past.
    pub(super) fn sweep(&mut self, tx: &Tx<'_>) -> rusqlite::Result<()> {
        if self.next_expiry <= tx.now {
            tx.conn
                .prepare_cached(
                    "DELETE FROM entries WHERE (store, key) IN
                     (SELECT store, key FROM entries WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
                )?
                .execute([tx.now, SWEEP_STEP])?;
            self.next_expiry = first_expiry(tx.conn)?;
        }
        Ok(())
    }
}

fn first_expiry(conn: &Connection) -> rusqlite::Result<i64> {
    let first: Option<i64> = conn
        .prepare_cached(
            "SELECT expires_at FROM entries WHERE expires_at IS NOT NULL ORDER BY expires_at LIMIT 1",
        )?
        .query_row([], |r| r.get(0))
        .optional()?;
    Ok(first.unwrap_or(i64::MAX))
}

fn entry_crc(store: i64, key: &str, value: &[u8], expires_at: Option<i64>) -> u32 {
    let crc = crc32c::crc32c(&store.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &expires_at.unwrap_or(i64::MIN).to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &(key.len() as u64).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, key.as_bytes()), value)
}

/// The value of a key at instant `now`. The inner error is a damaged row.
pub(super) fn get(
    conn: &Connection,
    store: (i64, &ResourceName),
    key: &str,
    now: i64,
) -> Step<Option<Bytes>> {
    let (id, name) = store;
    let mut stmt =
        conn.prepare_cached("SELECT value, expires_at, crc FROM entries WHERE store = ?1 AND key = ?2")?;
    let mut rows = stmt.query(params![id, key])?;
    let Some(row) = rows.next()? else { return Ok(Ok(None)) };
    Ok(checked(id, key, row)
        .ok_or_else(|| {
            Error::internal(format!(
                "key {key:?} of KV store {name} is damaged: it does not match its checksum"
            ))
        })
        .map(|(value, expires_at)| {
            let absent = expires_at.is_some_and(|at| at <= now);
            (!absent).then(|| Bytes::copy_from_slice(value))
        }))
}

fn checked<'a>(store: i64, key: &str, row: &'a rusqlite::Row<'_>) -> Option<(&'a [u8], Option<i64>)> {
    let ValueRef::Blob(value) = row.get_ref(0).ok()? else { return None };
    let expires_at = row.get_ref(1).ok()?.as_i64_or_null().ok()?;
    let crc = row.get_ref(2).ok()?.as_i64().ok()?;
    let sound = i64::from(entry_crc(store, key, value, expires_at)) == crc || planted!(ValuesUnchecked);
    sound.then_some((value, expires_at))
}

/// Whether a row of `value, expires_at, crc, store, key` is what was written.
#[cfg(feature = "net")]
pub(super) fn is_sound(row: &rusqlite::Row<'_>) -> bool {
    let store = row.get_ref(3).ok().and_then(|store| store.as_i64().ok());
    let key = row.get_ref(4).ok().and_then(|key| key.as_str().ok());
    store.zip(key).is_some_and(|(store, key)| checked(store, key, row).is_some())
}

/// The keys of a store that start with `prefix`, in byte order. The inner error is a damaged row.
pub(super) fn list(
    conn: &Connection,
    store: (i64, &ResourceName),
    prefix: &str,
    now: i64,
) -> Step<Vec<String>> {
    let (id, name) = store;
    let mut stmt = conn
        .prepare_cached("SELECT key, expires_at FROM entries WHERE store = ?1 AND key >= ?2 ORDER BY key")?;
    let mut rows = stmt.query(params![id, prefix])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        let (Ok(key), Ok(expires_at)) = (row.get_ref(0)?.as_str(), row.get_ref(1)?.as_i64_or_null()) else {
            return Ok(Err(Error::internal(format!("a key of KV store {name} is damaged"))));
        };
        if !key.starts_with(prefix) {
            break;
        }
        if expires_at.is_none_or(|at| at > now) {
            keys.push(key.to_owned());
        }
    }
    Ok(Ok(keys))
}
