//! Kill -9: a child process works on a data directory and reports on a pipe what it was told is
//! stored; it is killed at a random moment, and what it was told must be there.
//!
//! The child is this test binary again, running only [`child`]. It prints a line before each
//! change whose outcome a kill can hide (lower case) and after each acknowledgement (upper case).
//! After every kill the directory is copied and the copy is checked under a test clock; the next
//! child goes on with the original, so recoveries pile up.
//!
//! `FLOWMESH_CRASH_ROUNDS` sets the number of kills (50), `FLOWMESH_CRASH_SEED` the random seed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use flowmesh_proto::{
    v1::RetryPolicy,
    wire::{MessageView, encode_event},
};
use flowmesh_server::{
    Engine, EngineOptions,
    clock::{Clock, TestClock},
    engine::{Lease, Nacked, NewJob},
    resource::{ResourceKind, ResourceName},
};

const STREAMS: usize = 3;
const WRITERS: usize = 4;
const QUEUES: usize = 2;
/// Kills in a row on one directory.
const GENERATIONS: usize = 10;
const PAGE: usize = 4 << 20;

fn stream(n: usize) -> ResourceName {
    ResourceName::new("t", "n", ResourceKind::Stream, &format!("s{n}"))
}

fn queue(n: usize) -> ResourceName {
    ResourceName::new("t", "n", ResourceKind::Queue, &format!("q{n}"))
}

fn store() -> ResourceName {
    ResourceName::new("t", "n", ResourceKind::Kv, "k")
}

/// xorshift64*: reproducible from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
}

/// One line, one write: a line is on the pipe whole or not at all.
fn say(line: String) {
    std::io::stdout().write_all(format!("@{line}\n").as_bytes()).expect("the parent reads");
}

// ---- the child --------------------------------------------------------------------------------

#[test]
fn child() {
    let Some(dir) = std::env::var_os("FLOWMESH_CRASH_DIR") else { return };
    // A failed call must end the child, not only its task.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("crash child: {panic}");
        std::process::abort();
    }));
    let generation: u64 = std::env::var("FLOWMESH_CRASH_GENERATION").unwrap().parse().unwrap();
    let engine = Engine::open(&EngineOptions::directory(PathBuf::from(dir))).expect("the directory opens");
    say("READY".into());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        for w in 0..WRITERS {
            tokio::spawn(write_events(engine.clone(), w, generation));
        }
        for q in 0..QUEUES {
            tokio::spawn(enqueue_jobs(engine.clone(), q, generation));
            tokio::spawn(work_jobs(engine.clone(), q, generation));
        }
        tokio::spawn(commit_offsets(engine.clone(), generation));
        for w in 0..2 {
            tokio::spawn(set_values(engine.clone(), w, generation));
        }
        std::future::pending::<()>().await;
    });
}

async fn write_events(engine: Engine, writer: usize, generation: u64) {
    let mut random = Random(generation * 31 + writer as u64 + 1);
    for n in 0u64.. {
        let s = random.below(STREAMS as u64) as usize;
        let count = if random.below(4) == 0 { 1 + random.below(40) } else { 1 };
        let events = (0..count)
            .map(|i| {
                let mut event = BytesMut::new();
                let filler = "x".repeat(random.below(600) as usize);
                let text = format!("{generation}.{writer}.{n}.{i} {filler}");
                encode_event(&mut event, text.as_bytes(), std::iter::empty());
                event.freeze()
            })
            .collect();
        let first = engine.streams.append(&stream(s), events).await.expect("append");
        say(format!("E {s} {first} {count} {generation}.{writer}.{n}"));
    }
}

async fn commit_offsets(engine: Engine, generation: u64) {
    for n in 0i64.. {
        let offset = generation as i64 * 1_000_000 + n;
        say(format!("c {offset}"));
        // The stream may not exist yet; that is the writers' business.
        if engine.streams.commit(&stream(0), "group", offset).await.is_ok() {
            say(format!("C {offset}"));
        }
    }
}

async fn enqueue_jobs(engine: Engine, q: usize, generation: u64) {
    // No attempt limit on queue 0; queue 1 dead-letters after two deliveries.
    let policy = RetryPolicy {
        max_attempts: if q == 0 { 0 } else { 2 },
        initial_backoff_seconds: 1,
        max_backoff_seconds: 1,
        backoff_multiplier: 1.0,
        backoff_strategy: "fixed".into(),
    };
    engine.queues.set_retry_policy(&queue(q), policy).await.expect("policy");
    for n in 0u64.. {
        let payload = format!("{generation}.{q}.{n}");
        let job =
            NewJob { payload: Bytes::from(payload.clone()), headers: BTreeMap::new(), delay_seconds: 0 };
        let stored = engine.queues.enqueue(&queue(q), job).await.expect("enqueue");
        say(format!("Q {q} {} {} {payload}", stored.job_id, stored.seq));
    }
}

async fn work_jobs(engine: Engine, q: usize, generation: u64) {
    let mut random = Random(generation * 77 + q as u64 + 5);
    let lease = Lease { max_jobs: 5, max_bytes: PAGE, visibility_seconds: 600, wait_seconds: 5 };
    loop {
        for job in engine.queues.lease(&queue(q), lease).await.expect("lease").taken() {
            say(format!("L {q} {} {}", job.id, job.attempts));
            match random.below(4) {
                0 => {} // keeps its lease
                1 => {
                    say(format!("n {q} {}", job.id));
                    match engine.queues.nack(&queue(q), &job.id, 0).await.expect("nack") {
                        Nacked::Waiting => say(format!("N {q} {}", job.id)),
                        Nacked::DeadLettered => say(format!("D {q} {}", job.id)),
                    }
                }
                _ => {
                    say(format!("a {q} {}", job.id));
                    engine.queues.ack(&queue(q), &job.id).await.expect("ack");
                    say(format!("A {q} {}", job.id));
                }
            }
        }
    }
}

async fn set_values(engine: Engine, writer: usize, generation: u64) {
    let mut random = Random(generation * 13 + writer as u64 + 9);
    for n in 0u64.. {
        let key = format!("{writer}.{}", random.below(50));
        if random.below(5) == 0 {
            say(format!("k {key} -"));
            engine.kv.delete(&store(), &key).await.expect("delete");
            say(format!("K {key} -"));
        } else {
            let value = format!("{generation}.{n}");
            say(format!("k {key} {value}"));
            engine.kv.set(&store(), &key, Bytes::from(value.clone()), 0).await.expect("set");
            say(format!("K {key} {value}"));
        }
    }
}

// ---- the parent -------------------------------------------------------------------------------

/// What the children of one directory reported.
#[derive(Default)]
struct Told {
    /// (stream, offset) of every acknowledged event, with its text up to the filler.
    events: HashMap<(usize, i64), String>,
    commit: Uncertain<i64>,
    jobs: HashMap<String, ToldJob>,
    keys: HashMap<String, Uncertain<Option<String>>>,
    seqs: HashSet<(usize, i64)>,
    latest: [i64; STREAMS],
}

/// The last acknowledged value, and those that were on their way since.
#[derive(Default)]
struct Uncertain<T> {
    known: Option<T>,
    pending: Vec<T>,
}

impl<T: PartialEq> Uncertain<T> {
    fn acknowledged(&mut self, value: T) {
        self.known = Some(value);
        self.pending.clear();
    }

    fn allows(&self, value: &T) -> bool {
        self.known.as_ref() == Some(value) || self.pending.contains(value)
    }
}

#[derive(Default)]
struct ToldJob {
    queue: usize,
    payload: String,
    deliveries: i32,
    /// An ack was sent, a nack was sent (their outcome may be unknown).
    ack_sent: bool,
    nack_sent: bool,
    acked: bool,
    dead: bool,
}

impl Told {
    fn line(&mut self, line: &str) {
        let f: Vec<&str> = line.split(' ').collect();
        match f[0] {
            "READY" => {}
            "E" => {
                let (s, first, count): (usize, i64, i64) =
                    (f[1].parse().unwrap(), f[2].parse().unwrap(), f[3].parse().unwrap());
                for i in 0..count {
                    let twin = self.events.insert((s, first + i), format!("{}.{i}", f[4]));
                    assert!(twin.is_none(), "offset {} of stream {s} was given out twice", first + i);
                }
            }
            "c" => self.commit.pending.push(f[1].parse().unwrap()),
            "C" => self.commit.acknowledged(f[1].parse().unwrap()),
            "Q" => {
                let q = f[1].parse().unwrap();
                assert!(self.seqs.insert((q, f[3].parse().unwrap())), "seq {} was given out twice", f[3]);
                // Its lease may have been reported first: another task prints that.
                let job = self.jobs.entry(f[2].to_owned()).or_default();
                (job.queue, job.payload) = (q, f[4].to_owned());
            }
            "L" => {
                let job = self.jobs.entry(f[2].to_owned()).or_default();
                job.queue = f[1].parse().unwrap();
                job.deliveries += 1;
                let attempts: i32 = f[3].parse().unwrap();
                assert!(attempts >= job.deliveries, "job {}: attempts fell to {attempts}", f[2]);
                job.deliveries = attempts;
                assert!(!job.acked && !job.dead, "job {} came back", f[2]);
            }
            "a" => self.jobs.get_mut(f[2]).unwrap().ack_sent = true,
            "A" => self.jobs.get_mut(f[2]).unwrap().acked = true,
            "n" => self.jobs.get_mut(f[2]).unwrap().nack_sent = true,
            "N" => self.jobs.get_mut(f[2]).unwrap().nack_sent = false,
            "D" => self.jobs.get_mut(f[2]).unwrap().dead = true,
            "k" => self.keys.entry(f[1].to_owned()).or_default().pending.push(value_of(f[2])),
            "K" => self.keys.get_mut(f[1]).unwrap().acknowledged(value_of(f[2])),
            other => panic!("unknown report {other}"),
        }
    }

    async fn check(&mut self, engine: &Engine, clock: &TestClock) {
        self.check_streams(engine).await;
        self.check_keys(engine).await;
        // Whatever is leased or backing off is due after this.
        clock.advance(Duration::from_secs(3600));
        for q in 0..QUEUES {
            self.check_queue(engine, q).await;
        }
    }

    async fn check_streams(&mut self, engine: &Engine) {
        for s in 0..STREAMS {
            let Ok(latest) = engine.streams.latest(&stream(s)).await else {
                assert!(!self.events.keys().any(|(of, _)| *of == s), "stream {s} is gone");
                continue;
            };
            assert!(latest >= self.latest[s], "stream {s} shrank from {} to {latest}", self.latest[s]);
            self.latest[s] = latest;
            let mut next = 0;
            while next <= latest {
                let page = engine.streams.read(&stream(s), next, 1000, PAGE).await.expect("read");
                assert!(!page.is_empty(), "stream {s} ends at {next}, latest is {latest}");
                for wire in page {
                    let message = MessageView::parse(&wire).expect("a whole message");
                    assert_eq!(message.offset, next, "stream {s} has a gap");
                    let text = std::str::from_utf8(message.payload).unwrap();
                    let text = text.split(' ').next().unwrap();
                    if let Some(told) = self.events.get(&(s, next)) {
                        assert_eq!(text, told, "stream {s} offset {next} holds something else");
                    }
                    next += 1;
                }
            }
            let beyond = self.events.keys().filter(|(of, at)| *of == s && *at > latest).count();
            assert_eq!(beyond, 0, "stream {s} lost acknowledged events");
        }
        let committed = engine.streams.committed(&stream(0), "group").await.unwrap_or(-1);
        assert!(
            self.commit.allows(&committed) || (committed == -1 && self.commit.known.is_none()),
            "committed offset is {committed}, acknowledged was {:?}",
            self.commit.known
        );
    }

    async fn check_keys(&self, engine: &Engine) {
        for (key, told) in &self.keys {
            let value = engine.kv.get(&store(), key).await.expect("get");
            let value = value.map(|v| String::from_utf8(v.to_vec()).unwrap());
            let fresh = told.known.is_none() && value.is_none();
            assert!(
                fresh || told.allows(&value),
                "key {key} is {value:?}, acknowledged was {:?}",
                told.known
            );
        }
    }

    /// Every job that was not acknowledged away must come out of the queue or its dead letters.
    async fn check_queue(&self, engine: &Engine, q: usize) {
        let mut found = HashMap::new();
        let lease = Lease { max_jobs: 100, max_bytes: PAGE, visibility_seconds: 43_200, wait_seconds: 0 };
        loop {
            let jobs = engine.queues.lease(&queue(q), lease).await.expect("lease").taken();
            if jobs.is_empty() {
                break;
            }
            for job in jobs {
                assert!(found.insert(job.id.clone(), job.attempts).is_none(), "job {} leased twice", job.id);
            }
        }
        let mut dead = HashSet::new();
        if let Ok(letters) = engine.queues.dead_letters(&queue(q), usize::MAX, usize::MAX).await {
            for letter in letters {
                let original = letter.headers["x-flowmesh-original-job-id"].clone();
                assert!(dead.insert(original), "a job is in the dead-letter queue twice");
            }
        }
        for (id, told) in self.jobs.iter().filter(|(_, told)| told.queue == q) {
            let (waits, is_dead) = (found.get(id), dead.contains(id));
            assert!(waits.is_none() || !is_dead, "job {id} is in two places");
            if told.acked {
                assert!(waits.is_none() && !is_dead, "job {id} was acked and is back");
                continue;
            }
            if told.dead {
                assert!(is_dead, "job {id} was dead-lettered and is not there");
                continue;
            }
            assert!(waits.is_some() || is_dead || told.ack_sent, "job {id} ({}) is lost", told.payload);
            // A queue without a limit never gives a job up.
            assert!(!is_dead || q == 1, "job {id} was dead-lettered without a limit");
            if let Some(attempts) = waits {
                assert!(
                    *attempts > told.deliveries,
                    "job {id}: attempt {attempts} after {}",
                    told.deliveries
                );
            }
        }
    }
}

fn value_of(text: &str) -> Option<String> {
    (text != "-").then(|| text.to_owned())
}

/// Runs a child on `dir`, kills it after `life` and returns what it said.
fn run_child(dir: &Path, generation: u64, life: Duration) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("FLOWMESH_CRASH_DIR", dir)
        .env("FLOWMESH_CRASH_GENERATION", generation.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pipe = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        // The harness of the child prints lines of its own, without our mark.
        let lines = pipe.lines().map_while(Result::ok);
        lines.filter_map(|l| l.find('@').map(|at| l[at + 1..].to_owned())).collect::<Vec<_>>()
    });
    let until = Instant::now() + life;
    while Instant::now() < until {
        assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let number = |name: &str| std::env::var(name).ok().map(|v| v.parse::<u64>().expect(name));
    let rounds = number("FLOWMESH_CRASH_ROUNDS").unwrap_or(50) as usize;
    let seed = number("FLOWMESH_CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()) + 1);
    println!("crash: {rounds} rounds, FLOWMESH_CRASH_SEED={seed}");
    let mut random = Random(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let base = tempfile::tempdir().unwrap();
    let (mut events, mut jobs) = (0, 0);
    for directory in 0..rounds.div_ceil(GENERATIONS) {
        let dir = base.path().join(format!("d{directory}"));
        let mut told = Told { latest: [-1; STREAMS], ..Told::default() };
        for generation in 0..GENERATIONS.min(rounds - directory * GENERATIONS) {
            let life = Duration::from_millis(60 + random.below(500));
            for line in run_child(&dir, generation as u64, life) {
                told.line(&line);
            }
            if !dir.join("FORMAT").exists() {
                continue; // killed before there was anything
            }
            let scratch = base.path().join("copy");
            copy(&dir, &scratch);
            let clock = TestClock::new();
            let options =
                EngineOptions { clock: Clock::Test(clock.clone()), ..EngineOptions::directory(&scratch) };
            let engine = Engine::open(&options).expect("the copy opens");
            runtime.block_on(told.check(&engine, &clock));
            engine.close();
            drop(engine);
            std::fs::remove_dir_all(&scratch).unwrap();
        }
        events += told.events.len();
        jobs += told.jobs.len();
        std::fs::remove_dir_all(&dir).ok();
    }
    println!("crash: {events} acknowledged events and {jobs} jobs checked");
    assert!(events > 0 && jobs > 0, "the children did nothing");
}
