//! The client while the network does what it should not, by the fault proxy.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use flowmesh::client::{
    CallOptions, Client, Outcome, Progress, Status, Stream, SubscribeOptions, Subscription, Timeout,
};
use flowmesh_fault_proxy::Proxy;
use flowmesh_proto::wire::MessageView;

use crate::{
    open,
    servers::{event, serve},
};

/// A server, the proxy before it, a client through the proxy, and a client past it.
struct World {
    proxy: Proxy,
    client: Client,
    direct: Client,
}

impl World {
    fn new() -> Self {
        let server = serve("127.0.0.1:0");
        let proxy = Proxy::start(&server).expect("proxy");
        Self { client: open(&proxy.address().to_string()), direct: open(&server), proxy }
    }

    fn tell(&self, command: &str) {
        self.proxy.tell(command).unwrap_or_else(|e| panic!("{command}: {e}"));
    }

    fn stream(&self) -> Stream {
        self.client.stream("t", "n", "s").expect("names")
    }

    /// Writes events past the proxy.
    fn write(&self, count: usize) {
        let stream = self.direct.stream("t", "n", "s").expect("names");
        let written = self.direct.block_on(async move {
            for first in (0..count).step_by(100) {
                let events = (first..count.min(first + 100)).map(event).collect();
                stream.write(events, &CallOptions::default()).await?;
            }
            Ok(())
        });
        written.expect("write");
    }
}

fn subscribe(stream: &Stream) -> Subscription {
    let options = SubscribeOptions {
        consumer_group: "g".into(),
        start_offset: 0,
        batch_messages: 50,
        ..SubscribeOptions::default()
    };
    stream.subscribe(options).expect("subscribe")
}

/// Follows from offset 0 to `count`; no gap, no repeat. `at` is called with the offset to come
/// after each message. Returns how often the connection was lost.
fn follow(world: &World, count: i64, mut at: impl FnMut(i64)) -> usize {
    let subscription = subscribe(&world.stream());
    let (mut next, mut lost, mut batch) = (0, 0, Vec::new());
    while next < count {
        match world.client.wait(subscription.next_batch(&mut batch)) {
            Ok(Progress::Messages) => {
                for message in &batch {
                    assert_eq!(MessageView::parse(message).expect("a message").offset, next);
                    next += 1;
                    at(next);
                }
            }
            Ok(Progress::Connected(from)) => assert_eq!(from, next),
            Ok(Progress::Lost(_)) => lost += 1,
            Ok(Progress::CommitFailed(e)) => panic!("nothing is committed: {e}"),
            Err(e) => panic!("it ended at {next}: {e}"),
        }
    }
    lost
}

/// Three windows of the subscription: the server cannot have sent everything before a fault.
const MANY: i64 = 20_000;

#[test]
fn a_subscription_survives_every_way_in_which_a_connection_ends() {
    for fault in [
        "cut rst",
        "cut fin",
        "half-close up",
        "half-close down",
        "cut rst after down 100000",
        "cut fin after down 99999",
    ] {
        let world = World::new();
        world.write(MANY as usize);
        let lost = follow(&world, MANY, |next| {
            if [1000, 2000, 3000].contains(&next) {
                world.tell(fault);
            }
        });
        assert!((1..=3).contains(&lost), "{fault}: lost {lost} times");
    }
}

#[test]
fn a_subscription_survives_delay_trickle_stall_and_refusal() {
    let world = World::new();
    world.write(300);
    // So slow that much is still on its way at each of the faults.
    world.tell("trickle down 200 1");
    let lost = follow(&world, 300, |next| match next {
        50 => {
            world.tell("stall both");
            world.tell("trickle both 200 1");
        }
        100 => {
            world.tell("refuse");
            world.tell("cut rst");
            world.tell("accept");
        }
        150 => world.tell("delay both 3"),
        _ => {}
    });
    // By the cut, and by each attempt to connect that was still refused.
    assert!(lost >= 1);
}

#[test]
fn a_subscription_reconnects_when_the_server_is_reachable_again() {
    let world = World::new();
    world.write(100);
    let subscription = subscribe(&world.stream());
    let (mut next, mut refused, mut batch) = (0, 0, Vec::new());
    while next < 200 {
        match world.client.wait(subscription.next_batch(&mut batch)).expect("it goes on") {
            Progress::Messages => {
                next += batch.len() as i64;
                if next == 100 && refused == 0 {
                    world.tell("refuse");
                    world.tell("cut rst");
                }
            }
            Progress::Connected(from) => assert_eq!(from, next),
            Progress::Lost(error) => {
                assert_eq!(error.status(), Status::UNAVAILABLE);
                refused += 1;
                if refused == 3 {
                    world.write(100);
                    world.tell("accept");
                }
            }
            Progress::CommitFailed(e) => panic!("nothing is committed: {e}"),
        }
    }
    assert_eq!(next, 200);
}

#[test]
fn a_subscription_reconnects_after_bytes_without_sense() {
    // Between frames, where they can be told from messages.
    for fault in ["garbage down 4096", "garbage up 4096"] {
        let world = World::new();
        world.write(100);
        let lost = follow(&world, 300, |next| {
            if next == 100 || next == 200 {
                world.tell(fault);
                world.write(100);
            }
        });
        assert!((1..=2).contains(&lost), "{fault}: lost {lost} times");
    }
}

#[test]
fn calls_end_in_time_while_nothing_moves() {
    let world = World::new();
    let kv = world.client.kv("t", "n", "k").expect("names");
    world.client.block_on(ready(&world.client)).expect("connect");
    world.tell("stall both");
    // Long enough for the request to be on its way, on the busiest machine.
    let options = CallOptions { timeout: Timeout::After(Duration::from_secs(2)), ..Default::default() };
    let started = Instant::now();
    let error = world
        .client
        .block_on(async move { kv.set("k", bytes::Bytes::from_static(b"v"), 0, &options).await })
        .expect_err("stalled");
    assert_eq!((error.status(), error.outcome()), (Status::DEADLINE_EXCEEDED, Outcome::Unknown), "{error}");
    assert!(started.elapsed() < Duration::from_secs(60));
}

fn ready(client: &Client) -> impl Future<Output = flowmesh::client::Result<()>> + Send + 'static {
    let client = client.clone();
    async move { client.connect(&CallOptions::default()).await }
}

#[test]
fn close_returns_while_nothing_moves() {
    let world = World::new();
    world.write(10);
    world.client.block_on(ready(&world.client)).expect("connect");
    let subscription = subscribe(&world.stream());
    let (sender, ended) = mpsc::channel();
    let following = thread::spawn({
        let client = world.client.clone();
        move || {
            let mut batch = Vec::new();
            loop {
                match client.wait(subscription.next_batch(&mut batch)) {
                    Ok(progress) => drop(sender.send(Ok(progress))),
                    Err(e) => return drop(sender.send(Err(e.status()))),
                }
            }
        }
    });
    while ended.recv().expect("messages come first") != Ok(Progress::Messages) {}
    world.tell("stall both");
    let waiting = thread::spawn({
        let client = world.client.clone();
        move || {
            let options = CallOptions { timeout: Timeout::Never, ..Default::default() };
            client.block_on({
                let client = client.clone();
                async move { client.health_check(&options).await }
            })
        }
    });
    let started = Instant::now();
    world.client.wait(world.client.close(Timeout::After(Duration::from_secs(120)))).expect("close");
    assert!(started.elapsed() < Duration::from_secs(60));
    assert_eq!(waiting.join().expect("no panic").expect_err("closed").status(), Status::CLOSED);
    following.join().expect("no panic");
    assert_eq!(ended.iter().last(), Some(Err(Status::CLOSED)));
}

#[test]
fn a_write_that_was_cut_off_says_that_it_is_unknown_and_is_stored_at_most_once() {
    let world = World::new();
    world.client.block_on(ready(&world.client)).expect("connect");
    let mut stored = 0;
    for (cut, applied) in [("cut rst after up 200", false), ("cut rst after down 1", true)] {
        world.client.block_on(ready(&world.client)).expect("connect");
        world.tell(cut);
        let stream = world.stream();
        let error = world
            .client
            .block_on(async move { stream.write(vec![event(1)], &CallOptions::default()).await })
            .expect_err("cut off");
        assert_eq!((error.status(), error.outcome()), (Status::UNAVAILABLE, Outcome::Unknown), "{error}");
        stored += usize::from(applied);
    }
    world.write(1);
    let mut seen = 0;
    follow(&world, stored as i64 + 1, |_| seen += 1);
    assert_eq!(seen, stored + 1);
    let stream = world.direct.stream("t", "n", "s").expect("names");
    let last = world.direct.block_on(async move { stream.latest_offset(0, &CallOptions::default()).await });
    assert_eq!(last, Ok(stored as i64));
}
