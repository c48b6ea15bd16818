//! Group commit: many callers hand in operations, one of them (or a thread) commits all that
//! have gathered, once.
//!
//! A [`Committer`] owns a [`Sink`] and a thread. Operations that arrive while a batch is being
//! committed form the next batch: no timer, no waiting for company. A caller that would block
//! anyway may commit in its own thread when nobody else is at it ([`inline`]); that saves the
//! two hand-overs that would otherwise cost a lone caller more than its sync.
//!
//! Callers wait for the reply of their own operation, never for a lock that is held across I/O.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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

thread_local! {
    static INLINE: Cell<bool> = const { Cell::new(false) };
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
    /// The thread sleeps, or is about to: whoever hands something in must ring.
    sleeping: AtomicBool,
}

struct Inbox<Op> {
    ops: Vec<Op>,
    rung: bool,
    closed: bool,
}

/// The operation was refused because the committer is closed.
#[derive(Debug)]
pub struct Closed;

impl<S: Sink> Committer<S> {
    /// Starts a thread named `name` that commits to `sink`.
    pub fn start(name: &str, sink: S) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            sink: Mutex::new(sink),
            inbox: Mutex::new(Inbox { ops: Vec::new(), rung: false, closed: false }),
            bell: Condvar::new(),
            sleeping: AtomicBool::new(false),
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

impl<S: Sink> Shared<S> {
    fn submit(&self, op: S::Op) -> Result<(), Closed> {
        {
            let mut inbox = lock(&self.inbox);
            if inbox.closed {
                return Err(Closed);
            }
            inbox.ops.push(op);
        }
        if INLINE.get() {
            let leader = match self.sink.try_lock() {
                Ok(sink) => Some(sink),
                Err(std::sync::TryLockError::Poisoned(p)) => Some(p.into_inner()),
                Err(std::sync::TryLockError::WouldBlock) => None,
            };
            if let Some(mut sink) = leader {
                let before = sink.next_wake();
                let mut batch = std::mem::take(&mut lock(&self.inbox).ops);
                // Empty when the thread was quicker; it may even have closed the sink since.
                if !batch.is_empty() {
                    run_guarded(&mut *sink, &mut batch);
                }
                let after = sink.next_wake();
                drop(sink);
                // A nearer timer and what came in meanwhile are the thread's.
                if after.is_some_and(|a| before.is_none_or(|b| a < b)) {
                    self.ring();
                } else if lock(&self.inbox).ops.is_empty() {
                    return Ok(());
                }
            }
        }
        if self.sleeping.load(Ordering::SeqCst) {
            self.ring();
        }
        Ok(())
    }

    fn ring(&self) {
        lock(&self.inbox).rung = true;
        self.bell.notify_one();
    }

    fn run(&self) {
        let mut batch = Vec::new();
        loop {
            let wake = {
                let mut sink = lock(&self.sink);
                std::mem::swap(&mut batch, &mut lock(&self.inbox).ops);
                run_guarded(&mut *sink, &mut batch);
                sink.next_wake()
            };
            if self.sleep(wake) {
                break;
            }
        }
        lock(&self.sink).close();
    }

    /// Sleeps until there is something to do; true when the committer is closed and drained.
    fn sleep(&self, wake: Option<Instant>) -> bool {
        // Announce sleep before looking: a caller either sees `sleeping` and rings, or its
        // operation is seen here.
        self.sleeping.store(true, Ordering::SeqCst);
        let mut inbox = lock(&self.inbox);
        while inbox.ops.is_empty() && !inbox.rung && !inbox.closed {
            inbox = match wake.map(|at| at.saturating_duration_since(Instant::now())) {
                None => self.bell.wait(inbox).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break,
                Some(rest) => self.bell.wait_timeout(inbox, rest).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        self.sleeping.store(false, Ordering::SeqCst);
        inbox.rung = false;
        inbox.closed && inbox.ops.is_empty()
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
