//! Methods, results, failures: every OK reply has code 0, and a failure is a gRPC status whose code
//! says whose fault it is.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use flowmesh_proto::v1::*;
use flowmesh_server::{
    Engine, Error, ErrorKind,
    engine::{KvStore, Lifecycle},
    resource::ResourceName,
};
use prost::Message as _;
use tonic::{Code, async_trait};

use crate::{every_rpc::METHODS, ops::*, raw::framed};

/// Fails in the way that the key names.
struct FailingStore;

#[async_trait]
impl KvStore for FailingStore {
    async fn set(&self, _: &ResourceName, _: &str, _: Bytes, _: i64) -> Result<(), Error> {
        panic!("as the test wants")
    }

    async fn get(&self, _: &ResourceName, key: &str) -> Result<Option<Bytes>, Error> {
        let kind = match key {
            "full" => ErrorKind::ResourceExhausted,
            "forbidden" => ErrorKind::PermissionDenied,
            "long" => return Err(Error::not_found("é".repeat(100_000))),
            _ => ErrorKind::Internal,
        };
        Err(Error::new(kind, "as the test wants"))
    }

    async fn delete(&self, _: &ResourceName, _: &str) -> Result<(), Error> {
        Ok(())
    }

    async fn exists(&self, _: &ResourceName, _: &str) -> Result<bool, Error> {
        Ok(false)
    }

    async fn list_keys(&self, _: &ResourceName, _: &str) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }
}

fn with_failing_store(engine: Engine) -> Engine {
    Engine { kv: Arc::new(FailingStore), ..engine }
}

struct NotReady(Arc<dyn Lifecycle>);

impl Lifecycle for NotReady {
    fn is_ready(&self) -> bool {
        false
    }

    fn close(&self) {
        self.0.close();
    }
}

/// An encoded request with `text` as the tenant.
fn with_tenant(text: &[u8]) -> Bytes {
    let mut path = BytesMut::new();
    path.put_slice(&[0x0a, text.len() as u8]);
    path.put_slice(text);
    let mut request = BytesMut::new();
    request.put_slice(&[0x0a, path.len() as u8]);
    request.put_slice(&path);
    request.freeze()
}

rules! {
    async fn health_check_is_ok(w) {
        let reply = w.health().health_check(HealthCheckRequest {}).await.unwrap().into_inner();
        assert_eq!(reply.status.unwrap().code, 0);
    }

    async fn readiness_check_is_ready_with_code_0(w) {
        let reply = w.health().readiness_check(ReadinessCheckRequest {}).await.unwrap().into_inner();
        assert_eq!((reply.status.unwrap().code, reply.ready), (0, true));
    }

    async fn readiness_check_while_not_ready_is_ok_with_code_503(w) {
        let w = w
            .restart(|s| s.engine = |e| Engine { lifecycle: Arc::new(NotReady(e.lifecycle.clone())), ..e })
            .await;
        let reply = w.health().readiness_check(ReadinessCheckRequest {}).await.unwrap().into_inner();
        assert_eq!((reply.status.unwrap().code, reply.ready), (503, false));
        w.health().health_check(HealthCheckRequest {}).await.unwrap();
    }

    async fn every_ok_reply_carries_status_code_0(w) {
        w.write("s", &["x"]).await;
        let request = GetLatestOffsetRequest { resource_path: stream("s"), partition: 0 };
        let reply = w.streams().get_latest_offset(request).await.unwrap();
        assert_eq!(reply.into_inner().status, Some(Status::default()));
        assert_eq!(w.try_enqueue("q", "x", 0).await.unwrap().status, Some(Status::default()));
        let request = ExistsRequest { resource_path: store("k"), key: "k".into() };
        let reply = w.kv().exists(request).await.unwrap();
        assert_eq!(reply.into_inner().status, Some(Status::default()));
    }

    async fn an_unknown_method_is_unimplemented(w) {
        for method in [
            "flowmesh.v1.QueueService/Ack",
            "flowmesh.v1.QueueService/Nack",
            "flowmesh.v1.KVService/set",
            "flowmesh.v1.NoService/Get",
            "flowmesh.v2.KVService/Get",
            "KVService/Get",
            "flowmesh.v1.KVService",
            "",
        ] {
            assert_eq!(w.raw_code(method, framed(b"")).await, Code::Unimplemented, "{method}");
        }
    }

    async fn schema_and_replay_services_are_unimplemented(w) {
        for method in ["flowmesh.v1.SchemaService/GetSchema", "flowmesh.v1.ReplayService/StartReplay"] {
            assert_eq!(w.raw_code(method, framed(b"")).await, Code::Unimplemented, "{method}");
        }
    }

    async fn ack_and_nack_are_all_capitals_on_the_wire(w) {
        let ack = AckRequest { resource_path: queue("q"), job_id: "x".into() }.encode_to_vec();
        w.enqueue("q", "x").await;
        assert_eq!(w.raw_code("flowmesh.v1.QueueService/ACK", framed(&ack)).await, Code::Ok);
        let nack =
            NackRequest { resource_path: queue("q"), job_id: "x".into(), delay_seconds: 0 }.encode_to_vec();
        assert_eq!(w.raw_code("flowmesh.v1.QueueService/NACK", framed(&nack)).await, Code::NotFound);
    }

    async fn an_undecodable_request_is_invalid_argument(w) {
        for method in METHODS {
            // Field 1 with 9 bytes of which one is there; a varint without an end.
            for bytes in [&[0x0a, 9, 1][..], &[0xff; 11]] {
                assert_eq!(w.raw_code(method, framed(bytes)).await, Code::InvalidArgument, "{method}");
            }
        }
    }

    async fn a_string_that_is_not_utf8_is_invalid_argument(w) {
        for method in &METHODS[2..] {
            assert_eq!(
                w.raw_code(method, framed(&with_tenant(&[0xc3, 0x28]))).await,
                Code::InvalidArgument,
                "{method}"
            );
        }
    }

    async fn an_undecodable_event_is_invalid_argument_naming_its_index(w) {
        // A header whose value is not UTF-8; a field without its end.
        for bad in [&[0x0a, 1, b'x', 0x12, 4, 0x12, 2, 0xc3, 0x28][..], &[0x0a, 9, 1]] {
            assert_invalid(
                w.try_write("s", vec![event(b"x"), Bytes::copy_from_slice(bad)]).await,
                "events[1]",
            );
        }
        assert_eq!(code(w.try_latest("s", 0).await), Code::NotFound);
    }

    async fn a_request_without_a_whole_message_is_invalid_argument(w) {
        let method = "flowmesh.v1.KVService/Get";
        for body in [&b""[..], &[0, 0, 0], &[0, 0, 0, 0, 9, 1], &[7, 0, 0, 0, 0]] {
            assert_eq!(
                w.raw_code(method, Bytes::copy_from_slice(body)).await,
                Code::InvalidArgument,
                "{body:?}"
            );
        }
    }

    async fn a_failure_is_code_and_text_without_details_or_own_trailers(w) {
        let outcome = w.raw("flowmesh.v1.KVService/Get", framed(b"")).await;
        assert_eq!(outcome.code, Code::InvalidArgument);
        for name in outcome.headers.keys().chain(outcome.trailers.keys()) {
            let known = ["content-type", "content-length", "grpc-status", "grpc-message"];
            assert!(known.contains(&name.as_str()), "{name}");
        }
    }

    async fn internal_is_for_failures_of_the_storage(w) {
        let w = w.restart(|s| s.engine = with_failing_store).await;
        assert_eq!(code(w.try_get("k", "broken").await), Code::Internal);
        assert_eq!(code(w.try_get("k", "forbidden").await), Code::Internal);
    }

    async fn no_space_left_is_resource_exhausted(w) {
        let w = w.restart(|s| s.engine = with_failing_store).await;
        assert_eq!(code(w.try_get("k", "full").await), Code::ResourceExhausted);
    }

    async fn a_long_text_still_reaches_the_caller(w) {
        let w = w.restart(|s| s.engine = with_failing_store).await;
        let status = w.try_get("k", "long").await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        assert!(status.message().starts_with("éé"));
    }

    async fn a_panic_ends_its_call_with_internal_and_nothing_else(w) {
        let w = w.restart(|s| s.engine = with_failing_store).await;
        w.write("s", &["x"]).await;
        let mut subscription = w.subscribe("s", 0).await;
        assert_eq!(code(w.try_set("k", "k", b"v", 0).await), Code::Internal);
        assert_eq!(next(&mut subscription).await.offset, 0);
        assert_eq!(w.write("s", &["y"]).await, [1]);
        assert_eq!(next(&mut subscription).await.offset, 1);
    }

    async fn a_refused_call_changes_nothing(w) {
        let job = w.enqueue("q", "x").await;
        let leased = w.reserve("q").await.unwrap();
        assert_eq!(code(w.try_nack("q", &job, -1).await), Code::InvalidArgument);
        assert_eq!(code(w.try_enqueue("q", "", 0).await), Code::InvalidArgument);
        assert_eq!(code(w.try_write("s", vec![event(b"x"), event(b"")]).await), Code::InvalidArgument);
        assert_eq!(code(w.try_latest("s", 0).await), Code::NotFound);
        let stats = w.stats("q").await;
        assert_eq!((stats.total_jobs, stats.in_flight_jobs), (1, 1));
        w.nack("q", &leased.id).await;
    }

    async fn a_cancelled_wait_leases_nothing_afterwards(w) {
        let poll = w.poll("q", 20);
        w.arrived().await;
        poll.abort();
        assert!(poll.await.unwrap_err().is_cancelled());
        w.arrived().await;
        w.enqueue("q", "x").await;
        assert_eq!(w.reserve("q").await.expect("nobody has it").attempts, 1);
    }

    async fn a_job_enqueued_right_after_a_wait_was_cancelled_is_found(w) {
        // The end of the wait and the job may cross on their way.
        for n in 0..50 {
            let q = format!("q{n}");
            let poll = w.poll(&q, 20);
            w.arrived().await;
            poll.abort();
            assert!(poll.await.unwrap_err().is_cancelled());
            w.enqueue(&q, "x").await;
            assert_eq!(w.reserve(&q).await.expect("nobody has it").attempts, 1);
        }
    }

    async fn shutdown_ends_subscribe_with_unavailable(mut w) {
        let mut subscription = w.subscribe("s", -2).await;
        let mut elsewhere = w.try_subscribe("s", "g", 7, -2).await.unwrap();
        w.stop().await;
        assert_eq!(subscription.message().await.unwrap_err().code(), Code::Unavailable);
        assert_eq!(elsewhere.message().await.unwrap_err().code(), Code::Unavailable);
    }

    async fn shutdown_ends_a_long_poll_with_unavailable(mut w) {
        let poll = w.poll("q", 20);
        w.arrived().await;
        w.stop().await;
        assert_eq!(code(poll.await.unwrap()), Code::Unavailable);
    }
}

mod over_a_socket {
    use super::*;

    network_rules! {
        async fn an_expired_wait_ends_and_leases_nothing(w) {
            let mut request = tonic::Request::new(ReserveRequest {
                resource_path: queue("q"),
                long_poll_timeout_seconds: 20,
                ..Default::default()
            });
            request.set_timeout(Duration::from_millis(5));
            let expired = code(w.queues().reserve(request).await);
            assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&expired), "{expired:?}");
            w.arrived().await;
            w.enqueue("q", "x").await;
            assert!(w.reserve("q").await.is_some());
        }
    }
}
