//! Paths, names and the ranges of fields: what breaks a rule is INVALID_ARGUMENT.

use flowmesh_proto::v1::*;
use tonic::Code;

use crate::{every_rpc::call_every_rpc, ops::*, world::World};

/// Checks that every rpc refuses the path, naming the argument.
async fn refused_everywhere(w: &World, argument: &str, path: impl Fn(ResourcePath) -> Option<ResourcePath>) {
    let valid = |kind: &str, name: &str| crate::ops::path(kind, name).expect("a path");
    for (rpc, code, text) in call_every_rpc(w, |kind, name| path(valid(kind, name))).await {
        assert_eq!(code, Code::InvalidArgument, "{rpc}");
        assert!(text.contains(argument), "{rpc}: {text:?} does not name {argument}");
    }
}

/// Texts that are no tenant, namespace or name.
fn bad_names() -> Vec<String> {
    ["", " ", "\u{2003}\t", "a\nb", "\0", "a\u{7f}", "a\u{85}b"]
        .map(String::from)
        .into_iter()
        .chain(["x".repeat(256), "é".repeat(128)])
        .collect()
}

rules! {
    async fn resource_path_must_be_set(w) {
        refused_everywhere(&w, "resource_path", |_| None).await;
    }

    async fn tenant_is_1_to_255_bytes_no_control_characters_not_white_space_no_slash(w) {
        for tenant in bad_names().into_iter().chain(["a/b".into()]) {
            refused_everywhere(&w, "tenant", |p| Some(ResourcePath { tenant: tenant.clone(), ..p })).await;
        }
    }

    async fn namespace_is_as_tenant(w) {
        for namespace in bad_names().into_iter().chain(["/".into()]) {
            refused_everywhere(&w, "namespace", |p| Some(ResourcePath { namespace: namespace.clone(), ..p }))
                .await;
        }
    }

    async fn name_is_as_tenant_but_may_hold_slashes(w) {
        for name in bad_names() {
            refused_everywhere(&w, "name", |p| Some(ResourcePath { name: name.clone(), ..p })).await;
        }
        assert_eq!(w.write("/a//b/", &["x"]).await, [0]);
        assert_eq!(w.read("/a//b/", 0, 0).await[0].resource_path, "t/n/stream//a//b/");
    }

    async fn names_of_255_bytes_are_accepted(w) {
        let long = "é".repeat(127) + "x";
        let path = ResourcePath {
            tenant: long.clone(),
            namespace: long.clone(),
            resource_type: "kv".into(),
            name: long,
        };
        let mut kv = w.kv();
        let set = SetRequest {
            resource_path: Some(path.clone()),
            key: "k".into(),
            value: "v".into(),
            ttl_seconds: 0,
        };
        kv.set(set).await.unwrap();
        let reply = kv.get(GetRequest { resource_path: Some(path), key: "k".into() }).await.unwrap();
        assert_eq!(reply.into_inner().value, "v");
    }

    async fn resource_type_is_the_kind_of_the_service(w) {
        for wrong in ["", "Stream", "streams", "topic"] {
            refused_everywhere(&w, "resource_type", |p| {
                Some(ResourcePath { resource_type: wrong.into(), ..p })
            })
            .await;
        }
        let other = |kind: &str| if kind == "kv" { "queue" } else { "kv" };
        refused_everywhere(&w, "resource_type", |p| {
            Some(ResourcePath { resource_type: other(&p.resource_type).into(), ..p })
        })
        .await;
    }

    async fn texts_are_kept_byte_for_byte(w) {
        // Composed and decomposed é, upper and lower case, a blank around: all different.
        for (i, name) in ["\u{e9}", "e\u{301}", "E\u{301}", " a", "a", "a "].into_iter().enumerate() {
            assert_eq!(w.latest_or_none(name).await, None);
            w.write(name, &[&i.to_string()]).await;
            let message = &w.read(name, 0, 0).await[0];
            assert_eq!(
                (&message.payload[..], &*message.resource_path),
                (i.to_string().as_bytes(), &*format!("t/n/stream/{name}"))
            );
        }
    }

    async fn different_paths_never_share_data(w) {
        let paths = [("a", "b", "c/d"), ("a", "b", "c"), ("ab", "b", "c"), ("a", "bb", "c/d")];
        let path = |(tenant, namespace, name): (&str, &str, &str)| {
            Some(ResourcePath {
                tenant: tenant.into(),
                namespace: namespace.into(),
                resource_type: "kv".into(),
                name: name.into(),
            })
        };
        for p in paths {
            let missing = w.kv().get(GetRequest { resource_path: path(p), key: "k".into() }).await;
            assert_eq!(code(missing), Code::NotFound, "{p:?}");
            let set =
                SetRequest { resource_path: path(p), key: "k".into(), value: "v".into(), ttl_seconds: 0 };
            w.kv().set(set).await.unwrap();
        }
        // A stream, a queue and a store of one name are three things.
        w.write("same", &["x"]).await;
        assert_eq!(code(w.try_policy("same").await), Code::NotFound);
        assert_eq!(w.get("same", "k").await, None);
    }

    async fn consumer_group_is_1_to_255_bytes_without_control_characters(w) {
        w.write("s", &["x"]).await;
        for bad in ["", "a\nb", "\u{9f}", &"x".repeat(256)] {
            assert_invalid(w.try_commit("s", bad, 0, 0).await, "consumer_group");
            assert_invalid(w.try_committed("s", bad, 0).await, "consumer_group");
            assert_invalid(w.try_subscribe("s", bad, 0, 0).await, "consumer_group");
            let request = GetConsumerGroupStateRequest {
                resource_path: stream("s"),
                consumer_group: bad.into(),
                partition: 0,
            };
            assert_invalid(w.streams().get_consumer_group_state(request).await, "consumer_group");
        }
        for (n, good) in [" ", "a/b", &"x".repeat(255)].into_iter().enumerate() {
            w.commit("s", good, n as i64).await;
            assert_eq!(w.committed("s", good).await, n as i64);
        }
    }

    async fn key_is_1_to_1024_bytes(w) {
        for bad in ["", &"x".repeat(1025)] {
            assert_invalid(w.try_set("k", bad, b"v", 0).await, "key");
            assert_invalid(w.try_get("k", bad).await, "key");
            assert_invalid(w.try_delete("k", bad).await, "key");
            assert_invalid(w.try_exists("k", bad).await, "key");
        }
        for good in [" ", "a\0b\n", "/", &"x".repeat(1024)] {
            w.set("k", good, "v").await;
            assert_eq!(w.get("k", good).await.as_deref(), Some("v"));
        }
    }

    async fn prefix_is_free(w) {
        w.set("k", "a\0b", "v").await;
        assert_eq!(w.list("k", "a\0").await, ["a\0b"]);
        assert!(w.list("k", &"x".repeat(5000)).await.is_empty());
    }

    async fn payload_value_and_job_id_are_not_empty(w) {
        w.enqueue("q", "x").await;
        assert_invalid(w.try_write("s", vec![event(b"x"), event(b"")]).await, "events[1].payload");
        assert_invalid(w.try_enqueue("q", "", 0).await, "payload");
        assert_invalid(w.try_set("k", "k", b"", 0).await, "value");
        assert_invalid(w.try_ack("q", "").await, "job_id");
        assert_invalid(w.try_nack("q", "", 0).await, "job_id");
        assert_invalid(w.try_replay("q", "").await, "job_id");
    }

    async fn delay_seconds_is_0_to_1_year(w) {
        for bad in [-1, 31_536_001, i64::MIN, i64::MAX] {
            assert_invalid(w.try_enqueue("q", "x", bad).await, "delay_seconds");
            assert_invalid(w.try_nack("q", "x", bad).await, "delay_seconds");
        }
        w.try_enqueue("q", "x", 31_536_000).await.unwrap();
        w.advance(31_535_999);
        assert!(w.reserve("q").await.is_none());
        w.advance(1);
        assert!(w.reserve("q").await.is_some());
    }

    async fn ttl_seconds_is_0_to_1_year(w) {
        for bad in [-1, 31_536_001, i64::MIN, i64::MAX] {
            assert_invalid(w.try_set("k", "k", b"v", bad).await, "ttl_seconds");
        }
        w.try_set("k", "k", b"v", 31_536_000).await.unwrap();
    }

    async fn visibility_timeout_is_at_most_12_hours_and_30_seconds_by_default(w) {
        for bad in [43_201, i64::MAX] {
            assert_invalid(w.try_reserve("q", bad, 0).await, "visibility_timeout_seconds");
            assert_invalid(w.try_receive("q", 1, bad).await, "visibility_timeout_seconds");
        }
        for (given, used) in [(0, 30), (-1, 30), (i64::MIN, 30), (1, 1), (43_200, 43_200)] {
            w.enqueue("q", "x").await;
            let job = w.try_reserve("q", given, 0).await.unwrap().unwrap();
            assert_eq!(job.reserve_until - w.now(), used * 1_000_000_000, "{given}");
            w.ack("q", &job.id).await;
        }
    }

    async fn long_poll_timeout_is_never_refused_and_at_most_20_seconds(w) {
        for none in [0, -1, i64::MIN] {
            assert_eq!(w.try_reserve("q", 0, none).await.unwrap(), None);
        }
        for long in [21, i64::MAX] {
            let poll = w.poll("q", long);
            w.arrived().await;
            w.advance(19);
            w.arrived().await;
            assert!(!poll.is_finished());
            w.advance(1);
            assert_eq!(poll.await.unwrap().unwrap(), None);
        }
    }

    async fn partition_is_never_refused_and_below_0_means_0(w) {
        w.write("s", &["x"]).await;
        for (partition, latest) in [(-1, 0), (i32::MIN, 0), (1, -1), (i32::MAX, -1)] {
            assert_eq!(w.try_latest("s", partition).await.unwrap(), latest);
        }
    }

    async fn a_refusal_names_argument_and_rule(w) {
        let status = w.try_set("k", &"x".repeat(1025), b"v", 0).await.unwrap_err();
        assert_eq!(status.message(), "key must be 1 to 1024 bytes, got 1025");
    }
}

impl World {
    async fn latest_or_none(&self, name: &str) -> Option<i64> {
        self.try_latest(name, 0).await.ok()
    }
}
