//! Peers that make the server hold memory for them: they do not read, or do not finish what they
//! send. The budget bounds it, and who holds the most loses it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flowmesh_proto::{
    v1::{SubscribeRequest, WriteEventsRequest, stream_service_client::StreamServiceClient},
    wire,
};
use tonic::{Code, transport::Endpoint};

use crate::{
    frames::{END_STREAM, Peer, frame, kind, message},
    neighbour::{beside, channel, resource},
    process::Process,
};

const SUBSCRIBE: &str = "/flowmesh.v1.StreamService/Subscribe";
const WRITE: &str = "/flowmesh.v1.StreamService/WriteEvents";
const BUDGET: &[&str] = &["--max-buffered-bytes", "16777216"];
/// The budget, what thousands of calls cost besides, and what the allocator keeps; without a budget
/// these attacks take some 650 MiB.
const GROWTH: u64 = 224 << 20;

fn subscription(tenant: &str) -> SubscribeRequest {
    SubscribeRequest {
        resource_path: resource(tenant, "stream", "x"),
        consumer_group: "g".into(),
        partition: 0,
        start_offset: 0,
    }
}

/// Writes `megabytes` to the stream of `tenant`, in events of a kilobyte.
fn fill(server: &Process, tenant: &str, megabytes: usize) {
    let mut event = BytesMut::new();
    wire::encode_event(&mut event, &[b'x'; 1000], std::iter::empty());
    let events: Vec<Bytes> = vec![event.freeze(); 1024];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut streams = StreamServiceClient::new(channel(server.address).await);
        for _ in 0..megabytes {
            let request =
                WriteEventsRequest { resource_path: resource(tenant, "stream", "x"), events: events.clone() };
            streams.write_events(request).await.expect("a write");
        }
    });
}

/// Opens `calls` subscriptions on one connection, each with `window`, and reads nothing.
fn stalled(server: &Process, window: u32, calls: u32) -> Peer {
    let mut peer = Peer::with_window(server.address, window);
    let request = message(&subscription("bad"));
    for call in 0..calls {
        if peer.call(2 * call + 1, SUBSCRIBE, &request, true).is_err() {
            break;
        }
    }
    peer
}

/// The windows are wide open, but the socket is never read: what is sent stays in the server, and
/// the peers cannot answer whether they live.
#[test]
fn subscribers_that_do_not_read() {
    let server = Process::start(&[BUDGET, &["--keepalive", "1"]].concat());
    fill(&server, "bad", 16);
    beside("stalled readers", &server, GROWTH, |clock| {
        let mut peers: Vec<Peer> = (0..8).map(|_| stalled(&server, 0x7fff_ffff, 200)).collect();
        while clock.runs() {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Only writing shows a peer that it was cut off; before, it is a sign of life.
        let mut update = Vec::new();
        frame(&mut update, kind::WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes());
        while !peers.is_empty() {
            std::thread::sleep(Duration::from_secs(3));
            peers.retain_mut(|peer| {
                let sent = peer.send(&update);
                std::thread::sleep(Duration::from_millis(20));
                sent.and_then(|()| peer.send(&update)).is_ok()
            });
        }
    });
}

/// The socket is read, but no window is ever opened: the calls end one by one, not the connection.
#[test]
fn subscribers_that_open_no_window() {
    let server = Process::start(BUDGET);
    fill(&server, "bad", 4);
    beside("no window updates", &server, GROWTH, |clock| {
        let mut peers: Vec<Peer> = (0..4).map(|_| stalled(&server, 1000, 500)).collect();
        let mut refused = 0;
        while clock.runs() || refused == 0 {
            for peer in &mut peers {
                let arrived = peer.arrived();
                assert!(arrived.iter().all(|f| f.goaway().is_none()), "the connection stays");
                refused +=
                    arrived.iter().filter(|f| f.kind == kind::HEADERS && f.flags & END_STREAM != 0).count();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

/// Requests of which the end never comes.
#[test]
fn requests_that_are_not_finished() {
    let server = Process::start(BUDGET);
    beside("unfinished requests", &server, GROWTH, |clock| {
        let mut body = vec![0];
        body.extend_from_slice(&4_000_000_u32.to_be_bytes());
        body.resize(200_000, 0);
        let mut peers: Vec<Peer> = (0..4).map(|_| Peer::connect(server.address)).collect();
        for peer in &mut peers {
            for call in 0..300 {
                if peer.call(2 * call + 1, WRITE, &body, false).is_err() {
                    break;
                }
            }
        }
        let mut refused = 0;
        while clock.runs() || refused == 0 {
            for peer in &mut peers {
                refused += peer.arrived().iter().filter(|f| f.flags & END_STREAM != 0).count();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

/// What subscribers see that stall while the budget is used up, and one that does not.
#[tokio::test]
async fn subscribers_that_stall_are_told_why_and_others_go_on() {
    let server = Process::start(&["--max-buffered-bytes", "4000000"]);
    let write = async |tenant: &str, payload: usize| {
        let mut streams = StreamServiceClient::new(channel(server.address).await);
        let mut event = BytesMut::new();
        wire::encode_event(&mut event, &vec![b'x'; payload], std::iter::empty());
        let event = event.freeze();
        for _ in 0..10 {
            let events = vec![event.clone()];
            let request = WriteEventsRequest { resource_path: resource(tenant, "stream", "x"), events };
            streams.write_events(request).await.expect("a write");
        }
    };
    write("slow", 900_000).await;
    write("good", 100).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).expect("a uri");
    let narrow = endpoint.initial_stream_window_size(10_000).connect().await.expect("a connection");
    let mut slow = Vec::new();
    for _ in 0..10 {
        let subscribed = StreamServiceClient::new(narrow.clone()).subscribe(subscription("slow")).await;
        slow.push(subscribed.expect("a subscription").into_inner());
    }
    let subscribed =
        StreamServiceClient::new(channel(server.address).await).subscribe(subscription("good")).await;
    let mut good = subscribed.expect("a subscription").into_inner();
    for offset in 0..10 {
        let message = good.message().await.expect("the other goes on").expect("a message").message;
        assert_eq!(wire::MessageView::parse(&message.expect("one")).expect("one").offset, offset);
    }
    // A piece of each has come, and waits; the rest was given up. The first of them may get on
    // while it is read here, the others not.
    let mut told = 0;
    for mut slow in slow {
        for _ in 0..10 {
            if let Err(status) = slow.message().await {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                assert!(status.message().ends_with("4000000 (--max-buffered-bytes)"), "{status}");
                told += 1;
                break;
            }
        }
    }
    assert!(told > 0, "nobody was told");
}
