//! Peers that begin and do not go on, go away without a word, or have nothing to say.

use flowmesh_proto::{
    v1::{ReserveRequest, SubscribeRequest, WriteEventsRequest, stream_service_client::StreamServiceClient},
    wire,
};

use crate::{
    frames::{PREFACE, Peer, kind, message},
    neighbour::{Neighbour, beside, channel, resource},
    process::Process,
};

const RESERVE: &str = "/flowmesh.v1.QueueService/Reserve";

fn long_poll() -> Vec<u8> {
    let request = ReserveRequest {
        resource_path: resource("bad", "queue", "q"),
        visibility_timeout_seconds: 0,
        long_poll_timeout_seconds: 20,
    };
    message(&request)
}

/// Connections that stop before their first call: mute, in the middle of the preface, after it, and
/// in the middle of a frame.
#[test]
fn handshakes_that_stall() {
    // The neighbour has to be ready within the same time.
    let server = Process::start(&["--handshake-timeout", "5"]);
    let unfinished = [PREFACE, &[0, 0, 6, 4]].concat();
    beside("stalled handshakes", &server, 48 << 20, |clock| {
        let mut rounds = 0;
        while clock.runs() || rounds == 0 {
            let mut peers: Vec<Peer> = (0..200)
                .map(|n| {
                    let mut peer = Peer::silent(server.address);
                    let said = [&[][..], &PREFACE[..10], PREFACE, &unfinished][n % 4];
                    // One that was ended already is as good.
                    let _ = peer.send(said);
                    peer
                })
                .collect();
            // The server ends every one of them, or this waits until it fails.
            peers.iter_mut().for_each(|peer| _ = peer.end());
            rounds += 1;
        }
    });
}

/// A peer that is gone without a word still holds a long poll, until it is asked.
#[test]
fn peers_that_vanish() {
    let server = Process::start(&["--keepalive", "1"]);
    Neighbour::of(&server).work_quietly();
    let before = server.descriptors();
    beside("half-open connections", &server, 48 << 20, |clock| {
        let mut rounds = 0;
        while clock.runs() || rounds == 0 {
            let mut peers: Vec<Peer> = (0..100).map(|_| Peer::connect(server.address)).collect();
            for peer in &mut peers {
                peer.call(1, RESERVE, &long_poll(), true).expect("the server listens");
            }
            for mut peer in peers {
                let mut asked = false;
                while let Some(frame) = peer.next() {
                    asked |= frame.kind == kind::PING && frame.flags == 0;
                }
                assert!(asked, "it was asked before it was cut off");
            }
            rounds += 1;
        }
    });
    // The storage may have opened a file more; of the peers nothing is left.
    while server.descriptors() > before + 20 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// A peer that has closed its side gets no more answers, and leaves nothing behind.
#[test]
fn peers_that_close_one_side() {
    let server = Process::start(&[]);
    for _ in 0..50 {
        let mut peer = Peer::connect(server.address);
        peer.call(1, RESERVE, &long_poll(), true).expect("the server listens");
        peer.close_half();
        peer.end();
    }
}

#[tokio::test]
async fn who_answers_stays_and_who_has_no_call_is_asked_to_go() {
    // Who answers has as long for it on a busy machine.
    let server = Process::start(&["--keepalive", "3", "--idle-timeout", "3"]);
    let mut streams = StreamServiceClient::new(channel(server.address).await);
    let subscribe = SubscribeRequest {
        resource_path: resource("good", "stream", "x"),
        consumer_group: "g".into(),
        partition: 0,
        start_offset: 0,
    };
    let mut subscription = streams.subscribe(subscribe).await.expect("a subscription").into_inner();
    let address = server.address;
    let (vanished, idle) = tokio::task::spawn_blocking(move || {
        let mut vanished = Peer::connect(address);
        vanished.call(1, RESERVE, &long_poll(), true).expect("the server listens");
        vanished.end();
        let mut idle = Peer::connect(address);
        (true, idle.end())
    })
    .await
    .expect("both were ended");
    assert!(vanished);
    assert_eq!(idle, Some(0), "one that has no call is told to go, without reproach");
    // More than both times have passed for this one as well; it answered, and it has a call.
    let mut event = bytes::BytesMut::new();
    wire::encode_event(&mut event, b"x", std::iter::empty());
    let write =
        WriteEventsRequest { resource_path: resource("good", "stream", "x"), events: vec![event.freeze()] };
    streams.write_events(write).await.expect("a write");
    assert!(subscription.message().await.expect("the subscription lives").is_some());
}
