//! What a client counts when things go wrong.

use flowmesh::client::CallOptions;
use flowmesh_proto::v1;

use crate::{
    fake::{Answer, Fake, reply},
    outcomes::client,
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
