//! Workers: every job handled once per lease and settled as told, whatever goes wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use flowmesh::client::{
    CallOptions, Callbacks, Client, ClientOptions, Delivery, NewJob, PollMode, Queue, QueueStats,
    RetryPolicy, Status, Timeout, Verdict, Worker, WorkerEvent, WorkerEventKind, WorkerOptions,
};
use flowmesh_proto::v1;
use prost::Message as _;
use tonic::Code;

use crate::fake::{Answer, Fake, reply};

/// For what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

fn with_test_clock() -> Client {
    Client::open(ClientOptions {
        endpoint: Some("embedded:".into()),
        test_clock: true,
        ..ClientOptions::default()
    })
    .expect("open")
}

fn queue(client: &Client) -> Queue {
    client.queue("t", "n", "q").expect("names")
}

fn enqueue(queue: &Queue, count: usize) {
    let to = queue.clone();
    queue
        .client()
        .block_on(async move {
            for number in 0..count {
                let payload = Bytes::from(number.to_string());
                to.enqueue(NewJob { payload, ..NewJob::default() }, &CallOptions::default()).await?;
            }
            Ok(())
        })
        .expect("enqueue");
}

fn stats(queue: &Queue) -> QueueStats {
    let of = queue.clone();
    queue.client().block_on(async move { of.stats(&CallOptions::default()).await }).expect("stats")
}

fn set_max_attempts(queue: &Queue, max_attempts: i32) {
    let policy = RetryPolicy {
        max_attempts,
        initial_backoff_seconds: 1,
        max_backoff_seconds: 1,
        backoff_multiplier: 1.0,
        backoff_strategy: "fixed".into(),
    };
    let of = queue.clone();
    queue
        .client()
        .block_on(async move { of.set_retry_policy(policy, &CallOptions::default()).await })
        .expect("policy");
}

/// A worker whose events can be waited for.
struct Observed {
    worker: Worker,
    events: Receiver<WorkerEvent>,
}

impl Observed {
    fn open(
        queue: &Queue,
        options: &WorkerOptions,
        handler: impl Fn(Delivery) + Send + Sync + 'static,
    ) -> Self {
        let (sender, events) = mpsc::channel();
        let callbacks = Callbacks {
            handler: Box::new(handler),
            // The test may have ended.
            event: Some(Box::new(move |event| drop(sender.send(event.clone())))),
        };
        Self { worker: Worker::open(queue.clone(), options, callbacks).expect("open a worker"), events }
    }

    fn event(&self, kind: WorkerEventKind) -> WorkerEvent {
        let event = self.events.recv_timeout(PATIENCE).expect("an event");
        assert_eq!(event.kind, kind, "{event:?}");
        event
    }

    fn close(self) {
        self.try_close(PATIENCE).expect("the worker drains");
        assert_eq!(self.worker.unfinished(), 0);
        assert_eq!(self.events.try_iter().map(|e| format!("{e:?}")).collect::<Vec<_>>(), [""; 0]);
    }

    fn try_close(&self, timeout: Duration) -> flowmesh::client::Result<()> {
        close(&self.worker, timeout)
    }
}

fn close(worker: &Worker, timeout: Duration) -> flowmesh::client::Result<()> {
    worker.queue().client().wait(worker.close(Timeout::After(timeout)))
}

fn options(concurrency: usize) -> WorkerOptions {
    WorkerOptions { concurrency, ..WorkerOptions::default() }
}

/// A handler that passes jobs on; they stay under way until settled.
fn pass_on() -> (impl Fn(Delivery) + Send + Sync, Receiver<Delivery>) {
    let (sender, jobs) = mpsc::channel();
    (move |delivery| drop(sender.send(delivery)), jobs)
}

fn next(jobs: &Receiver<Delivery>) -> Delivery {
    jobs.recv_timeout(PATIENCE).expect("a job")
}

#[test]
fn every_job_is_handled_and_acknowledged() {
    const COUNT: usize = 500;
    for concurrency in [1, 4, 64] {
        let queue = queue(&crate::open("embedded:"));
        enqueue(&queue, COUNT);
        let (seen, handled): (Sender<i64>, _) = mpsc::channel();
        let worker = Observed::open(&queue, &options(concurrency), move |delivery| {
            let _ = seen.send(delivery.job.seq);
            delivery.ticket.settle(Verdict::Ack).expect("it works");
        });
        let seen: BTreeSet<_> = (0..COUNT).map(|_| handled.recv_timeout(PATIENCE).expect("a job")).collect();
        assert_eq!(seen.len(), COUNT);
        worker.close();
        assert_eq!(stats(&queue).completed_jobs, COUNT as i64);
        assert!(handled.try_recv().is_err(), "nothing twice");
    }
}

#[test]
fn jobs_that_come_later_are_handed_over_at_once() {
    let queue = queue(&crate::open("embedded:"));
    let (handler, jobs) = pass_on();
    let worker = Observed::open(&queue, &options(2), handler);
    for _ in 0..3 {
        enqueue(&queue, 1);
        next(&jobs).ticket.settle(Verdict::Ack).expect("it works");
    }
    worker.close();
    assert_eq!(stats(&queue).completed_jobs, 3);
}

#[test]
fn no_more_jobs_are_under_way_than_asked_for() {
    let queue = queue(&crate::open("embedded:"));
    enqueue(&queue, 10);
    let (handler, jobs) = pass_on();
    let worker = Observed::open(&queue, &options(2), handler);
    let (first, second) = (next(&jobs), next(&jobs));
    assert!(jobs.recv_timeout(Duration::from_millis(50)).is_err(), "both places are taken");
    assert_eq!(stats(&queue).in_flight_jobs, 2, "nothing is leased ahead before the pace is known");
    assert_eq!(queue.client().stats().worker_jobs, 2);
    first.ticket.settle(Verdict::Ack).expect("it works");
    let third = next(&jobs);
    assert_eq!(third.job.seq, 2);
    drop((second, third));
    for _ in 3..10 {
        drop(next(&jobs));
    }
    worker.close();
    assert_eq!(stats(&queue).in_flight_jobs, 9, "without a verdict a job stays leased");
    assert_eq!(queue.client().stats().worker_jobs, 0);
}

#[test]
fn what_is_given_back_comes_again_and_then_is_dead() {
    let client = with_test_clock();
    let queue = queue(&client);
    set_max_attempts(&queue, 2);
    enqueue(&queue, 1);
    let (handler, jobs) = pass_on();
    let worker = Observed::open(&queue, &options(1), handler);
    let delivery = next(&jobs);
    assert_eq!(delivery.job.attempts, 1);
    delivery.ticket.settle(Verdict::nack(5000).expect("a delay")).expect("it works");
    // Nacked in the background: the clock moves when that is done.
    while stats(&queue).in_flight_jobs > 0 {
        thread::yield_now();
    }
    client.advance_test_clock(Duration::from_secs(5)).expect("a test clock");
    let delivery = next(&jobs);
    assert_eq!(delivery.job.attempts, 2);
    delivery.ticket.settle(Verdict::nack(0).expect("a delay")).expect("it works");
    let event = worker.event(WorkerEventKind::DeadLettered);
    assert_eq!(event.job.map(|job| (job.seq, job.attempts)), Some((0, 2)));
    worker.close();
    assert_eq!(stats(&queue).failed_jobs, 1);
    assert_eq!(Verdict::nack(-1).map_err(|e| e.status()), Err(Status::INVALID_ARGUMENT));
}

#[test]
fn who_overruns_a_lease_is_told_and_does_not_take_the_job_from_the_next() {
    let client = with_test_clock();
    let queue = queue(&client);
    enqueue(&queue, 1);
    let (handler, jobs) = pass_on();
    let worker = Observed::open(&queue, &options(2), handler);
    let late = next(&jobs);
    assert_eq!(late.ticket.time_left(), Duration::from_secs(30));
    client.advance_test_clock(Duration::from_secs(30)).expect("a test clock");
    let event = worker.event(WorkerEventKind::LeaseLost);
    assert_eq!(event.job.as_deref(), Some(late.ticket.name()));
    assert_eq!(late.ticket.time_left(), Duration::ZERO);
    client.advance_test_clock(Duration::from_secs(1)).expect("a test clock");
    let again = next(&jobs);
    assert_eq!((again.job.id.as_str(), again.job.attempts), (late.job.id.as_str(), 2));
    late.ticket.settle(Verdict::Ack).expect("it is not sent, and has been told");
    // Everything sent so far is stored before a job that is enqueued now has its verdict stored.
    enqueue(&queue, 1);
    next(&jobs).ticket.settle(Verdict::Ack).expect("it works");
    while stats(&queue).completed_jobs < 1 {
        thread::yield_now();
    }
    assert_eq!(stats(&queue).in_flight_jobs, 1, "the second lease stands");
    again.ticket.settle(Verdict::Ack).expect("it works");
    worker.close();
    assert_eq!(stats(&queue).completed_jobs, 2);
}

#[test]
fn a_job_whose_lease_ended_while_it_waited_is_not_handed_out() {
    let client = with_test_clock();
    let queue = queue(&client);
    let (handler, jobs) = pass_on();
    let handler = Arc::new(handler);
    let blocked = Arc::new(Mutex::new(()));
    let gate = blocked.clone();
    // A tenth of the lease is for jobs that wait: room for all of them, however slow this machine.
    let lease = Duration::from_secs(36_000);
    let options = WorkerOptions { visibility_ms: 36_000_000, ..options(1) };
    let worker = Observed::open(&queue, &options, move |delivery| {
        handler(delivery);
        drop(gate.lock());
    });
    // The pace is known after this one.
    enqueue(&queue, 1);
    next(&jobs).ticket.settle(Verdict::Ack).expect("it works");
    while stats(&queue).completed_jobs < 1 {
        thread::yield_now();
    }
    let closed_gate = blocked.lock().expect("the gate");
    enqueue(&queue, 5);
    let first = next(&jobs);
    while stats(&queue).in_flight_jobs < 5 {
        thread::yield_now();
    }
    client.advance_test_clock(lease).expect("a test clock");
    let lost: BTreeSet<_> =
        (0..5).map(|_| worker.event(WorkerEventKind::LeaseLost).job.expect("a job").seq).collect();
    assert_eq!(lost, (1..6).collect());
    drop(first);
    drop(closed_gate);
    client.advance_test_clock(Duration::from_secs(1)).expect("a test clock");
    for _ in 1..6 {
        let delivery = next(&jobs);
        assert_eq!(delivery.job.attempts, 2, "the first delivery of {} was not handed out", delivery.job.seq);
        delivery.ticket.settle(Verdict::Ack).expect("it works");
    }
    worker.close();
    assert_eq!(stats(&queue).completed_jobs, 6);
}

#[test]
fn close_lets_handlers_finish_and_stores_their_verdicts() {
    let queue = queue(&crate::open("embedded:"));
    enqueue(&queue, 3);
    let (handler, jobs) = pass_on();
    let (dropped, gone) = mpsc::channel::<()>();
    let worker = Observed::open(&queue, &options(2), move |delivery| {
        let _ = &dropped;
        handler(delivery);
    });
    let (first, second) = (next(&jobs), next(&jobs));
    let closed = &worker.worker;
    // Once a close has begun, nothing is fetched.
    let error = close(closed, Duration::ZERO).expect_err("jobs are under way");
    assert_eq!(error.status(), Status::DEADLINE_EXCEEDED);
    thread::scope(|scope| {
        let closing = scope.spawn(|| close(closed, PATIENCE));
        first.ticket.settle(Verdict::Ack).expect("it works");
        assert!(!closing.is_finished());
        second.ticket.settle(Verdict::Ack).expect("it works");
        closing.join().expect("no panic").expect("it drains");
    });
    assert!(gone.try_recv().is_err_and(|e| e == mpsc::TryRecvError::Disconnected), "callbacks are released");
    let stats = stats(&queue);
    assert_eq!((stats.completed_jobs, stats.pending_jobs), (2, 1), "the third was not fetched");
    worker.try_close(PATIENCE).expect("a second close is fine");
}

/// Tells the thread that drops it.
struct OnDrop(Sender<Option<String>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(thread::current().name().map(str::to_owned));
    }
}

#[test]
fn callbacks_are_not_released_by_the_thread_that_drives_connections() {
    for free in [false, true] {
        let queue = queue(&crate::open("embedded:"));
        enqueue(&queue, 1);
        let (sender, released) = mpsc::channel();
        let on_drop = OnDrop(sender);
        let (handler, jobs) = pass_on();
        let worker = Observed::open(&queue, &options(1), move |delivery| {
            let _ = &on_drop;
            handler(delivery);
        });
        let job = next(&jobs);
        if free {
            drop(worker);
            job.ticket.settle(Verdict::Ack).expect("it is still sent");
        } else {
            job.ticket.settle(Verdict::Ack).expect("it works");
            worker.close();
        }
        let thread = released.recv_timeout(PATIENCE).expect("it is released");
        assert_ne!(thread.as_deref(), Some("flowmesh-io"));
    }
}

#[test]
fn close_at_its_timeout_says_what_is_left_and_loses_nothing() {
    let queue = queue(&crate::open("embedded:"));
    enqueue(&queue, 2);
    let (handler, jobs) = pass_on();
    let worker = Observed::open(&queue, &options(1), handler);
    let first = next(&jobs);
    let error = worker.try_close(Duration::from_millis(10)).expect_err("a job is under way");
    assert_eq!(error.status(), Status::DEADLINE_EXCEEDED);
    assert_eq!(worker.worker.unfinished(), 1);
    first.ticket.settle(Verdict::Ack).expect("it is still sent");
    worker.close();
    assert_eq!(stats(&queue).completed_jobs, 1);
    assert!(jobs.try_recv().is_err(), "nothing more is handed out");
}

#[test]
fn a_handler_may_close_and_free_its_worker() {
    for free in [false, true] {
        let queue = queue(&crate::open("embedded:"));
        enqueue(&queue, 2);
        let slot: Arc<Mutex<Option<Worker>>> = Arc::default();
        let (done, wait) = mpsc::channel();
        let own = slot.clone();
        let handler = move |delivery: Delivery| {
            let mut worker = own.lock().expect("the slot");
            let me = worker.take().expect("the test put it there");
            me.queue().client().wait(me.close(Timeout::Never)).expect("it returns at once");
            if !free {
                *worker = Some(me);
            }
            drop(worker);
            delivery.ticket.settle(Verdict::Ack).expect("it is still sent");
            let _ = done.send(());
        };
        let callbacks = Callbacks { handler: Box::new(handler), event: None };
        {
            let mut slot = slot.lock().expect("the slot");
            *slot = Some(Worker::open(queue.clone(), &options(1), callbacks).expect("open"));
        }
        wait.recv_timeout(PATIENCE).expect("the handler returns");
        if let Some(worker) = slot.lock().expect("the slot").take() {
            queue.client().wait(worker.close(Timeout::After(PATIENCE))).expect("it ends");
        }
        while stats(&queue).completed_jobs < 1 {
            thread::yield_now();
        }
        assert!(wait.recv_timeout(Duration::from_millis(20)).is_err(), "the second job is not handed out");
    }
}

#[test]
fn a_stopped_worker_sends_no_verdicts() {
    let queue = queue(&crate::open("embedded:"));
    enqueue(&queue, 1);
    let (handler, jobs) = pass_on();
    let worker = Observed::open(&queue, &options(1), handler);
    let delivery = next(&jobs);
    worker.worker.stop().expect("it stops");
    let error = delivery.ticket.settle(Verdict::Ack).expect_err("it is too late");
    assert_eq!(error.status(), Status::CLOSED);
    worker.close();
    assert_eq!(stats(&queue).in_flight_jobs, 1);
}

#[test]
fn a_closed_client_ends_its_workers() {
    let client = crate::open("embedded:");
    let queue = queue(&client);
    let (handler, _jobs) = pass_on();
    let worker = Observed::open(&queue, &options(1), handler);
    client.wait(client.close(Timeout::After(PATIENCE))).expect("it closes");
    let reason = worker.event(WorkerEventKind::Ended).reason.expect("a reason");
    assert_eq!(reason.status(), Status::CLOSED);
    worker.close();
}

/// The original engine, as far as a worker sees it: anything else than what it bears is no answer.
fn original(jobs: usize) -> Fake {
    let left = Mutex::new(jobs);
    Fake::start_with_requests(move |method, body, _| match method {
        "Receive" => {
            // Behind the flag and the length.
            let request = v1::ReceiveRequest::decode(&body[5..]).expect("a request");
            if (request.max_jobs, request.long_poll_timeout_seconds) != (1, 0) {
                return Answer::Silence;
            }
            let mut left = left.lock().expect("jobs");
            let jobs = match *left {
                0 => vec![],
                _ => {
                    *left -= 1;
                    let id = left.to_string();
                    vec![v1::Job { id, payload: "x".into(), attempts: 1, ..v1::Job::default() }]
                }
            };
            reply(v1::ReceiveResponse { jobs, status: None })
        }
        "ACK" => reply(v1::AckResponse::default()),
        _ => Answer::Status(Code::Unimplemented, "unknown service"),
    })
}

#[test]
fn the_original_engine_is_asked_only_what_it_bears() {
    for mode in [PollMode::Auto, PollMode::Safe] {
        let fake = original(3);
        let queue = queue(&crate::open(&fake.address.to_string()));
        let (handler, jobs) = pass_on();
        let worker = Observed::open(&queue, &WorkerOptions { poll_mode: mode, ..options(2) }, handler);
        for _ in 0..3 {
            next(&jobs).ticket.settle(Verdict::Ack).expect("it works");
        }
        let polls = |fake: &Fake| fake.calls().iter().filter(|call| *call == "Receive").count();
        let before = polls(&fake);
        while polls(&fake) < before + 3 {
            thread::sleep(Duration::from_millis(1));
        }
        worker.close();
        let calls = fake.calls();
        assert_eq!(calls.iter().filter(|call| *call == "ACK").count(), 3);
        assert_eq!(calls.iter().filter(|call| *call == "Check").count(), usize::from(mode == PollMode::Auto));
        assert!(!calls.iter().any(|call| call == "Reserve"));
    }
}

/// A server with one job, which answers acks and nacks by a script.
fn one_job(settle: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Fake {
    let settled = Mutex::new((false, 0));
    Fake::start(move |method, _| match method {
        "Receive" => {
            let mut state = settled.lock().expect("state");
            if std::mem::replace(&mut state.0, true) {
                return Answer::Silence;
            }
            let job = v1::Job { id: "a".into(), payload: "x".into(), attempts: 1, ..v1::Job::default() };
            reply(v1::ReceiveResponse { jobs: vec![job], status: None })
        }
        "ACK" | "NACK" => {
            let mut state = settled.lock().expect("state");
            state.1 += 1;
            settle(method, state.1 - 1)
        }
        _ => Answer::Status(Code::NotFound, "no such service"),
    })
}

#[test]
fn an_ack_is_repeated_while_the_lease_lasts() {
    let fake = one_job(|_, before| match before {
        0..4 => Answer::Status(Code::Unavailable, "restarting"),
        _ => reply(v1::AckResponse::default()),
    });
    let queue = queue(&crate::open(&fake.address.to_string()));
    let (handler, jobs) = pass_on();
    let worker = Observed::open(&queue, &options(1), handler);
    next(&jobs).ticket.settle(Verdict::Ack).expect("it works");
    worker.close();
    assert_eq!(fake.calls().iter().filter(|call| *call == "ACK").count(), 5);
}

#[test]
fn a_verdict_that_cannot_be_stored_is_told() {
    let cases = [
        (Verdict::Ack, Code::PermissionDenied, WorkerEventKind::NotSettled),
        // It may have been applied, and the job be leased again: a repeat could hit that lease.
        (Verdict::Nack { delay_ms: 0 }, Code::Unavailable, WorkerEventKind::NotSettled),
        (Verdict::Nack { delay_ms: 0 }, Code::NotFound, WorkerEventKind::LeaseLost),
        (Verdict::Nack { delay_ms: 0 }, Code::FailedPrecondition, WorkerEventKind::DeadLettered),
    ];
    for (verdict, code, told) in cases {
        let fake = one_job(move |_, _| Answer::Status(code, "because"));
        let queue = queue(&crate::open(&fake.address.to_string()));
        let (handler, jobs) = pass_on();
        let worker = Observed::open(&queue, &options(1), handler);
        next(&jobs).ticket.settle(verdict).expect("it works");
        let event = worker.event(told);
        assert_eq!(event.job.map(|job| job.id.clone()).as_deref(), Some("a"));
        worker.close();
        assert_eq!(fake.calls().iter().filter(|call| call.ends_with("ACK")).count(), 1, "{code:?}");
    }
}

#[test]
fn a_server_that_is_away_is_told_once_and_asked_again() {
    let fake = Fake::start(|method, before| match (method, before) {
        ("Receive", 0..4) => Answer::Status(Code::Unavailable, "restarting"),
        ("Receive", 4) => reply(v1::ReceiveResponse::default()),
        ("Receive", _) => Answer::Silence,
        _ => Answer::Status(Code::NotFound, "no such service"),
    });
    let queue = queue(&crate::open(&fake.address.to_string()));
    let (handler, _jobs) = pass_on();
    let worker =
        Observed::open(&queue, &WorkerOptions { poll_mode: PollMode::LongPoll, ..options(1) }, handler);
    let reason = worker.event(WorkerEventKind::FetchFailed).reason.expect("a reason");
    assert_eq!(reason.status(), Status::UNAVAILABLE);
    worker.event(WorkerEventKind::FetchResumed);
    worker.close();
}

#[test]
fn a_worker_that_may_not_read_the_queue_ends() {
    let fake = Fake::start(|_, _| Answer::Status(Code::PermissionDenied, "no"));
    let queue = queue(&crate::open(&fake.address.to_string()));
    let (handler, _jobs) = pass_on();
    let worker = Observed::open(&queue, &options(1), handler);
    let reason = worker.event(WorkerEventKind::Ended).reason.expect("a reason");
    assert_eq!(reason.status(), Status::PERMISSION_DENIED);
    worker.close();
}

#[test]
fn what_a_worker_is_asked_to_be_is_checked() {
    let queue = queue(&crate::open("embedded:"));
    let mut options = WorkerOptions::default();
    for refused in [
        options.set_concurrency(0),
        options.set_concurrency(4097),
        options.set_prefetch(101),
        options.set_visibility_ms(-1),
        options.set_visibility_ms(43_200_001),
    ] {
        assert_eq!(refused.map_err(|e| e.status()), Err(Status::INVALID_ARGUMENT));
    }
    let callbacks = Callbacks { handler: Box::new(drop), event: None };
    let refused = Worker::open(queue, &self::options(4096), callbacks);
    assert_eq!(refused.map(drop).map_err(|e| e.status()), Err(Status::INVALID_ARGUMENT), "no such pool");
}

/// What the handler of the stress test does with a job, by its number and attempt.
fn plan(seq: i64, attempts: i32) -> u64 {
    let mut x = (seq as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (attempts as u64).wrapping_mul(0xd134_2543_de82_ef95);
    x ^= x >> 32;
    x = x.wrapping_mul(0xd6e8_feb8_6659_fd93);
    (x ^ (x >> 32)) % 4
}

#[test]
fn random_verdicts_end_as_told() {
    const COUNT: i64 = 400;
    const ATTEMPTS: i32 = 3;
    let client = with_test_clock();
    let queue = queue(&client);
    set_max_attempts(&queue, ATTEMPTS);
    enqueue(&queue, COUNT as usize);
    // 0, 1: ack. 2: nack. 3: no verdict, so that the lease ends.
    let last = |seq| (1..=ATTEMPTS).find(|attempt| plan(seq, *attempt) < 2);
    let acked = (0..COUNT).filter(|seq| last(*seq).is_some()).count() as i64;
    let seen: Arc<Mutex<BTreeMap<i64, Vec<i32>>>> = Arc::default();
    let record = seen.clone();
    let worker = Observed::open(&queue, &options(8), move |delivery| {
        let (seq, attempts) = (delivery.job.seq, delivery.job.attempts);
        record.lock().expect("the record").entry(seq).or_default().push(attempts);
        match plan(seq, attempts) {
            0 | 1 => delivery.ticket.settle(Verdict::Ack).expect("it works"),
            2 => delivery.ticket.settle(Verdict::nack(0).expect("a delay")).expect("it works"),
            _ => drop(delivery),
        }
    });
    // In each round every job that is left has one attempt; then all leases end and all backoffs.
    for attempt in 1..=ATTEMPTS {
        let left = (0..COUNT).filter(|seq| (1..attempt).all(|before| plan(*seq, before) >= 2));
        let abandoned = left.clone().filter(|seq| plan(*seq, attempt) == 3).count();
        let handled = || seen.lock().expect("the record").values().filter(|a| a.contains(&attempt)).count();
        while handled() < left.clone().count()
            || stats(&queue).in_flight_jobs != abandoned as i64
            || worker.worker.unfinished() > 0
        {
            thread::yield_now();
        }
        client.advance_test_clock(Duration::from_secs(31)).expect("a test clock");
    }
    worker.try_close(PATIENCE).expect("it drains");
    let stats = stats(&queue);
    assert_eq!((stats.completed_jobs, stats.failed_jobs), (acked, COUNT - acked));
    for (seq, attempts) in seen.lock().expect("the record").iter() {
        let expected: Vec<_> = (1..=last(*seq).unwrap_or(ATTEMPTS)).collect();
        assert_eq!(*attempts, expected, "job {seq}: each delivery is handed out once, in order");
    }
}
