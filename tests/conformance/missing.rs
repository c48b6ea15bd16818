//! Resources that are not there: writers and consumers make them, readers do not find them.

use tonic::Code;

use crate::{every_rpc::call_every_rpc, ops::*};

/// Rpcs that create what they need.
const CREATE: [&str; 7] =
    ["write_events", "subscribe", "enqueue", "reserve", "receive", "set_retry_policy", "set"];
/// Rpcs to which a missing store is an empty one.
const FINE: [&str; 3] = ["delete", "exists", "list_keys"];

rules! {
    async fn calls_that_need_a_resource_create_it(w) {
        for (rpc, code, text) in call_every_rpc(&w, path).await {
            let expected =
                if CREATE.contains(&rpc) || FINE.contains(&rpc) { Code::Ok } else { Code::NotFound };
            assert_eq!(code, expected, "{rpc}: {text}");
        }
    }

    async fn without_creation_these_calls_are_not_found(w) {
        let w = w.restart(|s| s.create = false).await;
        for (rpc, code, text) in call_every_rpc(&w, path).await {
            let expected = if FINE.contains(&rpc) { Code::Ok } else { Code::NotFound };
            assert_eq!(code, expected, "{rpc}: {text}");
        }
    }

    async fn a_created_resource_is_at_once_usable_by_every_rpc(w) {
        drop(w.subscribe("s", -2).await);
        assert_eq!(w.latest("s").await, -1);
        assert!(w.read("s", 0, 0).await.is_empty());
        assert_eq!(w.committed("s", "g").await, -1);
        assert!(w.reserve("q").await.is_none());
        assert_eq!(w.stats("q").await, Default::default());
        assert_eq!(w.try_policy("q").await.unwrap(), policy());
        assert!(w.dead_letters("q", 0).await.is_empty());
        w.ack("q", "x").await;
    }

    async fn a_consumer_may_start_before_its_producer(w) {
        let mut subscription = w.subscribe("s", 0).await;
        let poll = w.poll("q", 20);
        w.arrived().await;
        w.write("s", &["x"]).await;
        w.enqueue("q", "y").await;
        assert_eq!(next(&mut subscription).await.offset, 0);
        assert_eq!(poll.await.unwrap().unwrap().unwrap().payload, "y");
    }

    async fn kv_reads_and_delete_do_not_create_a_store(w) {
        assert_eq!(w.get("k", "k").await, None);
        assert!(!w.try_exists("k", "k").await.unwrap());
        assert!(w.list("k", "").await.is_empty());
        w.try_delete("k", "k").await.unwrap();
        let w = w.restart(|s| s.create = false).await;
        assert_eq!(code(w.try_set("k", "k", b"v", 0).await), Code::NotFound);
    }

    async fn a_missing_key_is_not_found(w) {
        w.set("k", "there", "v").await;
        assert_eq!(code(w.try_get("k", "absent").await), Code::NotFound);
    }
}

mod on_disk {
    use super::*;

    durable_rules! {
        async fn what_exists_stays_usable_without_creation(w) {
            w.write("s", &["x"]).await;
            w.dead_letter("q", "x").await;
            w.set("k", "k", "v").await;
            let w = w.restart(|s| s.create = false).await;
            assert_eq!(w.write("s", &["y"]).await, [1]);
            w.enqueue("q", "y").await;
            w.set("k", "k", "w").await;
        }

        async fn a_dead_letter_queue_and_a_group_come_into_being_without_creation_too(w) {
            w.write("s", &["x"]).await;
            w.set_policy("q", flowmesh_proto::v1::RetryPolicy { max_attempts: 1, ..policy() }).await;
            let w = w.restart(|s| s.create = false).await;
            w.commit("s", "new", 0).await;
            let job = w.enqueue("q", "x").await;
            w.reserve("q").await.unwrap();
            assert_eq!(code(w.try_nack("q", &job, 0).await), Code::FailedPrecondition);
            assert_eq!(w.dead_letters("q", 0).await.len(), 1);
        }

        async fn creation_is_durable(w) {
            drop(w.subscribe("s", -2).await);
            assert!(w.reserve("q").await.is_none());
            let w = w.restart(|_| {}).await;
            assert_eq!(w.latest("s").await, -1);
            assert_eq!(w.stats("q").await.total_jobs, 0);
        }
    }
}
