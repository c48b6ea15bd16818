//! Following a stream over everything that can go wrong on the way.

use bytes::{Bytes, BytesMut};
use flowmesh::client::{CallOptions, Progress, Status, SubscribeOptions, Subscription, SubscriptionState};
use flowmesh_proto::{
    v1,
    wire::{EventView, MessageHead, MessageView, SubscribeResponse, encode_message},
};
use prost::Message;
use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};
use tonic::Code;

use crate::{
    fake::{Answer, Fake, reply},
    outcomes::client,
};

fn message(offset: i64) -> Bytes {
    let head =
        MessageHead { id: "m", resource_path: "t/n/stream/s", offset, created_at: 1, schema_version: 0 };
    let mut wire = BytesMut::new();
    let event = EventView::parse(&[0x0a, 1, b'x']).expect("an event");
    encode_message(&mut wire, &head, &event);
    wire.freeze()
}

fn response(offset: i64) -> Bytes {
    SubscribeResponse { message: Some(message(offset)), status: None }.encode_to_vec().into()
}

fn offset_of(message: &Bytes) -> i64 {
    MessageView::parse(message).expect("a message").offset
}

fn subscribe(fake: &Fake, start_offset: i64) -> Subscription {
    let stream = client(fake).stream("t", "n", "s").expect("names");
    let options = SubscribeOptions { consumer_group: "g".into(), start_offset, ..Default::default() };
    stream.subscribe(options).expect("subscribe")
}

/// Pulls until `count` messages were delivered.
fn pull(subscription: &Subscription, count: usize) -> Vec<i64> {
    let client = subscription.stream().client().clone();
    let (mut offsets, mut batch) = (Vec::new(), Vec::new());
    while offsets.len() < count {
        match client.wait(subscription.next_batch(&mut batch)) {
            Ok(Progress::Messages) => {
                assert!(!batch.is_empty());
                offsets.extend(batch.iter().map(offset_of));
            }
            Ok(_) => assert!(batch.is_empty()),
            Err(e) => panic!("after {offsets:?}: {e}"),
        }
    }
    offsets
}

fn end(subscription: &Subscription) -> flowmesh::client::Error {
    let client = subscription.stream().client().clone();
    let mut batch = Vec::new();
    loop {
        if let Err(e) = client.wait(subscription.next_batch(&mut batch)) {
            return e;
        }
    }
}

#[test]
fn a_lost_connection_is_resumed_after_the_last_message() {
    // Odd connections deliver three messages and end; even ones are refused.
    let next = AtomicI64::new(0);
    let fake = Fake::start(move |method, before| match (method, before % 2) {
        ("GetOffset", _) => reply(v1::GetOffsetResponse { offset: -1, ..Default::default() }),
        (_, 0) => Answer::Status(Code::Unavailable, "restarting"),
        _ => {
            let first = next.fetch_add(3, Ordering::SeqCst);
            Answer::MessagesThenStatus((first..first + 3).map(response).collect(), Code::Unavailable)
        }
    });
    let subscription = subscribe(&fake, -1);
    let client = subscription.stream().client().clone();
    let (mut offsets, mut connected, mut batch) = (Vec::new(), Vec::new(), Vec::new());
    while offsets.len() < 9 {
        match client.wait(subscription.next_batch(&mut batch)).expect("it goes on") {
            Progress::Messages => offsets.extend(batch.iter().map(offset_of)),
            Progress::Connected(from) => connected.push(from),
            Progress::Lost(error) => assert_eq!(error.status(), Status::UNAVAILABLE),
            Progress::CommitFailed(error) => panic!("nothing is committed: {error}"),
        }
    }
    assert_eq!(offsets, Vec::from_iter(0..9));
    assert_eq!(connected, [0, 3, 6]);
}

#[test]
fn the_start_is_made_literal_before_the_first_connection() {
    let fake = Fake::start(|method, _| match method {
        "GetLatestOffset" => reply(v1::GetLatestOffsetResponse { offset: 41, ..Default::default() }),
        _ => Answer::Messages(vec![response(42)]),
    });
    let subscription = subscribe(&fake, -2);
    let client = subscription.stream().client().clone();
    let mut batch = Vec::new();
    assert_eq!(client.wait(subscription.next_batch(&mut batch)), Ok(Progress::Connected(42)));
    assert_eq!(pull(&subscription, 1), [42]);
}

#[test]
fn a_stream_that_does_not_exist_yet_starts_at_0() {
    let fake = Fake::start(|method, _| match method {
        "GetOffset" => Answer::Status(Code::NotFound, "no stream"),
        _ => Answer::Messages(vec![response(0)]),
    });
    assert_eq!(pull(&subscribe(&fake, -1), 1), [0]);
}

#[test]
fn messages_before_an_in_band_error_are_delivered_and_the_error_ends_it() {
    let status = v1::Status { code: 13, message: "read failed".into(), details: String::new() };
    let in_band = SubscribeResponse { message: None, status: Some(status) }.encode_to_vec().into();
    let fake = Fake::start(move |_, _| Answer::Messages(vec![response(5), Bytes::clone(&in_band)]));
    let subscription = subscribe(&fake, 5);
    assert_eq!(pull(&subscription, 1), [5]);
    let error = end(&subscription);
    assert_eq!(error.status(), Status::INTERNAL, "{error}");
    assert_eq!(error.server_detail(), Some("read failed"));
    assert_eq!(end(&subscription), error, "an ended subscription stays so");
}

#[test]
fn a_refusal_ends_it() {
    let fake = Fake::start(|_, _| Answer::Status(Code::PermissionDenied, "not yours"));
    let error = end(&subscribe(&fake, 0));
    assert_eq!(error.status(), Status::PERMISSION_DENIED, "{error}");
    assert_eq!(fake.calls(), ["Subscribe"]);
}

#[test]
fn a_stop_ends_it_while_it_waits() {
    let fake = Fake::start(|_, _| Answer::Messages(vec![]));
    let subscription = subscribe(&fake, 0);
    let waiting = std::thread::spawn({
        let subscription = subscription.clone();
        move || end(&subscription)
    });
    crate::outcomes::wait_for_calls(&fake, 1);
    subscription.stop();
    assert_eq!(waiting.join().expect("it ends").status(), Status::CLOSED);
}

#[test]
fn closing_the_client_ends_it() {
    let fake = Fake::start(|_, _| Answer::Messages(vec![]));
    let subscription = subscribe(&fake, 0);
    let client = subscription.stream().client().clone();
    let waiting = std::thread::spawn(move || end(&subscription));
    crate::outcomes::wait_for_calls(&fake, 1);
    client.wait(client.close(flowmesh::client::Timeout::Never)).expect("close");
    assert_eq!(waiting.join().expect("it ends").status(), Status::CLOSED);
}

#[test]
fn a_batch_keeps_its_limits() {
    let fake = Fake::start(|_, _| Answer::Messages((0..10).map(response).collect()));
    let stream = client(&fake).stream("t", "n", "s").expect("names");
    let options = SubscribeOptions {
        consumer_group: "g".into(),
        start_offset: 0,
        batch_messages: 3,
        ..SubscribeOptions::default()
    };
    let subscription = stream.subscribe(options).expect("subscribe");
    let (mut offsets, mut batch) = (Vec::new(), Vec::new());
    while offsets.len() < 10 {
        if stream.client().wait(subscription.next_batch(&mut batch)).expect("it goes on")
            == Progress::Messages
        {
            assert!((1..=3).contains(&batch.len()));
            offsets.extend(batch.iter().map(offset_of));
        }
    }
    assert_eq!(offsets, Vec::from_iter(0..10));
}

/// A subscription with these options, from offset 0.
fn subscribe_with(fake: &Fake, change: impl FnOnce(&mut SubscribeOptions)) -> Subscription {
    let stream = client(fake).stream("t", "n", "s").expect("names");
    let mut options = SubscribeOptions { consumer_group: "g".into(), start_offset: 0, ..Default::default() };
    change(&mut options);
    stream.subscribe(options).expect("subscribe")
}

/// Waits until `condition` holds, for so long as no test should take.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < until, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn what_nobody_takes_is_bounded() {
    // Each message weighs some 40 bytes and 32 for its place.
    let fake = Fake::start(|_, _| Answer::Messages((0..2000).map(response).collect()));
    let subscription = subscribe_with(&fake, |o| {
        o.max_prefetch_bytes = 3000;
        o.batch_messages = 10;
    });
    let client = subscription.stream().client().clone();
    assert_eq!(pull(&subscription, 10), Vec::from_iter(0..10));
    eventually("it is filled again", || client.stats().prefetched_bytes >= 2000);
    assert!(client.stats().prefetched_bytes <= 3000 + 100);
    assert_eq!(pull(&subscription, 1990), Vec::from_iter(10..2000));
    eventually("nothing is left", || client.stats().prefetched_bytes == 0);
    assert_eq!(client.stats().messages_delivered, 2000);
}

#[test]
fn a_paused_one_keeps_everything_for_later() {
    let fake = Fake::start(|_, _| Answer::Messages((0..20).map(response).collect()));
    let subscription = subscribe_with(&fake, |o| o.batch_messages = 5);
    let client = subscription.stream().client().clone();
    assert_eq!(pull(&subscription, 5), Vec::from_iter(0..5));
    subscription.pause().expect("pause");
    let waiting = std::thread::spawn({
        let subscription = subscription.clone();
        move || pull(&subscription, 15)
    });
    eventually("the rest waits", || client.stats().prefetched_bytes > 0);
    assert_eq!(subscription.position(), Some(5));
    assert_eq!(client.stats().messages_delivered, 5);
    subscription.resume().expect("resume");
    assert_eq!(waiting.join().expect("it goes on"), Vec::from_iter(5..20));
}

#[test]
fn after_a_seek_nothing_older_comes_whoever_asks() {
    // Every connection begins where it was asked to and never ends; the third is that of the seek.
    let fake = Fake::start(|_, before| {
        let first = if before == 0 { 0 } else { 500 };
        Answer::Messages((first..first + 300).map(response).collect())
    });
    let subscription = subscribe_with(&fake, |o| o.batch_messages = 7);
    let client = subscription.stream().client().clone();
    assert_eq!(pull(&subscription, 7), Vec::from_iter(0..7));
    client.wait(subscription.seek(500, false, &CallOptions::default())).expect("seek");
    assert_eq!(subscription.position(), Some(500));
    assert_eq!(pull(&subscription, 300), Vec::from_iter(500..800));
    assert_eq!(fake.calls(), ["Subscribe", "Subscribe"]);
}

#[test]
fn a_seek_ends_a_wait_for_headers_that_do_not_come() {
    let fake = Fake::start(|_, before| match before {
        0 => Answer::Silence,
        _ => Answer::Messages(vec![response(9)]),
    });
    let subscription = subscribe_with(&fake, |_| ());
    let client = subscription.stream().client().clone();
    let waiting = std::thread::spawn({
        let subscription = subscription.clone();
        move || pull(&subscription, 1)
    });
    crate::outcomes::wait_for_calls(&fake, 1);
    assert_eq!(subscription.state().0, SubscriptionState::Connecting);
    client.wait(subscription.seek(9, false, &CallOptions::default())).expect("seek");
    assert_eq!(waiting.join().expect("it goes on"), [9]);
    assert_eq!(subscription.state().0, SubscriptionState::Connected);
}

#[test]
fn a_seek_of_an_ended_one_gives_its_end() {
    let fake = Fake::start(|_, _| Answer::Status(Code::PermissionDenied, "not yours"));
    let subscription = subscribe_with(&fake, |_| ());
    let client = subscription.stream().client().clone();
    let error = end(&subscription);
    assert_eq!(client.wait(subscription.seek(3, false, &CallOptions::default())), Err(error.clone()));
    assert_eq!(subscription.state(), (SubscriptionState::Ended, Some(error)));
}

#[test]
fn a_lost_connection_shows_in_the_state_until_it_is_back() {
    let fake = Fake::start(|_, before| match before {
        0 => Answer::MessagesThenStatus(vec![response(0)], Code::Unavailable),
        _ => Answer::Silence,
    });
    let subscription = subscribe_with(&fake, |_| ());
    assert_eq!(pull(&subscription, 1), [0]);
    eventually("it is lost", || subscription.state().0 == SubscriptionState::Lost);
    let reason = subscription.state().1.map(|e| e.status());
    assert_eq!(reason, Some(Status::UNAVAILABLE));
}

#[test]
fn many_that_wait_share_what_comes() {
    let fake = Fake::start(|_, _| Answer::Messages((0..100).map(response).collect()));
    let subscription = subscribe_with(&fake, |o| o.batch_messages = 3);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let subscription = subscription.clone();
            std::thread::spawn(move || {
                let client = subscription.stream().client().clone();
                let (mut offsets, mut batch) = (Vec::new(), Vec::new());
                while client.wait(subscription.next_batch(&mut batch)).is_ok() {
                    offsets.extend(batch.iter().map(offset_of));
                    if offsets.last() == Some(&99) {
                        subscription.stop();
                    }
                }
                offsets
            })
        })
        .collect();
    let mut all = Vec::new();
    for thread in threads {
        let offsets = thread.join().expect("it ends");
        assert!(offsets.is_sorted());
        all.extend(offsets);
    }
    all.sort_unstable();
    assert_eq!(all, Vec::from_iter(0..100));
}
