//! Producers: every message reported once and in order, what is repeated, what the limits do, and
//! how a producer ends.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use flowmesh::client::{
    CallOptions, Client, NewMessage, Outcome, Producer, ProducerEvents, ProducerOptions, Queue, Reports,
    Status, Stream, Timeout,
};
use flowmesh_fault_proxy::Proxy;
use flowmesh_proto::{
    v1,
    wire::{Header, MessageView},
};
use tonic::Code;

use crate::{
    fake::{Answer, Fake, reply},
    open,
    outcomes::{client, wait_for_calls},
    servers::serve,
};

const SOON: Timeout = Timeout::After(Duration::from_secs(60));
const NOW: Timeout = Timeout::After(Duration::ZERO);

/// What one report said: tag, position, status, outcome, attempts.
type Seen = (usize, Result<i64, (Status, Outcome)>, u32);

struct Recorder {
    seen: Sender<Seen>,
    writable: Sender<()>,
}

impl ProducerEvents<usize> for Recorder {
    fn reports(&mut self, reports: &Reports<usize>) {
        for report in reports.iter() {
            let result = report.result.map(|r| r.position).map_err(|e| (e.status(), e.outcome()));
            // A test that has seen enough does not listen any more.
            let _ = self.seen.send((*report.tag, result, report.attempts));
        }
    }

    fn writable(&mut self) {
        let _ = self.writable.send(());
    }
}

/// Where the events of a producer go whose messages have numbers.
type Events = Option<Box<dyn ProducerEvents<usize>>>;

fn recorder() -> (Events, Receiver<Seen>, Receiver<()>) {
    let (seen, reports) = mpsc::channel();
    let (writable, room) = mpsc::channel();
    (Some(Box::new(Recorder { seen, writable })), reports, room)
}

fn stream(client: &Client) -> Arc<Stream> {
    Arc::new(client.stream("t", "n", "s").expect("names"))
}

fn queue(client: &Client) -> Arc<Queue> {
    Arc::new(client.queue("t", "n", "q").expect("names"))
}

pub fn message(payload: &[u8]) -> NewMessage<'_, std::iter::Empty<Header<'static>>> {
    NewMessage { payload, headers: std::iter::empty(), delay_ms: 0 }
}

fn send(producer: &Producer<usize>, number: usize) {
    producer.send(&message(number.to_string().as_bytes()), number, SOON).expect("it is accepted");
}

/// The payloads of a stream, read page by page.
fn stored(stream: &Arc<Stream>) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let (stream, from) = (stream.clone(), i64::try_from(all.len()).expect("small"));
        let client = stream.client().clone();
        let page = client
            .block_on(async move { stream.read(0, from, 1000, &CallOptions::default()).await })
            .expect("it can be read");
        if page.is_empty() {
            return all;
        }
        let text = |m: &Bytes| {
            let view = MessageView::parse(m).expect("a message");
            String::from_utf8(view.payload.to_vec()).expect("UTF-8")
        };
        all.extend(page.iter().map(text));
    }
}

/// The offsets for a write, by the number of events that the fake server counts in it.
fn written(first: i64, count: i64) -> Answer {
    reply(v1::WriteEventsResponse { offsets: (first..first + count).collect(), ..Default::default() })
}

#[test]
fn every_message_is_stored_in_order_and_reported_with_its_offset() {
    const COUNT: usize = 30_000;
    let client = open("embedded:");
    let stream = stream(&client);
    let (events, reports, _room) = recorder();
    let options = ProducerOptions { max_batch_messages: 777, ..ProducerOptions::default() };
    let producer = Producer::of_stream(&stream, options, events).expect("open");
    for number in 0..COUNT {
        send(&producer, number);
    }
    producer.flush(SOON).expect("everything is delivered");
    let seen: Vec<_> = reports.try_iter().collect();
    assert_eq!(seen.len(), COUNT);
    for (number, (tag, position, attempts)) in seen.into_iter().enumerate() {
        assert_eq!((tag, position, attempts), (number, Ok(i64::try_from(number).expect("small")), 1));
    }
    let payloads = stored(&stream);
    assert_eq!(payloads.len(), COUNT);
    assert!(payloads.iter().enumerate().all(|(number, payload)| *payload == number.to_string()));
    assert_eq!(producer.close(SOON), (0, Ok(())));
    assert_eq!(reports.recv(), Err(mpsc::RecvError), "the callbacks are released");
}

#[test]
fn threads_share_a_producer_each_in_its_order() {
    const THREADS: usize = 4;
    const EACH: usize = 2_000;
    let client = open("embedded:");
    let stream = stream(&client);
    let (events, reports, _room) = recorder();
    let options = ProducerOptions { max_buffered_messages: 100, ..ProducerOptions::default() };
    let producer = Producer::of_stream(&stream, options, events).expect("open");
    thread::scope(|scope| {
        for first in 0..THREADS {
            let producer = &producer;
            scope.spawn(move || (0..EACH).for_each(|n| send(producer, first * EACH + n)));
        }
    });
    assert_eq!(producer.close(SOON), (0, Ok(())));
    let order: Vec<usize> = reports.iter().map(|(tag, ..)| tag).collect();
    let payloads: Vec<usize> =
        stored(&stream).iter().map(|payload| payload.parse().expect("a number")).collect();
    assert_eq!(order, payloads, "reports come in the order of the offsets");
    for first in 0..THREADS {
        let own: Vec<_> = order.iter().copied().filter(|n| n / EACH == first).collect();
        assert_eq!(own, (first * EACH..(first + 1) * EACH).collect::<Vec<_>>());
    }
}

#[test]
fn jobs_are_reported_in_order_with_number_and_id() {
    const COUNT: usize = 500;
    for max_in_flight in [1, 64] {
        let client = open("embedded:");
        let queue = queue(&client);
        let ids = Arc::new(Mutex::new(Vec::new()));
        struct Ids(Arc<Mutex<Vec<(usize, i64, String)>>>);
        impl ProducerEvents<usize> for Ids {
            fn reports(&mut self, reports: &Reports<usize>) {
                self.0.lock().expect("ids").extend(reports.iter().map(|report| {
                    let receipt = report.result.expect("it is stored");
                    (*report.tag, receipt.position, receipt.job_id.expect("jobs have ids").to_owned())
                }));
            }
        }
        let options = ProducerOptions { max_in_flight, ..ProducerOptions::default() };
        let producer = Producer::of_queue(&queue, options, Some(Box::new(Ids(ids.clone())))).expect("open");
        for number in 0..COUNT {
            send(&producer, number);
        }
        assert_eq!(producer.close(SOON), (0, Ok(())));
        let ids = ids.lock().expect("ids");
        assert!(ids.iter().map(|(tag, ..)| *tag).eq(0..COUNT));
        let mut numbers: Vec<_> = ids.iter().map(|(_, seq, _)| *seq).collect();
        if max_in_flight > 1 {
            numbers.sort_unstable();
        }
        assert!(numbers.into_iter().eq(0..i64::try_from(COUNT).expect("small")));
        assert!(ids.iter().all(|(.., id)| id.len() == 32));
    }
}

#[test]
fn headers_and_delays_arrive() {
    let client = Client::open(flowmesh::client::ClientOptions {
        endpoint: Some("embedded:".into()),
        test_clock: true,
        ..Default::default()
    })
    .expect("open");
    let queue = queue(&client);
    let producer = Producer::of_queue(&queue, ProducerOptions::default(), None).expect("open");
    let headers = [Header { key: "k", value: "v" }];
    let late = NewMessage { payload: b"late", headers: headers.into_iter(), delay_ms: 4001 };
    producer.send(&late, (), SOON).expect("accepted");
    producer.flush(SOON).expect("delivered");
    let take = |queue: &Arc<Queue>| {
        let (client, queue) = (queue.client().clone(), queue.clone());
        client.block_on(async move { queue.receive(9, Default::default(), &CallOptions::default()).await })
    };
    assert_eq!(take(&queue).expect("receive"), []);
    client.advance_test_clock(Duration::from_secs(5)).expect("a test clock");
    let jobs = take(&queue).expect("receive");
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].headers.get("k").map(String::as_str), Some("v"));
    assert_eq!(producer.close(SOON), (0, Ok(())));
}

#[test]
fn what_no_server_would_take_is_refused_at_once() {
    let client = open("embedded:");
    let (events, reports, _room) = recorder();
    let producer = Producer::of_stream(&stream(&client), ProducerOptions::default(), events).expect("open");
    let refused = |payload: &[u8], delay_ms, what: &str| {
        let message = NewMessage { payload, headers: std::iter::empty(), delay_ms };
        let error = producer.send(&message, 0, SOON).expect_err(what);
        assert_eq!(error.status(), Status::INVALID_ARGUMENT);
        assert!(error.message().contains(what), "{error}");
    };
    refused(b"", 0, "payload must not be empty");
    refused(b"x", 1000, "a stream has no delays");
    refused(b"x", -1, "delay_ms must be 0 to");
    refused(&vec![7; 4 << 20], 0, "must fit into a request of 4194304 bytes");
    let mut largest = vec![7; (4 << 20) - 64];
    producer.send(&message(&largest), 1, SOON).expect("it fits");
    largest.truncate(1);
    producer.send(&message(&largest), 2, SOON).expect("it fits");
    assert_eq!(producer.close(SOON), (0, Ok(())));
    assert_eq!(
        reports.iter().map(|(tag, result, _)| (tag, result)).collect::<Vec<_>>(),
        [(1, Ok(0)), (2, Ok(1))]
    );
}

#[test]
fn without_callbacks_a_flush_tells_of_failures_once() {
    let fake = Fake::start(|_, before| match before {
        0 => Answer::Status(Code::PermissionDenied, "no stream.write"),
        _ => written(0, 1),
    });
    let client = client(&fake);
    let producer = Producer::of_stream(&stream(&client), ProducerOptions::default(), None).expect("open");
    send(&producer, 1);
    let error = producer.flush(SOON).expect_err("a message failed");
    assert_eq!(error.status(), Status::ABORTED);
    assert!(
        error.message().contains("1 messages failed") && error.message().contains("no stream.write"),
        "{error}"
    );
    send(&producer, 2);
    producer.flush(SOON).expect("nothing failed since");
    assert_eq!(producer.close(SOON), (0, Ok(())));
}

#[test]
fn a_request_that_may_be_stored_is_reported_and_not_repeated() {
    let fake = Fake::start(|_, before| if before == 0 { Answer::Cut } else { written(7, 1) });
    let client = client(&fake);
    let (events, reports, _room) = recorder();
    let producer = Producer::of_stream(&stream(&client), ProducerOptions::default(), events).expect("open");
    send(&producer, 1);
    producer.flush(SOON).expect("reported");
    send(&producer, 2);
    producer.flush(SOON).expect("reported");
    let seen: Vec<_> = reports.try_iter().collect();
    assert_eq!(seen[0], (1, Err((Status::UNAVAILABLE, Outcome::Unknown)), 1));
    // The second may have met the connection that was being cut.
    assert!(matches!(seen[1], (2, Ok(7), 1 | 2)), "{seen:?}");
}

#[test]
fn retry_unknown_repeats_until_it_succeeds() {
    let fake = Fake::start(|_, before| if before < 2 { Answer::Cut } else { written(7, 1) });
    let client = client(&fake);
    let (events, reports, _room) = recorder();
    let options = ProducerOptions { retry_unknown: true, ..ProducerOptions::default() };
    let producer = Producer::of_stream(&stream(&client), options, events).expect("open");
    send(&producer, 1);
    producer.flush(SOON).expect("reported");
    let (tag, result, attempts) = reports.recv().expect("a report");
    assert_eq!((tag, result), (1, Ok(7)));
    assert!(attempts >= 3, "{attempts}");
}

#[test]
fn a_refusal_that_may_pass_is_repeated_in_its_place() {
    let fake = Fake::start(|_, before| match before {
        0..3 => Answer::Status(Code::ResourceExhausted, "no space left"),
        n => written(i64::try_from(n).expect("small"), 1),
    });
    let client = client(&fake);
    let (events, reports, _room) = recorder();
    let options = ProducerOptions { max_batch_messages: 1, ..ProducerOptions::default() };
    let producer = Producer::of_stream(&stream(&client), options, events).expect("open");
    for number in 0..3 {
        send(&producer, number);
    }
    producer.flush(SOON).expect("reported");
    assert_eq!(reports.try_iter().collect::<Vec<_>>(), [(0, Ok(3), 4), (1, Ok(4), 1), (2, Ok(5), 1)]);
}

#[test]
fn the_delivery_timeout_ends_the_attempts() {
    let fake = Fake::start(|_, _| Answer::Status(Code::ResourceExhausted, "no space left"));
    let client = client(&fake);
    let (events, reports, _room) = recorder();
    let options = ProducerOptions {
        delivery_timeout: Some(Duration::from_secs(2)),
        max_batch_messages: 1,
        ..ProducerOptions::default()
    };
    let producer = Producer::of_stream(&stream(&client), options, events).expect("open");
    send(&producer, 1);
    send(&producer, 2);
    producer.flush(SOON).expect("reported");
    let seen: Vec<_> = reports.try_iter().collect();
    let given_up = |seen: &Seen| match seen.1 {
        Err((_, Outcome::NotApplied)) => true,
        // The time has ended in the middle of the last attempt.
        result => result == Err((Status::DEADLINE_EXCEEDED, Outcome::Unknown)),
    };
    assert!(seen.len() == 2 && seen.iter().all(given_up), "{seen:?}");
    assert!(seen[0].2 >= 2, "{seen:?}");
}

#[test]
fn of_a_refused_request_only_the_bad_messages_fail() {
    // Refuses what holds "bad"; each request is one reply further on.
    let stored = Arc::new(Mutex::new(0_i64));
    let fake = {
        let stored = stored.clone();
        Fake::start_with_requests(move |_, request, before| {
            // The first makes the others gather.
            if before == 0 {
                thread::sleep(Duration::from_millis(100));
            }
            let request = <v1::WriteEventsRequest as prost::Message>::decode(&request[5..]).expect("a write");
            if request.events.iter().any(|event| event.ends_with(b"bad")) {
                return Answer::Status(Code::InvalidArgument, "bad payload");
            }
            let mut stored = stored.lock().expect("stored");
            let first = *stored;
            *stored += i64::try_from(request.events.len()).expect("small");
            written(first, *stored - first)
        })
    };
    let client = client(&fake);
    let (events, reports, _room) = recorder();
    let producer = Producer::of_stream(&stream(&client), ProducerOptions::default(), events).expect("open");
    for number in 0..40 {
        let bad = number == 17 || number == 31;
        producer.send(&message(if bad { b"bad" } else { b"good" }), number, SOON).expect("accepted");
    }
    producer.flush(SOON).expect("reported");
    let mut next = 0;
    for (number, (tag, result, _)) in reports.try_iter().enumerate() {
        assert_eq!(tag, number);
        if number == 17 || number == 31 {
            assert_eq!(result, Err((Status::INVALID_ARGUMENT, Outcome::NotApplied)));
        } else {
            assert_eq!(result, Ok(next));
            next += 1;
        }
    }
    assert_eq!(next, 38);
}

#[test]
fn stop_on_error_leaves_no_gap() {
    let fake = Fake::start(|_, before| match before {
        0 => written(0, 1),
        1 => Answer::Status(Code::PermissionDenied, "revoked"),
        _ => written(1, 1),
    });
    let client = client(&fake);
    let (events, reports, _room) = recorder();
    let options =
        ProducerOptions { stop_on_error: true, max_batch_messages: 1, ..ProducerOptions::default() };
    let producer = Producer::of_stream(&stream(&client), options, events).expect("open");
    let mut accepted = 0;
    let refused = loop {
        match producer.send(&message(b"x"), accepted, SOON) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.status(), Status::ABORTED);
    assert!(refused.message().contains("revoked"), "{refused}");
    assert_eq!(producer.close(SOON), (0, Ok(())));
    let seen: Vec<_> = reports.iter().collect();
    assert_eq!(seen.len(), accepted);
    assert_eq!(seen[0].1, Ok(0));
    assert_eq!(seen[1].1, Err((Status::PERMISSION_DENIED, Outcome::NotApplied)));
    let rest = |s: &Seen| s.1 == Err((Status::ABORTED, Outcome::NotApplied)) && s.2 == 0;
    assert!(seen[2..].iter().all(rest), "{seen:?}");
    assert_eq!(fake.calls().len(), 2);
}

#[test]
fn a_full_buffer_refuses_at_once_and_says_when_there_is_room() {
    let go = Arc::new(AtomicBool::new(false));
    let fake = {
        let go = go.clone();
        Fake::start(move |_, _| {
            while !go.load(Ordering::Acquire) {
                thread::yield_now();
            }
            written(0, 1)
        })
    };
    let client = client(&fake);
    let (events, reports, room) = recorder();
    let options =
        ProducerOptions { max_buffered_messages: 4, max_batch_messages: 1, ..ProducerOptions::default() };
    let producer = Producer::of_stream(&stream(&client), options, events).expect("open");
    for number in 0..4 {
        producer.send(&message(b"x"), number, NOW).expect("there is room");
    }
    for wait in [NOW, NOW, Timeout::After(Duration::from_millis(20))] {
        let error = producer.send(&message(b"x"), 9, wait).expect_err("it is full");
        assert_eq!((error.status(), error.outcome()), (Status::QUEUE_FULL, Outcome::NotApplied));
        assert!(error.is_retryable());
    }
    assert!(room.try_recv().is_err());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| producer.send(&message(b"x"), 4, SOON));
        go.store(true, Ordering::Release);
        waiting.join().expect("no panic").expect("room comes");
    });
    room.recv_timeout(Duration::from_secs(60)).expect("it says that there is room");
    assert_eq!(producer.close(SOON), (0, Ok(())));
    assert!(room.recv().is_err(), "once for all refusals");
    assert!(reports.iter().map(|(tag, ..)| tag).eq(0..5));
}

#[test]
fn reports_that_nobody_takes_hold_up_the_sender() {
    let client = open("embedded:");
    let stream = stream(&client);
    let (release, blocked) = mpsc::channel::<()>();
    struct Slow(Receiver<()>, Arc<AtomicUsize>);
    impl ProducerEvents<usize> for Slow {
        fn reports(&mut self, reports: &Reports<usize>) {
            // Ends with an error when the test lets go.
            let _ = self.0.recv();
            self.1.fetch_add(reports.len(), Ordering::AcqRel);
        }
    }
    let reported = Arc::new(AtomicUsize::new(0));
    let options =
        ProducerOptions { max_buffered_messages: 10, max_batch_messages: 1, ..ProducerOptions::default() };
    let events = Slow(blocked, reported.clone());
    let producer = Producer::of_stream(&stream, options, Some(Box::new(events))).expect("open");
    let mut accepted = 0;
    while producer.send(&message(b"x"), accepted, Timeout::After(Duration::from_millis(300))).is_ok() {
        accepted += 1;
    }
    // As many as wait for their callback, and as many as the buffer holds.
    assert!((10..=21).contains(&accepted), "{accepted}");
    drop(release);
    assert_eq!(producer.close(SOON), (0, Ok(())));
    assert_eq!(reported.load(Ordering::Acquire), accepted);
}

#[test]
fn close_gives_up_what_is_unsent_and_reports_it() {
    let fake = Fake::start(|_, _| Answer::Silence);
    let client = client(&fake);
    let (events, reports, _room) = recorder();
    let options = ProducerOptions { max_batch_messages: 1, ..ProducerOptions::default() };
    let producer = Producer::of_stream(&stream(&client), options, events).expect("open");
    for number in 0..3 {
        send(&producer, number);
    }
    wait_for_calls(&fake, 1);
    let (unsent, closed) = producer.close(Timeout::After(Duration::from_millis(50)));
    assert_eq!((unsent, closed.map_err(|e| e.status())), (3, Err(Status::DEADLINE_EXCEEDED)));
    assert_eq!(producer.close(SOON), (3, Ok(())));
    let seen: Vec<_> = reports.iter().collect();
    assert_eq!(
        seen,
        [
            (0, Err((Status::CLOSED, Outcome::Unknown)), 1),
            (1, Err((Status::CLOSED, Outcome::NotApplied)), 0),
            (2, Err((Status::CLOSED, Outcome::NotApplied)), 0),
        ]
    );
    let later = producer.send(&message(b"x"), 9, SOON).expect_err("closed");
    assert_eq!(later.status(), Status::CLOSED);
}

#[test]
fn dropping_a_producer_reports_everything() {
    let fake = Fake::start(|_, _| Answer::Silence);
    let client = client(&fake);
    for of_queue in [false, true] {
        let (events, reports, _room) = recorder();
        let options = ProducerOptions::default();
        let producer = match of_queue {
            true => Producer::of_queue(&queue(&client), options, events),
            false => Producer::of_stream(&stream(&client), options, events),
        }
        .expect("open");
        for number in 0..100 {
            send(&producer, number);
        }
        drop(producer);
        let tags = reports.iter().map(|(tag, result, _)| {
            assert_eq!(result.map_err(|(status, _)| status), Err(Status::CLOSED));
            tag
        });
        assert!(tags.eq(0..100));
    }
}

#[test]
fn closing_the_client_reports_everything_and_wakes_who_waits() {
    let fake = Fake::start(|_, _| Answer::Silence);
    let client = client(&fake);
    let (events, reports, _room) = recorder();
    let options = ProducerOptions { max_buffered_messages: 5, ..ProducerOptions::default() };
    let producer = Producer::of_stream(&stream(&client), options, events).expect("open");
    for number in 0..5 {
        send(&producer, number);
    }
    wait_for_calls(&fake, 1);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| producer.send(&message(b"x"), 5, Timeout::Never));
        client.wait(client.close(SOON)).expect("close");
        let result = waiting.join().expect("no panic");
        assert!(result.as_ref().map_err(|e| e.status()).is_err_and(|s| s == Status::CLOSED), "{result:?}");
    });
    let tags: Vec<_> =
        (0..5).map(|_| reports.recv_timeout(Duration::from_secs(60)).expect("a report")).collect();
    assert!(tags.iter().map(|(tag, ..)| *tag).eq(0..5), "{tags:?}");
    assert!(tags.iter().all(|(_, result, _)| result.is_err()));
    assert_eq!(producer.close(SOON), (0, Ok(())));
}

#[test]
fn a_callback_may_send_and_close() {
    struct Loops(Arc<Mutex<Option<Producer<usize>>>>, Sender<(usize, bool)>);
    impl ProducerEvents<usize> for Loops {
        fn reports(&mut self, reports: &Reports<usize>) {
            let producer = self.0.lock().expect("a producer");
            let Some(producer) = &*producer else { return };
            for report in reports.iter() {
                let flushed = producer.flush(SOON).map_err(|e| e.status());
                assert_eq!(flushed, Err(Status::FAILED_PRECONDITION));
                let next = report.tag + 1;
                if next < 50 {
                    producer.send(&message(b"x"), next, Timeout::Never).expect("accepted");
                } else {
                    assert_eq!(producer.close(Timeout::Never), (0, Ok(())), "it returns at once");
                }
                let _ = self.1.send((*report.tag, report.result.is_ok()));
            }
        }
    }
    let client = open("embedded:");
    let (seen, reports) = mpsc::channel();
    let place = Arc::new(Mutex::new(None));
    let events = Loops(place.clone(), seen);
    let producer = Producer::of_stream(&stream(&client), ProducerOptions::default(), Some(Box::new(events)))
        .expect("open");
    *place.lock().expect("place") = Some(producer);
    place
        .lock()
        .expect("place")
        .as_ref()
        .expect("it is there")
        .send(&message(b"x"), 0, NOW)
        .expect("accepted");
    let seen: Vec<_> = reports.iter().collect();
    assert!(seen.iter().map(|(tag, _)| *tag).eq(0..50));
    assert!(seen.iter().all(|(_, stored)| *stored));
}

/// Sends through connections that are cut again and again; returns what the reports said, and
/// the messages that the stream then holds.
fn in_a_storm(retry_unknown: bool) -> (Vec<Seen>, Vec<usize>) {
    const COUNT: usize = 3_000;
    let server = serve("127.0.0.1:0");
    let proxy = Proxy::start(&server).expect("proxy");
    let client = open(&proxy.address().to_string());
    let (events, reports, _room) = recorder();
    let options = ProducerOptions { retry_unknown, max_batch_messages: 50, ..ProducerOptions::default() };
    let producer = Producer::of_stream(&stream(&client), options, events).expect("open");
    proxy.tell("storm 7 4000").expect("a storm");
    for number in 0..COUNT {
        send(&producer, number);
    }
    assert_eq!(producer.close(SOON), (0, Ok(())));
    assert!(proxy.counts().accepted > 3, "connections were cut: {:?}", proxy.counts());
    let seen: Vec<_> = reports.iter().collect();
    assert!(seen.iter().map(|(tag, ..)| *tag).eq(0..COUNT), "one report for each, in order");
    let payloads = stored(&stream(&open(&server)));
    (seen, payloads.iter().map(|payload| payload.parse().expect("a number")).collect())
}

#[test]
fn in_a_storm_reports_tell_the_truth_and_nothing_is_stored_twice() {
    let (seen, stored) = in_a_storm(false);
    assert!(stored.is_sorted_by(|a, b| a < b), "in order, and none twice");
    let mut unknown = 0;
    for (tag, result, _) in seen {
        match result {
            Ok(offset) => assert_eq!(stored[usize::try_from(offset).expect("from 0")], tag),
            Err((_, Outcome::NotApplied)) => assert!(stored.binary_search(&tag).is_err(), "{tag} is stored"),
            Err((_, Outcome::Unknown)) => unknown += 1,
            Err((status, outcome)) => panic!("{tag}: {status}, {outcome:?}"),
        }
    }
    assert!(unknown > 0, "the storm met a request under way");
}

#[test]
fn in_a_storm_retry_unknown_stores_every_message_in_order() {
    let (seen, stored) = in_a_storm(true);
    let positions: Vec<_> =
        seen.iter().map(|(tag, result, _)| (*tag, result.expect("it is stored"))).collect();
    assert!(positions.is_sorted_by(|(_, a), (_, b)| a < b));
    assert!(positions.iter().all(|(tag, at)| stored[usize::try_from(*at).expect("from 0")] == *tag));
    assert!(stored.len() >= positions.len());
}
