//! The engine in this process, and real servers: every operation, and what only a real engine
//! can show.

use std::{thread, time::Duration};

use bytes::{Bytes, BytesMut};
use flowmesh::client::{
    CallOptions, CancelToken, Client, ClientOptions, Nacked, NewJob, Progress, Reserve, RetryPolicy, Status,
    SubscribeOptions, Timeout,
};
use flowmesh_proto::wire::{MessageView, encode_event};

use crate::open;

fn event(payload: &str) -> Bytes {
    let mut wire = BytesMut::new();
    encode_event(&mut wire, payload.as_bytes(), std::iter::empty());
    wire.freeze()
}

fn payload(message: &Bytes) -> String {
    let view = MessageView::parse(message).expect("a message");
    String::from_utf8(view.payload.to_vec()).expect("UTF-8")
}

fn job(text: &str) -> NewJob {
    NewJob { payload: Bytes::copy_from_slice(text.as_bytes()), ..NewJob::default() }
}

fn with_test_clock() -> Client {
    Client::open(ClientOptions {
        endpoint: Some("embedded:".into()),
        test_clock: true,
        ..ClientOptions::default()
    })
    .expect("open")
}

#[test]
fn every_stream_operation() {
    let client = open("embedded:");
    let stream = client.stream("t", "n", "s").expect("names");
    client
        .block_on(async move {
            let o = CallOptions::default();
            let events = ["a", "b", "c"].map(event).to_vec();
            assert_eq!(stream.write(events, &o).await?, [0, 1, 2]);
            let read = stream.read(0, 1, 0, &o).await?;
            assert_eq!(read.iter().map(payload).collect::<Vec<_>>(), ["b", "c"]);
            assert_eq!(stream.latest_offset(0, &o).await?, 2);
            assert_eq!(stream.offset("g", 0, &o).await?, -1);
            stream.commit_offset("g", 0, 1, &o).await?;
            assert_eq!(stream.offset("g", 0, &o).await?, 1);
            let state = stream.group_state("g", 0, &o).await?;
            assert_eq!((state.committed_offset, state.latest_offset, state.lag), (1, 2, 1));
            let reader = stream.reader(0, 0, 2)?;
            assert_eq!(reader.next_page(&o).await?.len(), 2);
            assert_eq!(reader.next_page(&o).await?.len(), 1);
            assert_eq!(reader.next_page(&o).await?.len(), 0);
            Ok(())
        })
        .expect("every call succeeds");
}

#[test]
fn every_queue_operation() {
    let client = with_test_clock();
    let queue = client.queue("t", "n", "q").expect("names");
    let clock = client.clone();
    client
        .block_on(async move {
            let o = CallOptions::default();
            let r = Reserve::default();
            let policy = RetryPolicy {
                max_attempts: 2,
                initial_backoff_seconds: 1,
                max_backoff_seconds: 1,
                backoff_multiplier: 1.0,
                backoff_strategy: "fixed".into(),
            };
            queue.set_retry_policy(policy.clone(), &o).await?;
            assert_eq!(queue.retry_policy(&o).await?, policy);
            assert_eq!(queue.enqueue(job("one"), &o).await?.seq, 0);
            let first = queue.reserve(r, &o).await?.expect("a job is due");
            assert_eq!((first.payload.as_ref(), first.attempts), (&b"one"[..], 1));
            assert_eq!(queue.nack(&first.id, 0, &o).await?, Nacked::Waiting);
            assert_eq!(queue.reserve(r, &o).await?, None);
            clock.advance_test_clock(Duration::from_secs(1))?;
            let again = queue.reserve(r, &o).await?.expect("due after its backoff");
            assert_eq!(queue.nack(&again.id, 0, &o).await?, Nacked::DeadLettered);
            let dead = queue.list_dlq_jobs(0, &o).await?;
            assert_eq!(dead.len(), 1);
            assert_eq!(queue.replay_dlq_job(&dead[0].id, &o).await?.seq, 1);
            queue.enqueue(NewJob { delay_ms: 1500, ..job("late") }, &o).await?;
            let jobs = queue.receive(10, r, &o).await?;
            assert_eq!(jobs.len(), 1);
            clock.advance_test_clock(Duration::from_secs(2))?;
            let late = queue.receive(10, r, &o).await?;
            assert_eq!(late.len(), 1, "1.5 s are 2 s on the wire");
            let ids: Vec<_> = jobs.iter().chain(&late).map(|j| j.id.clone()).collect();
            let acked = queue.ack_all(&ids, &o).await;
            assert_eq!((acked.count, acked.error), (2, None));
            let stats = queue.stats(&o).await?;
            assert_eq!((stats.total_jobs, stats.completed_jobs, stats.failed_jobs), (3, 2, 1));
            Ok(())
        })
        .expect("every call succeeds");
}

#[test]
fn every_kv_operation() {
    let client = with_test_clock();
    let kv = client.kv("t", "n", "k").expect("names");
    let clock = client.clone();
    client
        .block_on(async move {
            let o = CallOptions::default();
            kv.set("a", Bytes::from_static(b"1"), 0, &o).await?;
            kv.set("b", Bytes::from_static(b"2"), 1, &o).await?;
            assert_eq!(kv.get("b", &o).await?.as_ref(), b"2");
            assert!(kv.exists("b", &o).await?);
            assert_eq!(kv.list_keys("", &o).await?, ["a", "b"]);
            clock.advance_test_clock(Duration::from_secs(1))?;
            assert_eq!(kv.get("b", &o).await.expect_err("expired").status(), Status::NOT_FOUND);
            kv.delete("a", &o).await?;
            assert!(!kv.exists("a", &o).await?);
            clock.health_check(&o).await?;
            assert!(clock.readiness_check(&o).await?);
            Ok(())
        })
        .expect("every call succeeds");
}

#[test]
fn a_wait_for_a_job_ends_with_its_arrival_its_time_or_a_cancel() {
    let client = open("embedded:");
    let queue = client.queue("t", "n", "q").expect("names");
    let wait = |wait_ms, cancel| {
        let queue = queue.clone();
        let options = CallOptions { cancel, ..CallOptions::default() };
        client
            .block_on(async move { queue.reserve(Reserve { wait_ms, ..Reserve::default() }, &options).await })
    };
    assert_eq!(wait(1, None), Ok(None));
    let token = CancelToken::new();
    let canceller = thread::spawn({
        let token = token.clone();
        move || token.cancel()
    });
    assert_eq!(wait(-1, Some(token)).expect_err("cancelled").status(), Status::CANCELLED);
    canceller.join().expect("the canceller ends");
    let producer = thread::spawn({
        let (client, queue) = (client.clone(), queue.clone());
        move || client.block_on(async move { queue.enqueue(job("x"), &CallOptions::default()).await })
    });
    assert!(wait(-1, None).expect("no failure").is_some());
    producer.join().expect("the producer ends").expect("enqueue");
}

#[test]
fn an_embedded_subscription_follows_what_is_written() {
    let client = open("embedded:");
    let stream = client.stream("t", "n", "s").expect("names");
    let options = SubscribeOptions { consumer_group: "g".into(), ..SubscribeOptions::default() };
    let subscription = stream.subscribe(options).expect("subscribe");
    let writer = thread::spawn({
        let (client, stream) = (client.clone(), stream.clone());
        move || {
            for i in 0..50 {
                let stream = stream.clone();
                client
                    .block_on(async move {
                        stream.write(vec![event(&i.to_string())], &CallOptions::default()).await
                    })
                    .expect("write");
            }
        }
    });
    let (mut seen, mut batch) = (Vec::new(), Vec::new());
    while seen.len() < 50 {
        if client.wait(subscription.next_batch(&mut batch)).expect("it goes on") == Progress::Messages {
            seen.extend(batch.iter().map(payload));
        }
    }
    writer.join().expect("the writer ends");
    assert_eq!(seen, (0..50).map(|i| i.to_string()).collect::<Vec<_>>());
    client.wait(client.close(Timeout::Never)).expect("close");
    let ended = client.wait(subscription.next_batch(&mut batch)).expect_err("closed");
    assert_eq!(ended.status(), Status::CLOSED);
}

#[test]
fn clients_of_one_directory_share_its_engine_and_the_last_gives_it_up() {
    let dir = tempfile::tempdir().expect("directory");
    let endpoint = format!("embedded:{}", dir.path().join("data").display());
    let write = |client: &Client| {
        let stream = client.stream("t", "n", "s").expect("names");
        client
            .block_on(async move { stream.write(vec![event("x")], &CallOptions::default()).await })
            .expect("write")
    };
    for round in 0..3 {
        let (one, other) = (open(&endpoint), open(&endpoint));
        assert_eq!(write(&one), [round * 3]);
        assert_eq!(write(&other), [round * 3 + 1]);
        one.wait(one.close(Timeout::Never)).expect("close");
        assert_eq!(write(&other), [round * 3 + 2]);
    }
    let (a, b) = (open("embedded:"), open("embedded:"));
    assert_eq!((write(&a), write(&b)), (vec![0], vec![0]), "each memory is a world of its own");
}

#[test]
fn an_unusable_directory_is_an_error_of_the_first_call() {
    let dir = tempfile::tempdir().expect("directory");
    let client = open(&format!("embedded:{}", dir.path().join("missing/data").display()));
    let error = client
        .block_on({
            let client = client.clone();
            async move { client.connect(&CallOptions::default()).await }
        })
        .expect_err("the parent is missing");
    assert_ne!(error.status(), Status::OK);
    assert!(error.message().contains("missing"), "{error}");
}

#[test]
fn what_an_embedded_endpoint_does_not_take_is_refused() {
    let with_token = ClientOptions {
        endpoint: Some("embedded:".into()),
        auth_token: Some("secret".into()),
        ..ClientOptions::default()
    };
    let error = Client::open(with_token).expect_err("no token");
    assert_eq!(error.status(), Status::INVALID_ARGUMENT);
    assert!(error.message().contains("auth_token") && !error.message().contains("secret"), "{error}");
    let error = open("embedded:").advance_test_clock(Duration::ZERO).expect_err("no test clock");
    assert_eq!(error.status(), Status::FAILED_PRECONDITION);
}
