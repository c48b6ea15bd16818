//! A tenant that has all it may have, and asks for more without pause, beside another tenant.

use flowmesh_proto::v1::{ReserveRequest, SubscribeRequest};

use crate::{
    frames::{END_STREAM, Peer, kind, message},
    neighbour::{beside, resource},
    process::Process,
};

const SUBSCRIBE: &str = "/flowmesh.v1.StreamService/Subscribe";
const RESERVE: &str = "/flowmesh.v1.QueueService/Reserve";

#[test]
fn a_tenant_at_its_limits_does_not_disturb_another() {
    let server = Process::start(&["--max-subscriptions", "100", "--max-waiters", "100"]);
    let subscribe = message(&SubscribeRequest {
        resource_path: resource("greedy", "stream", "x"),
        consumer_group: "g".into(),
        partition: 0,
        start_offset: 0,
    });
    let reserve = message(&ReserveRequest {
        resource_path: resource("greedy", "queue", "q"),
        visibility_timeout_seconds: 0,
        long_poll_timeout_seconds: 20,
    });
    let refused = beside("a tenant at its limits", &server, 64 << 20, |clock| {
        let mut peer = Peer::connect(server.address);
        let mut refused = 0_u64;
        let mut stream = 1;
        // The first of each take all places; the rest are refused, each before the next one.
        for n in 0.. {
            let (path, body) = if n % 2 == 0 { (SUBSCRIBE, &subscribe) } else { (RESERVE, &reserve) };
            peer.call(stream, path, body, true).expect("the server listens");
            if n >= 200 {
                let answer = loop {
                    let frame = peer.next().expect("the connection stays");
                    if frame.stream == stream && frame.kind == kind::HEADERS {
                        break frame;
                    }
                };
                // All it gets is a status.
                assert_eq!(answer.flags & END_STREAM, END_STREAM);
                refused += 1;
            }
            stream += 2;
            if !clock.runs() && refused > 0 {
                break;
            }
        }
        refused
    });
    println!("{refused} calls were refused");
}
