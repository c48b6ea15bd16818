//! Many subscribers who have nothing to read: what each costs, and what the others notice.

use flowmesh_proto::v1::SubscribeRequest;

use crate::{
    frames::{Peer, kind, message},
    neighbour::{Neighbour, report, resource},
    number,
    process::Process,
};

const SUBSCRIBE: &str = "/flowmesh.v1.StreamService/Subscribe";
/// What one may cost, in bytes of the server's memory; far more than it does.
const MOST: u64 = 256 << 10;

/// Connects `connections` peers with `calls` subscriptions each; they answer no pings, and do not
/// have to for a while.
fn subscribe(server: &Process, connections: u64, calls: u32) -> Vec<Peer> {
    let request = message(&SubscribeRequest {
        resource_path: resource("idle", "stream", "x"),
        consumer_group: "g".into(),
        partition: 0,
        start_offset: 0,
    });
    let connect = |_| {
        let mut peer = Peer::connect(server.address);
        for call in 0..calls {
            peer.call(2 * call + 1, SUBSCRIBE, &request, true).expect("the server listens");
        }
        let mut answered = 0;
        while answered < calls {
            let frame = peer.next().expect("the connection stays");
            answered += u32::from(frame.kind == kind::HEADERS);
        }
        peer
    };
    (0..connections).map(connect).collect()
}

fn idle(name: &str, connections: u64, calls: u32) {
    let most = (connections * u64::from(calls) + 10).to_string();
    let server =
        Process::start(&["--max-subscriptions", &most, "--max-connections", &most, "--keepalive", "0"]);
    let mut neighbour = Neighbour::of(&server);
    let quiet = neighbour.work_quietly();
    let before = server.memory();
    let peers = subscribe(&server, connections, calls);
    let growth = server.memory().saturating_sub(before);
    let each = growth / (connections * u64::from(calls));
    let beside = neighbour.work_quietly();
    let name = format!("{} {name}, {:.1} KiB each", connections * u64::from(calls), each as f64 / 1024.0);
    report(&name, &quiet, &beside, growth);
    assert!(each < MOST, "{name}");
    drop(peers);
}

#[test]
fn idle_subscribers_with_a_connection_each() {
    idle("idle subscribers, a connection each", number("FLOWMESH_ABUSE_CONNECTIONS", 500), 1);
}

#[test]
fn idle_subscribers_that_share_connections() {
    let connections = number("FLOWMESH_ABUSE_CONNECTIONS", 500) / 100;
    idle("idle subscribers, 100 to a connection", connections, 100);
}
