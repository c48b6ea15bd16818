//! Waiting for jobs: order, time-outs, cancellation, shutdown.

use std::{
    pin::Pin,
    sync::mpsc,
    task::{Poll, Waker},
    thread::JoinHandle,
};

use super::*;

type Wait = Pin<Box<dyn Future<Output = Result<Vec<Job>>> + Send>>;

/// Begins to wait; the database knows of it when this returns.
fn begin(db: &Arc<Database>, q: &ResourceName, max_jobs: usize, wait_seconds: i64) -> Wait {
    let (db, q) = (db.clone(), q.clone());
    let mut wait: Wait = Box::pin(async move {
        let leased = db.lease(&q, lease(max_jobs, 30, wait_seconds)).await;
        leased.map(Leased::taken)
    });
    let poll = wait.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll.is_pending());
    wait
}

/// Waits in a thread, for tests in which another thread answers.
fn in_thread(wait: Wait) -> JoinHandle<Result<Vec<Job>>> {
    std::thread::spawn(move || block_on(wait))
}

/// Has everything handed in before applied.
fn settle(db: &Database) {
    block_on(db.submit(|reply| Operation::Settle { queue: None, reply })).unwrap();
}

#[test]
fn waiters_are_served_in_order_of_arrival() {
    let (db, _clock) = memory();
    let q = queue("jobs");
    let waits: Vec<_> = (0..3).map(|_| begin(&db, &q, 1, 20)).collect();
    for payload in ["a", "b", "c"] {
        db.put(&q, payload);
    }
    let jobs: Vec<_> = waits.into_iter().flat_map(|wait| block_on(wait).unwrap()).collect();
    assert_eq!(payloads(&jobs), ["a", "b", "c"]);
}

#[test]
fn a_lease_does_not_overtake_waiters() {
    let (db, _clock) = memory();
    let q = queue("jobs");
    let first = begin(&db, &q, 1, 20);
    assert!(db.take(&q, 1).is_empty());
    db.put(&q, "a");
    assert!(db.take(&q, 1).is_empty());
    assert_eq!(payloads(&block_on(first).unwrap()), ["a"]);
}

#[test]
fn a_waiter_that_has_gone_leases_nothing() {
    let (db, _clock) = memory();
    let q = queue("jobs");
    let gone = begin(&db, &q, 1, 20);
    let next = begin(&db, &q, 1, 20);
    drop(gone);
    db.put(&q, "a");
    let job = block_on(next).unwrap().pop().unwrap();
    assert_eq!(job.attempts, 1);
    assert_eq!(db.stats_of(&q), [1, 0, 1, 0, 0]);
    drop(begin(&db, &q, 1, 20));
    db.put(&q, "b");
    assert_eq!(db.take_one(&q).attempts, 1);
}

#[test]
fn what_was_leased_for_a_caller_that_left_meanwhile_is_given_back() {
    let (db, _clock) = memory();
    let q = queue("jobs");
    for payload in ["a", "b"] {
        db.put(&q, payload);
    }
    let parts = db.parts().unwrap();
    // A reply that nobody waits for is found out only when it is sent.
    let (reply, result) = oneshot::channel();
    drop(result);
    let operation = Operation::Lease { queue: q.clone(), lease: lease(10, 30, 0), reply };
    parts.committer.submit(operation).unwrap();
    settle(&db);
    assert_eq!(db.stats_of(&q), [2, 2, 0, 0, 0]);
    let jobs = db.take(&q, 10);
    assert_eq!(payloads(&jobs), ["a", "b"]);
    assert!(jobs.iter().all(|job| job.attempts == 1));
}

#[test]
fn an_answer_that_its_caller_did_not_take_is_given_back() {
    let (db, _clock) = memory();
    let q = queue("jobs");
    let gone = begin(&db, &q, 1, 20);
    db.put(&q, "a");
    assert_eq!(db.stats_of(&q), [1, 0, 1, 0, 0], "the answer waits for the caller");
    drop(gone);
    settle(&db);
    assert_eq!(db.stats_of(&q), [1, 1, 0, 0, 0]);
    assert_eq!(db.take_one(&q).attempts, 1);
}

#[test]
fn jobs_that_are_not_delivered_go_to_the_next_in_ready_order() {
    let (db, clock) = memory();
    let q = queue("jobs");
    for payload in ["a", "b", "c"] {
        db.put(&q, payload);
    }
    let leased = block_on(db.lease(&q, lease(2, 30, 0))).unwrap();
    assert_eq!(payloads(&leased.jobs), ["a", "b"]);
    db.take_one(&q);
    let next = in_thread(begin(&db, &q, 10, 20));
    settle(&db);
    drop(leased);
    let jobs = next.join().unwrap().unwrap();
    assert_eq!(payloads(&jobs), ["a", "b"]);
    assert!(jobs.iter().all(|job| job.attempts == 1));
    // Those that are, stay leased.
    let Leased { jobs, delivery } = block_on(db.lease(&q, lease(1, 30, 0))).unwrap();
    assert!(jobs.is_empty() && !delivery.is_needed());
    clock.advance(seconds(31));
    let Leased { jobs, delivery } = block_on(db.lease(&q, lease(1, 30, 0))).unwrap();
    assert_eq!(jobs[0].attempts, 2);
    delivery.done();
    drop(delivery);
    settle(&db);
    assert_eq!(db.stats_of(&q), [3, 2, 1, 0, 0]);
}

#[test]
fn what_is_given_back_late_leaves_the_next_lease_alone() {
    let (db, clock) = memory();
    let q = queue("jobs");
    db.put(&q, "a");
    let late = block_on(db.lease(&q, lease(1, 30, 0))).unwrap();
    clock.advance(seconds(31));
    assert_eq!(db.take_one(&q).attempts, 2);
    drop(late);
    settle(&db);
    assert_eq!(db.stats_of(&q), [1, 0, 1, 0, 0]);
}

#[test]
fn giving_back_never_commits_in_the_thread_that_drops() {
    let (db, _clock) = memory();
    let q = queue("jobs");
    db.put(&q, "a");
    let leased = block_on(db.lease(&q, lease(1, 30, 0))).unwrap();
    let held = db.hold();
    // Neither with leave to commit here nor while somebody else has the sink does it wait.
    crate::commit::inline(|| drop(leased));
    drop(held);
    settle(&db);
    assert_eq!(db.stats_of(&q), [1, 1, 0, 0, 0]);
}

#[test]
fn a_waiter_gets_what_a_caller_that_left_gives_back_in_the_same_batch() {
    let (db, _clock) = memory();
    let q = queue("jobs");
    db.put(&q, "a");
    let parts = db.parts().unwrap();
    let held = db.hold();
    let (reply, result) = oneshot::channel();
    drop(result);
    let operation = Operation::Lease { queue: q.clone(), lease: lease(1, 30, 0), reply };
    parts.committer.submit(operation).unwrap();
    let wait = begin(&db, &q, 1, 20);
    drop(held);
    let (told, heard) = mpsc::channel();
    std::thread::spawn(move || told.send(block_on(wait)));
    let jobs = heard.recv_timeout(seconds(60)).expect("an answer without another call").unwrap();
    assert_eq!(jobs[0].attempts, 1);
}

#[test]
fn a_waiter_is_answered_when_a_job_becomes_due() {
    let (db, clock) = memory();
    let q = queue("jobs");
    // Delayed, then given back, then expired: no call arrives, only time passes.
    db.put_delayed(&q, "a", 5);
    let wait = in_thread(begin(&db, &q, 1, 20));
    settle(&db);
    clock.advance(seconds(5));
    let job = wait.join().unwrap().unwrap().pop().unwrap();
    block_on(db.nack(&q, &job.id, 7)).unwrap();
    let wait = in_thread(begin(&db, &q, 1, 20));
    settle(&db);
    clock.advance(seconds(7));
    assert_eq!(wait.join().unwrap().unwrap()[0].attempts, 2);
    clock.advance(seconds(15));
    let wait = in_thread(begin(&db, &q, 1, 20));
    settle(&db);
    clock.advance(seconds(17));
    assert_eq!(wait.join().unwrap().unwrap()[0].attempts, 3);
}

#[test]
fn a_wait_that_times_out_is_empty_and_leaves_the_others() {
    let (db, clock) = memory();
    let q = queue("jobs");
    let short = in_thread(begin(&db, &q, 1, 5));
    let long = begin(&db, &q, 1, 20);
    settle(&db);
    clock.advance(seconds(5));
    assert_eq!(short.join().unwrap().unwrap(), []);
    db.put(&q, "a");
    assert_eq!(payloads(&block_on(long).unwrap()), ["a"]);
}

#[test]
fn a_dead_letter_wakes_a_waiter_of_its_queue() {
    let (db, clock) = memory();
    let (q, dlq) = (queue("jobs"), queue("jobs-dlq"));
    let policy = flowmesh_proto::v1::RetryPolicy { max_attempts: 1, ..super::super::retry::default_policy() };
    block_on(db.set_retry_policy(&q, policy)).unwrap();
    db.put(&q, "a");
    db.take_one(&q);
    clock.advance(seconds(20));
    let wait = in_thread(begin(&db, &dlq, 1, 20));
    settle(&db);
    clock.advance(seconds(10));
    assert_eq!(payloads(&wait.join().unwrap().unwrap()), ["a"]);
}

#[test]
fn on_the_system_clock_a_waiter_is_woken_without_a_call() {
    let db =
        Database::open(DatabaseOptions { clock: Clock::System, ..options(None, &TestClock::new()) }).unwrap();
    let db = Arc::new(db);
    let q = queue("jobs");
    db.put_delayed(&q, "a", 1);
    let wait = begin(&db, &q, 1, 20);
    let (told, heard) = mpsc::channel();
    std::thread::spawn(move || told.send(block_on(wait)));
    let jobs = heard.recv_timeout(seconds(15)).unwrap().unwrap();
    assert!(Clock::System.now_ns() >= jobs[0].visible_at);
}

#[test]
fn close_ends_waits_with_unavailable() {
    let (db, _clock) = memory();
    let q = queue("jobs");
    let mut wait = begin(&db, &q, 1, 20);
    db.close();
    let Poll::Ready(result) = wait.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("still waiting");
    };
    assert_eq!(kind(result), ErrorKind::Unavailable);
    assert_eq!(kind(block_on(db.enqueue(&q, new_job("a", 0)))), ErrorKind::Unavailable);
    assert_eq!(kind(block_on(db.stats(&q))), ErrorKind::Unavailable);
}
