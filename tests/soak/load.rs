//! What is done all the time, each with what it was promised and must find kept.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::Bytes;
use flowmesh::client::{
    CallOptions, Callbacks, Client, ClientOptions, NewJob, NewMessage, Outcome, Producer, ProducerEvents,
    ProducerOptions, Progress, Reports, RetryPolicy, Status, SubscribeOptions, Timeout, Verdict, Worker,
    WorkerOptions,
};
use flowmesh_proto::wire::MessageView;

type Stop = Arc<AtomicBool>;

fn open(endpoint: &str) -> Client {
    Client::open(ClientOptions { endpoint: Some(endpoint.into()), ..ClientOptions::default() }).expect("open")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread has panicked")
}

/// Runs `step` some hundred times a second until it is told to stop.
fn repeat(stop: &Stop, mut step: impl FnMut(u64) + Send + 'static) -> JoinHandle<u64> {
    let stop = stop.clone();
    thread::spawn(move || {
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                return number;
            }
            step(number);
            // A pace at which an hour fills no disk.
            thread::sleep(Duration::from_millis(2));
        }
        unreachable!("numbers do not end")
    })
}

// ---- streams ----------------------------------------------------------------------------------

/// Producer, and number of the message there.
type Name = (u64, u64);

/// What was reported, and what a subscription has seen; those that fit together are dropped.
#[derive(Default)]
struct Books {
    reported: HashMap<i64, Name>,
    seen: HashMap<i64, Name>,
    stored: u64,
    refused: u64,
    unknown: u64,
    /// By producer, which numbers were reported as unknown, and in what order they were seen.
    doubtful: HashMap<u64, Vec<Range<u64>>>,
    order: HashMap<u64, Order>,
    /// What was seen behind messages that were sent later.
    late: Vec<Name>,
}

/// In what order the messages of one producer were seen.
#[derive(Default)]
struct Order {
    next: u64,
    skipped: Vec<Range<u64>>,
}

impl Order {
    /// Whether a number comes behind later ones. Panics when it was seen before.
    fn is_late(&mut self, number: u64) -> bool {
        if number >= self.next {
            let skipped = self.next..number;
            self.skipped.extend((!skipped.is_empty()).then_some(skipped));
            self.next = number + 1;
            return false;
        }
        let hole = self.skipped.iter().position(|skipped| skipped.contains(&number));
        let hole = self.skipped.swap_remove(hole.unwrap_or_else(|| panic!("number {number} came twice")));
        self.skipped.extend([hole.start..number, number + 1..hole.end].into_iter().filter(|r| !r.is_empty()));
        true
    }
}

impl Books {
    fn doubt(&mut self, name: Name) {
        let ranges = self.doubtful.entry(name.0).or_default();
        match ranges.last_mut() {
            Some(range) if range.end == name.1 => range.end += 1,
            _ => ranges.push(name.1..name.1 + 1),
        }
    }

    fn is_doubtful(&self, name: &Name) -> bool {
        self.doubtful.get(&name.0).is_some_and(|ranges| ranges.iter().any(|range| range.contains(&name.1)))
    }

    fn fit(&mut self, offset: i64) {
        if let (Some(reported), Some(seen)) = (self.reported.get(&offset), self.seen.get(&offset)) {
            assert_eq!(reported, seen, "another message stands at offset {offset}");
            self.reported.remove(&offset);
            self.seen.remove(&offset);
        }
    }
}

struct Reporter(Arc<Mutex<Books>>);

impl ProducerEvents<Name> for Reporter {
    fn reports(&mut self, reports: &Reports<Name>) {
        let mut books = lock(&self.0);
        for report in reports.iter() {
            match report.result {
                Ok(receipt) => {
                    books.stored += 1;
                    books.reported.insert(receipt.position, *report.tag);
                    books.fit(receipt.position);
                }
                Err(e) if e.outcome() == Outcome::Unknown => {
                    books.unknown += 1;
                    books.doubt(*report.tag);
                }
                Err(_) => books.refused += 1,
            }
        }
    }

    fn writable(&mut self) {}
}

/// Two producers, and a subscription over all faults.
pub struct Messages {
    books: Arc<Mutex<Books>>,
    producers: Vec<(Arc<Producer<Name>>, JoinHandle<u64>)>,
    /// What the subscription wants next.
    next: Arc<AtomicU64>,
    client: Client,
    follower: JoinHandle<()>,
}

impl Messages {
    pub fn start(endpoint: &str, stop: &Stop) -> Self {
        let books = Arc::<Mutex<Books>>::default();
        let producers = (0..2)
            .map(|producer| {
                let stream = Arc::new(open(endpoint).stream("t", "n", "s").expect("names"));
                let events = Some(Box::new(Reporter(books.clone())) as Box<dyn ProducerEvents<Name>>);
                let sending =
                    Arc::new(Producer::of_stream(&stream, ProducerOptions::default(), events).expect("open"));
                let sender = sending.clone();
                let thread = repeat(stop, move |number| {
                    let payload = format!("{producer}.{number} {}", "x".repeat((number % 500) as usize));
                    let message =
                        NewMessage { payload: payload.as_bytes(), headers: std::iter::empty(), delay_ms: 0 };
                    sender.send(&message, (producer, number), Timeout::Never).expect("it is accepted");
                });
                (sending, thread)
            })
            .collect();
        let (client, next) = (open(endpoint), Arc::<AtomicU64>::default());
        let follower = follow(&client, books.clone(), next.clone());
        Self { books, producers, next, client, follower }
    }

    /// Everything that was reported as stored has been seen, in its place.
    pub fn end(self, patience: Duration) -> String {
        let mut sent = 0;
        for (producer, thread) in self.producers {
            sent += thread.join().expect("no panics");
            let closed = producer.close(Timeout::After(patience));
            assert_eq!(closed, (0, Ok(())), "everything is reported");
        }
        let stream = self.client.stream("t", "n", "s").expect("names");
        let latest = self
            .client
            .block_on(async move { stream.latest_offset(0, &CallOptions::default()).await })
            .expect("the server works again");
        let until = Instant::now() + patience;
        while self.next.load(Ordering::Acquire) <= latest as u64 {
            assert!(Instant::now() < until && !self.follower.is_finished(), "the subscription stands still");
            thread::sleep(Duration::from_millis(20));
        }
        let books = lock(&self.books);
        assert!(books.reported.is_empty(), "acknowledged and not delivered: {:?}", books.reported);
        assert_eq!(books.stored + books.unknown + books.refused, sent, "one report each");
        let known = books.seen.len() as u64;
        assert!(known <= books.unknown, "{known} messages came from nowhere");
        // A request that nobody waits for any more may reach the server behind those that follow it.
        let disorder: Vec<_> = books.late.iter().filter(|name| !books.is_doubtful(name)).collect();
        assert!(disorder.is_empty(), "stored behind what was sent later: {disorder:?}");
        format!(
            "{sent} messages: {} stored, {} refused, {} unknown of which {known} were stored, {} late",
            books.stored,
            books.refused,
            books.unknown,
            books.late.len()
        )
    }
}

fn follow(client: &Client, books: Arc<Mutex<Books>>, next: Arc<AtomicU64>) -> JoinHandle<()> {
    let stream = client.stream("t", "n", "s").expect("names");
    let options = SubscribeOptions { consumer_group: "g".into(), start_offset: 0, ..Default::default() };
    let subscription = stream.subscribe(options).expect("subscribe");
    let client = client.clone();
    thread::spawn(move || {
        let mut batch: Vec<Bytes> = Vec::new();
        loop {
            match client.wait(subscription.next_batch(&mut batch)) {
                Ok(Progress::Messages) => {}
                Ok(_) => continue,
                Err(e) => panic!("the subscription ended: {e}"),
            }
            let mut books = lock(&books);
            for message in &batch {
                let message = MessageView::parse(message).expect("a message");
                let expected = next.fetch_add(1, Ordering::AcqRel);
                assert_eq!(message.offset as u64, expected, "a gap or a repeat");
                let text = std::str::from_utf8(message.payload).expect("text");
                let (producer, number) =
                    text.split_once(' ').unwrap_or((text, "")).0.split_once('.').expect("a name");
                let name: Name = (producer.parse().expect("a number"), number.parse().expect("a number"));
                if books.order.entry(name.0).or_default().is_late(name.1) {
                    books.late.push(name);
                }
                books.seen.insert(message.offset, name);
                books.fit(message.offset);
            }
        }
    })
}

// ---- queues -----------------------------------------------------------------------------------

#[derive(Default)]
struct Ledger {
    stored: HashSet<u64>,
    handled: HashMap<u64, u64>,
    unknown: u64,
}

/// One thread that enqueues, and a worker.
pub struct Jobs {
    ledger: Arc<Mutex<Ledger>>,
    client: Client,
    thread: JoinHandle<u64>,
    worker: Worker,
}

impl Jobs {
    pub fn start(endpoint: &str, stop: &Stop) -> Self {
        let client = open(endpoint);
        let queue = client.queue("t", "n", "q").expect("names");
        let policy = RetryPolicy {
            max_attempts: 0,
            initial_backoff_seconds: 1,
            max_backoff_seconds: 1,
            backoff_multiplier: 1.0,
            backoff_strategy: "fixed".into(),
        };
        let of = queue.clone();
        client
            .block_on(async move { of.set_retry_policy(policy, &CallOptions::default()).await })
            .expect("nothing fails yet");
        let ledger = Arc::<Mutex<Ledger>>::default();
        let (to, books) = (queue.clone(), ledger.clone());
        let thread = repeat(stop, move |number| {
            let (to, payload) = (to.clone(), Bytes::from(number.to_string()));
            let client = to.client().clone();
            let enqueued = client.block_on(async move {
                to.enqueue(NewJob { payload, ..NewJob::default() }, &CallOptions::default()).await
            });
            let mut books = lock(&books);
            match enqueued {
                Ok(_) => drop(books.stored.insert(number)),
                Err(e) => books.unknown += u64::from(e.outcome() == Outcome::Unknown),
            }
        });
        let books = ledger.clone();
        let callbacks = Callbacks {
            handler: Box::new(move |delivery| {
                let number =
                    std::str::from_utf8(&delivery.job.payload).expect("text").parse().expect("a number");
                *lock(&books).handled.entry(number).or_default() += 1;
                // What is given back, or whose verdict is lost, comes again.
                let verdict = if number % 50 == 0 && delivery.job.attempts == 1 {
                    Verdict::Nack { delay_ms: 0 }
                } else {
                    Verdict::Ack
                };
                let _ = delivery.ticket.settle(verdict);
            }),
            event: None,
        };
        // A lease that nobody knows of any more is over soon.
        let options = WorkerOptions { concurrency: 4, visibility_ms: 5_000, ..WorkerOptions::default() };
        let worker = Worker::open(queue, &options, callbacks).expect("open a worker");
        Self { ledger, client, thread, worker }
    }

    /// Everything that was acknowledged has been handled, and the queue is empty.
    pub fn end(self, patience: Duration) -> String {
        let tried = self.thread.join().expect("no panics");
        let queue = self.worker.queue().clone();
        let until = Instant::now() + patience;
        loop {
            let of = queue.clone();
            let stats = self
                .client
                .block_on(async move { of.stats(&CallOptions::default()).await })
                .expect("the server works again");
            if stats.pending_jobs + stats.in_flight_jobs == 0 {
                break;
            }
            assert!(Instant::now() < until, "jobs are left: {stats:?}");
            thread::sleep(Duration::from_millis(100));
        }
        let worker = self.worker;
        self.client.wait(worker.close(Timeout::After(patience))).expect("the worker drains");
        let ledger = lock(&self.ledger);
        let lost: Vec<_> = ledger.stored.iter().filter(|n| !ledger.handled.contains_key(n)).collect();
        assert!(lost.is_empty(), "acknowledged and never handled: {lost:?}");
        let strangers = ledger.handled.keys().filter(|n| !ledger.stored.contains(n)).count() as u64;
        assert!(strangers <= ledger.unknown, "{strangers} jobs came from nowhere");
        let deliveries: u64 = ledger.handled.values().sum();
        format!(
            "{tried} jobs: {} stored, {} unknown; {deliveries} deliveries of {} jobs",
            ledger.stored.len(),
            ledger.unknown,
            ledger.handled.len()
        )
    }
}

// ---- values -----------------------------------------------------------------------------------

/// One writer that reads what it wrote.
pub struct Values(JoinHandle<u64>);

impl Values {
    pub fn start(endpoint: &str, stop: &Stop) -> Self {
        const KEYS: u64 = 40;
        let kv = Arc::new(open(endpoint).kv("t", "n", "k").expect("names"));
        // By key: the last number that was acknowledged, and those of which nobody knows: a request
        // that was held up on the way may come late.
        let mut known: HashMap<u64, (u64, Vec<u64>)> = HashMap::new();
        Self(repeat(stop, move |number| {
            let (key, of, client) = (number % KEYS, kv.clone(), kv.client().clone());
            let (last, unknown) = known.entry(key).or_default();
            let set = client.block_on(async move {
                let value = Bytes::from((number + 1).to_string());
                of.set(&format!("key {key}"), value, 0, &CallOptions::default()).await
            });
            match set {
                Ok(()) => *last = number + 1,
                Err(e) if e.outcome() == Outcome::Unknown => unknown.push(number + 1),
                Err(_) => {}
            }
            let of = kv.clone();
            let got =
                client.block_on(async move { of.get(&format!("key {key}"), &CallOptions::default()).await });
            match got {
                Ok(value) => {
                    let value = std::str::from_utf8(&value).expect("text").parse::<u64>().expect("a number");
                    assert!(value == *last || unknown.contains(&value), "key {key}: {value}, not {last}");
                }
                Err(e) if e.status() == Status::NOT_FOUND => assert_eq!(*last, 0, "key {key} is lost"),
                Err(_) => {}
            }
        }))
    }

    pub fn end(self) -> String {
        format!("{} values set and read", self.0.join().expect("every value was as it should be"))
    }
}
