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
