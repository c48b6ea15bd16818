//! Subscriptions: every message from the start on, in order, as soon as it is stored.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use flowmesh_proto::v1::SubscribeResponse;
use tonic::Streaming;

use crate::{ops::*, world::World};

/// Whether the subscription has nothing to give once everything sent has arrived.
async fn is_silent(w: &World, subscription: &mut Streaming<SubscribeResponse>) -> bool {
    w.arrived().await;
    let mut message = pin!(subscription.message());
    poll_fn(|cx| Poll::Ready(message.as_mut().poll(cx).is_pending())).await
}

rules! {
    async fn a_literal_start_offset_is_the_first_message(w) {
        w.write("s", &["a", "b", "c"]).await;
        for start in 0..3 {
            assert_eq!(next(&mut w.subscribe("s", start).await).await.offset, start);
        }
    }

    async fn a_start_past_the_end_waits_for_that_offset(w) {
        w.write("s", &["a"]).await;
        let mut subscription = w.subscribe("s", 2).await;
        w.write("s", &["b"]).await;
        assert!(is_silent(&w, &mut subscription).await);
        w.write("s", &["c"]).await;
        assert_eq!(next(&mut subscription).await.offset, 2);
    }

    async fn minus_1_goes_on_after_the_groups_commit(w) {
        w.write("s", &["a", "b", "c"]).await;
        w.commit("s", "g", 1).await;
        assert_eq!(next(&mut w.subscribe("s", -1).await).await.offset, 2);
    }

    async fn minus_1_without_a_commit_starts_at_0(w) {
        w.write("s", &["a", "b"]).await;
        w.commit("s", "other", 1).await;
        assert_eq!(next(&mut w.subscribe("s", -1).await).await.offset, 0);
    }

    async fn minus_1_after_a_commit_of_the_last_possible_offset_waits(w) {
        w.write("s", &["a"]).await;
        w.commit("s", "g", i64::MAX).await;
        let mut subscription = w.subscribe("s", -1).await;
        assert!(is_silent(&w, &mut subscription).await);
    }

    async fn minus_2_delivers_only_what_is_new(w) {
        w.write("s", &["a", "b"]).await;
        let mut subscription = w.subscribe("s", -2).await;
        w.write("s", &["c"]).await;
        assert_eq!(next(&mut subscription).await.offset, 2);
    }

    async fn below_minus_2_is_refused(w) {
        for bad in [-3, i64::MIN] {
            assert_invalid(w.try_subscribe("s", "g", 0, bad).await, "start_offset");
        }
    }

    async fn the_group_is_mandatory_for_every_start(w) {
        for start in [0, -1, -2] {
            assert_invalid(w.try_subscribe("s", "", 0, start).await, "consumer_group");
        }
    }

    async fn headers_go_out_before_there_is_a_message_and_nothing_after_them_is_missed(w) {
        // The call returns with the headers; nothing was written yet.
        let mut subscription = w.subscribe("s", -2).await;
        w.write("s", &["a"]).await;
        assert_eq!(next(&mut subscription).await.offset, 0);
    }

    async fn the_position_is_fixed_when_the_call_is_accepted(w) {
        w.write("s", &["a", "b", "c"]).await;
        w.commit("s", "g", 0).await;
        let mut subscription = w.subscribe("s", -1).await;
        w.commit("s", "g", 2).await;
        assert_eq!(next(&mut subscription).await.offset, 1);
    }

    async fn messages_come_one_per_response_ascending_without_gaps(w) {
        let mut subscription = w.subscribe("s", 0).await;
        for _ in 0..10 {
            w.write("s", &["x"; 37]).await;
        }
        for offset in 0..370 {
            assert_eq!(next(&mut subscription).await.offset, offset);
        }
        assert!(is_silent(&w, &mut subscription).await);
    }

    async fn a_subscription_delivers_what_read_delivers(w) {
        w.write("s", &["a", "b"]).await;
        let mut subscription = w.subscribe("s", 0).await;
        for message in w.read("s", 0, 0).await {
            assert_eq!(next(&mut subscription).await, message);
        }
    }

    async fn nothing_is_committed_for_the_client(w) {
        w.write("s", &["a"]).await;
        next(&mut w.subscribe("s", -1).await).await;
        assert_eq!(w.committed("s", "g").await, -1);
    }

    async fn two_subscribers_of_a_group_both_get_everything(w) {
        let mut both = [w.subscribe("s", 0).await, w.subscribe("s", 0).await];
        w.write("s", &["a", "b"]).await;
        for subscription in &mut both {
            assert_eq!(next(subscription).await.offset, 0);
            assert_eq!(next(subscription).await.offset, 1);
        }
    }

    async fn a_slow_subscriber_never_holds_up_writers(w) {
        let mut slow = w.subscribe("s", 0).await;
        let large = "x".repeat(1 << 20);
        for offset in 0..24 {
            assert_eq!(w.write("s", &[&large]).await, [offset]);
        }
        for offset in 0..24 {
            assert_eq!(next(&mut slow).await.offset, offset);
        }
    }

    async fn another_partition_never_delivers(w) {
        w.write("s", &["a"]).await;
        let mut elsewhere = w.try_subscribe("s", "g", 1, 0).await.unwrap();
        let mut below_0 = w.try_subscribe("s", "g", -1, 0).await.unwrap();
        w.write("s", &["b"]).await;
        assert_eq!(next(&mut below_0).await.offset, 0);
        assert!(is_silent(&w, &mut elsewhere).await);
    }
}
