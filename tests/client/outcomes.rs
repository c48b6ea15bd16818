//! What is tried again, and what a failure says became of the change.

use bytes::Bytes;
use flowmesh::client::{
    CallOptions, CancelToken, Client, ClientOptions, Nacked, NewJob, Outcome, Status, Timeout,
};
use flowmesh_proto::v1;
use std::{sync::mpsc, thread, time::Duration};
use tonic::Code;

use crate::fake::{Answer, Fake, reply};

pub fn client(fake: &Fake) -> Client {
    crate::open(&fake.address.to_string())
}

fn job() -> NewJob {
    NewJob { payload: Bytes::from_static(b"work"), ..NewJob::default() }
}

#[test]
fn what_a_repeat_cannot_harm_is_tried_once_more() {
    let fake = Fake::start(|_, before| match before {
        0 => Answer::Status(Code::Unavailable, "restarting"),
        _ => reply(v1::SetResponse::default()),
    });
    let kv = client(&fake).kv("t", "n", "s").expect("names");
    let value = Bytes::from_static(b"v");
    kv.client()
        .block_on({
            let kv = kv.clone();
            async move { kv.set("k", value, 0, &CallOptions::default()).await }
        })
        .expect("the second attempt succeeds");
    assert_eq!(fake.calls(), ["Set", "Set"]);
}

#[test]
fn a_cut_connection_is_tried_once_more_and_then_given_up() {
    let fake = Fake::start(|_, _| Answer::Cut);
    let queue = client(&fake).queue("t", "n", "q").expect("names");
    let error = queue
        .client()
        .block_on({
            let queue = queue.clone();
            async move { queue.ack("id", &CallOptions::default()).await }
        })
        .expect_err("cut");
    assert_eq!(error.status(), Status::UNAVAILABLE, "{error}");
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert_eq!(fake.calls(), ["ACK", "ACK"]);
}

#[test]
fn writes_and_enqueues_are_never_tried_again() {
    let fake = Fake::start(|_, _| Answer::Cut);
    let client = client(&fake);
    let queue = client.queue("t", "n", "q").expect("names");
    let error =
        client.block_on(async move { queue.enqueue(job(), &CallOptions::default()).await }).expect_err("cut");
    assert_eq!((error.status(), error.outcome()), (Status::UNAVAILABLE, Outcome::Unknown), "{error}");
    let stream = client.stream("t", "n", "s").expect("names");
    let events = vec![Bytes::from_static(&[0x0a, 1, b'x'])];
    let error =
        client.block_on(async move { stream.write(events, &CallOptions::default()).await }).expect_err("cut");
    assert_eq!((error.status(), error.outcome()), (Status::UNAVAILABLE, Outcome::Unknown), "{error}");
    assert_eq!(fake.calls(), ["Enqueue", "WriteEvents"]);
}

#[test]
fn a_refusal_is_not_applied_and_carries_the_servers_words() {
    let fake = Fake::start(|_, _| Answer::Status(Code::PermissionDenied, "no queue.write"));
    let client = client(&fake);
    let queue = client.queue("t", "n", "q").expect("names");
    let error = client
        .block_on(async move { queue.enqueue(job(), &CallOptions::default()).await })
        .expect_err("refused");
    assert_eq!(error.status(), Status::PERMISSION_DENIED);
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert_eq!(error.server_detail(), Some("no queue.write"));
    assert!(error.message().contains("enqueue to t/n/queue/q"), "{error}");
    assert!(!error.is_retryable());
}

#[test]
fn a_nack_at_the_limit_is_dead_lettered_and_no_failure() {
    let fake = Fake::start(|_, _| Answer::Status(Code::FailedPrecondition, "dead-lettered"));
    let client = client(&fake);
    let queue = client.queue("t", "n", "q").expect("names");
    let nacked = client.block_on(async move { queue.nack("id", 0, &CallOptions::default()).await });
    assert_eq!(nacked, Ok(Nacked::DeadLettered));
}

#[test]
fn a_reply_above_the_limit_was_applied() {
    let fake = Fake::start(|_, _| {
        reply(v1::EnqueueResponse { job_id: "x".repeat(4096), ..v1::EnqueueResponse::default() })
    });
    let client = Client::open(ClientOptions {
        endpoint: Some(fake.address.to_string()),
        max_message_bytes: 1024,
        ..ClientOptions::default()
    })
    .expect("open");
    let queue = client.queue("t", "n", "q").expect("names");
    let error = client
        .block_on(async move { queue.enqueue(job(), &CallOptions::default()).await })
        .expect_err("too large");
    assert_eq!((error.status(), error.outcome()), (Status::RESOURCE_EXHAUSTED, Outcome::Applied), "{error}");
}

#[test]
fn another_thread_cancels_a_call() {
    let fake = Fake::start(|_, _| Answer::Silence);
    let client = client(&fake);
    let queue = client.queue("t", "n", "q").expect("names");
    let token = CancelToken::new();
    let options = CallOptions { cancel: Some(token.clone()), ..CallOptions::default() };
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(client.block_on(async move { queue.enqueue(job(), &options).await })));
    wait_for_calls(&fake, 1);
    token.cancel();
    let error = ended.recv_timeout(Duration::from_secs(60)).expect("the call ends").expect_err("cancelled");
    assert_eq!((error.status(), error.outcome()), (Status::CANCELLED, Outcome::Unknown), "{error}");
}

#[test]
fn a_call_that_was_cancelled_before_is_not_sent() {
    let fake = Fake::start(|_, _| Answer::Silence);
    let client = client(&fake);
    let queue = client.queue("t", "n", "q").expect("names");
    let token = CancelToken::new();
    token.cancel();
    let options = CallOptions { cancel: Some(token), ..CallOptions::default() };
    let error = client.block_on(async move { queue.enqueue(job(), &options).await }).expect_err("cancelled");
    assert_eq!((error.status(), error.outcome()), (Status::CANCELLED, Outcome::NotApplied), "{error}");
    assert!(fake.calls().is_empty());
}

#[test]
fn close_ends_waiting_calls_and_refuses_later_ones() {
    let fake = Fake::start(|_, _| Answer::Silence);
    let client = client(&fake);
    let queue = client.queue("t", "n", "q").expect("names");
    let (sender, ended) = mpsc::channel();
    for _ in 0..3 {
        let (client, queue, sender) = (client.clone(), queue.clone(), sender.clone());
        thread::spawn(move || {
            let options = CallOptions { timeout: Timeout::Never, ..CallOptions::default() };
            sender.send(client.block_on(async move { queue.stats(&options).await.map(drop) }))
        });
    }
    wait_for_calls(&fake, 3);
    client.wait(client.close(Timeout::Never)).expect("close");
    for _ in 0..3 {
        let result = ended.recv_timeout(Duration::from_secs(60)).expect("each call ends");
        assert_eq!(result.expect_err("closed").status(), Status::CLOSED);
    }
    let later = client.block_on(async move { queue.stats(&CallOptions::default()).await });
    assert_eq!(later.expect_err("closed").status(), Status::CLOSED);
    client.wait(client.close(Timeout::Never)).expect("closing again is fine");
}

#[test]
fn many_callers_share_one_client() {
    let fake = Fake::start(|_, _| reply(v1::ExistsResponse { exists: true, ..Default::default() }));
    let client = client(&fake);
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            thread::spawn(move || {
                let kv = client.kv("t", "n", "s").expect("names");
                for _ in 0..200 {
                    let kv = kv.clone();
                    let found = client.block_on(async move { kv.exists("k", &CallOptions::default()).await });
                    assert_eq!(found, Ok(true));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("every call succeeds");
    }
    assert_eq!(fake.calls().len(), 1600);
}

/// Returns when the server has seen `count` calls.
pub fn wait_for_calls(fake: &Fake, count: usize) {
    while fake.calls().len() < count {
        thread::yield_now();
    }
}
