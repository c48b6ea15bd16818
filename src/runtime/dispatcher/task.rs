//! A future that a dispatcher polls whenever it was woken: what delivers to a callback again and
//! again. It can be stopped from anywhere, and then waited for.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, Wake, Waker},
};

use super::{Item, Shared};
use crate::{
    boundary::process,
    runtime::{lock, park, wait_until},
    sync::{
        Arc, Condvar, Instant, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, Ordering},
        thread::{self, ThreadId},
    },
};

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A future of the dispatcher, seen from outside.
pub(crate) struct Task {
    shared: Weak<Shared>,
    /// Its number in the dispatcher.
    id: u64,
    pub(super) group: usize,
    pid: u32,
    /// It is in the ready queue.
    pub(super) queued: AtomicBool,
    state: Mutex<State>,
    /// A poll is over, or the task has ended.
    rest: Condvar,
}

struct State {
    /// `None` while it is polled, and when it has ended.
    work: Option<Work>,
    /// Who polls or drops it.
    running: Option<ThreadId>,
    /// It is not to be polled again.
    stopped: bool,
    /// The work is dropped.
    ended: bool,
    /// Wakes those that wait for that without blocking.
    watchers: Vec<Waker>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(shared) = self.shared.upgrade() {
            shared.push(Item::Task(self.clone()));
        }
    }
}

impl Task {
    pub(super) fn new(shared: Weak<Shared>, id: u64, group: usize, work: Work) -> Self {
        Self {
            shared,
            id,
            group,
            pid: process::id(),
            queued: AtomicBool::new(false),
            state: Mutex::new(State {
                work: Some(work),
                running: None,
                stopped: false,
                ended: false,
                watchers: Vec::new(),
            }),
            rest: Condvar::new(),
        }
    }

    /// Polls it once. Where the thread can wait for it (`alarms`), it says when to poll again at
    /// the latest; elsewhere timers are the runtime's.
    pub(super) fn run(self: &Arc<Self>, alarms: bool) -> Option<Instant> {
        // From here on a wake means another poll.
        self.queued.store(false, Ordering::Release);
        let mut work = {
            let mut state = lock(&self.state);
            let work = state.work.take()?;
            state.running = Some(thread::current().id());
            work
        };
        let waker = Waker::from(self.clone());
        let mut context = Context::from_waker(&waker);
        // A panic ends this task and no other.
        let polled = catch_unwind(AssertUnwindSafe(|| {
            if alarms {
                park::poll_once(work.as_mut(), &mut context)
            } else {
                (park::elsewhere(|| work.as_mut().poll(&mut context)), None)
            }
        }));
        let (poll, alarm) = polled.unwrap_or((Poll::Ready(()), None));
        let mut state = lock(&self.state);
        if poll.is_pending() && !state.stopped {
            state.work = Some(work);
            state.running = None;
            self.rest.notify_all();
            return alarm;
        }
        drop(state);
        self.finish(work);
        None
    }

    /// Drops the work; the caller has marked itself as running.
    fn finish(&self, work: Work) {
        // What is dropped may call back into the library, so no lock is held; nor may it panic on.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(work)));
        let mut state = lock(&self.state);
        state.running = None;
        state.ended = true;
        let watchers = std::mem::take(&mut state.watchers);
        self.rest.notify_all();
        drop(state);
        watchers.into_iter().for_each(Waker::wake);
        if let Some(shared) = self.shared.upgrade() {
            shared.forget(self.id);
        }
    }

    /// Ends it from outside: it is not polled any more, and dropped. Waits for a poll under way,
    /// unless it is the caller's own; false when that was not over at `deadline`: the task is then
    /// dropped at its end.
    pub fn stop(&self, deadline: Option<Instant>) -> bool {
        if self.pid != process::id() {
            // In the child of a fork its thread does not exist, and its locks may be held for ever.
            return true;
        }
        let mut state = lock(&self.state);
        state.stopped = true;
        if let Some(work) = state.work.take() {
            state.running = Some(thread::current().id());
            drop(state);
            self.finish(work);
            return true;
        }
        self.wait(state, deadline)
    }

    /// Resolves when its work is dropped.
    pub async fn ended(&self) {
        std::future::poll_fn(|cx| {
            let mut state = lock(&self.state);
            if state.ended {
                return Poll::Ready(());
            }
            if !state.watchers.iter().any(|watcher| watcher.will_wake(cx.waker())) {
                state.watchers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    pub(super) fn has_ended(&self) -> bool {
        lock(&self.state).ended
    }

    /// Whether the calling thread is inside its poll.
    pub fn runs_here(&self) -> bool {
        lock(&self.state).running == Some(thread::current().id())
    }

    fn wait(&self, mut state: MutexGuard<'_, State>, deadline: Option<Instant>) -> bool {
        let me = thread::current().id();
        while !state.ended && state.running != Some(me) {
            state = match wait_until(&self.rest, state, deadline) {
                Some(state) => state,
                None => return false,
            };
        }
        true
    }
}

/// Gives other tasks a turn.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
