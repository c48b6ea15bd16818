//! The thread that runs the application's callbacks.
//!
//! A task is a future that calls back when it has something to tell. The dispatcher polls tasks
//! that were woken, one after the other: callbacks never run on the thread that drives
//! connections, with no lock held, one at a time. What a task awaits is driven elsewhere.
//! Idle, the thread sleeps; nothing polls.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    process,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, JoinHandle, ThreadId},
    time::Instant,
};

use super::{lock, park};
use crate::boundary::signals::SignalsBlocked;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The thread and its tasks.
pub(crate) struct Dispatcher {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    id: ThreadId,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Something is ready, or the dispatcher stops.
    bell: Condvar,
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<Arc<Task>>,
    /// Tasks that are to be polled at an instant, told apart by a number.
    alarms: BTreeMap<(Instant, u64), Arc<Task>>,
    next_alarm: u64,
    /// Every task that has not ended.
    tasks: Vec<Weak<Task>>,
    stopping: bool,
}

impl Dispatcher {
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), bell: Condvar::new() });
        let thread = {
            let _blocked = SignalsBlocked::new();
            let shared = shared.clone();
            thread::Builder::new().name("flowmesh-callback".into()).spawn(move || shared.run())?
        };
        let id = thread.thread().id();
        Ok(Self { shared, thread: Mutex::new(Some(thread)), id })
    }

    /// Has `work` polled until it ends. Tasks of one owner share `group`.
    pub fn spawn(&self, group: usize, work: impl Future<Output = ()> + Send + 'static) -> Arc<Task> {
        let task = Arc::new(Task {
            shared: Arc::downgrade(&self.shared),
            group,
            pid: process::id(),
            queued: AtomicBool::new(false),
            state: Mutex::new(State {
                work: Some(Box::pin(work)),
                running: None,
                stopped: false,
                ended: false,
            }),
            rest: Condvar::new(),
        });
        {
            let mut queue = lock(&self.shared.queue);
            queue.tasks.retain(|t| t.upgrade().is_some_and(|t| !lock(&t.state).ended));
            queue.tasks.push(Arc::downgrade(&task));
        }
        task.wake_by_ref();
        task
    }

    /// Whether the caller is a callback.
    pub fn is_current(&self) -> bool {
        thread::current().id() == self.id
    }

    /// Waits until every task of `group` (of all, for `None`) has ended by itself; false when some
    /// had not at `deadline`.
    pub fn join(&self, group: Option<usize>, deadline: Option<Instant>) -> bool {
        let tasks: Vec<_> = lock(&self.shared.queue).tasks.iter().filter_map(Weak::upgrade).collect();
        tasks.iter().filter(|t| group.is_none_or(|g| g == t.group)).all(|t| t.join(deadline))
    }

    /// Ends the thread when its tasks have ended; false when they had not at `deadline`: it ends
    /// when they do.
    pub fn stop(&self, deadline: Option<Instant>) -> bool {
        lock(&self.shared.queue).stopping = true;
        self.shared.bell.notify_one();
        if self.is_current() {
            return true;
        }
        if !self.join(None, deadline) {
            return false;
        }
        if let Some(thread) = lock(&self.thread).take() {
            // Tasks cannot panic through it.
            let _ = thread.join();
        }
        true
    }
}

impl Shared {
    fn run(&self) {
        while let Some(task) = self.next() {
            if let Some(at) = task.run() {
                let mut queue = lock(&self.queue);
                let number = queue.next_alarm;
                queue.next_alarm += 1;
                queue.alarms.insert((at, number), task);
            }
        }
    }

    /// The next task to poll; `None` when the dispatcher is to end.
    fn next(&self) -> Option<Arc<Task>> {
        let mut queue = lock(&self.queue);
        loop {
            while let Some(alarm) = queue.alarms.first_entry() {
                if alarm.key().0 > Instant::now() {
                    break;
                }
                let task = alarm.remove();
                if !task.queued.swap(true, Ordering::AcqRel) {
                    queue.ready.push_back(task);
                }
            }
            if let Some(task) = queue.ready.pop_front() {
                return Some(task);
            }
            if queue.stopping && queue.tasks.iter().all(|t| t.upgrade().is_none_or(|t| lock(&t.state).ended))
            {
                return None;
            }
            let alarm = queue.alarms.first_key_value().map(|((at, _), _)| *at);
            queue = match alarm {
                Some(at) => {
                    let rest = at.saturating_duration_since(Instant::now());
                    self.bell.wait_timeout(queue, rest).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.bell.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// A future of the dispatcher, seen from outside.
pub(crate) struct Task {
    shared: Weak<Shared>,
    group: usize,
    pid: u32,
    /// It is in the ready queue.
    queued: AtomicBool,
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
            lock(&shared.queue).ready.push_back(self.clone());
            shared.bell.notify_one();
        }
    }
}

impl Task {
    /// Polls it once; says when to do so again at the latest.
    fn run(self: &Arc<Self>) -> Option<Instant> {
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
        let polled = catch_unwind(AssertUnwindSafe(|| park::poll_once(work.as_mut(), &mut context)));
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
        self.rest.notify_all();
        drop(state);
        if let Some(shared) = self.shared.upgrade() {
            // A dispatcher that stops looks whether this was the last. The empty section orders
            // the bell behind its look.
            drop(lock(&shared.queue));
            shared.bell.notify_one();
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

    fn join(&self, deadline: Option<Instant>) -> bool {
        self.wait(lock(&self.state), deadline)
    }

    fn wait(&self, mut state: MutexGuard<'_, State>, deadline: Option<Instant>) -> bool {
        let me = thread::current().id();
        while !state.ended && state.running != Some(me) {
            state = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                None => self.rest.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(rest) if rest.is_zero() => return false,
                Some(rest) => self.rest.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0,
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

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    #[test]
    fn tasks_take_turns_and_stop_waits_for_them() {
        let dispatcher = Dispatcher::start().expect("a thread");
        let (sender, receiver) = mpsc::channel();
        for name in ["a", "b"] {
            let sender = sender.clone();
            dispatcher.spawn(0, async move {
                for turn in 0..3 {
                    sender.send((turn, name)).expect("the test listens");
                    yield_now().await;
                }
            });
        }
        assert!(dispatcher.stop(None));
        drop(sender);
        let mut seen: Vec<_> = receiver.iter().collect();
        let last = seen.pop().map(|(turn, _)| turn);
        assert_eq!(last, Some(2), "nobody runs ahead: {seen:?}");
        assert_eq!(seen.len(), 5);
    }

    #[test]
    fn a_task_that_waits_is_dropped_by_whoever_stops_it() {
        struct Dropped(mpsc::Sender<ThreadId>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                let _ = self.0.send(thread::current().id());
            }
        }
        let dispatcher = Dispatcher::start().expect("a thread");
        let (started, waiting) = mpsc::channel();
        let (dropped, receiver) = mpsc::channel();
        let task = dispatcher.spawn(0, async move {
            let _dropped = Dropped(dropped);
            started.send(()).expect("the test listens");
            std::future::pending().await
        });
        waiting.recv().expect("the task runs");
        assert!(task.stop(None));
        receiver.recv().expect("it was dropped");
        assert!(dispatcher.stop(None));
    }

    #[test]
    fn a_poll_that_lasts_is_reported_at_the_deadline() {
        let dispatcher = Dispatcher::start().expect("a thread");
        let (release, blocked) = mpsc::channel::<()>();
        let (started, running) = mpsc::channel();
        let task = dispatcher.spawn(7, async move {
            started.send(()).expect("the test listens");
            let _ = blocked.recv();
        });
        running.recv().expect("the task runs");
        assert!(!task.stop(Some(Instant::now())));
        assert!(!dispatcher.join(Some(7), Some(Instant::now() + Duration::from_millis(1))));
        assert!(dispatcher.join(Some(8), None), "another group is at rest");
        drop(release);
        assert!(task.stop(None));
        assert!(dispatcher.stop(None));
    }
}
