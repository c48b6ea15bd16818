//! Writing, reading, consumer groups.

use std::collections::BTreeMap;

use flowmesh_proto::v1::*;
use prost::Message as _;
use tonic::Code;

use crate::ops::*;

rules! {
    async fn a_write_without_events_is_refused(w) {
        assert_invalid(w.try_write("s", vec![]).await, "events");
    }

    async fn one_empty_payload_refuses_the_whole_batch(w) {
        w.write("s", &["x"]).await;
        assert_invalid(w.try_write("s", vec![event(b"a"), event(b""), event(b"c")]).await, "events[1]");
        assert_eq!(w.latest("s").await, 0);
    }

    async fn offsets_start_at_0_and_a_batch_gets_consecutive_ones_in_order(w) {
        assert_eq!(w.write("s", &["a"]).await, [0]);
        assert_eq!(w.write("s", &["b", "c", "d"]).await, [1, 2, 3]);
        assert_eq!(w.write("other", &["z"]).await, [0]);
        let read = w.read("s", 0, 0).await;
        let seen: Vec<_> = read.iter().map(|m| (m.offset, &m.payload[..])).collect();
        assert_eq!(seen, [(0, &b"a"[..]), (1, b"b"), (2, b"c"), (3, b"d")]);
    }

    async fn concurrent_batches_do_not_mix(w) {
        let writers: Vec<_> = (0..8)
            .map(|i| {
                let mut streams = w.streams();
                let events = vec![event(i.to_string().as_bytes()); 20];
                tokio::spawn(async move {
                    let request = WriteEventsRequest { resource_path: stream("s"), events };
                    streams.write_events(request).await.unwrap().into_inner().offsets
                })
            })
            .collect();
        for writer in writers {
            let offsets = writer.await.unwrap();
            assert!(offsets.windows(2).all(|o| o[1] == o[0] + 1), "{offsets:?}");
            let batch = w.read("s", offsets[0], 20).await;
            assert!(batch.iter().all(|m| m.payload == batch[0].payload));
        }
        assert_eq!(w.latest("s").await, 159);
    }

    async fn a_message_carries_what_was_written(w) {
        let headers = BTreeMap::from([
            ("a".into(), "1".into()),
            ("é".into(), String::new()),
            (String::new(), "x".into()),
        ]);
        let written = Event { payload: vec![0, 255, 7].into(), headers };
        let before = w.now();
        w.try_write("s", vec![written.encode_to_vec().into()]).await.unwrap();
        let message = w.read("s", 0, 0).await.remove(0);
        assert_eq!((&message.payload, &message.headers), (&written.payload, &written.headers));
        assert_eq!((&*message.resource_path, message.partition, message.offset), ("t/n/stream/s", 0, 0));
        assert_eq!((message.created_at, message.schema_version), (before, 0));
        assert_eq!(message.id.len(), 32);
        assert!(message.id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    }

    async fn message_ids_differ(w) {
        w.write("s", &["x", "x"]).await;
        w.write("other", &["x"]).await;
        let mut ids: Vec<_> =
            w.read("s", 0, 0).await.into_iter().chain(w.read("other", 0, 0).await).map(|m| m.id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 3);
    }

    async fn created_at_is_the_server_clock(w) {
        w.write("s", &["a"]).await;
        w.advance(5);
        w.write("s", &["b"]).await;
        let read = w.read("s", 0, 0).await;
        assert_eq!(read[1].created_at - read[0].created_at, 5_000_000_000);
    }

    async fn read_takes_an_offset_from_0(w) {
        w.write("s", &["x"]).await;
        for bad in [-1, i64::MIN] {
            assert_invalid(w.try_read("s", bad, 0).await, "offset");
        }
    }

    async fn read_past_the_end_is_ok_and_empty(w) {
        w.write("s", &["x"]).await;
        for offset in [1, 2, i64::MAX] {
            assert!(w.read("s", offset, 0).await.is_empty());
        }
    }

    async fn read_starts_at_the_offset(w) {
        w.write("s", &["a", "b", "c"]).await;
        let offsets: Vec<_> = w.read("s", 1, 1).await.iter().map(|m| m.offset).collect();
        assert_eq!(offsets, [1]);
    }

    async fn another_partition_is_empty_and_never_an_error(w) {
        w.write("s", &["x"]).await;
        let request =
            ReadStreamRequest { resource_path: stream("s"), partition: 3, offset: 0, max_messages: 0 };
        assert!(w.streams().read_stream(request).await.unwrap().into_inner().messages.is_empty());
        assert_eq!(w.try_latest("s", 3).await.unwrap(), -1);
        assert_eq!(w.try_committed("s", "g", 3).await.unwrap(), -1);
        let request =
            ReadStreamRequest { resource_path: stream("missing"), partition: 3, offset: 0, max_messages: 0 };
        assert_eq!(code(w.streams().read_stream(request).await), Code::NotFound);
    }

    async fn latest_of_an_empty_stream_is_minus_1(w) {
        drop(w.subscribe("s", 0).await);
        assert_eq!(w.latest("s").await, -1);
        w.write("s", &["a", "b"]).await;
        assert_eq!(w.latest("s").await, 1);
    }

    async fn a_commit_is_the_last_processed_offset_per_group(w) {
        w.write("s", &["a", "b"]).await;
        w.commit("s", "one", 1).await;
        assert_eq!((w.committed("s", "one").await, w.committed("s", "two").await), (1, -1));
    }

    async fn commits_move_forwards_backwards_past_the_end_and_are_forgotten_by_minus_1(w) {
        w.write("s", &["a"]).await;
        for offset in [0, 5, 2, i64::MAX, -1] {
            w.commit("s", "g", offset).await;
            assert_eq!(w.committed("s", "g").await, offset);
        }
    }

    async fn a_commit_below_minus_1_is_refused(w) {
        w.write("s", &["a"]).await;
        for bad in [-2, i64::MIN] {
            assert_invalid(w.try_commit("s", "g", 0, bad).await, "offset");
        }
    }

    async fn commits_are_kept_per_partition(w) {
        w.write("s", &["a"]).await;
        w.try_commit("s", "g", 1, 7).await.unwrap();
        w.try_commit("s", "g", -5, 3).await.unwrap();
        assert_eq!(w.try_committed("s", "g", 1).await.unwrap(), 7);
        assert_eq!(w.try_committed("s", "g", 0).await.unwrap(), 3);
        assert_eq!(w.try_committed("s", "g", 2).await.unwrap(), -1);
    }

    async fn group_state_without_a_commit_is_ok(w) {
        w.write("s", &["a", "b"]).await;
        let expected = ConsumerGroupState {
            stream: "t/n/stream/s".into(),
            group: "g".into(),
            partition: 0,
            committed_offset: -1,
            latest_offset: 1,
            lag: 2,
        };
        assert_eq!(w.group_state("s", "g", 0).await, expected);
    }

    async fn lag_is_latest_less_committed_and_never_negative(w) {
        drop(w.subscribe("s", 0).await);
        assert_eq!(w.group_state("s", "g", 0).await.lag, -1);
        w.commit("s", "g", 5).await;
        assert_eq!(w.group_state("s", "g", 0).await.lag, -1);
        w.write("s", &["x"; 10]).await;
        for (committed, lag) in [(-1, 10), (0, 9), (9, 0), (20, 0), (i64::MAX, 0)] {
            w.commit("s", "g", committed).await;
            let state = w.group_state("s", "g", 0).await;
            assert_eq!((state.committed_offset, state.latest_offset, state.lag), (committed, 9, lag));
        }
    }

    async fn group_state_of_another_partition_is_that_of_an_empty_one(w) {
        w.write("s", &["x"]).await;
        w.try_commit("s", "g", 4, 2).await.unwrap();
        let state = w.group_state("s", "g", 4).await;
        assert_eq!((state.partition, state.committed_offset, state.latest_offset, state.lag), (4, 2, -1, -1));
        assert_eq!(w.group_state("s", "g", -4).await.partition, 0);
    }
}
