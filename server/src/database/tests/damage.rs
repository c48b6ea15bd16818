//! Damaged rows and damaged files: found, reported, and nobody else is held up.

use super::*;
use crate::engine::KvStore;

/// Changes the tables behind the back of a closed database.
fn tamper(path: &Path, sql: &str) {
    let conn = rusqlite::Connection::open(path).unwrap();
    assert!(conn.execute(sql, []).unwrap() > 0);
}

struct Setup {
    _dir: tempfile::TempDir,
    path: PathBuf,
    clock: Arc<TestClock>,
}

impl Setup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { path: dir.path().join("db"), clock: TestClock::new(), _dir: dir }
    }

    fn open(&self) -> Database {
        Database::open(options(Some(&self.path), &self.clock)).unwrap()
    }
}

/// The page size that the schema sets.
const PAGE: usize = 2048;

#[test]
fn a_damaged_job_is_set_aside_and_others_go_on() {
    let setup = Setup::new();
    let q = queue("jobs");
    let db = setup.open();
    let ids: Vec<_> = ["a", "b", "c"].map(|p| db.put(&q, p).job_id).into();
    drop(db);
    tamper(&setup.path, "UPDATE jobs SET payload = x'62' WHERE payload = x'61'");
    let db = setup.open();
    assert_eq!(payloads(&db.take(&q, 1)), ["b"]);
    assert_eq!(db.stats_of(&q), [3, 2, 1, 0, 0]);
    for _ in 0..2 {
        let nack = block_on(db.nack(&q, &ids[0], 0)).unwrap_err();
        assert_eq!(nack.kind(), ErrorKind::Internal);
        assert!(nack.message().contains("t/n/queue/jobs") && nack.message().contains(&ids[0]), "{nack}");
        assert_eq!(kind(block_on(db.ack(&q, &ids[0]))), ErrorKind::Internal);
    }
    assert_eq!(payloads(&db.take(&q, 10)), ["c"]);
    assert!(db.take(&q, 10).is_empty());
    block_on(db.ack(&q, &ids[1])).unwrap();
    assert_eq!(db.stats_of(&q), [3, 1, 1, 1, 0]);
}

#[test]
fn a_job_damaged_while_leased_does_not_move_to_the_dead_letter_queue() {
    let setup = Setup::new();
    let q = queue("jobs");
    let policy = flowmesh_proto::v1::RetryPolicy { max_attempts: 1, ..super::super::retry::default_policy() };
    let db = setup.open();
    block_on(db.set_retry_policy(&q, policy)).unwrap();
    db.put(&q, "a");
    let job = db.take_one(&q);
    drop(db);
    tamper(&setup.path, "UPDATE jobs SET created_at = created_at + 1");
    let db = setup.open();
    assert_eq!(kind(block_on(db.nack(&q, &job.id, 0))), ErrorKind::Internal);
    assert_eq!(db.stats_of(&q), [1, 0, 1, 0, 0]);
    setup.clock.advance(seconds(30));
    assert_eq!(db.stats_of(&q), [1, 1, 0, 0, 0]);
    assert!(db.take(&q, 1).is_empty());
}

#[test]
fn a_damaged_value_fails_its_own_calls_only() {
    let setup = Setup::new();
    let s = store("s");
    let db = setup.open();
    for key in ["a", "b"] {
        block_on(db.set(&s, key, Bytes::from_static(b"value"), 0)).unwrap();
    }
    drop(db);
    tamper(&setup.path, "UPDATE entries SET value = x'76616c7566' WHERE key = 'a'");
    let db = setup.open();
    let error = block_on(db.get(&s, "a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.message().contains("\"a\"") && error.message().contains("t/n/kv/s"), "{error}");
    assert!(block_on(db.get(&s, "b")).unwrap().is_some());
    block_on(db.set(&s, "a", Bytes::from_static(b"new"), 0)).unwrap();
    assert!(block_on(db.get(&s, "a")).unwrap().is_some());
}

#[test]
fn a_damaged_key_fails_the_list_of_its_store_only() {
    let setup = Setup::new();
    let db = setup.open();
    for name in ["s", "t"] {
        block_on(db.set(&store(name), "a", Bytes::from_static(b"value"), 0)).unwrap();
    }
    drop(db);
    tamper(&setup.path, "UPDATE entries SET key = CAST(x'ff' AS TEXT) WHERE store = 1");
    let db = setup.open();
    assert_eq!(kind(block_on(db.list_keys(&store("s"), ""))), ErrorKind::Internal);
    assert_eq!(block_on(db.list_keys(&store("t"), "")).unwrap(), ["a"]);
    assert!(db.is_ready());
}

#[test]
fn a_damaged_key_of_the_job_ids_fails_calls_but_not_the_start() {
    let setup = Setup::new();
    drop(setup.open());
    tamper(&setup.path, "UPDATE meta SET value = zeroblob(20)");
    let db = setup.open();
    assert!(!db.is_ready());
    assert_eq!(kind(block_on(db.enqueue(&queue("jobs"), new_job("a", 0)))), ErrorKind::Internal);
}

#[test]
fn a_damaged_file_opens_and_its_calls_fail_naming_it() {
    for damage in ["not a database", "a broken root page"] {
        let setup = Setup::new();
        let db = setup.open();
        db.put(&queue("jobs"), "a");
        drop(db);
        let mut bytes = std::fs::read(&setup.path).unwrap();
        if damage == "not a database" {
            bytes[..16].fill(b'x');
        } else {
            bytes[PAGE..].fill(0xff);
        }
        std::fs::write(&setup.path, bytes).unwrap();
        let db = setup.open();
        assert!(!db.is_ready(), "{damage}");
        let error = block_on(db.enqueue(&queue("jobs"), new_job("a", 0))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.message().contains(setup.path.to_str().unwrap()), "{error}");
        assert_eq!(kind(block_on(db.get(&store("s"), "k"))), ErrorKind::Internal);
        let stream = ResourceName::new("t", "n", ResourceKind::Stream, "s");
        assert_eq!(kind(block_on(db.committed_offset(&stream, "g"))), ErrorKind::Internal);
        db.close();
    }
}

#[test]
fn structural_damage_found_later_fails_calls_from_then_on() {
    let setup = Setup::new();
    let q = queue("jobs");
    let db = setup.open();
    for _ in 0..2_000 {
        db.put(&q, &"x".repeat(1000));
    }
    drop(db);
    let root: i64 = rusqlite::Connection::open(&setup.path)
        .unwrap()
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'jobs'", [], |r| r.get(0))
        .unwrap();
    let mut bytes = std::fs::read(&setup.path).unwrap();
    let page = (root as usize - 1) * PAGE;
    bytes[page..page + PAGE].fill(0xff);
    std::fs::write(&setup.path, bytes).unwrap();
    let db = setup.open();
    assert!(db.is_ready());
    assert_eq!(kind(block_on(db.lease(&q, lease(1, 30, 0)))), ErrorKind::Internal);
    assert!(!db.is_ready());
    assert_eq!(kind(block_on(db.get(&store("s"), "k"))), ErrorKind::Internal);
}

#[test]
fn another_format_or_application_is_refused() {
    for (pragma, says) in [
        ("PRAGMA user_version = 2", "format version 2"),
        ("PRAGMA application_id = 7", "another application"),
    ] {
        let setup = Setup::new();
        drop(setup.open());
        rusqlite::Connection::open(&setup.path).unwrap().execute_batch(pragma).unwrap();
        let Err(error) = Database::open(options(Some(&setup.path), &setup.clock)) else {
            panic!("{pragma}: opened")
        };
        assert!(error.message().contains(says), "{error}");
        assert!(error.message().contains(setup.path.to_str().unwrap()), "{error}");
    }
    let setup = Setup::new();
    rusqlite::Connection::open(&setup.path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert!(Database::open(options(Some(&setup.path), &setup.clock)).is_err());
}
