//! What was acknowledged is there after an orderly restart; crashes have a suite of their own.

use crate::ops::*;

durable_rules! {
    async fn events_and_commits_survive_a_restart(w) {
        w.write("s", &["a", "b"]).await;
        w.commit("s", "g", 0).await;
        let before = w.read("s", 0, 0).await;
        let w = w.restart(|_| {}).await;
        assert_eq!(w.read("s", 0, 0).await, before);
        assert_eq!((w.latest("s").await, w.committed("s", "g").await), (1, 0));
        assert_eq!(w.write("s", &["c"]).await, [2]);
    }

    async fn jobs_acks_nacks_and_policies_survive_a_restart(w) {
        let mut own = policy();
        own.max_attempts = 7;
        w.set_policy("q", own.clone()).await;
        let [acked, nacked, delayed] = [
            w.enqueue("q", "a").await,
            w.enqueue("q", "b").await,
            w.try_enqueue("q", "c", 60).await.unwrap().job_id,
        ];
        w.receive("q", 2).await;
        w.ack("q", &acked).await;
        w.try_nack("q", &nacked, 50).await.unwrap();
        let w = w.restart(|_| {}).await;
        assert_eq!(w.try_policy("q").await.unwrap(), own);
        assert!(w.reserve("q").await.is_none());
        w.advance(60);
        let jobs = w.receive("q", 10).await;
        assert_eq!(
            jobs.iter().map(|j| (&j.id, j.attempts)).collect::<Vec<_>>(),
            [(&nacked, 2), (&delayed, 1)]
        );
        assert_eq!(w.try_enqueue("q", "d", 0).await.unwrap().seq, 3);
    }

    async fn a_lease_and_its_attempts_run_on_over_a_restart(w) {
        w.enqueue("q", "x").await;
        let leased = w.reserve("q").await.unwrap();
        w.advance(10);
        let w = w.restart(|_| {}).await;
        assert!(w.reserve("q").await.is_none());
        w.ack("q", &leased.id).await;
        assert_eq!(w.stats("q").await.completed_jobs, 1);
    }

    async fn a_lease_that_ends_while_the_server_is_down_ends(w) {
        w.enqueue("q", "x").await;
        let leased = w.reserve("q").await.unwrap();
        w.advance(31);
        let w = w.restart(|_| {}).await;
        let again = w.reserve("q").await.expect("due since the lease ended, after a backoff of 1 s");
        assert_eq!((again.id, again.attempts), (leased.id, 2));
        assert_eq!(again.visible_at, leased.reserve_until + 1_000_000_000);
    }

    async fn dead_letters_survive_a_restart(w) {
        w.dead_letter("q", "x").await;
        let before = w.dead_letters("q", 0).await;
        let w = w.restart(|_| {}).await;
        assert_eq!(w.dead_letters("q", 0).await, before);
        w.try_replay("q", &before[0].id).await.unwrap();
        let w = w.restart(|_| {}).await;
        assert!(w.dead_letters("q", 0).await.is_empty());
        assert_eq!(w.reserve("q").await.unwrap().payload, "x");
    }

    async fn stats_survive_a_restart(w) {
        w.dead_letter("q", "x").await;
        for payload in ["a", "b", "c"] {
            w.enqueue("q", payload).await;
        }
        let job = w.reserve("q").await.unwrap();
        w.ack("q", &job.id).await;
        w.reserve("q").await.unwrap();
        let before = w.stats("q").await;
        assert_eq!((before.total_jobs, before.pending_jobs, before.in_flight_jobs), (4, 1, 1));
        assert_eq!((before.completed_jobs, before.failed_jobs), (1, 1));
        let w = w.restart(|_| {}).await;
        assert_eq!(w.stats("q").await, before);
    }

    async fn values_and_deletes_survive_a_restart(w) {
        w.set("k", "a", "1").await;
        w.set("k", "b", "2").await;
        w.try_set("k", "c", b"3", 60).await.unwrap();
        w.try_delete("k", "b").await.unwrap();
        let w = w.restart(|_| {}).await;
        assert_eq!(w.list("k", "").await, ["a", "c"]);
        w.advance(60);
        assert_eq!(w.list("k", "").await, ["a"]);
    }
}
