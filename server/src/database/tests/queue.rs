//! One test per rule of queues.

use flowmesh_proto::v1::RetryPolicy;

use super::*;
use crate::{clock::SECOND_NS, engine::Nacked};

fn policy(max_attempts: i32, strategy: &str, initial: i64) -> RetryPolicy {
    RetryPolicy {
        max_attempts,
        initial_backoff_seconds: initial,
        max_backoff_seconds: 3600,
        backoff_multiplier: 2.0,
        backoff_strategy: strategy.to_owned(),
    }
}

#[test]
fn ready_order_is_visible_at_then_seq() {
    let (db, clock) = memory();
    let q = queue("jobs");
    for (payload, delay) in [("c", 2), ("a", 0), ("b", 0), ("d", 2)] {
        db.put_delayed(&q, payload, delay);
    }
    assert_eq!(payloads(&db.take(&q, 10)), ["a", "b"]);
    clock.advance(Duration::from_nanos(2 * SECOND_NS as u64 - 1));
    assert!(db.take(&q, 10).is_empty());
    clock.advance(Duration::from_nanos(1));
    assert_eq!(payloads(&db.take(&q, 10)), ["c", "d"]);
}

#[test]
fn a_lease_fills_every_field() {
    let (db, clock) = memory();
    let q = queue("jobs");
    let now = Clock::Test(clock).now_ns();
    let mut job = new_job("payload", 0);
    job.headers.insert("k".into(), "v".into());
    let enqueued = block_on(db.enqueue(&q, job.clone())).unwrap();
    let leased = db.take_one(&q);
    assert_eq!(enqueued.seq, 0);
    let expected = Job {
        id: enqueued.job_id,
        resource_path: "t/n/queue/jobs".into(),
        seq: 0,
        payload: job.payload,
        headers: job.headers,
        created_at: now,
        visible_at: now,
        reserve_until: now + 30 * SECOND_NS,
        attempts: 1,
    };
    assert_eq!(leased, expected);
    assert_eq!(db.put(&q, "next").seq, 1);
}

#[test]
fn ack_removes_a_leased_job_and_ignores_other_ids() {
    let (db, clock) = memory();
    let q = queue("jobs");
    let waiting = db.put(&q, "a");
    block_on(db.ack(&q, &waiting.job_id)).unwrap();
    assert_eq!(db.stats_of(&q), [1, 1, 0, 0, 0]);
    let job = db.take_one(&q);
    for id in ["", "nonsense", "0123456789abcdef0123456789abcdef"] {
        block_on(db.ack(&q, id)).unwrap();
    }
    db.put(&queue("other"), "x");
    block_on(db.ack(&queue("other"), &job.id)).unwrap();
    assert_eq!(db.stats_of(&q), [1, 0, 1, 0, 0]);
    block_on(db.ack(&q, &job.id)).unwrap();
    block_on(db.ack(&q, &job.id)).unwrap();
    assert_eq!(db.stats_of(&q), [1, 0, 0, 1, 0]);
    clock.advance(seconds(31));
    assert!(db.take(&q, 1).is_empty());
}

#[test]
fn nack_waits_for_backoff_or_for_the_given_delay() {
    let (db, clock) = memory();
    let q = queue("jobs");
    db.put(&q, "a");
    let first = db.take_one(&q);
    assert_eq!(block_on(db.nack(&q, &first.id, 0)).unwrap(), Nacked::Waiting);
    assert_eq!(kind(block_on(db.nack(&q, &first.id, 0))), ErrorKind::NotFound);
    assert!(db.take(&q, 1).is_empty());
    clock.advance(seconds(1));
    let second = db.take_one(&q);
    assert_eq!((second.attempts, second.visible_at), (2, first.visible_at + SECOND_NS));
    block_on(db.nack(&q, &second.id, 100)).unwrap();
    clock.advance(seconds(99));
    assert!(db.take(&q, 1).is_empty(), "an explicit delay is not capped");
    clock.advance(seconds(1));
    assert_eq!(db.take_one(&q).attempts, 3);
}

#[test]
fn a_lease_is_over_at_reserve_until() {
    let (db, clock) = memory();
    let q = queue("jobs");
    db.put(&q, "a");
    let first = db.take_one(&q);
    clock.advance(Duration::from_nanos(30 * SECOND_NS as u64 - 1));
    assert_eq!(db.stats_of(&q), [1, 0, 1, 0, 0]);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(db.stats_of(&q), [1, 1, 0, 0, 0]);
    block_on(db.ack(&q, &first.id)).unwrap();
    assert_eq!(kind(block_on(db.nack(&q, &first.id, 0))), ErrorKind::NotFound);
    assert!(db.take(&q, 1).is_empty(), "backing off");
    clock.advance(seconds(1));
    let second = db.take_one(&q);
    assert_eq!((second.id, second.attempts), (first.id, 2));
    assert_eq!(second.visible_at, first.reserve_until + SECOND_NS);
}

#[test]
fn the_last_attempt_ends_in_the_dead_letter_queue() {
    let (db, clock) = memory();
    let (q, dlq) = (queue("jobs"), queue("jobs-dlq"));
    block_on(db.set_retry_policy(&q, policy(1, "fixed", 1))).unwrap();
    let mut job = new_job("a", 0);
    job.headers.insert("own".into(), "1".into());
    job.headers.insert("x-flowmesh-attempts".into(), "forged".into());
    block_on(db.enqueue(&q, job)).unwrap();
    assert!(block_on(db.dead_letters(&q, 100, 4 << 20)).unwrap().is_empty());
    assert_eq!(kind(block_on(db.stats(&dlq))), ErrorKind::NotFound);
    let leased = db.take_one(&q);
    assert_eq!(block_on(db.nack(&q, &leased.id, 50)).unwrap(), Nacked::DeadLettered);
    assert_eq!(db.stats_of(&q), [1, 0, 0, 0, 1]);
    assert_eq!(db.stats_of(&dlq), [1, 1, 0, 0, 0]);
    let entry = block_on(db.dead_letters(&q, 100, 4 << 20)).unwrap().pop().unwrap();
    assert_ne!(entry.id, leased.id);
    assert_eq!((entry.seq, entry.attempts, entry.reserve_until), (0, 0, 0));
    assert_eq!((&entry.payload[..], entry.resource_path.as_str()), (&b"a"[..], "t/n/queue/jobs-dlq"));
    let header = |name: &str| entry.headers.get(name).map(String::as_str);
    assert_eq!(header("own"), Some("1"));
    assert_eq!(header("x-flowmesh-original-queue"), Some("t/n/queue/jobs"));
    assert_eq!(header("x-flowmesh-original-job-id"), Some(leased.id.as_str()));
    assert_eq!(header("x-flowmesh-attempts"), Some("1"));
    let failed_at = super::super::timestamp::rfc3339(Clock::Test(clock.clone()).now_ns());
    assert_eq!(header("x-flowmesh-failed-at"), Some(failed_at.as_str()));

    db.put(&q, "b");
    db.take_one(&q);
    clock.advance(seconds(30));
    assert_eq!(payloads(&block_on(db.dead_letters(&q, 100, 4 << 20)).unwrap()), ["a", "b"], "expiry, too");
    assert_eq!(db.stats_of(&q), [2, 0, 0, 0, 2]);
}

#[test]
fn the_policy_in_force_at_the_nack_counts() {
    let (db, clock) = memory();
    let q = queue("jobs");
    assert_eq!(kind(block_on(db.retry_policy(&q))), ErrorKind::NotFound);
    db.put(&q, "a");
    assert_eq!(block_on(db.retry_policy(&q)).unwrap(), super::super::retry::default_policy());
    let job = db.take_one(&q);
    let longer = policy(0, "linear", 7);
    block_on(db.set_retry_policy(&q, longer.clone())).unwrap();
    assert_eq!(block_on(db.retry_policy(&q)).unwrap(), longer);
    block_on(db.nack(&q, &job.id, 0)).unwrap();
    clock.advance(seconds(6));
    assert!(db.take(&q, 1).is_empty());
    clock.advance(seconds(1));
    assert_eq!(db.take_one(&q).attempts, 2);
}

#[test]
fn replay_moves_a_dead_letter_back_waiting_or_leased() {
    let (db, clock) = memory();
    let (q, dlq) = (queue("jobs"), queue("jobs-dlq"));
    block_on(db.set_retry_policy(&q, policy(1, "fixed", 1))).unwrap();
    for payload in ["a", "b", "c"] {
        db.put(&q, payload);
    }
    for job in db.take(&q, 3) {
        block_on(db.nack(&q, &job.id, 0)).unwrap();
    }
    let entries = block_on(db.dead_letters(&q, 100, 4 << 20)).unwrap();
    let leased = db.take(&dlq, 2);
    assert_eq!(block_on(db.dead_letters(&q, 100, 4 << 20)).unwrap().len(), 1, "leased ones are left out");
    // One leased, one given back (its visible_at moved), one that never left.
    block_on(db.nack(&dlq, &leased[1].id, 5)).unwrap();
    for (i, entry) in entries.iter().enumerate() {
        let replayed = block_on(db.replay_dead_letter(&q, &entry.id)).unwrap();
        assert_eq!(replayed.seq, 3 + i as i64);
        assert_eq!(kind(block_on(db.replay_dead_letter(&q, &entry.id))), ErrorKind::NotFound);
    }
    assert_eq!(db.stats_of(&dlq), [3, 0, 0, 0, 0]);
    assert_eq!(db.stats_of(&q), [6, 3, 0, 0, 3]);
    let back = db.take(&q, 10);
    assert_eq!(payloads(&back), ["a", "b", "c"]);
    assert!(back.iter().all(|job| job.attempts == 1 && job.headers.is_empty()));
    clock.advance(seconds(6));
    assert!(db.take(&dlq, 10).is_empty());
}

#[test]
fn missing_queues_are_created_or_not_found() {
    let clock = TestClock::new();
    let db = Database::open(DatabaseOptions { create: false, ..options(None, &clock) }).unwrap();
    let q = queue("jobs");
    assert_eq!(kind(block_on(db.enqueue(&q, new_job("a", 0)))), ErrorKind::NotFound);
    assert_eq!(kind(block_on(db.lease(&q, lease(1, 30, 5)))), ErrorKind::NotFound);
    assert_eq!(kind(block_on(db.set_retry_policy(&q, policy(1, "fixed", 1)))), ErrorKind::NotFound);
    let (db, _clock) = memory();
    for result in [
        kind(block_on(db.ack(&q, "x"))),
        kind(block_on(db.nack(&q, "x", 0))),
        kind(block_on(db.stats(&q))),
        kind(block_on(db.dead_letters(&q, 1, 1))),
        kind(block_on(db.replay_dead_letter(&q, "x"))),
    ] {
        assert_eq!(result, ErrorKind::NotFound);
    }
    assert!(db.take(&q, 1).is_empty());
    assert_eq!(db.stats_of(&q), [0; 5], "a lease creates");
}

#[test]
fn max_bytes_cuts_a_page_but_never_to_nothing() {
    let (db, _clock) = memory();
    let q = queue("jobs");
    for _ in 0..10 {
        db.put(&q, &"x".repeat(1000));
    }
    let bounded = |max_bytes| Lease { max_bytes, ..lease(100, 30, 0) };
    assert_eq!(block_on(db.lease(&q, bounded(1))).unwrap().taken().len(), 1);
    let some = block_on(db.lease(&q, bounded(4000))).unwrap().taken();
    assert_eq!(some.len(), 3);
    assert!(some.iter().map(prost::Message::encoded_len).sum::<usize>() <= 4000);
    assert_eq!(db.take(&q, 100).len(), 6);
}

#[test]
fn the_oldest_age_is_that_of_the_oldest_waiting_job() {
    let (db, clock) = memory();
    let q = queue("jobs");
    db.put(&q, "a");
    clock.advance(seconds(5));
    db.put_delayed(&q, "b", 1000);
    clock.advance(seconds(2));
    let age = || block_on(db.stats(&q)).unwrap().oldest_job_age_seconds;
    assert_eq!(age(), 7);
    db.take_one(&q);
    assert_eq!(age(), 2);
}

#[test]
fn huge_times_saturate() {
    let (db, _clock) = memory();
    let q = queue("jobs");
    db.put_delayed(&q, "a", i64::MAX);
    assert!(db.take(&q, 1).is_empty());
    db.put(&q, "b");
    let jobs = block_on(db.lease(&q, lease(1, i64::MAX, 0))).unwrap().taken();
    assert_eq!(jobs[0].reserve_until, i64::MAX);
    block_on(db.nack(&q, &jobs[0].id, i64::MAX)).unwrap();
    assert_eq!(db.stats_of(&q), [2, 2, 0, 0, 0]);
}
