//! Sizes of requests and replies.

use bytes::Bytes;
use flowmesh_proto::v1::*;
use prost::Message as _;
use tonic::Code;

use crate::ops::*;

const MIB: usize = 1 << 20;
const LIMIT: usize = 4 * MIB;

/// A Set request that encodes to exactly `bytes`.
fn set_of(bytes: usize) -> SetRequest {
    let mut request = SetRequest {
        resource_path: store("k"),
        key: "k".into(),
        value: Bytes::from(vec![b'x'; bytes]),
        ttl_seconds: 0,
    };
    let surplus = request.encoded_len() - bytes;
    request.value.truncate(bytes - surplus);
    assert_eq!(request.encoded_len(), bytes);
    request
}

fn filler(bytes: usize) -> String {
    "x".repeat(bytes)
}

rules! {
    async fn a_request_of_4_mib_is_accepted_a_larger_one_is_resource_exhausted(w) {
        w.kv().set(set_of(LIMIT)).await.unwrap();
        assert_eq!(code(w.kv().set(set_of(LIMIT + 1)).await), Code::ResourceExhausted);
        assert_eq!(code(w.try_write("s", vec![event(&vec![b'x'; LIMIT])]).await), Code::ResourceExhausted);
        assert_eq!(w.get("k", "k").await.unwrap().len(), set_of(LIMIT).value.len());
    }

    async fn the_request_limit_is_configurable(w) {
        let w = w.restart(|s| s.max_message_bytes = 1000).await;
        w.kv().set(set_of(1000)).await.unwrap();
        assert_eq!(code(w.kv().set(set_of(1001)).await), Code::ResourceExhausted);
    }

    async fn who_sends_too_much_is_told_the_limit_and_not_to_try_again(w) {
        let w = w.restart(|s| s.max_message_bytes = 1000).await;
        let refusal = w.kv().set(set_of(1001)).await.unwrap_err();
        assert_eq!(
            refusal.message(),
            "the request has 1001 bytes: the limit of the server is 1000 (--max-message-bytes)"
        );
        let pushback = |refusal: &tonic::Status| {
            refusal.metadata().get("grpc-retry-pushback-ms").map(|v| v.as_bytes().to_vec())
        };
        assert_eq!(pushback(&refusal).as_deref(), Some(&b"-1"[..]));
        // Another refusal leaves it to the client.
        let mut nameless = set_of(100);
        nameless.key.clear();
        assert_eq!(pushback(&w.kv().set(nameless).await.unwrap_err()), None);
    }

    async fn a_page_of_messages_stays_below_4_mib_and_paging_reads_all(w) {
        for _ in 0..5 {
            w.write("s", &[&filler(MIB + MIB / 2)]).await;
        }
        let mut offset = 0;
        while offset < 5 {
            let request =
                ReadStreamRequest { resource_path: stream("s"), partition: 0, offset, max_messages: 0 };
            let reply = w.streams().read_stream(request).await.unwrap().into_inner();
            assert!(reply.encoded_len() <= LIMIT && !reply.messages.is_empty());
            offset += reply.messages.len() as i64;
        }
        assert_eq!(offset, 5);
    }

    async fn jobs_that_do_not_fit_the_reply_are_not_leased(w) {
        for _ in 0..5 {
            w.enqueue("q", &filler(MIB + MIB / 2)).await;
        }
        let request = ReceiveRequest { resource_path: queue("q"), max_jobs: 100, ..Default::default() };
        let reply = w.queues().receive(request).await.unwrap().into_inner();
        assert!(reply.encoded_len() <= LIMIT && !reply.jobs.is_empty());
        assert_eq!(w.stats("q").await.in_flight_jobs, reply.jobs.len() as i64);
    }

    async fn a_page_of_dead_letters_stays_below_4_mib(w) {
        for _ in 0..3 {
            w.dead_letter("q", &filler(MIB + MIB / 2)).await;
        }
        let request = ListDlqJobsRequest { resource_path: queue("q"), max_jobs: 0 };
        let reply = w.queues().list_dlq_jobs(request).await.unwrap().into_inner();
        assert!(reply.encoded_len() <= LIMIT && !reply.jobs.is_empty());
    }

    async fn a_single_item_above_4_mib_is_returned(w) {
        let w = w.restart(|s| s.max_message_bytes = 6 * MIB).await;
        let large = filler(5 * MIB);
        w.write("s", &[&large, "small"]).await;
        assert_eq!(w.read("s", 0, 0).await[0].payload.len(), large.len());
        let mut subscription = w.subscribe("s", 0).await;
        assert_eq!(next(&mut subscription).await.payload.len(), large.len());
        assert_eq!(next(&mut subscription).await.payload, "small");
        w.enqueue("q", &large).await;
        assert_eq!(w.receive("q", 10).await[0].payload.len(), large.len());
        w.dead_letter("d", &large).await;
        assert_eq!(w.dead_letters("d", 0).await[0].payload.len(), large.len());
    }

    async fn a_page_holds_what_was_asked_for_or_all_there_is(w) {
        w.write("s", &["x"; 1100]).await;
        for (asked, given) in [
            (1, 1),
            (0, 100),
            (-1, 100),
            (i32::MIN, 100),
            (999, 999),
            (1000, 1000),
            (1001, 1000),
            (i32::MAX, 1000),
        ] {
            assert_eq!(w.read("s", 0, asked).await.len(), given, "{asked}");
        }
        assert_eq!(w.read("s", 1000, 1000).await.len(), 100);
    }

    async fn any_number_of_headers_and_events_is_taken(w) {
        let headers = (0..2000).map(|i| (format!("h{i}"), format!("v{i}"))).collect();
        let wide = Event { payload: "x".into(), headers };
        let mut events = vec![event(b"y"); 5000];
        events.push(wide.encode_to_vec().into());
        assert_eq!(w.try_write("s", events).await.unwrap().len(), 5001);
        assert_eq!(w.read("s", 5000, 1).await[0].headers, wide.headers);
    }
}
