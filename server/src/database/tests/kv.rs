//! One test per rule of KV.

use super::*;
use crate::engine::KvStore;

fn set(db: &Database, s: &ResourceName, key: &str, value: &'static str, ttl: i64) {
    block_on(db.set(s, key, Bytes::from_static(value.as_bytes()), ttl)).unwrap();
}

fn get(db: &Database, s: &ResourceName, key: &str) -> Option<Bytes> {
    block_on(db.get(s, key)).unwrap()
}

#[test]
fn set_replaces_value_and_ttl() {
    let (db, clock) = memory();
    let s = store("s");
    set(&db, &s, "k", "1", 10);
    set(&db, &s, "k", "2", 0);
    clock.advance(seconds(100));
    assert_eq!(get(&db, &s, "k").as_deref(), Some(&b"2"[..]));
    assert_eq!(get(&db, &store("other"), "k"), None);
}

#[test]
fn an_expired_key_is_absent_everywhere_at_once() {
    let (db, clock) = memory();
    let s = store("s");
    set(&db, &s, "k", "1", 10);
    clock.advance(Duration::from_nanos(9_999_999_999));
    assert!(block_on(db.exists(&s, "k")).unwrap());
    clock.advance(Duration::from_nanos(1));
    assert_eq!(get(&db, &s, "k"), None);
    assert!(!block_on(db.exists(&s, "k")).unwrap());
    assert!(block_on(db.list_keys(&s, "")).unwrap().is_empty());
    block_on(db.delete(&s, "k")).unwrap();
    set(&db, &s, "k", "2", 0);
    assert_eq!(get(&db, &s, "k").as_deref(), Some(&b"2"[..]));
}

#[test]
fn a_sweep_frees_what_has_expired_and_nothing_else() {
    let (db, clock) = memory();
    let s = store("s");
    for i in 0..2_500 {
        set(&db, &s, &format!("old-{i}"), "1", 10);
    }
    set(&db, &s, "new", "1", 11);
    set(&db, &s, "ever", "1", 0);
    clock.advance(seconds(10));
    // The advance rang the writer; each operation behind it sweeps a step, too.
    for _ in 0..3 {
        block_on(db.delete(&s, "none")).unwrap();
    }
    let rows = || -> i64 {
        let count = "SELECT count(*) FROM entries";
        db.parts().unwrap().readers.read(|c| c.query_row(count, [], |r| r.get(0))).unwrap()
    };
    assert_eq!(rows(), 2);
    assert_eq!(block_on(db.list_keys(&s, "")).unwrap(), ["ever", "new"]);
}

#[test]
fn list_is_by_byte_prefix_in_byte_order() {
    let (db, _clock) = memory();
    let s = store("s");
    for key in ["b", "a/2", "a/10", "a", "é", "a/é", "a0", "A", "%", "a%"] {
        set(&db, &s, key, "1", 0);
    }
    set(&db, &store("t"), "a/other", "1", 0);
    let list = |prefix| block_on(db.list_keys(&s, prefix)).unwrap();
    assert_eq!(list("a/"), ["a/10", "a/2", "a/é"]);
    assert_eq!(list(""), ["%", "A", "a", "a%", "a/10", "a/2", "a/é", "a0", "b", "é"]);
    assert_eq!(list("a%"), ["a%"]);
    assert!(list("zz").is_empty());
}

#[test]
fn a_missing_store_reads_as_empty_and_is_not_created() {
    let clock = TestClock::new();
    let db = Database::open(DatabaseOptions { create: false, ..options(None, &clock) }).unwrap();
    let s = store("s");
    assert_eq!(get(&db, &s, "k"), None);
    block_on(db.delete(&s, "k")).unwrap();
    assert!(block_on(db.list_keys(&s, "")).unwrap().is_empty());
    assert_eq!(kind(block_on(db.set(&s, "k", Bytes::from_static(b"1"), 0))), ErrorKind::NotFound);
    assert_eq!(db.store(&s).unwrap(), None);
}

#[test]
fn a_ttl_outlasts_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let clock = TestClock::new();
    let path = dir.path().join("db");
    let s = store("s");
    let db = Database::open(options(Some(&path), &clock)).unwrap();
    set(&db, &s, "short", "1", 10);
    set(&db, &s, "ever", "1", 0);
    drop(db);
    let db = Database::open(options(Some(&path), &clock)).unwrap();
    assert_eq!(block_on(db.list_keys(&s, "")).unwrap(), ["ever", "short"]);
    clock.advance(seconds(10));
    assert_eq!(block_on(db.list_keys(&s, "")).unwrap(), ["ever"]);
}
