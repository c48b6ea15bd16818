//! Keys and values: a set replaces value and TTL, and what has expired is nowhere.

use crate::ops::*;

const SECOND: i64 = 1_000_000_000;

rules! {
    async fn set_replaces_the_value(w) {
        w.set("k", "a", "1").await;
        w.set("k", "a", "2").await;
        assert_eq!(w.get("k", "a").await.as_deref(), Some("2"));
    }

    async fn values_are_bytes(w) {
        let all: Vec<u8> = (0..=255).collect();
        w.try_set("k", "a", &all, 0).await.unwrap();
        assert_eq!(w.try_get("k", "a").await.unwrap(), all);
    }

    async fn a_key_is_absent_everywhere_from_expires_at_on(w) {
        w.try_set("k", "a", b"v", 5).await.unwrap();
        w.advance_ns(5 * SECOND - 1);
        assert_eq!(w.get("k", "a").await.as_deref(), Some("v"));
        assert!(w.try_exists("k", "a").await.unwrap());
        assert_eq!(w.list("k", "").await, ["a"]);
        w.advance_ns(1);
        assert_eq!(w.get("k", "a").await, None);
        assert!(!w.try_exists("k", "a").await.unwrap());
        assert!(w.list("k", "").await.is_empty());
        w.try_delete("k", "a").await.unwrap();
    }

    async fn ttl_0_keeps_a_key_for_ever(w) {
        w.set("k", "a", "v").await;
        w.advance(40 * 31_536_000);
        assert_eq!(w.get("k", "a").await.as_deref(), Some("v"));
    }

    async fn set_replaces_the_ttl(w) {
        w.try_set("k", "permanent", b"1", 5).await.unwrap();
        w.set("k", "permanent", "2").await;
        w.set("k", "longer", "1").await;
        w.try_set("k", "longer", b"2", 50).await.unwrap();
        w.advance(10);
        assert_eq!(w.list("k", "").await, ["longer", "permanent"]);
        w.advance(40);
        assert_eq!(w.list("k", "").await, ["permanent"]);
    }

    async fn a_key_can_be_set_again_after_it_expired(w) {
        w.try_set("k", "a", b"1", 1).await.unwrap();
        w.advance(1);
        w.set("k", "a", "2").await;
        assert_eq!(w.get("k", "a").await.as_deref(), Some("2"));
    }

    async fn delete_removes_and_is_ok_for_an_absent_key(w) {
        w.set("k", "a", "v").await;
        for _ in 0..2 {
            w.try_delete("k", "a").await.unwrap();
            assert_eq!(w.get("k", "a").await, None);
        }
    }

    async fn exists_tells_without_an_error(w) {
        w.set("k", "a", "v").await;
        assert!(w.try_exists("k", "a").await.unwrap());
        assert!(!w.try_exists("k", "b").await.unwrap());
    }

    async fn list_keys_takes_a_byte_prefix_and_is_in_byte_order(w) {
        for key in ["b", "a", "ab", "a\u{ff}", "a\u{10ffff}", "aZ", "é", "A", "a%", "a_", "a*"] {
            w.set("k", key, "v").await;
        }
        assert_eq!(w.list("k", "a").await, ["a", "a%", "a*", "aZ", "a_", "ab", "a\u{ff}", "a\u{10ffff}"]);
        assert_eq!(
            w.list("k", "").await,
            ["A", "a", "a%", "a*", "aZ", "a_", "ab", "a\u{ff}", "a\u{10ffff}", "b", "é"]
        );
        assert_eq!(w.list("k", "\u{10ffff}").await, [""; 0]);
        // The prefix of one key is a key of another store.
        w.set("other", "ax", "v").await;
        assert_eq!(w.list("k", "ax").await, [""; 0]);
    }

    async fn list_keys_is_one_reply_however_long(w) {
        let mut sets = tokio::task::JoinSet::new();
        for i in 0..4200 {
            let mut kv = w.kv();
            let key = format!("{i:06}{}", "x".repeat(1018));
            let request = flowmesh_proto::v1::SetRequest {
                resource_path: store("k"),
                key,
                value: "v".into(),
                ttl_seconds: 0,
            };
            sets.spawn(async move { kv.set(request).await.unwrap() });
        }
        sets.join_all().await;
        assert_eq!(w.list("k", "").await.len(), 4200);
    }
}
