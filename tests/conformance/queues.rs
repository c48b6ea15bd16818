//! The life of a job: waiting, leased, acked or waiting again; and what the statistics count.

use std::collections::BTreeMap;

use flowmesh_proto::v1::*;
use tonic::Code;

use crate::ops::*;

const SECOND: i64 = 1_000_000_000;

fn fixed(seconds: i64) -> RetryPolicy {
    RetryPolicy {
        max_attempts: 0,
        initial_backoff_seconds: seconds,
        max_backoff_seconds: 31_536_000,
        backoff_multiplier: 1.0,
        backoff_strategy: "fixed".into(),
    }
}

rules! {
    async fn seq_starts_at_0_and_rises_by_1_per_queue(w) {
        for seq in 0..3 {
            assert_eq!(w.try_enqueue("q", "x", 0).await.unwrap().seq, seq);
        }
        assert_eq!(w.try_enqueue("other", "x", 0).await.unwrap().seq, 0);
    }

    async fn a_delivered_job_has_every_field(w) {
        let headers = BTreeMap::from([("a".into(), "1".into()), ("é".into(), String::new())]);
        let request = EnqueueRequest {
            resource_path: queue("q"),
            payload: vec![0, 255].into(),
            delay_seconds: 2,
            headers: headers.clone(),
        };
        let enqueued = w.queues().enqueue(request).await.unwrap().into_inner();
        let created_at = w.now();
        w.advance(3);
        let job = w.try_reserve("q", 10, 0).await.unwrap().unwrap();
        let expected = Job {
            id: enqueued.job_id,
            resource_path: "t/n/queue/q".into(),
            seq: 0,
            payload: vec![0, 255].into(),
            headers,
            created_at,
            visible_at: created_at + 2 * SECOND,
            reserve_until: w.now() + 10 * SECOND,
            attempts: 1,
        };
        assert_eq!(job, expected);
        assert_eq!(job.id.len(), 32);
        assert!(job.id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    }

    async fn jobs_come_in_order_of_visible_at_then_seq(w) {
        w.try_enqueue("q", "late", 2).await.unwrap();
        w.try_enqueue("q", "early", 1).await.unwrap();
        w.advance(1);
        w.enqueue("q", "same time, later seq").await;
        w.advance(1);
        let jobs = w.receive("q", 10).await;
        assert_eq!(lease(&jobs), ["early", "same time, later seq", "late"]);
    }

    async fn a_delayed_job_is_due_exactly_at_its_time(w) {
        w.try_enqueue("q", "x", 5).await.unwrap();
        w.advance_ns(5 * SECOND - 1);
        assert!(w.reserve("q").await.is_none());
        w.advance_ns(1);
        assert!(w.reserve("q").await.is_some());
    }

    async fn nothing_due_is_ok_and_empty(w) {
        assert_eq!(w.reserve("q").await, None);
        assert!(w.receive("q", 10).await.is_empty());
    }

    async fn receive_leases_1_to_100_jobs(w) {
        for _ in 0..120 {
            w.enqueue("q", "x").await;
        }
        for (asked, given) in [(0, 1), (-5, 1), (3, 3), (101, 100), (i32::MAX, 15)] {
            assert_eq!(w.receive("q", asked).await.len(), given, "{asked}");
        }
    }

    async fn a_leased_job_is_not_delivered_again(w) {
        w.enqueue("q", "x").await;
        assert!(w.reserve("q").await.is_some());
        assert!(w.reserve("q").await.is_none());
    }

    async fn delivery_leaves_visible_at_and_counts_the_attempt(w) {
        w.enqueue("q", "x").await;
        let first = w.reserve("q").await.unwrap();
        w.try_nack("q", &first.id, 4).await.unwrap();
        w.advance(9);
        let second = w.reserve("q").await.unwrap();
        assert_eq!((first.attempts, second.attempts), (1, 2));
        assert_eq!((&first.id, first.seq, first.created_at), (&second.id, second.seq, second.created_at));
        assert_eq!(second.visible_at, w.now() - 5 * SECOND);
    }

    async fn a_long_poll_answers_as_soon_as_a_job_is_enqueued(w) {
        let poll = w.poll("q", 20);
        w.arrived().await;
        w.enqueue("q", "x").await;
        assert_eq!(poll.await.unwrap().unwrap().unwrap().payload, "x");
    }

    async fn a_long_poll_answers_when_a_delayed_job_is_due(w) {
        w.try_enqueue("q", "x", 3).await.unwrap();
        let poll = w.poll("q", 20);
        w.arrived().await;
        w.advance_ns(3 * SECOND - 1);
        w.arrived().await;
        assert!(!poll.is_finished());
        w.advance_ns(1);
        assert_eq!(poll.await.unwrap().unwrap().unwrap().payload, "x");
    }

    async fn a_long_poll_answers_when_a_retried_job_is_due(w) {
        w.enqueue("q", "x").await;
        let job = w.reserve("q").await.unwrap();
        let poll = w.poll("q", 20);
        w.arrived().await;
        w.try_nack("q", &job.id, 2).await.unwrap();
        assert_eq!(w.advance_until(poll).await.unwrap().unwrap().attempts, 2);
    }

    async fn a_long_poll_answers_when_a_lease_has_expired(w) {
        w.enqueue("q", "x").await;
        w.try_reserve("q", 2, 0).await.unwrap().unwrap();
        assert_eq!(w.advance_until(w.poll("q", 20)).await.unwrap().unwrap().attempts, 2);
    }

    async fn a_long_poll_of_receive_waits_as_well(w) {
        let mut queues = w.queues();
        let request = ReceiveRequest {
            resource_path: queue("q"),
            max_jobs: 5,
            long_poll_timeout_seconds: 20,
            ..Default::default()
        };
        let poll = tokio::spawn(async move { queues.receive(request).await.unwrap().into_inner().jobs });
        w.arrived().await;
        w.enqueue("q", "x").await;
        assert_eq!(lease(&poll.await.unwrap()), ["x"]);
    }

    async fn a_long_poll_that_times_out_is_ok_and_empty(w) {
        let poll = w.poll("q", 5);
        w.arrived().await;
        w.advance_ns(5 * SECOND - 1);
        w.arrived().await;
        assert!(!poll.is_finished());
        w.advance_ns(1);
        assert_eq!(poll.await.unwrap().unwrap(), None);
    }

    async fn waiters_are_served_in_order_of_arrival(w) {
        let mut polls = Vec::new();
        for _ in 0..4 {
            polls.push(w.poll("q", 20));
            w.arrived().await;
        }
        for payload in ["a", "b", "c", "d"] {
            w.enqueue("q", payload).await;
        }
        for (poll, payload) in polls.into_iter().zip(["a", "b", "c", "d"]) {
            assert_eq!(poll.await.unwrap().unwrap().unwrap().payload, payload);
        }
    }

    async fn ack_removes_a_leased_job_for_good(w) {
        w.enqueue("q", "x").await;
        let job = w.reserve("q").await.unwrap();
        w.ack("q", &job.id).await;
        w.advance(100);
        assert!(w.reserve("q").await.is_none());
        assert_eq!(w.stats("q").await.completed_jobs, 1);
    }

    async fn ack_of_any_other_id_is_ok_and_changes_nothing(w) {
        let waiting = w.enqueue("q", "x").await;
        for id in [&*waiting, "never existed", "0123456789abcdef0123456789abcdef", &"é".repeat(3000)] {
            w.ack("q", id).await;
        }
        let job = w.reserve("q").await.expect("still there");
        w.ack("q", &job.id).await;
        w.ack("q", &job.id).await;
        assert_eq!(w.stats("q").await.completed_jobs, 1);
    }

    async fn ack_after_the_lease_ended_is_ok_and_changes_nothing(w) {
        w.enqueue("q", "x").await;
        let job = w.try_reserve("q", 5, 0).await.unwrap().unwrap();
        w.advance(5);
        w.ack("q", &job.id).await;
        w.advance(1);
        assert_eq!(w.reserve("q").await.expect("delivered again").attempts, 2);
    }

    async fn ack_of_a_dead_lettered_job_is_ok_and_changes_nothing(w) {
        let old = w.dead_letter("q", "x").await;
        w.ack("q", &old).await;
        assert_eq!(w.dead_letters("q", 0).await.len(), 1);
    }

    async fn ack_in_another_queue_changes_nothing(w) {
        w.enqueue("q", "x").await;
        w.enqueue("other", "y").await;
        let job = w.reserve("q").await.unwrap();
        w.ack("other", &job.id).await;
        assert_eq!(w.stats("q").await.in_flight_jobs, 1);
        assert_eq!(code(w.try_nack("other", &job.id, 0).await), Code::NotFound);
    }

    async fn nack_of_a_job_that_is_not_leased_is_not_found(w) {
        let waiting = w.enqueue("q", "x").await;
        for id in [&*waiting, "never existed"] {
            assert_eq!(code(w.try_nack("q", id, 0).await), Code::NotFound);
        }
        let job = w.try_reserve("q", 5, 0).await.unwrap().unwrap();
        w.advance(5);
        assert_eq!(code(w.try_nack("q", &job.id, 0).await), Code::NotFound);
    }

    async fn nack_with_a_delay_makes_the_job_due_after_it(w) {
        w.set_policy("q", RetryPolicy { max_backoff_seconds: 1, ..fixed(1) }).await;
        w.enqueue("q", "x").await;
        let job = w.reserve("q").await.unwrap();
        // Not capped by max_backoff.
        w.try_nack("q", &job.id, 100).await.unwrap();
        w.advance_ns(100 * SECOND - 1);
        assert!(w.reserve("q").await.is_none());
        w.advance_ns(1);
        assert!(w.reserve("q").await.is_some());
    }

    async fn nack_without_a_delay_backs_off_by_the_policy(w) {
        let linear = RetryPolicy { backoff_strategy: "linear".into(), max_backoff_seconds: 7, ..fixed(3) };
        let exponential = RetryPolicy {
            backoff_strategy: "exponential".into(),
            backoff_multiplier: 1.5,
            max_backoff_seconds: 4,
            ..fixed(1)
        };
        let cases = [
            ("fixed", fixed(3), [3.0, 3.0, 3.0, 3.0]),
            ("linear", linear, [3.0, 6.0, 7.0, 7.0]),
            ("exponential", exponential, [1.0, 1.5, 2.25, 3.375]),
        ];
        for (name, policy, backoffs) in cases {
            w.set_policy(name, policy).await;
            w.enqueue(name, "x").await;
            for backoff in backoffs {
                let job = w.reserve(name).await.expect("due");
                w.nack(name, &job.id).await;
                let ns = (backoff * SECOND as f64) as i64;
                w.advance_ns(ns - 1);
                assert!(w.reserve(name).await.is_none(), "{name} {backoff}");
                w.advance_ns(1);
            }
        }
    }

    async fn a_lease_is_over_at_reserve_until(w) {
        w.enqueue("q", "x").await;
        let job = w.try_reserve("q", 5, 0).await.unwrap().unwrap();
        w.advance_ns(5 * SECOND - 1);
        assert_eq!(w.stats("q").await.in_flight_jobs, 1);
        w.advance_ns(1);
        let stats = w.stats("q").await;
        assert_eq!((stats.in_flight_jobs, stats.pending_jobs), (0, 1));
        // Due after the backoff that follows the lease, not before.
        assert!(w.reserve("q").await.is_none());
        w.advance(1);
        let again = w.reserve("q").await.unwrap();
        assert_eq!(again.visible_at, job.reserve_until + SECOND);
        assert_eq!(again.attempts, 2);
    }

    async fn huge_backoffs_saturate(w) {
        let huge = RetryPolicy {
            backoff_strategy: "exponential".into(),
            backoff_multiplier: f64::MAX,
            ..fixed(31_536_000)
        };
        w.set_policy("q", huge).await;
        w.enqueue("q", "x").await;
        for _ in 0..3 {
            let job = w.reserve("q").await.expect("due");
            w.nack("q", &job.id).await;
            assert!(w.reserve("q").await.is_none());
            w.advance(31_536_000);
        }
    }

    async fn the_default_policy_gives_three_deliveries_1_and_2_seconds_apart(w) {
        w.enqueue("q", "x").await;
        assert_eq!(w.try_policy("q").await.unwrap(), policy());
        for backoff in [1, 2] {
            let job = w.reserve("q").await.expect("due");
            w.nack("q", &job.id).await;
            w.advance(backoff);
        }
        let job = w.reserve("q").await.expect("due");
        assert_eq!(job.attempts, 3);
        assert_eq!(code(w.try_nack("q", &job.id, 0).await), Code::FailedPrecondition);
    }

    async fn the_policy_in_force_at_the_nack_counts(w) {
        w.enqueue("q", "x").await;
        let job = w.reserve("q").await.unwrap();
        w.set_policy("q", fixed(9)).await;
        w.nack("q", &job.id).await;
        w.advance(8);
        assert!(w.reserve("q").await.is_none());
        w.advance(1);
        assert!(w.reserve("q").await.is_some());
    }

    async fn max_attempts_0_is_no_limit(w) {
        w.set_policy("q", fixed(1)).await;
        w.enqueue("q", "x").await;
        for attempts in 1..=10 {
            let job = w.reserve("q").await.expect("due");
            assert_eq!(job.attempts, attempts);
            w.nack("q", &job.id).await;
            w.advance(1);
        }
    }

    async fn a_set_policy_is_returned(w) {
        let own = RetryPolicy { max_attempts: 9, backoff_multiplier: 1.25, ..fixed(4) };
        w.set_policy("q", own.clone()).await;
        assert_eq!(w.try_policy("q").await.unwrap(), own);
    }

    async fn a_policy_outside_the_rules_is_refused(w) {
        assert_invalid(w.try_set_policy("q", None).await, "policy");
        let bad = [
            ("max_attempts", RetryPolicy { max_attempts: -1, ..policy() }),
            ("initial_backoff_seconds", RetryPolicy { initial_backoff_seconds: 0, ..policy() }),
            ("initial_backoff_seconds", RetryPolicy { initial_backoff_seconds: -1, ..policy() }),
            ("max_backoff_seconds", RetryPolicy { initial_backoff_seconds: 61, ..policy() }),
            ("max_backoff_seconds", RetryPolicy { max_backoff_seconds: 31_536_001, ..policy() }),
            ("backoff_multiplier", RetryPolicy { backoff_multiplier: 0.0, ..policy() }),
            (
                "backoff_multiplier",
                RetryPolicy { backoff_multiplier: -1.0, backoff_strategy: "fixed".into(), ..policy() },
            ),
            ("backoff_multiplier", RetryPolicy { backoff_multiplier: f64::NAN, ..policy() }),
            ("backoff_strategy", RetryPolicy { backoff_strategy: "Fixed".into(), ..policy() }),
            ("backoff_strategy", RetryPolicy { backoff_strategy: String::new(), ..policy() }),
        ];
        for (argument, policy) in bad {
            assert_invalid(w.try_set_policy("q", Some(policy)).await, argument);
        }
        assert_eq!(code(w.try_policy("q").await), Code::NotFound);
    }

    async fn stats_count_the_life_of_jobs(w) {
        for payload in ["a", "b", "c"] {
            w.enqueue("q", payload).await;
        }
        w.try_enqueue("q", "later", 100).await.unwrap();
        let jobs = w.receive("q", 2).await;
        w.ack("q", &jobs[0].id).await;
        w.nack("q", &jobs[1].id).await;
        w.reserve("q").await.unwrap();
        w.advance(7);
        let expected = QueueStats {
            total_jobs: 4,
            pending_jobs: 2,
            in_flight_jobs: 1,
            completed_jobs: 1,
            failed_jobs: 0,
            oldest_job_age_seconds: 7,
        };
        assert_eq!(w.stats("q").await, expected);
    }

    async fn the_oldest_age_is_that_of_waiting_jobs_in_whole_seconds(w) {
        assert!(w.reserve("q").await.is_none());
        assert_eq!(w.stats("q").await.oldest_job_age_seconds, 0);
        w.enqueue("q", "a").await;
        w.advance(4);
        w.enqueue("q", "b").await;
        w.advance_ns(3 * SECOND - 1);
        assert_eq!(w.stats("q").await.oldest_job_age_seconds, 6);
        w.reserve("q").await.unwrap();
        assert_eq!(w.stats("q").await.oldest_job_age_seconds, 2);
    }
}
