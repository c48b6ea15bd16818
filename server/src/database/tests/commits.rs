//! Commits of consumer groups.

use super::*;

#[test]
fn a_commit_is_the_last_offset_told_and_minus_one_forgets() {
    let (db, _clock) = memory();
    let stream = ResourceName::new("t", "n", ResourceKind::Stream, "s");
    let committed = |group| block_on(db.committed_offset(&stream, group)).unwrap();
    assert_eq!(committed("g"), -1);
    for offset in [5, 3, i64::MAX] {
        block_on(db.commit_offset(&stream, "g", offset)).unwrap();
        assert_eq!(committed("g"), offset);
    }
    assert_eq!(committed("h"), -1);
    block_on(db.commit_offset(&stream, "g", -1)).unwrap();
    assert_eq!(committed("g"), -1);
}

#[test]
fn a_tenant_has_no_more_groups_than_it_may_and_a_forgotten_one_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let limited =
        |clock| Database::open(DatabaseOptions { max_groups: 3, ..options(Some(&path), clock) }).unwrap();
    let clock = TestClock::new();
    let db = limited(&clock);
    let stream = |tenant, name| ResourceName::new(tenant, "n", ResourceKind::Stream, name);
    let commit = |db: &Database, tenant, name, group, offset| {
        block_on(db.commit_offset(&stream(tenant, name), group, offset))
    };
    // The same group counts once per stream.
    for (name, group) in [("s", "g"), ("s", "h"), ("r", "g")] {
        commit(&db, "a", name, group, 1).unwrap();
    }
    let full = |db: &Database| {
        assert_eq!(kind(commit(db, "a", "r", "h", 1)), ErrorKind::ResourceExhausted);
        assert_eq!(block_on(db.committed_offset(&stream("a", "r"), "h")), Ok(-1), "a refusal stores nothing");
    };
    full(&db);
    // What is there goes on, and another tenant does not notice.
    commit(&db, "a", "s", "g", 2).unwrap();
    assert_eq!(block_on(db.committed_offset(&stream("a", "s"), "g")), Ok(2));
    commit(&db, "b", "s", "g", 1).unwrap();
    // Only a group that is there can be forgotten, and only once.
    commit(&db, "a", "r", "h", -1).unwrap();
    full(&db);
    for _ in 0..2 {
        commit(&db, "a", "s", "h", -1).unwrap();
    }
    commit(&db, "a", "s", "i", 0).unwrap();
    full(&db);
    // They are counted again when the file is opened.
    drop(db);
    let db = limited(&clock);
    full(&db);
    commit(&db, "a", "s", "i", -1).unwrap();
    commit(&db, "a", "r", "h", 1).unwrap();
    // A limit that is lower than what there is leaves it.
    drop(db);
    let db = Database::open(DatabaseOptions { max_groups: 1, ..options(Some(&path), &clock) }).unwrap();
    commit(&db, "a", "r", "h", 5).unwrap();
    assert_eq!(kind(commit(&db, "a", "s", "i", 1)), ErrorKind::ResourceExhausted);
}
