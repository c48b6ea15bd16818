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

mod gathering;
#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError, Weak},
    thread::JoinHandle,
    time::Instant,
};

pub use gathering::gathering;
use gathering::{Commit, gather};

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

/// A way in for operations that nobody waits for, from places that must not block: they are never
/// committed by who leaves them. It does not keep the committer.
pub struct BackDoor<S: Sink>(Weak<Shared<S>>);

impl<S: Sink> BackDoor<S> {
    /// Leaves an operation; a closed committer drops it.
    pub fn leave(&self, op: S::Op) {
        if let Some(shared) = self.0.upgrade() {
            shared.leave(op);
        }
    }
}

impl<S: Sink> Clone for BackDoor<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
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

    /// A handle by which an operation is left to the thread.
    pub fn back_door(&self) -> BackDoor<S> {
        BackDoor(Arc::downgrade(&self.shared))
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

#[cfg(test)]
impl<S: Sink> Committer<S> {
    /// Keeps the sink until it is dropped: what is handed in meanwhile becomes one batch.
    pub(crate) fn hold(&self) -> impl Sized + '_ {
        struct Held<'a, S: Sink>(Option<MutexGuard<'a, S>>, &'a Shared<S>);
        impl<S: Sink> Drop for Held<'_, S> {
            fn drop(&mut self) {
                self.0 = None;
                self.1.ring();
            }
        }
        Held(Some(lock(&self.shared.sink)), &self.shared)
    }

    /// Whether operations are refused.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.shared.inbox).closed
    }

    /// Waits until the thread has nothing to do.
    pub(crate) fn quiesce(&self) {
        loop {
            let inbox = lock(&self.shared.inbox);
            if inbox.closed || (inbox.idle && !inbox.has_work()) {
                return;
            }
            drop(inbox);
            std::thread::sleep(std::time::Duration::from_micros(20));
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

/// `None` while somebody else has it.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
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

    /// Has the thread commit `op`.
    fn leave(&self, op: S::Op) {
        let mut inbox = lock(&self.inbox);
        if inbox.closed {
            // Not under the lock: nobody knows what the end of an operation does.
            drop(inbox);
            return drop(op);
        }
        inbox.ops.push(op);
        inbox.rung = true;
        if inbox.idle {
            self.bell.notify_one();
        }
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
