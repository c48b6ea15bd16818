//! Tests of group commit: order, batches, who commits, slow commits, panics, the end.

use std::{
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use super::{gathering::SLOW, *};

/// Counts, remembers the order, and panics when told to.
#[derive(Default)]
struct Log {
    seen: Arc<Mutex<Vec<u64>>>,
    recovered: Arc<AtomicUsize>,
    closed: Arc<AtomicBool>,
    threads: Arc<Mutex<Vec<std::thread::ThreadId>>>,
    batches: Arc<Mutex<Vec<usize>>>,
    wake: Option<Instant>,
}

enum Op {
    Add(u64, mpsc::Sender<u64>),
    Slow(mpsc::Sender<u64>),
    Panic(mpsc::Sender<u64>),
    WakeAt(Instant, mpsc::Sender<u64>),
}

impl Sink for Log {
    type Op = Op;

    fn run(&mut self, batch: &mut Vec<Op>) {
        assert!(!self.closed.load(Ordering::SeqCst) || batch.is_empty());
        if batch.is_empty() && self.wake.is_some_and(|at| at <= Instant::now()) {
            self.wake = None;
            lock(&self.seen).push(u64::MAX);
        }
        lock(&self.batches).push(batch.len());
        for op in batch.drain(..) {
            match op {
                Op::Slow(_reply) => std::thread::sleep(50 * SLOW),
                Op::Add(n, reply) => {
                    lock(&self.threads).push(std::thread::current().id());
                    lock(&self.seen).push(n);
                    let _ = reply.send(n);
                }
                Op::Panic(_reply) => panic!("told to"),
                Op::WakeAt(at, _reply) => self.wake = Some(at),
            }
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        self.wake
    }

    fn recover(&mut self) {
        self.recovered.fetch_add(1, Ordering::SeqCst);
    }

    fn close(&mut self) {
        assert!(!self.closed.swap(true, Ordering::SeqCst));
    }
}

#[test]
fn operations_are_committed_in_the_order_of_submission() {
    let sink = Log::default();
    let seen = sink.seen.clone();
    let committer = Committer::start("test", sink).unwrap();
    let (reply, answers) = mpsc::channel();
    for n in 0..10_000 {
        committer.submit(Op::Add(n, reply.clone())).unwrap();
    }
    committer.close();
    assert!(lock(&seen).iter().copied().eq(0..10_000));
    assert!(answers.try_iter().eq(0..10_000));
}

#[test]
fn a_blocking_caller_commits_in_its_own_thread() {
    let sink = Log::default();
    let threads = sink.threads.clone();
    let committer = Committer::start("test", sink).unwrap();
    let (reply, answers) = mpsc::channel();
    // The thread runs the sink once when it starts, and may then be quicker than we are.
    for n in 0..1000 {
        inline(|| committer.submit(Op::Add(n, reply.clone()))).unwrap();
        assert_eq!(answers.recv(), Ok(n));
    }
    assert!(lock(&threads).contains(&std::thread::current().id()));
}

#[test]
fn a_panic_ends_its_own_batch_only() {
    let sink = Log::default();
    let recovered = sink.recovered.clone();
    let committer = Committer::start("test", sink).unwrap();
    let (reply, answers) = mpsc::channel();
    committer.submit(Op::Panic(reply)).unwrap();
    assert!(answers.recv().is_err());
    let (reply, answers) = mpsc::channel();
    assert!(inline(|| committer.submit(Op::Panic(reply))).is_ok());
    assert!(answers.recv().is_err());
    let (reply, answers) = mpsc::channel();
    committer.submit(Op::Add(7, reply)).unwrap();
    assert_eq!(answers.recv(), Ok(7));
    assert_eq!(recovered.load(Ordering::SeqCst), 2);
}

#[test]
fn closing_commits_what_is_queued_and_refuses_the_rest() {
    let sink = Log::default();
    let (seen, closed) = (sink.seen.clone(), sink.closed.clone());
    let committer = Arc::new(Committer::start("test", sink).unwrap());
    let writers: Vec<_> = (0..4)
        .map(|w| {
            let committer = committer.clone();
            std::thread::spawn(move || {
                let (reply, answers) = mpsc::channel();
                let submit = |n| {
                    let op = Op::Add(n, reply.clone());
                    if w % 2 == 0 { committer.submit(op) } else { inline(|| committer.submit(op)) }
                };
                let accepted = (0..).take_while(|n| submit(*n).is_ok()).count();
                drop(reply);
                assert_eq!(answers.iter().count(), accepted);
                accepted
            })
        })
        .collect();
    while lock(&seen).len() < 1000 {
        std::thread::yield_now();
    }
    committer.close();
    let accepted: usize = writers.into_iter().map(|w| w.join().unwrap()).sum();
    assert_eq!(lock(&seen).len(), accepted);
    assert!(closed.load(Ordering::SeqCst));
}

#[test]
fn no_wake_up_is_lost() {
    let committer = Arc::new(Committer::start("test", Log::default()).unwrap());
    let callers: Vec<_> = (0..4)
        .map(|c| {
            let committer = committer.clone();
            std::thread::spawn(move || {
                let (reply, answers) = mpsc::channel();
                for n in 0..20_000 {
                    let op = Op::Add(n, reply.clone());
                    if c < 2 { committer.submit(op) } else { inline(|| committer.submit(op)) }.unwrap();
                    // Hangs here for ever when nobody was woken.
                    assert_eq!(answers.recv(), Ok(n));
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
}

#[test]
fn a_timer_that_an_inline_caller_set_is_kept_by_the_thread() {
    let sink = Log::default();
    let seen = sink.seen.clone();
    let committer = Committer::start("test", sink).unwrap();
    let (reply, answers) = mpsc::channel();
    let at = Instant::now() + Duration::from_millis(20);
    inline(|| committer.submit(Op::WakeAt(at, reply))).unwrap();
    assert!(answers.recv().is_err());
    while lock(&seen).is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(*lock(&seen), [u64::MAX]);
    assert!(Instant::now() >= at);
}

/// Runs `tasks` on a runtime that gathers, once the committer's thread has come to rest.
fn gather_from<F: Future<Output = ()>>(committer: &Committer<Log>, tasks: impl FnOnce() -> F) {
    let (reply, answers) = mpsc::channel();
    committer.submit(Op::Add(0, reply)).unwrap();
    assert_eq!(answers.recv(), Ok(0));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let committing = tokio::spawn(gathering());
        tokio::task::yield_now().await;
        tasks().await;
        committing.abort();
    });
}

/// Lets the task that commits have its turn until an answer is there.
async fn answer(answers: &mpsc::Receiver<u64>) -> std::result::Result<u64, mpsc::TryRecvError> {
    loop {
        match answers.try_recv() {
            Err(mpsc::TryRecvError::Empty) => tokio::task::yield_now().await,
            answer => return answer,
        }
    }
}

#[test]
fn what_tasks_hand_in_is_gathered_into_one_batch() {
    let sink = Log::default();
    let (seen, batches) = (sink.seen.clone(), sink.batches.clone());
    let committer = Arc::new(Committer::start("test", sink).unwrap());
    gather_from(&committer, || async {
        let (reply, answers) = mpsc::channel();
        for n in 1..=20 {
            let (committer, reply) = (committer.clone(), reply.clone());
            tokio::spawn(async move { committer.submit(Op::Add(n, reply)).unwrap() });
        }
        for n in 1..=20 {
            assert_eq!(answer(&answers).await, Ok(n));
        }
    });
    assert!(lock(&seen).iter().copied().eq(0..=20));
    assert_eq!(lock(&batches).iter().filter(|n| **n > 1).collect::<Vec<_>>(), [&20]);
}

#[test]
fn a_thread_that_gathers_commits_itself_until_that_is_slow() {
    let sink = Log::default();
    let threads = sink.threads.clone();
    let committer = Committer::start("test", sink).unwrap();
    let this = std::thread::current().id();
    gather_from(&committer, || async {
        let (reply, answers) = mpsc::channel();
        let deadline = Instant::now() + Duration::from_secs(30);
        // The committer's thread may be on its way to rest in the first of these, and on a busy
        // machine any of them may be slow.
        loop {
            committer.submit(Op::Add(1, reply.clone())).unwrap();
            assert_eq!(answer(&answers).await, Ok(1));
            if lock(&threads).last() == Some(&this) {
                break;
            }
            assert!(Instant::now() < deadline, "it never commits itself");
        }
        // It may be so late after the slow one that this is forgotten.
        loop {
            let (slow, end) = mpsc::channel();
            committer.submit(Op::Slow(slow)).unwrap();
            assert_eq!(answer(&end).await, Err(mpsc::TryRecvError::Disconnected));
            committer.submit(Op::Add(1, reply.clone())).unwrap();
            assert_eq!(answer(&answers).await, Ok(1));
            if lock(&threads).last() != Some(&this) {
                break;
            }
            assert!(Instant::now() < deadline, "it goes on committing itself");
        }
    });
}

#[test]
fn what_was_gathered_when_the_runtime_ends_is_committed() {
    let committer = Committer::start("test", Log::default()).unwrap();
    let (reply, answers) = mpsc::channel();
    gather_from(&committer, || async { committer.submit(Op::Add(7, reply)).unwrap() });
    assert_eq!(answers.recv(), Ok(7));
}
