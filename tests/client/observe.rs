//! What a client counts when things go wrong, and the trace that it sends along.

use flowmesh::client::{CallOptions, TraceContext};
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
