//! The queue's state machine against a model that keeps everything in plain maps.
//!
//! Random calls on a queue, its dead-letter queue and theirs; after each the counters of all
//! queues are compared, and what is leased must be exactly what the model says, in its order.
//! Every third case lives in a file that is closed and opened in between. In most, a transaction ends
//! only a few leases, so that calls meet some that are over and not ended.

use std::collections::{BTreeMap, HashMap};

use flowmesh_proto::v1::RetryPolicy;
use proptest::prelude::*;

use super::*;
use crate::{clock::SECOND_NS, engine::Nacked};

#[derive(Debug, Clone)]
enum Call {
    Enqueue {
        queue: usize,
        delay: i64,
    },
    Lease {
        queue: usize,
        max_jobs: usize,
        visibility: i64,
    },
    /// A lease whose answer gets lost.
    Lose {
        queue: usize,
        max_jobs: usize,
    },
    Ack {
        pick: usize,
    },
    Nack {
        pick: usize,
        delay: i64,
    },
    Advance {
        millis: u64,
    },
    SetPolicy {
        queue: usize,
        max_attempts: i32,
        strategy: usize,
    },
    Replay {
        pick: usize,
    },
    Reopen,
}

const QUEUES: [&str; 3] = ["jobs", "jobs-dlq", "jobs-dlq-dlq"];
const STRATEGIES: [&str; 3] = ["fixed", "linear", "exponential"];

fn call() -> impl Strategy<Value = Call> {
    let queue = || prop_oneof![6 => Just(0_usize), 2 => Just(1), 1 => Just(2)];
    prop_oneof![
        4 => (queue(), prop_oneof![3 => Just(0), 1 => 1..4_i64]).prop_map(|(queue, delay)| Call::Enqueue { queue, delay }),
        5 => (queue(), 1..5_usize, 1..6_i64)
            .prop_map(|(queue, max_jobs, visibility)| Call::Lease { queue, max_jobs, visibility }),
        2 => (queue(), 1..5_usize).prop_map(|(queue, max_jobs)| Call::Lose { queue, max_jobs }),
        3 => any::<usize>().prop_map(|pick| Call::Ack { pick }),
        4 => (any::<usize>(), 0..3_i64).prop_map(|(pick, delay)| Call::Nack { pick, delay }),
        4 => (1..4_000_u64).prop_map(|millis| Call::Advance { millis }),
        1 => (queue(), 0..4_i32, 0..3_usize)
            .prop_map(|(queue, max_attempts, strategy)| Call::SetPolicy { queue, max_attempts, strategy }),
        2 => any::<usize>().prop_map(|pick| Call::Replay { pick }),
        1 => Just(Call::Reopen),
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Waiting,
    Leased(i64),
}

struct ModelJob {
    payload: String,
    visible_at: i64,
    attempts: i32,
    state: State,
}

struct ModelQueue {
    /// Order of creation, which decides between leases that end at the same instant.
    number: usize,
    jobs: BTreeMap<i64, ModelJob>,
    total: i64,
    completed: i64,
    failed: i64,
    max_attempts: i32,
    strategy: &'static str,
}

#[derive(Default)]
struct Model {
    queues: HashMap<String, ModelQueue>,
    payloads: usize,
}

impl Model {
    fn queue(&mut self, name: &str) -> &mut ModelQueue {
        let number = self.queues.len();
        self.queues.entry(name.to_owned()).or_insert_with(|| ModelQueue {
            number,
            jobs: BTreeMap::new(),
            total: 0,
            completed: 0,
            failed: 0,
            max_attempts: 3,
            strategy: "exponential",
        })
    }

    fn enqueue(&mut self, name: &str, payload: String, visible_at: i64) -> i64 {
        let queue = self.queue(name);
        let seq = queue.total;
        queue.total += 1;
        queue.jobs.insert(seq, ModelJob { payload, visible_at, attempts: 0, state: State::Waiting });
        seq
    }

    /// (payload, seq, attempts, visible_at) of what is leased.
    fn lease(&mut self, name: &str, max_jobs: usize, now: i64, until: i64) -> Vec<(String, i64, i32, i64)> {
        let queue = self.queue(name);
        let mut due: Vec<(i64, i64)> = queue
            .jobs
            .iter()
            .filter(|(_, job)| job.state == State::Waiting && job.visible_at <= now)
            .map(|(seq, job)| (job.visible_at, *seq))
            .collect();
        due.sort_unstable();
        due.truncate(max_jobs);
        let lease = |(visible_at, seq)| {
            let job = queue.jobs.get_mut(&seq).unwrap();
            job.attempts += 1;
            job.state = State::Leased(until);
            (job.payload.clone(), seq, job.attempts, visible_at)
        };
        due.into_iter().map(lease).collect()
    }

    /// Ends a lease; whether the job was dead-lettered.
    fn give_back(&mut self, name: &str, seq: i64, now: i64, from: i64, delay: i64) -> bool {
        let queue = self.queue(name);
        let job = queue.jobs.get_mut(&seq).unwrap();
        let n = i64::from(job.attempts);
        if queue.max_attempts > 0 && job.attempts >= queue.max_attempts {
            queue.failed += 1;
            let payload = queue.jobs.remove(&seq).unwrap().payload;
            self.enqueue(&format!("{name}-dlq"), payload, now);
            return true;
        }
        let backoff = match queue.strategy {
            "fixed" => 1,
            "linear" => n,
            _ => 1 << (n - 1).min(6),
        };
        job.visible_at = from + SECOND_NS * if delay > 0 { delay } else { backoff.min(4) };
        job.state = State::Waiting;
        false
    }

    fn expire(&mut self, now: i64) {
        let mut over: Vec<(i64, usize, i64, String)> = Vec::new();
        for (name, queue) in &self.queues {
            for (seq, job) in &queue.jobs {
                if let State::Leased(until) = job.state
                    && until <= now
                {
                    over.push((until, queue.number, *seq, name.clone()));
                }
            }
        }
        over.sort();
        for (until, _, seq, name) in over {
            self.give_back(&name, seq, now, until, 0);
        }
    }

    fn is_leased(&self, name: &str, seq: i64) -> bool {
        let job = self.queues.get(name).and_then(|q| q.jobs.get(&seq));
        job.is_some_and(|job| matches!(job.state, State::Leased(_)))
    }
}

/// The database under test and what the test knows of its ids.
struct Run {
    db: Option<Database>,
    path: Option<PathBuf>,
    expiry_step: usize,
    clock: Arc<TestClock>,
    model: Model,
    /// id, queue, seq of every job ever seen.
    ids: Vec<(String, String, i64)>,
}

impl Run {
    fn open(&mut self) {
        let options = options(self.path.as_deref(), &self.clock);
        self.db = Some(Database::open(DatabaseOptions { expiry_step: self.expiry_step, ..options }).unwrap());
    }

    fn db(&self) -> &Database {
        self.db.as_ref().unwrap()
    }

    fn now(&self) -> i64 {
        Clock::Test(self.clock.clone()).now_ns()
    }

    fn saw(&mut self, id: &str, name: &str, seq: i64) {
        if !self.ids.iter().any(|(known, ..)| known == id) {
            self.ids.push((id.to_owned(), name.to_owned(), seq));
        }
    }

    fn picked(&self, pick: usize) -> Option<(String, String, i64)> {
        (!self.ids.is_empty()).then(|| self.ids[pick % self.ids.len()].clone())
    }

    fn apply(&mut self, call: &Call) {
        let now = self.now();
        match *call {
            Call::Enqueue { queue: i, delay } => {
                self.model.payloads += 1;
                let payload = format!("job {}", self.model.payloads);
                let enqueued = self.db().put_delayed(&queue(QUEUES[i]), &payload, delay);
                let seq = self.model.enqueue(QUEUES[i], payload, now + delay * SECOND_NS);
                assert_eq!(enqueued.seq, seq);
                self.saw(&enqueued.job_id, QUEUES[i], seq);
            }
            Call::Lease { queue: i, max_jobs, visibility } => {
                let jobs = block_on(self.db().lease(&queue(QUEUES[i]), lease(max_jobs, visibility, 0)))
                    .unwrap()
                    .taken();
                let expected = self.model.lease(QUEUES[i], max_jobs, now, now + visibility * SECOND_NS);
                let text = |job: &Job| String::from_utf8(job.payload.to_vec()).unwrap();
                let got: Vec<_> = jobs.iter().map(|j| (text(j), j.seq, j.attempts, j.visible_at)).collect();
                assert_eq!(got, expected);
                for job in jobs {
                    self.saw(&job.id, QUEUES[i], job.seq);
                }
            }
            Call::Lose { queue: i, max_jobs } => {
                drop(block_on(self.db().lease(&queue(QUEUES[i]), lease(max_jobs, 30, 0))).unwrap());
                block_on(self.db().submit(|reply| Operation::Settle { queue: None, reply })).unwrap();
                // All that comes of it is the queue.
                self.model.queue(QUEUES[i]);
            }
            Call::Ack { pick } => {
                let Some((id, name, seq)) = self.picked(pick) else { return };
                block_on(self.db().ack(&queue(&name), &id)).unwrap();
                if self.model.is_leased(&name, seq) {
                    let queue = self.model.queue(&name);
                    queue.jobs.remove(&seq);
                    queue.completed += 1;
                }
            }
            Call::Nack { pick, delay } => {
                let Some((id, name, seq)) = self.picked(pick) else { return };
                let result = block_on(self.db().nack(&queue(&name), &id, delay));
                if !self.model.is_leased(&name, seq) {
                    assert_eq!(kind(result), ErrorKind::NotFound);
                } else if self.model.give_back(&name, seq, now, now, delay) {
                    assert_eq!(result, Ok(Nacked::DeadLettered));
                } else {
                    assert_eq!(result, Ok(Nacked::Waiting));
                }
            }
            Call::Advance { millis } => {
                self.clock.advance(Duration::from_millis(millis));
                self.model.expire(self.now());
            }
            Call::SetPolicy { queue: i, max_attempts, strategy } => {
                let policy = RetryPolicy {
                    max_attempts,
                    initial_backoff_seconds: 1,
                    max_backoff_seconds: 4,
                    backoff_multiplier: 2.0,
                    backoff_strategy: STRATEGIES[strategy].to_owned(),
                };
                block_on(self.db().set_retry_policy(&queue(QUEUES[i]), policy)).unwrap();
                let queue = self.model.queue(QUEUES[i]);
                (queue.max_attempts, queue.strategy) = (max_attempts, STRATEGIES[strategy]);
            }
            Call::Replay { pick } => {
                // Entries become known by the list.
                for name in &QUEUES[..2] {
                    if self.model.queues.contains_key(*name) {
                        for entry in block_on(self.db().dead_letters(&queue(name), 100, 4 << 20)).unwrap() {
                            self.saw(&entry.id, &format!("{name}-dlq"), entry.seq);
                        }
                    }
                }
                let Some((id, name, seq)) = self.picked(pick) else { return };
                let Some(main) = name.strip_suffix("-dlq").map(str::to_owned) else { return };
                let result = block_on(self.db().replay_dead_letter(&queue(&main), &id));
                let known = self.model.queues.contains_key(&main);
                let entry = if known { self.model.queue(&name).jobs.remove(&seq) } else { None };
                match entry {
                    None => assert_eq!(kind(result), ErrorKind::NotFound),
                    Some(job) => {
                        let new_seq = self.model.enqueue(&main, job.payload, now);
                        let replayed = result.unwrap();
                        assert_eq!(replayed.seq, new_seq);
                        self.saw(&replayed.job_id, &main, new_seq);
                    }
                }
            }
            Call::Reopen => {
                if self.path.is_some() {
                    self.db = None;
                    self.open();
                }
            }
        }
    }

    fn compare_counters(&self) {
        for (name, model) in &self.model.queues {
            let waiting = model.jobs.values().filter(|job| job.state == State::Waiting).count() as i64;
            let leased = model.jobs.len() as i64 - waiting;
            let expected = [model.total, waiting, leased, model.completed, model.failed];
            assert_eq!(self.db().stats_of(&queue(name)), expected, "{name}");
        }
    }

    /// Every job the model has is there, once, and nothing else.
    fn compare_content(&mut self) {
        self.compare_counters();
        self.clock.advance(seconds(1_000));
        self.model.expire(self.now());
        let names: Vec<_> = self.model.queues.keys().cloned().collect();
        for name in names {
            let now = self.now();
            let got = self.db().take(&queue(&name), 1_000).into_iter().map(|j| (j.seq, j.attempts));
            let expected =
                self.model.lease(&name, 1_000, now, i64::MAX).into_iter().map(|(_, seq, n, _)| (seq, n));
            assert!(got.eq(expected), "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_database_behaves_like_the_model(
        in_file in prop::bool::weighted(0.33),
        expiry_step in prop_oneof![3 => 1..4_usize, 1 => Just(1_000)],
        calls in prop::collection::vec(call(), 1..120),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = in_file.then(|| dir.path().join("db"));
        let clock = TestClock::new();
        let mut run = Run { db: None, path, expiry_step, clock, model: Model::default(), ids: Vec::new() };
        run.open();
        for call in &calls {
            // Counting has the leases ended that are over. The call after an advance is to meet them;
            // another advance is not, because dead letters are due at the instant of their move.
            if matches!(call, Call::Advance { .. }) {
                run.compare_counters();
                run.apply(call);
            } else {
                run.apply(call);
                run.compare_counters();
            }
        }
        run.compare_content();
    }
}
