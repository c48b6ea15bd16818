//! The list in force. It is replaced as a whole; who holds a token that is no longer listed, or
//! has expired, is told.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    Authority, Entry,
    caller::{Caller, Grant},
    token::Hash,
};

/// Tokens, by hash. Shared by every connection.
#[derive(Default)]
pub struct Tokens {
    list: RwLock<List>,
    /// Grants by the second in which they expire.
    expiring: Mutex<BTreeMap<u64, Vec<Arc<Grant>>>>,
}

/// Grants by the beginning of their hashes.
type List = HashMap<u16, Vec<(Hash, Arc<Grant>)>>;

impl Tokens {
    /// Puts `entries` in force in place of what was. Calls go on whose token is listed as before;
    /// those of the others end. The entries are those of [`super::parse`], so their hashes are
    /// well-formed and differ.
    pub fn replace(&self, entries: Vec<Entry>) {
        let mut list = List::new();
        let mut expiring: BTreeMap<u64, Vec<Arc<Grant>>> = BTreeMap::new();
        let mut present = write(&self.list);
        for entry in entries {
            let Some(hash) = Hash::parse(&entry.sha256) else { continue };
            let known = find(&present, hash).filter(|grant| grant.entry() == &entry);
            let grant = known.cloned().unwrap_or_else(|| Arc::new(Grant::new(entry)));
            if grant.entry().expires_at != 0 {
                expiring.entry(grant.entry().expires_at).or_default().push(grant.clone());
            }
            list.entry(hash.shard()).or_default().push((hash, grant));
        }
        let before = std::mem::replace(&mut *present, list);
        for (hash, grant) in before.into_values().flatten() {
            if find(&present, hash).is_none_or(|kept| !Arc::ptr_eq(kept, &grant)) {
                grant.end();
            }
        }
        *lock(&self.expiring) = expiring;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.read().unwrap_or_else(PoisonError::into_inner).values().map(Vec::len).sum()
    }

    /// Whether nobody may call.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends what has expired; says how long nothing else will, `None` for ever.
    pub fn expire(&self) -> Option<Duration> {
        let mut expiring = lock(&self.expiring);
        while let Some(next) = expiring.first_entry() {
            let second = Duration::from_secs(*next.key());
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            if second > now {
                return Some(second - now);
            }
            for grant in next.remove() {
                grant.end();
            }
        }
        None
    }
}

impl Authority for Tokens {
    fn caller(&self, token: &[u8]) -> Option<Caller> {
        let hash = Hash::of(token);
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        find(&list, hash).filter(|grant| grant.lives_at(now())).map(|grant| Caller::holding(grant.clone()))
    }
}

fn find(list: &List, hash: Hash) -> Option<&Arc<Grant>> {
    list.get(&hash.shard())?.iter().find(|(known, _)| known.is(hash)).map(|(_, grant)| grant)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
