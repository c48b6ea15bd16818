//! Group commit: many callers hand in operations, one of them (or a thread) commits all that
//! have gathered, once.
//!
//! A [`Committer`] owns a [`Sink`] and a thread. Operations that arrive while a batch is being
//! committed form the next batch: no timer, no waiting for company. A caller that would block
//! anyway may commit in its own thread when nobody else is at it ([`inline`]); that saves the
//! two hand-overs that would otherwise cost a lone caller more than its sync. So may a runtime that
//! has a thread to itself, for all its tasks at once ([`gathering`]).
//!
//! Callers wait for the reply of their own operation, never for a lock that is held across I/O.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError},
    task::{Poll, Waker},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// What a committer feeds.
pub trait Sink: Send + 'static {
    /// One operation with the means to answer it.
    type Op: Send + 'static;

    /// Commits `batch` and answers each operation. Also called with an empty batch when the
    /// time given by [`Sink::next_wake`] has come. Drains the vector; its capacity is reused.
    fn run(&mut self, batch: &mut Vec<Self::Op>);

    /// When `run` wants to be called again without an operation; `None` for never. Changes only
    /// inside `run`, `recover` and by whoever then calls [`Committer::waker`].
    fn next_wake(&self) -> Option<Instant> {
        None
    }

    /// Called when `run` panicked: bring the state back to what is stored.
    fn recover(&mut self);

    /// Called once, on the committer's thread, when no operation will follow.
    fn close(&mut self) {}
}

/// A commit that takes longer than this is not for a thread that others wait for.
const SLOW: Duration = Duration::from_millis(2);
/// After a slow commit, a thread leaves commits to the committer's for this many times as long: slow
/// commits hold up its other tasks for a tenth of the time at most.
const PAUSE: u32 = 10;

thread_local! {
    static INLINE: Cell<bool> = const { Cell::new(false) };
    static GATHERED: RefCell<Option<Gathered>> = const { RefCell::new(None) };
}

/// What the tasks of a thread have handed in and nobody was called for yet.
struct Gathered {
    committers: Vec<Arc<dyn Commit>>,
    /// Of the task that commits.
    waker: Waker,
    /// A commit was slow: until then, operations go to the committer's thread at once.
    paused_until: Option<Instant>,
}

/// Has what other tasks of this thread hand in committed, for ever, once those have had their turn
/// that were ready before it. Several operations are for the committer's thread: this one goes on
/// with its tasks meanwhile. A lone one is committed here, which saves its caller two hand-overs;
/// other tasks wait so long, so this is for a runtime that has its thread to itself, and only while
/// commits are quick.
pub async fn gathering() {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            let gathered = GATHERED.take();
            gathered.into_iter().flat_map(|gathered| gathered.committers).for_each(|c| c.call());
        }
    }
    let _leave = Leave;
    poll_fn(|cx| {
        let committers = GATHERED.with_borrow_mut(|gathered| match gathered {
            Some(gathered) => {
                gathered.waker.clone_from(cx.waker());
                std::mem::take(&mut gathered.committers)
            }
            None => {
                let waker = cx.waker().clone();
                *gathered = Some(Gathered { committers: Vec::new(), waker, paused_until: None });
                Vec::new()
            }
        });
        for committer in committers {
            let start = Instant::now();
            committer.commit_gathered();
            let took = start.elapsed();
            if took > SLOW {
                let until = Instant::now() + took * PAUSE;
                GATHERED.with_borrow_mut(|g| g.iter_mut().for_each(|g| g.paused_until = Some(until)));
            }
        }
        Poll::Pending
    })
    .await
}

/// Leaves `committer` to this thread's [`gathering`]; false when there is none.
fn gather(committer: &Arc<impl Commit + 'static>) -> bool {
    GATHERED.with_borrow_mut(|gathered| {
        let Some(gathered) = gathered else { return false };
        if gathered.paused_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        gathered.paused_until = None;
        if gathered.committers.is_empty() {
            gathered.waker.wake_by_ref();
        }
        let known = |other: &Arc<dyn Commit>| std::ptr::addr_eq(Arc::as_ptr(other), Arc::as_ptr(committer));
        if !gathered.committers.iter().any(known) {
            gathered.committers.push(committer.clone());
        }
        true
    })
}

/// A committer, whatever it feeds.
trait Commit {
    /// Has committed what was handed in: a lone operation here unless somebody has the sink, several
    /// by the thread.
    fn commit_gathered(&self);
    /// Has the thread commit it.
    fn call(&self);
}

/// Runs `f` (one poll of a blocking caller's future) with leave to commit in this thread.
/// Never use it on a thread that others wait for, such as a runtime's worker.
pub fn inline<R>(f: impl FnOnce() -> R) -> R {
    with_leave(true, f)
}

/// Runs `f` without that leave: for a poll that submits several operations, which one commit
/// shall serve.
pub fn gathered<R>(f: impl FnOnce() -> R) -> R {
    with_leave(false, f)
}

fn with_leave<R>(leave: bool, f: impl FnOnce() -> R) -> R {
    struct Reset(bool);
    impl Drop for Reset {
        fn drop(&mut self) {
            INLINE.set(self.0);
        }
    }
    let _reset = Reset(INLINE.replace(leave));
    f()
}

/// Hands operations to a [`Sink`] in the order of submission.
pub struct Committer<S: Sink> {
    shared: Arc<Shared<S>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared<S: Sink> {
    sink: Mutex<S>,
    inbox: Mutex<Inbox<S::Op>>,
    bell: Condvar,
}

/// What is to be done. Whoever lets go of the sink looks here afterwards and calls the thread if
/// there is something, or if it waits for the sink; so nobody who finds the sink taken needs to do
/// anything.
struct Inbox<Op> {
    ops: Vec<Op>,
    /// The sink is to run now, even without an operation. Operations that a thread gathers wait for
    /// this.
    rung: bool,
    closed: bool,
    /// When the sink wants to run again.
    wake: Option<Instant>,
    /// The thread waits for work (and not for the sink).
    idle: bool,
    /// The thread waits for the sink: whoever lets go of it rings, even when nothing is left to
    /// do. Another caller may have done it meanwhile, and nobody rings a thread that is not idle.
    awaits_sink: bool,
    /// When it will wake up by itself. A timer that is no nearer need not wake it: leases come
    /// and go by the thousand, each with an end that hardly any of them reaches.
    idle_until: Option<Instant>,
}

impl<Op> Inbox<Op> {
    fn has_work(&self) -> bool {
        self.rung || self.closed || self.wake.is_some_and(|at| at <= Instant::now())
    }
}

/// The operation was refused because the committer is closed.
#[derive(Debug)]
pub struct Closed;

impl<S: Sink> Committer<S> {
    /// Starts a thread named `name` that commits to `sink`.
    pub fn start(name: &str, sink: S) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            sink: Mutex::new(sink),
            inbox: Mutex::new(Inbox {
                ops: Vec::new(),
                rung: false,
                closed: false,
                wake: None,
                idle: false,
                awaits_sink: false,
                idle_until: None,
            }),
            bell: Condvar::new(),
        });
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn({
            let shared = shared.clone();
            move || shared.run()
        })?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Hands in one operation; its reply comes through whatever means the operation carries.
    pub fn submit(&self, op: S::Op) -> Result<(), Closed> {
        self.shared.submit(op)
    }

    /// A handle by which a timer or a waiter can have the sink run soon.
    pub fn waker(&self) -> impl Fn() + Send + Sync + 'static {
        let shared = Arc::downgrade(&self.shared);
        move || {
            if let Some(shared) = shared.upgrade() {
                shared.ring();
            }
        }
    }

    /// Commits what was handed in, closes the sink and ends the thread. Later operations are
    /// refused, calls after the first do nothing.
    pub fn close(&self) {
        lock(&self.shared.inbox).closed = true;
        self.shared.ring();
        if let Some(thread) = lock(&self.thread).take() {
            // The thread catches panics of the sink; there is nothing to learn from its end.
            let _ = thread.join();
        }
    }
}

impl<S: Sink> Drop for Committer<S> {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(p)) => Some(p.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl<S: Sink> Shared<S> {
    fn submit(self: &Arc<Self>, op: S::Op) -> Result<(), Closed> {
        let inline = INLINE.get();
        let mut inbox = lock(&self.inbox);
        if inbox.closed {
            return Err(Closed);
        }
        inbox.ops.push(op);
        if inline {
            drop(inbox);
            self.commit();
        } else if !inbox.rung && !gather(self) {
            inbox.rung = true;
            if inbox.idle {
                self.bell.notify_one();
            }
        }
        Ok(())
    }

    /// Commits what was handed in: here, or if somebody has the sink, by the thread.
    fn commit(&self) {
        // First, so that whoever has the sink finds it when it lets go.
        lock(&self.inbox).rung = true;
        let Some(mut sink) = try_lock(&self.sink) else { return };
        let mut batch = {
            let mut inbox = lock(&self.inbox);
            inbox.rung = false;
            std::mem::take(&mut inbox.ops)
        };
        // Empty when somebody else was quicker; the thread may even have closed the sink since.
        if !batch.is_empty() {
            run_guarded(&mut *sink, &mut batch);
        }
        let wake = sink.next_wake();
        lock(&self.inbox).wake = wake;
        drop(sink);
        // What came in meanwhile is the thread's, and so is a timer that it would miss.
        let inbox = lock(&self.inbox);
        let missed = wake.is_some_and(|at| inbox.idle_until.is_none_or(|until| at < until));
        if inbox.has_work() || inbox.awaits_sink || (inbox.idle && missed) {
            self.bell.notify_one();
        }
    }

    fn ring(&self) {
        lock(&self.inbox).rung = true;
        self.bell.notify_one();
    }

    fn run(&self) {
        let mut batch = Vec::new();
        let mut inbox = lock(&self.inbox);
        inbox.rung = true;
        loop {
            if !inbox.has_work() {
                inbox.idle = true;
                inbox.idle_until = inbox.wake;
                inbox = self.wait(inbox);
                inbox.idle = false;
            } else if let Some(mut sink) = try_lock(&self.sink) {
                inbox.rung = false;
                let last = inbox.closed;
                std::mem::swap(&mut batch, &mut inbox.ops);
                drop(inbox);
                run_guarded(&mut *sink, &mut batch);
                if last {
                    // Nothing was handed in since: the inbox was closed when it was emptied.
                    sink.close();
                    return;
                }
                let wake = sink.next_wake();
                lock(&self.inbox).wake = wake;
                drop(sink);
                inbox = lock(&self.inbox);
            } else {
                // A caller has the sink. It looks into the inbox after it let go, and rings.
                inbox.awaits_sink = true;
                inbox = self.bell.wait(inbox).unwrap_or_else(PoisonError::into_inner);
                inbox.awaits_sink = false;
            }
        }
    }

    /// Sleeps until the bell rings or the sink's time has come.
    fn wait<'a>(&self, inbox: MutexGuard<'a, Inbox<S::Op>>) -> MutexGuard<'a, Inbox<S::Op>> {
        match inbox.wake.map(|at| at.saturating_duration_since(Instant::now())) {
            None => self.bell.wait(inbox).unwrap_or_else(PoisonError::into_inner),
            Some(rest) => self.bell.wait_timeout(inbox, rest).unwrap_or_else(PoisonError::into_inner).0,
        }
    }
}

impl<S: Sink> Commit for Shared<S> {
    fn commit_gathered(&self) {
        let waiting = lock(&self.inbox).ops.len();
        match waiting {
            // Somebody else has committed them.
            0 => {}
            1 => self.commit(),
            _ => self.ring(),
        }
    }

    fn call(&self) {
        self.ring();
    }
}

/// Runs a batch; a panic ends the operations of this batch only (their replies are dropped).
fn run_guarded<S: Sink>(sink: &mut S, batch: &mut Vec<S::Op>) {
    let outcome = catch_unwind(AssertUnwindSafe(|| sink.run(batch)));
    if outcome.is_err() {
        batch.clear();
        sink.recover();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            atomic::{AtomicBool, AtomicUsize, Ordering},
            mpsc,
        },
        time::Duration,
    };

    use super::*;

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
            // The committer's thread may be on its way to rest in the first of these.
            for n in 0..100 {
                committer.submit(Op::Add(n, reply.clone())).unwrap();
                assert_eq!(answer(&answers).await, Ok(n));
            }
            assert_eq!(lock(&threads).last(), Some(&this));
            let (slow, end) = mpsc::channel();
            committer.submit(Op::Slow(slow)).unwrap();
            assert_eq!(answer(&end).await, Err(mpsc::TryRecvError::Disconnected));
            committer.submit(Op::Add(1, reply)).unwrap();
            assert_eq!(answers.recv(), Ok(1));
            assert_ne!(lock(&threads).last(), Some(&this));
        });
    }

    #[test]
    fn what_was_gathered_when_the_runtime_ends_is_committed() {
        let committer = Committer::start("test", Log::default()).unwrap();
        let (reply, answers) = mpsc::channel();
        gather_from(&committer, || async { committer.submit(Op::Add(7, reply)).unwrap() });
        assert_eq!(answers.recv(), Ok(7));
    }
}
