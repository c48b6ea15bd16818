//! The attempt limit and the dead-letter queue.

use std::collections::BTreeMap;

use flowmesh_proto::v1::*;
use tonic::Code;

use crate::{ops::*, world::World};

const SECOND: i64 = 1_000_000_000;
const ADDED: [&str; 4] = [
    "x-flowmesh-original-queue",
    "x-flowmesh-original-job-id",
    "x-flowmesh-failed-at",
    "x-flowmesh-attempts",
];

/// A queue that gives a job `max_attempts` deliveries.
async fn limited(w: &World, name: &str, max_attempts: i32) {
    w.set_policy(name, RetryPolicy { max_attempts, ..policy() }).await;
}

/// `2026-11-23T23:42:14` and so on, for the start of a text with any fraction behind it.
fn utc(unix_seconds: i64) -> String {
    let (days, seconds) = (unix_seconds.div_euclid(86_400), unix_seconds.rem_euclid(86_400));
    let (mut year, mut rest) = (1970, days);
    let leap = |y: i64| i64::from(y % 4 == 0 && (y % 100 != 0 || y % 400 == 0));
    while rest >= 365 + leap(year) {
        rest -= 365 + leap(year);
        year += 1;
    }
    let mut month = 0;
    for days in [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        month += 1;
        if rest < days {
            break;
        }
        rest -= days;
    }
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{:02}T{h:02}:{m:02}:{s:02}", rest + 1)
}

rules! {
    async fn nack_at_the_limit_dead_letters_and_is_failed_precondition(w) {
        limited(&w, "q", 2).await;
        w.enqueue("q", "x").await;
        let job = w.reserve("q").await.unwrap();
        w.nack("q", &job.id).await;
        w.advance(1);
        let job = w.reserve("q").await.unwrap();
        // Whatever the delay given.
        assert_eq!(code(w.try_nack("q", &job.id, 1000).await), Code::FailedPrecondition);
        assert_eq!(w.dead_letters("q", 0).await.len(), 1);
        w.advance(1000);
        assert!(w.reserve("q").await.is_none());
        assert_eq!(code(w.try_nack("q", &job.id, 0).await), Code::NotFound);
    }

    async fn expiry_at_the_limit_dead_letters_at_reserve_until(w) {
        limited(&w, "q", 1).await;
        w.enqueue("q", "x").await;
        let job = w.try_reserve("q", 5, 0).await.unwrap().unwrap();
        w.advance_ns(5 * SECOND - 1);
        assert!(w.dead_letters("q", 0).await.is_empty());
        w.advance_ns(1);
        let entry = &w.dead_letters("q", 0).await[0];
        assert_eq!((entry.created_at, entry.visible_at), (job.reserve_until, job.reserve_until));
    }

    async fn an_entry_is_a_new_job_with_the_old_payload_and_headers_and_four_more(w) {
        limited(&w, "q", 1).await;
        let own =
            BTreeMap::from([("mine".to_owned(), "1".to_owned()), (ADDED[3].to_owned(), "forged".to_owned())]);
        let request =
            EnqueueRequest { resource_path: queue("q"), payload: "x".into(), delay_seconds: 0, headers: own };
        let old = w.queues().enqueue(request).await.unwrap().into_inner().job_id;
        w.advance(5);
        w.reserve("q").await.unwrap();
        assert_eq!(code(w.try_nack("q", &old, 0).await), Code::FailedPrecondition);

        let entry = w.dead_letters("q", 0).await.remove(0);
        assert_ne!(entry.id, old);
        assert_eq!((entry.seq, entry.attempts, entry.reserve_until), (0, 0, 0));
        assert_eq!((entry.created_at, entry.visible_at), (w.now(), w.now()));
        assert_eq!((&*entry.payload, &*entry.resource_path), (&b"x"[..], "t/n/queue/q-dlq"));
        let header = |name: &str| entry.headers[name].as_str();
        assert_eq!(
            (header("mine"), header(ADDED[0]), header(ADDED[1]), header(ADDED[3])),
            ("1", "t/n/queue/q", &*old, "1")
        );
        let failed_at = header(ADDED[2]);
        assert!(failed_at.starts_with(&utc(w.now() / SECOND)) && failed_at.ends_with('Z'), "{failed_at}");
        assert_eq!(entry.headers.len(), 5);
    }

    async fn the_dead_letter_queue_is_an_ordinary_queue(w) {
        w.dead_letter("q", "x").await;
        assert_eq!(w.try_policy("q-dlq").await.unwrap(), policy());
        let job = w.reserve("q-dlq").await.unwrap();
        assert_eq!((job.attempts, &*job.payload), (1, &b"x"[..]));
        w.ack("q-dlq", &job.id).await;
        assert_eq!(w.stats("q-dlq").await.completed_jobs, 1);
        assert!(w.dead_letters("q", 0).await.is_empty());
    }

    async fn a_dead_letter_queue_has_a_dead_letter_queue(w) {
        w.dead_letter("q", "x").await;
        limited(&w, "q-dlq", 1).await;
        let job = w.reserve("q-dlq").await.unwrap();
        assert_eq!(code(w.try_nack("q-dlq", &job.id, 0).await), Code::FailedPrecondition);
        let entry = w.dead_letters("q-dlq", 0).await.remove(0);
        assert_eq!(entry.resource_path, "t/n/queue/q-dlq-dlq");
        // Headers of these names are replaced.
        assert_eq!((&*entry.headers[ADDED[0]], &entry.headers[ADDED[1]]), ("t/n/queue/q-dlq", &job.id));
    }

    async fn a_dead_letter_queue_whose_name_is_too_long_works_through_its_two_rpcs(w) {
        let name = "x".repeat(255);
        w.dead_letter(&name, "x").await;
        let entry = w.dead_letters(&name, 0).await.remove(0);
        assert!(entry.resource_path.ends_with("x-dlq"));
        w.try_replay(&name, &entry.id).await.unwrap();
        assert_eq!(w.reserve(&name).await.unwrap().payload, "x");
        assert_invalid(w.try_policy(&format!("{name}-dlq")).await, "name");
    }

    async fn list_is_in_ready_order_without_leased_entries(w) {
        for payload in ["a", "b", "c"] {
            w.dead_letter("q", payload).await;
        }
        assert_eq!(lease(&w.dead_letters("q", 0).await), ["a", "b", "c"]);
        assert_eq!(lease(&w.dead_letters("q", 2).await), ["a", "b"]);
        let leased = w.reserve("q-dlq").await.unwrap();
        assert_eq!(lease(&w.dead_letters("q", 0).await), ["b", "c"]);
        w.try_nack("q-dlq", &leased.id, 10).await.unwrap();
        assert_eq!(lease(&w.dead_letters("q", 0).await), ["b", "c", "a"]);
    }

    async fn list_gives_100_by_default_and_as_many_as_asked(w) {
        limited(&w, "q", 1).await;
        for _ in 0..120 {
            w.enqueue("q", "x").await;
        }
        w.receive("q", 100).await;
        w.receive("q", 100).await;
        w.advance(30);
        for (asked, given) in [(0, 100), (-1, 100), (7, 7), (i32::MAX, 120)] {
            assert_eq!(w.dead_letters("q", asked).await.len(), given, "{asked}");
        }
    }

    async fn list_without_a_dead_letter_queue_is_ok_and_empty(w) {
        w.enqueue("q", "x").await;
        assert!(w.dead_letters("q", 0).await.is_empty());
        assert_eq!(code(w.try_policy("q-dlq").await), Code::NotFound);
    }

    async fn replay_moves_an_entry_back_as_a_new_job(w) {
        let old = w.dead_letter("q", "x").await;
        let entry = w.dead_letters("q", 0).await.remove(0);
        w.advance(3);
        let reply = w.try_replay("q", &entry.id).await.unwrap();
        assert_eq!(reply.seq, 1);
        assert!(w.dead_letters("q", 0).await.is_empty());
        let job = w.reserve("q").await.unwrap();
        assert_eq!((&job.id, job.seq, job.attempts), (&reply.job_id, 1, 1));
        assert!(job.id != old && job.id != entry.id);
        assert_eq!((job.created_at, job.visible_at, &*job.payload), (w.now(), w.now(), &b"x"[..]));
        assert!(job.headers.is_empty());
    }

    async fn replay_keeps_the_headers_that_were_not_added(w) {
        limited(&w, "q", 1).await;
        let headers = BTreeMap::from([("mine".to_owned(), "1".to_owned())]);
        let request = EnqueueRequest {
            resource_path: queue("q"),
            payload: "x".into(),
            delay_seconds: 0,
            headers: headers.clone(),
        };
        w.queues().enqueue(request).await.unwrap();
        let job = w.reserve("q").await.unwrap();
        assert_eq!(code(w.try_nack("q", &job.id, 0).await), Code::FailedPrecondition);
        let entry = w.dead_letters("q", 0).await.remove(0);
        w.try_replay("q", &entry.id).await.unwrap();
        assert_eq!(w.reserve("q").await.unwrap().headers, headers);
    }

    async fn replay_takes_a_leased_entry_too(w) {
        w.dead_letter("q", "x").await;
        let leased = w.reserve("q-dlq").await.unwrap();
        w.try_replay("q", &leased.id).await.unwrap();
        assert_eq!(code(w.try_nack("q-dlq", &leased.id, 0).await), Code::NotFound);
        assert_eq!(w.stats("q-dlq").await.in_flight_jobs, 0);
        assert!(w.reserve("q").await.is_some());
    }

    async fn replay_of_an_unknown_id_or_without_a_dead_letter_queue_is_not_found(w) {
        let waiting = w.enqueue("q", "x").await;
        assert_eq!(code(w.try_replay("q", &waiting).await), Code::NotFound);
        let old = w.dead_letter("d", "x").await;
        assert_eq!(code(w.try_replay("d", &old).await), Code::NotFound);
        let entry = w.dead_letters("d", 0).await.remove(0);
        w.try_replay("d", &entry.id).await.unwrap();
        assert_eq!(code(w.try_replay("d", &entry.id).await), Code::NotFound);
    }

    async fn stats_count_moves_and_replays(w) {
        w.dead_letter("q", "x").await;
        let stats = w.stats("q").await;
        assert_eq!(
            (stats.total_jobs, stats.pending_jobs, stats.in_flight_jobs, stats.failed_jobs),
            (1, 0, 0, 1)
        );
        let stats = w.stats("q-dlq").await;
        assert_eq!((stats.total_jobs, stats.pending_jobs, stats.failed_jobs), (1, 1, 0));
        let entry = w.dead_letters("q", 0).await.remove(0);
        w.try_replay("q", &entry.id).await.unwrap();
        let stats = w.stats("q").await;
        assert_eq!(
            (stats.total_jobs, stats.pending_jobs, stats.failed_jobs, stats.completed_jobs),
            (2, 1, 1, 0)
        );
        let stats = w.stats("q-dlq").await;
        assert_eq!((stats.total_jobs, stats.pending_jobs, stats.completed_jobs), (1, 0, 0));
    }

    async fn a_waiter_on_the_dead_letter_queue_gets_the_moved_job(w) {
        limited(&w, "q", 1).await;
        w.enqueue("q", "x").await;
        let job = w.reserve("q").await.unwrap();
        let poll = w.poll("q-dlq", 20);
        w.arrived().await;
        assert_eq!(code(w.try_nack("q", &job.id, 0).await), Code::FailedPrecondition);
        assert_eq!(poll.await.unwrap().unwrap().unwrap().payload, "x");
    }
}
