//! More leases that end at one instant than one transaction takes: who waits for them, and who does not.

use std::{pin::Pin, sync::Mutex, task::Wake};

use super::*;
use crate::{
    clock::SECOND_NS,
    engine::{KvStore, Nacked},
};

const STEP: usize = 10;
const MANY: usize = 25 * STEP;

fn stepping(path: Option<&Path>) -> (Arc<Database>, Arc<TestClock>) {
    let clock = TestClock::new();
    let options = DatabaseOptions { expiry_step: STEP, ..options(path, &clock) };
    (Arc::new(Database::open(options).unwrap()), clock)
}

/// Jobs `0..n`, all leased by one call after the other; their leases end at the same instant.
fn leased(db: &Database, q: &ResourceName, n: usize) -> Vec<Job> {
    for i in 0..n {
        db.put(q, &i.to_string());
    }
    let jobs = block_on(db.lease(q, lease(n, 30, 0))).unwrap().taken();
    assert_eq!(jobs.len(), n);
    jobs
}

fn policy(max_attempts: i32, seconds: i64) -> flowmesh_proto::v1::RetryPolicy {
    flowmesh_proto::v1::RetryPolicy {
        max_attempts,
        initial_backoff_seconds: seconds,
        max_backoff_seconds: seconds,
        backoff_multiplier: 1.0,
        backoff_strategy: "fixed".to_owned(),
    }
}

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Calls that are under way, and the order in which they are answered.
#[derive(Default)]
struct UnderWay {
    calls: Vec<(Call, std::task::Waker)>,
    answered: Arc<Mutex<Vec<&'static str>>>,
}

/// Woken by the writer when it answers, which is to say between two of its transactions.
struct Note(&'static str, Arc<Mutex<Vec<&'static str>>>, std::thread::Thread);

impl Wake for Note {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push(self.0);
        self.2.unpark();
    }
}

impl UnderWay {
    /// Makes a call; it is handed in when this returns.
    fn make<T: std::fmt::Debug + PartialEq + Send + 'static>(
        &mut self,
        name: &'static str,
        call: impl Future<Output = Result<T>> + Send + 'static,
        expected: Result<T>,
    ) {
        let note = Arc::new(Note(name, self.answered.clone(), std::thread::current()));
        let mut call: Call = Box::pin(async move {
            let result = call.await;
            let as_expected = match (&result, &expected) {
                (Err(e), Err(expected)) => e.kind() == expected.kind(),
                _ => result == expected,
            };
            assert!(as_expected, "{name}: {result:?}");
        });
        let waker = note.into();
        assert!(call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        self.calls.push((call, waker));
    }

    /// Waits for all; the order of the answers.
    fn end(mut self) -> Vec<&'static str> {
        while !self.calls.is_empty() {
            self.calls
                .retain_mut(|(call, waker)| call.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
            if !self.calls.is_empty() {
                std::thread::park();
            }
        }
        self.answered.lock().unwrap().clone()
    }
}

fn not_found<T>() -> Result<T> {
    Err(crate::Error::not_found(""))
}

/// The calls of others go on between its transactions; those that need to know where the jobs went
/// are answered afterwards, as if all had been done at once.
#[test]
fn leases_that_end_together_hold_up_only_who_depends_on_them() {
    let (db, clock) = stepping(None);
    let (many, few, other) = (queue("many"), queue("few"), queue("other"));
    block_on(db.set_retry_policy(&many, policy(2, 1))).unwrap();
    block_on(db.set(&store("s"), "k", Bytes::from_static(b"old"), 0)).unwrap();
    let over = leased(&db, &many, MANY);
    clock.advance(seconds(1));
    db.put(&many, "late");
    let held = block_on(db.lease(&many, lease(1, 600, 0))).unwrap().taken().pop().unwrap();
    let few_jobs = leased(&db, &few, 3);
    db.put(&other, "x");
    db.put(&other, "y");
    block_on(db.lease(&other, lease(1, 600, 0))).unwrap().taken();
    let ready = |jobs: &Result<Vec<Job>>| jobs.as_ref().map(|jobs| payloads(jobs).join(" ")).unwrap();
    let take = |q: &ResourceName, n, wait| {
        let (db, q) = (db.clone(), q.clone());
        async move { Ok(ready(&db.lease(&q, lease(n, 600, wait)).await.map(Leased::taken))) }
    };
    let stats = |q: &ResourceName| {
        let (db, q) = (db.clone(), q.clone());
        async move { db.stats(&q).await.map(|s| [s.pending_jobs, s.in_flight_jobs, s.failed_jobs]) }
    };
    let on = |q: &ResourceName| (db.clone(), q.clone());

    let writer = db.hold();
    // All leases but two are over, and so are the backoffs.
    clock.advance(seconds(31));
    let mut calls = UnderWay::default();
    calls.make("stats of many", stats(&many), Ok([MANY as i64 - 1, 3, 0]));
    calls.make("lease of many", take(&many, 3, 20), Ok("0 1 2".to_owned()));
    let (d, q) = on(&many);
    calls.make("policy of many", async move { d.set_retry_policy(&q, policy(7, 500)).await }, Ok(()));
    let (d, q) = on(&many);
    let id = over[MANY - 2].id.clone();
    calls.make("ack of one that is over", async move { d.ack(&q, &id).await }, Ok(()));
    let (d, q) = on(&many);
    let id = over[MANY / 2].id.clone();
    calls.make("nack of one that is over", async move { d.nack(&q, &id, 0).await }, not_found());
    let (d, q) = on(&many);
    let id = over[MANY - 1].id.clone();
    calls.make("nack of the last that is over", async move { d.nack(&q, &id, 0).await }, not_found());
    let (d, q) = on(&many);
    let held = held.id;
    calls.make("nack of one that is not", async move { d.nack(&q, &held, 9).await }, Ok(Nacked::Waiting));
    let (d, q) = on(&many);
    let enqueue = async move { d.enqueue(&q, new_job("new", 0)).await.map(|e| e.seq) };
    calls.make("enqueue in many", enqueue, Ok(MANY as i64 + 1));
    calls.make("lease of few", take(&few, 9, 0), Ok("0 1 2".to_owned()));
    calls.make("lease of other", take(&other, 9, 0), Ok("y".to_owned()));
    calls.make("stats of other", stats(&other), Ok([0, 2, 0]));
    let d = db.clone();
    let set = async move { d.set(&store("s"), "k", Bytes::from_static(b"new"), 0).await };
    calls.make("set", set, Ok(()));
    drop(writer);

    assert_eq!(
        calls.end(),
        [
            "ack of one that is over",
            "nack of one that is over",
            "nack of the last that is over",
            "nack of one that is not",
            "enqueue in many",
            "lease of few",
            "lease of other",
            "stats of other",
            "set",
            // After 25 transactions.
            "stats of many",
            "lease of many",
            "policy of many",
        ]
    );
    drop(few_jobs);
    // The policy came too late for those that were over.
    let rest = block_on(db.lease(&many, lease(2 * MANY, 600, 0))).unwrap().taken();
    let seqs: Vec<i64> = rest.iter().map(|job| job.seq).collect();
    let expected: Vec<i64> = (3..MANY as i64).chain([MANY as i64 + 1]).collect();
    assert_eq!(seqs, expected, "in ready order");
    assert!(rest[..MANY - 3].iter().all(|job| job.visible_at == over[0].reserve_until + SECOND_NS));
}

/// Also those whose wait is over: what they wait for may be among what is to come.
#[test]
fn waiters_are_served_in_order_when_their_queue_has_everything_back() {
    let (db, clock) = stepping(None);
    let q = queue("jobs");
    leased(&db, &q, MANY);
    let ready = |jobs: Leased| payloads(&jobs.taken()).join(" ");
    let take = |n, wait| {
        let (db, q) = (db.clone(), q.clone());
        async move { db.lease(&q, lease(n, 600, wait)).await.map(ready) }
    };
    let texts = |jobs: std::ops::Range<usize>| jobs.map(|i| i.to_string()).collect::<Vec<_>>().join(" ");
    clock.advance(seconds(20));
    let mut calls = UnderWay::default();
    let writer = db.hold();
    // Its time is up at the very instant at which jobs are due.
    calls.make("first", take(2 * STEP, 11), Ok(texts(0..2 * STEP)));
    calls.make("second", take(2, 20), Ok(texts(2 * STEP..2 * STEP + 2)));
    drop(writer);
    db.quiesce();
    let writer = db.hold();
    clock.advance(seconds(11));
    calls.make("third", take(2, 0), Ok(texts(2 * STEP + 2..2 * STEP + 4)));
    drop(writer);
    assert_eq!(calls.end(), ["first", "second", "third"]);
}

#[test]
fn dead_letters_of_leases_that_end_together_are_there_together_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (db, clock) = stepping(Some(&dir.path().join("db")));
    let (main, letters) = (queue("jobs"), queue("jobs-dlq"));
    // Whose turn comes first: nothing is done for the others yet when they are called.
    leased(&db, &queue("ahead"), MANY);
    block_on(db.set_retry_policy(&main, policy(1, 1))).unwrap();
    leased(&db, &main, MANY);
    let writer = db.hold();
    clock.advance(seconds(30));
    let mut calls = UnderWay::default();
    let d = db.clone();
    let listed = async move {
        let letters = d.dead_letters(&queue("jobs"), MANY, 64 << 20).await?;
        Ok(letters.iter().map(|job| job.payload.clone()).collect::<Vec<_>>())
    };
    let all: Vec<Bytes> = (0..MANY).map(|i| Bytes::from(i.to_string())).collect();
    calls.make("list", listed, Ok(all));
    // It gets its number behind them, in the queue that the first of them makes.
    let (d, q) = (db.clone(), letters.clone());
    calls.make(
        "enqueue",
        async move { d.enqueue(&q, new_job("own", 0)).await.map(|e| e.seq) },
        Ok(MANY as i64),
    );
    let (d, q) = (db.clone(), letters.clone());
    calls.make("ack", async move { d.ack(&q, "no such job").await }, Ok(()));
    let (d, q) = (db.clone(), letters.clone());
    calls.make("policy", async move { d.retry_policy(&q).await.map(|p| p.max_attempts) }, Ok(3));
    drop(writer);
    calls.end();
    assert_eq!(db.stats_of(&main), [MANY as i64, 0, 0, 0, MANY as i64]);
    assert_eq!(db.stats_of(&letters), [MANY as i64 + 1, MANY as i64 + 1, 0, 0, 0]);
    let seqs: Vec<i64> = db.take(&letters, 2 * MANY).iter().map(|job| job.seq).collect();
    assert!(seqs.into_iter().eq(0..=MANY as i64));
}

/// A dead letter whose last lease is over is a dead letter of the next queue.
#[test]
fn a_dead_letter_that_went_on_is_not_replayed() {
    let (db, clock) = stepping(None);
    let (main, letters) = (queue("jobs"), queue("jobs-dlq"));
    leased(&db, &queue("ahead"), MANY);
    for q in [&main, &letters] {
        block_on(db.set_retry_policy(q, policy(1, 1))).unwrap();
    }
    let over = leased(&db, &letters, MANY);
    let writer = db.hold();
    clock.advance(seconds(30));
    let mut calls = UnderWay::default();
    let id = over[0].id.clone();
    let d = db.clone();
    calls.make("replay", async move { d.replay_dead_letter(&queue("jobs"), &id).await }, not_found());
    drop(writer);
    calls.end();
    assert_eq!(db.stats_of(&main), [0; 5]);
    assert_eq!(db.stats_of(&queue("jobs-dlq-dlq")), [MANY as i64, MANY as i64, 0, 0, 0]);
}

/// A delivery that ended too late does not take its attempt back.
#[test]
fn what_is_given_back_after_its_end_has_had_its_attempt() {
    let (db, clock) = stepping(None);
    let q = queue("jobs");
    for _ in 0..MANY {
        db.put(&q, "x");
    }
    let delivery = block_on(db.lease(&q, lease(MANY, 30, 0))).unwrap();
    let writer = db.hold();
    clock.advance(seconds(31));
    drop(delivery);
    drop(writer);
    let again = db.take(&q, MANY);
    assert_eq!(again.len(), MANY);
    assert!(again.iter().all(|job| job.attempts == 2));
}

/// What was left when the process ended is over at the next start.
#[test]
fn leases_that_were_to_be_ended_are_ended_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let (db, clock) = stepping(Some(&path));
    let q = queue("jobs");
    let jobs = leased(&db, &q, MANY);
    let writer = db.hold();
    clock.advance(seconds(31));
    let last = {
        let (db, q) = (db.clone(), q.clone());
        async move { db.lease(&q, lease(1, 30, 20)).await.map(|jobs| jobs.taken().len()) }
    };
    let mut last = Box::pin(last);
    assert!(last.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
    // The one transaction that a close waits for.
    let closing = std::thread::spawn({
        let db = db.clone();
        move || db.close()
    });
    while !db.is_closing() {
        std::thread::yield_now();
    }
    drop(writer);
    closing.join().unwrap();
    assert_eq!(kind(block_on(last)), ErrorKind::Unavailable);
    drop(db);
    let options = DatabaseOptions { expiry_step: STEP, ..options(Some(&path), &clock) };
    let db = Database::open(options).unwrap();
    block_on(db.ack(&q, &jobs[MANY - 1].id)).unwrap();
    assert_eq!(db.stats_of(&q), [MANY as i64, MANY as i64, 0, 0, 0]);
    assert!(db.take(&q, MANY).iter().map(|job| job.seq).eq(0..MANY as i64));
}

/// Large bodies that move to the dead letters end a transaction earlier than many small ones.
#[test]
fn dead_letters_of_many_bytes_take_several_transactions() {
    let clock = TestClock::new();
    let db = Arc::new(Database::open(options(None, &clock)).unwrap());
    let q = queue("jobs");
    block_on(db.set_retry_policy(&q, policy(1, 1))).unwrap();
    for _ in 0..10 {
        db.put(&q, &"x".repeat(2 << 20));
    }
    let jobs = block_on(db.lease(&q, Lease { max_bytes: 64 << 20, ..lease(10, 30, 0) })).unwrap().taken();
    assert_eq!(jobs.len(), 10);
    let writer = db.hold();
    clock.advance(seconds(30));
    let mut calls = UnderWay::default();
    let (d, q) = (db.clone(), q);
    calls.make("stats", async move { d.stats(&q).await.map(|s| s.failed_jobs) }, Ok(10));
    let d = db.clone();
    calls.make("set", async move { d.set(&store("s"), "k", Bytes::from_static(b"v"), 0).await }, Ok(()));
    drop(writer);
    assert_eq!(calls.end(), ["set", "stats"]);
}

/// Many jobs that become due at one instant, and many calls that wait for them, or ask at once: the calls
/// of others go on in between.
#[test]
fn jobs_that_become_due_together_are_leased_a_bounded_number_at_a_time() {
    const CALLS: usize = 25;
    let (db, clock) = memory();
    let q = queue("jobs");
    for i in 0..200 * CALLS {
        db.put_delayed(&q, &i.to_string(), 5);
    }
    let mut calls = UnderWay::default();
    let take = |call: usize, wait| {
        let (db, q) = (db.clone(), q.clone());
        let expected: Vec<i64> = (100 * call as i64..100 * (call as i64 + 1)).collect();
        let jobs = async move {
            let jobs = db.lease(&q, lease(100, 30, wait)).await?.taken();
            Ok(jobs.iter().map(|job| job.seq).collect())
        };
        (jobs, Ok(expected))
    };
    for call in 0..CALLS {
        let (jobs, expected) = take(call, 20);
        calls.make("waiter", jobs, expected);
    }
    db.quiesce();
    let writer = db.hold();
    clock.advance(seconds(5));
    for call in CALLS..2 * CALLS {
        let (jobs, expected) = take(call, 0);
        calls.make("caller", jobs, expected);
    }
    let d = db.clone();
    calls.make("set", async move { d.set(&store("s"), "k", Bytes::from_static(b"v"), 0).await }, Ok(()));
    drop(writer);
    let order = calls.end();
    let set = order.iter().position(|name| *name == "set").unwrap();
    assert_eq!(order[..set], ["waiter"; 10], "in one transaction with a thousand jobs");
    assert_eq!(order[set + 1..], [["waiter"; 15].as_slice(), &["caller"; CALLS]].concat());
    assert_eq!(db.stats_of(&q)[2], 200 * CALLS as i64);
}

/// When a transaction fails in the middle, each of its calls is told why.
#[test]
fn calls_behind_one_that_fails_are_told_the_same() {
    let (db, _clock) = memory();
    let q = queue("jobs");
    db.put(&q, "x");
    let pages: i64 = db.look(|conn| conn.pragma_query_value(None, "page_count", |r| r.get(0))).unwrap();
    let limit = |pages: i64| {
        db.look(|conn| conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))).unwrap();
    };
    limit(pages + 8);
    let writer = db.hold();
    let full = || Err(crate::Error::new(ErrorKind::ResourceExhausted, ""));
    let mut calls = UnderWay::default();
    for (name, size) in [("small", 1), ("large", 1 << 20), ("behind", 1)] {
        let (d, q) = (db.clone(), q.clone());
        let enqueue = async move { d.enqueue(&q, new_job(&"x".repeat(size), 0)).await.map(|e| e.seq) };
        calls.make(name, enqueue, full());
    }
    drop(writer);
    calls.end();
    limit(1 << 20);
    assert_eq!(db.put(&q, "y").seq, 1);
}
