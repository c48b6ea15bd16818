//! What a client counts when things go wrong, and the trace that it sends along.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use flowmesh::{
    client::{
        CallOptions, Client, Producer, ProducerEvents, ProducerOptions, Reports, Timeout, TraceContext,
    },
    log::{self, Level, Record},
};
use flowmesh_proto::v1;

use crate::{
    fake::{Answer, Fake, reply},
    outcomes::client,
    producers::message,
};

#[test]
fn a_lost_connection_and_the_repeat_are_counted() {
    let fake = Fake::start(|_, before| match before {
        0 => Answer::Cut,
        _ => reply(v1::ExistsResponse { exists: true, ..Default::default() }),
    });
    let client = client(&fake);
    let kv = client.kv("t", "n", "s").expect("names");
    // The repeat may meet the connection that is being cut; the next call then does not.
    for _ in 0..2 {
        let kv = kv.clone();
        let _ = client.block_on(async move { kv.exists("k", &CallOptions::default()).await });
    }
    let stats = client.stats();
    assert_eq!((stats.calls_started, stats.calls_under_way, stats.calls_retried), (2, 0, 1), "{stats:?}");
    assert_eq!((stats.connections_made, stats.connections_lost), (2, 1), "{stats:?}");
    assert!(stats.bytes_sent > 0 && stats.bytes_received > 0, "{stats:?}");
}

#[test]
fn closing_a_client_loses_no_connection() {
    let fake = Fake::start(|_, _| reply(v1::ExistsResponse { exists: true, ..Default::default() }));
    let client = client(&fake);
    let kv = client.kv("t", "n", "s").expect("names");
    client.block_on(async move { kv.exists("k", &CallOptions::default()).await }).expect("exists");
    client.wait(client.close(flowmesh::client::Timeout::Never)).expect("close");
    let stats = client.stats();
    assert_eq!((stats.connections_made, stats.connections_lost), (1, 0), "{stats:?}");
}

#[test]
fn a_trace_goes_along_with_every_attempt() {
    let fake = Fake::start(|_, before| match before {
        0 => Answer::Status(tonic::Code::Unavailable, "restarting"),
        _ => reply(v1::ExistsResponse { exists: true, ..Default::default() }),
    });
    let client = client(&fake);
    let kv = client.kv("t", "n", "s").expect("names");
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace = TraceContext::new(parent, Some("v=1")).expect("well-formed");
    let options = CallOptions { trace: Some(trace), ..CallOptions::default() };
    client.block_on(async move { kv.exists("k", &options).await }).expect("the second attempt succeeds");
    let metadata = fake.last_metadata();
    assert_eq!(metadata["traceparent"], parent);
    assert_eq!(metadata["tracestate"], "v=1");
    assert_eq!(fake.calls().len(), 2);
}

#[test]
fn what_a_producer_holds_is_counted_until_it_is_reported() {
    let go = Arc::new(AtomicBool::new(false));
    let fake = {
        let go = go.clone();
        Fake::start(move |_, before| {
            while !go.load(Ordering::Acquire) {
                thread::yield_now();
            }
            written(i64::try_from(before).expect("small"))
        })
    };
    struct Held(Client, mpsc::Sender<u64>);
    impl ProducerEvents<()> for Held {
        fn reports(&mut self, _: &Reports<()>) {
            self.1.send(self.0.stats().producer_messages).expect("the test listens");
        }
    }
    let client = client(&fake);
    let stream = Arc::new(client.stream("t", "n", "s").expect("names"));
    let options = ProducerOptions { max_batch_messages: 1, ..ProducerOptions::default() };
    let (held, seen) = mpsc::channel();
    let events = Box::new(Held(client.clone(), held));
    let watched = Producer::of_stream(&stream, options.clone(), Some(events)).expect("open");
    let silent = Producer::of_stream(&stream, options, None).expect("open");
    for producer in [&watched, &silent] {
        for _ in 0..2 {
            producer.send(&message(b"payload"), (), Timeout::Never).expect("there is room");
        }
    }
    let stats = client.stats();
    assert_eq!(stats.producer_messages, 4, "{stats:?}");
    assert!(stats.producer_bytes >= 4 * 7, "{stats:?}");
    go.store(true, Ordering::Release);
    for producer in [&watched, &silent] {
        assert_eq!(producer.close(Timeout::Never), (0, Ok(())));
    }
    let stats = client.stats();
    assert_eq!((stats.producer_messages, stats.producer_bytes), (0, 0), "{stats:?}");
    assert!(seen.try_iter().all(|held| held > 0), "a report counts until its callback has returned");
}

#[test]
fn the_log_tells_of_an_outage_once() {
    let fake = Fake::start(|_, before| match before {
        0 => written(0),
        _ => Answer::Status(tonic::Code::ResourceExhausted, "no space left"),
    });
    let client = client(&fake);
    let told = records(&client);
    let stream = Arc::new(client.stream("t", "n", "s").expect("names"));
    let options = ProducerOptions {
        // Enough for the first message, on the busiest machine.
        delivery_timeout: Some(Duration::from_secs(5)),
        max_batch_messages: 1,
        ..ProducerOptions::default()
    };
    let producer = Producer::of_stream(&stream, options, None).expect("open");
    producer.send(&message(b"secret"), (), Timeout::Never).expect("there is room");
    producer.flush(Timeout::Never).expect("it is stored");
    assert_eq!(*told.lock().expect("records"), [], "there is nothing to tell");
    for _ in 0..3 {
        producer.send(&message(b"secret"), (), Timeout::Never).expect("there is room");
    }
    producer.flush(Timeout::Never).expect_err("messages failed");
    assert_eq!(producer.close(Timeout::Never), (0, Ok(())));
    let told = told.lock().expect("records");
    let expected = [
        (Level::Warn, ["no space left", "trying again"]),
        // Why, depends on whether an attempt is under way when its time ends.
        (Level::Warn, ["gave up 1 messages", ""]),
        (Level::Warn, ["closed", "gave up 3 messages"]),
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for ((level, text), (expected, parts)) in told.iter().zip(expected) {
        assert!(*level == expected && parts.iter().all(|part| text.contains(part)), "{text}");
        assert!(text.contains("t/n/stream/s") && !text.contains("secret"), "{text}");
    }
}

#[test]
fn the_log_tells_when_messages_are_delivered_again() {
    let fake = Fake::start(|_, before| match before {
        0 => Answer::Status(tonic::Code::PermissionDenied, "revoked"),
        n => written(i64::try_from(n).expect("small")),
    });
    let client = client(&fake);
    let stream = Arc::new(client.stream("t", "n", "s").expect("names"));
    let producer = Producer::of_stream(&stream, ProducerOptions::default(), None).expect("open");
    let told = records(&client);
    for _ in 0..3 {
        producer.send(&message(b"secret"), (), Timeout::Never).expect("there is room");
        // Tells of the first, and of nothing else.
        let _ = producer.flush(Timeout::Never);
    }
    let told = told.lock().expect("records");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].0 == Level::Warn && told[0].1.contains("gave up 1 messages"), "{told:?}");
    assert!(told[1].0 == Level::Info && told[1].1.contains("delivers again, gave up 1 messages"), "{told:?}");
}

type Records = Arc<Mutex<Vec<(Level, String)>>>;

/// What the log tells of the producers of `client` from now on. There is one callback for all tests.
fn records(client: &Client) -> Records {
    static LISTENERS: Mutex<Vec<(u64, Records)>> = Mutex::new(Vec::new());
    let records = Records::default();
    LISTENERS.lock().expect("listeners").push((client.id(), records.clone()));
    let tell = |record: &Record<'_>| {
        let listeners = LISTENERS.lock().expect("listeners");
        if let Some((_, records)) = listeners.iter().find(|(id, _)| *id == record.client)
            && record.target == "producer"
        {
            records.lock().expect("records").push((record.level, record.text.to_owned()));
        }
    };
    log::set_callback(Some((Level::Info, Box::new(tell))));
    records
}

fn written(offset: i64) -> Answer {
    reply(v1::WriteEventsResponse { offsets: vec![offset], ..Default::default() })
}
