//! What a copy of the files at any moment, which is what a killed process leaves, holds.

use super::*;
use crate::engine::{FsyncPolicy, KvStore, Nacked};

/// The files as they are now, opened elsewhere: nothing that only memory knew survives.
fn reopened_copy(path: &Path, clock: &Arc<TestClock>) -> (tempfile::TempDir, Database) {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("db");
    for suffix in ["", "-wal"] {
        let with = |p: &Path| PathBuf::from(format!("{}{suffix}", p.display()));
        std::fs::copy(with(path), with(&copy)).unwrap();
    }
    let db = Database::open(options(Some(&copy), clock)).unwrap();
    (dir, db)
}

#[test]
fn everything_acknowledged_survives_without_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let (path, clock) = (dir.path().join("db"), TestClock::new());
    let (q, s) = (queue("jobs"), store("s"));
    let stream = ResourceName::new("t", "n", ResourceKind::Stream, "s");
    let db = Database::open(options(Some(&path), &clock)).unwrap();
    for payload in ["acked", "nacked", "leased", "waiting"] {
        db.put(&q, payload);
    }
    let jobs = db.take(&q, 3);
    block_on(db.ack(&q, &jobs[0].id)).unwrap();
    assert_eq!(block_on(db.nack(&q, &jobs[1].id, 100)).unwrap(), Nacked::Waiting);
    let policy = flowmesh_proto::v1::RetryPolicy { max_attempts: 9, ..super::super::retry::default_policy() };
    block_on(db.set_retry_policy(&q, policy.clone())).unwrap();
    block_on(db.set(&s, "k", Bytes::from_static(b"v"), 0)).unwrap();
    block_on(db.commit_offset(&stream, "g", 7)).unwrap();
    block_on(db.lease(&queue("made-by-lease"), lease(1, 30, 0))).unwrap();

    let (_dir, copy) = reopened_copy(&path, &clock);
    assert_eq!(copy.stats_of(&q), [4, 2, 1, 1, 0]);
    assert_eq!(block_on(copy.retry_policy(&q)).unwrap(), policy);
    assert!(block_on(copy.get(&s, "k")).unwrap().is_some());
    assert_eq!(block_on(copy.committed_offset(&stream, "g")).unwrap(), 7);
    assert_eq!(copy.stats_of(&queue("made-by-lease")), [0; 5]);
    assert_eq!(payloads(&copy.take(&q, 10)), ["waiting"]);
    assert_eq!(copy.put(&q, "next").seq, 4, "no seq twice");
    // The lease runs on, and its holder can end it.
    block_on(copy.ack(&q, &jobs[2].id)).unwrap();
    clock.advance(seconds(100));
    let back = copy.take(&q, 10);
    assert!(payloads(&back).contains(&"nacked") && !payloads(&back).contains(&"leased"));
}

#[test]
fn a_lease_that_ended_while_closed_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let (path, clock) = (dir.path().join("db"), TestClock::new());
    let q = queue("jobs");
    let db = Database::open(options(Some(&path), &clock)).unwrap();
    db.put(&q, "a");
    let job = db.take_one(&q);
    db.close();
    drop(db);
    clock.advance(seconds(60));
    let db = Database::open(options(Some(&path), &clock)).unwrap();
    assert_eq!(db.stats_of(&q), [1, 1, 0, 0, 0]);
    let again = db.take_one(&q);
    assert_eq!((again.id, again.attempts), (job.id, 2));
}

#[test]
fn weaker_policies_keep_everything_over_a_crash_of_the_process() {
    for fsync in [FsyncPolicy::None, FsyncPolicy::Interval(Duration::ZERO)] {
        let dir = tempfile::tempdir().unwrap();
        let (path, clock) = (dir.path().join("db"), TestClock::new());
        let db = Database::open(DatabaseOptions { fsync, ..options(Some(&path), &clock) }).unwrap();
        for i in 0..100 {
            db.put(&queue("jobs"), &i.to_string());
        }
        let (_dir, copy) = reopened_copy(&path, &clock);
        assert_eq!(copy.stats_of(&queue("jobs"))[0], 100);
    }
}

#[test]
fn the_log_starts_over_under_steady_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = Database::open(options(Some(&path), &TestClock::new())).unwrap();
    let wal = PathBuf::from(format!("{}-wal", path.display()));
    let value = Bytes::from(vec![b'x'; 64 << 10]);
    // 160 MiB of values under one key, in a log whose limit is 16 x 2000 pages.
    for _ in 0..2_560 {
        block_on(db.set(&store("s"), "k", value.clone(), 0)).unwrap();
    }
    let size = std::fs::metadata(wal).unwrap().len();
    assert!(size < 140 << 20, "the log grew to {size} bytes");
}

#[test]
fn a_full_disk_fails_the_write_and_service_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = Database::open(options(Some(&path), &TestClock::new())).unwrap();
    let q = queue("jobs");
    db.put(&q, "before");
    let limit = |pages: i64| {
        // SQLite's own limit of the file size fails like a full disk.
        let sql = format!("PRAGMA max_page_count = {pages}");
        let _: i64 = lock(&db.parts().unwrap().writer).query_row(&sql, [], |r| r.get(0)).unwrap();
    };
    limit(1);
    let big = "x".repeat(1 << 20);
    assert_eq!(kind(block_on(db.enqueue(&q, new_job(&big, 0)))), ErrorKind::ResourceExhausted);
    assert_eq!(kind(block_on(db.enqueue(&queue("new"), new_job(&big, 0)))), ErrorKind::ResourceExhausted);
    assert_eq!(kind(block_on(db.stats(&queue("new")))), ErrorKind::NotFound);
    assert_eq!(payloads(&db.take(&q, 10)), ["before"]);
    limit(1 << 30);
    assert_eq!(db.put(&q, &big).seq, 1);
    assert_eq!(db.stats_of(&q), [2, 1, 1, 0, 0]);
}
