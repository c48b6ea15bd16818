//! What runs the application's callbacks: threads of the library, or threads that the application
//! lends.
//!
//! There are two kinds of things to run: a completion, called once, and a [`Task`], a future that
//! calls back whenever it has something to tell and is polled when it was woken. Callbacks never
//! run on the thread that drives connections, and with no lock held. What a task awaits is driven
//! elsewhere. Idle, every thread sleeps; nothing polls.
//!
//! An application's own dispatcher has a descriptor that is readable while something is to be
//! run and nobody is inside [`Dispatcher::run`]; so a task must be woken only when it has a
//! callback to make.

mod run;
mod task;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    os::fd::RawFd,
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Poll, Waker},
};

pub(crate) use task::{Task, yield_now};

use super::{Generation, OwnedByProcess, lock, wait_until};
use crate::{
    boundary::{event_fd::EventFd, signals::SignalsBlocked},
    sync::{
        Arc, Condvar, Instant, Mutex, Weak,
        atomic::Ordering,
        thread::{self, JoinHandle, ThreadId},
    },
};

/// Runs callbacks. Clones are one dispatcher; with the last one its threads end.
#[derive(Clone)]
pub(crate) struct Dispatcher(Arc<Owner>);

struct Owner {
    shared: Arc<Shared>,
    threads: Mutex<OwnedByProcess<Vec<JoinHandle<()>>>>,
    /// `None` for the default one, which its generation owns.
    generation: Option<Arc<Generation>>,
}

/// A completion.
pub(crate) type Once = Box<dyn FnOnce() + Send>;

/// Something to be run.
enum Item {
    Task(Arc<Task>),
    /// A completion, and the group that it counts for.
    Once(usize, Once),
}

struct Shared {
    queue: Mutex<Queue>,
    /// Something is ready, or the dispatcher stops: for the library's threads.
    bell: Condvar,
    /// Something has ended; where the application runs callbacks, also that something is ready.
    rest: Condvar,
    /// Raised while the application is to call `run`; `None` where the library runs callbacks.
    event: Option<EventFd>,
    /// The threads that are in a callback. Not thread-local: those end before the handlers of exit
    /// run, which a callback may be in.
    inside: Mutex<Vec<ThreadId>>,
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<Item>,
    /// Tasks that are to be polled at an instant, told apart by a number.
    alarms: BTreeMap<(Instant, u64), Arc<Task>>,
    next_number: u64,
    /// Every task that has not ended.
    tasks: HashMap<u64, Weak<Task>>,
    /// Completions that have not returned, by group; never 0.
    completions: HashMap<usize, usize>,
    /// Wakes those that wait for something to end.
    rest_wakers: Vec<Waker>,
    /// Threads of the library that are alive.
    threads: usize,
    stopping: bool,
    /// What threads of the application that wait in `run` are woken by.
    runners: Vec<(u64, Waker)>,
    /// Threads of the application inside `run`.
    running: usize,
    /// Has `run` return without a callback.
    woken: bool,
    /// The event is raised.
    raised: bool,
    /// Who runs everything since the application has freed its dispatcher.
    heir: Option<Dispatcher>,
}

impl Dispatcher {
    /// The default one.
    pub fn start() -> io::Result<Self> {
        Self::with_threads(1, "flowmesh-callback", None)
    }

    /// One with threads of its own, which have `name`.
    pub fn pool(threads: usize, name: &str, generation: &Arc<Generation>) -> io::Result<Self> {
        Self::with_threads(threads, name, Some(generation.clone()))
    }

    /// One that the application runs.
    pub fn own(generation: &Arc<Generation>) -> io::Result<Self> {
        Ok(Self::new(Some(EventFd::new()?), Some(generation.clone())))
    }

    fn new(event: Option<EventFd>, generation: Option<Arc<Generation>>) -> Self {
        let shared = Shared {
            queue: Mutex::default(),
            bell: Condvar::new(),
            rest: Condvar::new(),
            event,
            inside: Mutex::default(),
        };
        let threads = Mutex::new(OwnedByProcess::new(Vec::new()));
        Self(Arc::new(Owner { shared: Arc::new(shared), threads, generation }))
    }

    fn with_threads(count: usize, name: &str, generation: Option<Arc<Generation>>) -> io::Result<Self> {
        let this = Self::new(None, generation);
        let _blocked = SignalsBlocked::new();
        for _ in 0..count {
            lock(&this.0.shared.queue).threads += 1;
            let shared = this.0.shared.clone();
            match thread::Builder::new().name(name.into()).spawn(move || shared.work()) {
                Ok(thread) => lock(&this.0.threads).get_mut().push(thread),
                Err(e) => {
                    lock(&this.0.shared.queue).threads -= 1;
                    // The others end with `this`.
                    return Err(e);
                }
            }
        }
        Ok(this)
    }

    /// Has `work` polled until it ends. Tasks of one owner share `group`.
    #[cfg(test)]
    pub fn spawn(&self, group: usize, work: impl Future<Output = ()> + Send + 'static) -> Arc<Task> {
        let task = self.spawn_asleep(group, work);
        std::task::Wake::wake_by_ref(&task);
        task
    }

    /// As [`Dispatcher::spawn`]; but first polled when it is woken, for which the task is its own
    /// waker.
    pub fn spawn_asleep(&self, group: usize, work: impl Future<Output = ()> + Send + 'static) -> Arc<Task> {
        let mut queue = lock(&self.0.shared.queue);
        let id = queue.next_number;
        queue.next_number += 1;
        let task = Arc::new(Task::new(Arc::downgrade(&self.0.shared), id, group, Box::pin(work)));
        queue.tasks.insert(id, Arc::downgrade(&task));
        task
    }

    /// Has `completions` called, in their order.
    pub fn post(&self, group: usize, completions: impl IntoIterator<Item = Once>) {
        self.0.shared.push_all(completions.into_iter().map(|once| Item::Once(group, once)));
    }

    /// Whether the caller is one of its callbacks.
    pub fn is_current(&self) -> bool {
        self.0.shared.is_current()
    }

    /// How many threads call back at once: those of the library, or the one of the application.
    pub fn threads(&self) -> usize {
        lock(&self.0.threads).get().len().max(1)
    }

    /// Readable while the application is to call [`Dispatcher::run`]; `None` where the library
    /// runs callbacks.
    pub fn fd(&self) -> Option<RawFd> {
        self.0.shared.event.as_ref().map(EventFd::fd)
    }

    /// Waits until every task and completion of `group` (of all, for `None`) has ended; false when
    /// some had not at `deadline`. Where the application runs callbacks, what is ready is run here:
    /// otherwise this would wait for a `run` that nobody may make.
    pub fn join(&self, group: Option<usize>, deadline: Option<Instant>) -> bool {
        self.0.shared.join(group, deadline)
    }

    /// Ends its threads when their tasks have ended; false when they had not at `deadline`: they
    /// end when those do.
    pub fn stop(&self, deadline: Option<Instant>) -> bool {
        let shared = &self.0.shared;
        lock(&shared.queue).stopping = true;
        shared.something_ended();
        if shared.is_current() {
            return true;
        }
        if !shared.join(None, deadline) {
            return false;
        }
        let threads = std::mem::take(lock(&self.0.threads).get_mut());
        for thread in threads {
            // Nothing that it runs can panic through it.
            let _ = thread.join();
        }
        true
    }

    /// For the one owner in the application: nobody will call `run` any more. What there is to run,
    /// now and later, the default dispatcher runs.
    pub fn release(&self) {
        let Some(generation) = &self.0.generation else { return };
        if self.0.shared.event.is_none() || generation.check_process().is_err() {
            return;
        }
        let alone = Arc::strong_count(&self.0) == 1;
        if alone && lock(&self.0.shared.queue).has_rested(None) {
            // Nothing can come any more, and no thread need be started for it.
            return;
        }
        if let Ok(heir) = generation.dispatcher() {
            self.bequeath(heir.clone());
        }
    }

    /// What there is to run, now and later, `heir` runs.
    pub fn bequeath(&self, heir: Dispatcher) {
        let shared = &self.0.shared;
        let left = {
            let mut queue = lock(&shared.queue);
            queue.heir = Some(heir.clone());
            let left = std::mem::take(&mut queue.ready);
            shared.settle(&mut queue);
            left
        };
        heir.post(0, shared.turns(left));
    }

    /// Resolves when every task and completion of `group` has ended.
    pub async fn rested(&self, group: usize) {
        std::future::poll_fn(|cx| {
            let mut queue = lock(&self.0.shared.queue);
            if queue.has_rested(Some(group)) {
                return Poll::Ready(());
            }
            queue.rest_wakers.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Announces a completion of `group`: until it has returned, the group is not at rest.
    pub fn expect(&self, group: usize) -> Expected {
        *lock(&self.0.shared.queue).completions.entry(group).or_default() += 1;
        Expected { dispatcher: self.clone(), group }
    }

    /// Whether `generation` made it.
    pub fn is_of(&self, generation: &Arc<Generation>) -> bool {
        self.0.generation.as_ref().is_none_or(|own| Arc::ptr_eq(own, generation))
    }

    /// What drives connections for it, if anything does.
    fn generation(&self) -> Option<&Arc<Generation>> {
        self.0.generation.as_ref()
    }

    /// As a member of its generation, which stops it at a shutdown.
    pub fn downgrade(&self) -> WeakDispatcher {
        WeakDispatcher(Arc::downgrade(&self.0))
    }
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher").field("fd", &self.fd()).finish_non_exhaustive()
    }
}

/// A completion that is to come; [`Dispatcher::post`] it before this goes.
pub(crate) struct Expected {
    dispatcher: Dispatcher,
    group: usize,
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.dispatcher.0.shared.completed(self.group);
    }
}

/// A dispatcher that this does not keep alive.
pub(crate) struct WeakDispatcher(Weak<Owner>);

impl WeakDispatcher {
    /// Whether it is that one.
    pub fn is(&self, other: &Dispatcher) -> bool {
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&other.0))
    }

    pub fn upgrade(&self) -> Option<Dispatcher> {
        self.0.upgrade().map(Dispatcher)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if !self.threads.get_mut().is_ok_and(|threads| threads.is_own()) {
            // In the child of a fork there are no threads, and the lock may be held for ever.
            return;
        }
        lock(&self.shared.queue).stopping = true;
        self.shared.bell.notify_all();
    }
}

impl Shared {
    fn push(self: &Arc<Self>, item: Item) {
        self.push_all([item]);
    }

    fn push_all(self: &Arc<Self>, items: impl IntoIterator<Item = Item>) {
        let mut queue = lock(&self.queue);
        let before = queue.ready.len();
        for item in items {
            match &item {
                Item::Once(group, _) => *queue.completions.entry(*group).or_default() += 1,
                // Whoever stopped it has seen that it has nothing to call any more.
                Item::Task(task) if task.has_ended() => continue,
                Item::Task(_) => {}
            }
            queue.ready.push_back(item);
        }
        let (added, runners) = (queue.ready.len() - before, queue.runners.len());
        if added == 0 {
            return;
        }
        if let Some(heir) = queue.heir.clone() {
            let items = std::mem::take(&mut queue.ready);
            drop(queue);
            heir.post(0, self.turns(items));
        } else if self.event.is_some() {
            self.settle(&mut queue);
            let woken: Vec<_> = queue.runners.drain(..added.min(runners)).collect();
            drop(queue);
            self.rest.notify_all();
            woken.into_iter().for_each(|(_, waker)| waker.wake());
        } else if queue.threads == 0 && queue.stopping {
            // Only what outlived a shutdown comes so late; nobody is left to run it but us.
            let items = std::mem::take(&mut queue.ready);
            drop(queue);
            items.into_iter().for_each(|item| self.run(item));
        } else {
            drop(queue);
            if added > 1 { self.bell.notify_all() } else { self.bell.notify_one() }
        }
    }

    /// Items as completions of the heir's. They have been counted here already.
    fn turns(self: &Arc<Self>, items: VecDeque<Item>) -> Vec<Once> {
        let turn = |item| -> Once {
            let shared = self.clone();
            Box::new(move || shared.run(item))
        };
        items.into_iter().map(turn).collect()
    }

    /// Raises or lowers the event, as the queue wants it.
    fn settle(&self, queue: &mut Queue) {
        let Some(event) = &self.event else { return };
        let wanted = (queue.woken || !queue.ready.is_empty()) && queue.running == 0;
        if wanted != queue.raised {
            // Neither waits; under the lock, so that the two cannot overtake each other.
            if wanted {
                event.raise()
            } else {
                event.lower()
            }
            queue.raised = wanted;
        }
    }

    /// Calls what the application wants called.
    fn run(self: &Arc<Self>, item: Item) {
        let me = thread::current().id();
        lock(&self.inside).push(me);
        match item {
            Item::Task(task) => {
                if let Some(at) = task.run(self.event.is_none()) {
                    let mut queue = lock(&self.queue);
                    let number = queue.next_number;
                    queue.next_number += 1;
                    queue.alarms.insert((at, number), task);
                    drop(queue);
                    // Another thread may wait for a later alarm.
                    self.bell.notify_one();
                }
            }
            Item::Once(group, once) => {
                // A panic of ours ends this completion and nothing else.
                let _ = catch_unwind(AssertUnwindSafe(once));
                self.completed(group);
            }
        }
        let mut inside = lock(&self.inside);
        if let Some(at) = inside.iter().position(|thread| *thread == me) {
            inside.swap_remove(at);
        }
    }

    fn is_current(&self) -> bool {
        let me = thread::current().id();
        lock(&self.inside).contains(&me)
    }

    /// A task has ended.
    fn forget(&self, id: u64) {
        let mut queue = lock(&self.queue);
        queue.tasks.remove(&id);
        // A stopped task that still waits for its turn has no callback to make.
        let before = queue.ready.len();
        queue.ready.retain(|item| !matches!(item, Item::Task(task) if task.has_ended()));
        if queue.ready.len() != before {
            self.settle(&mut queue);
        }
        drop(queue);
        self.something_ended();
    }

    /// A completion has returned.
    fn completed(&self, group: usize) {
        let mut queue = lock(&self.queue);
        let left = queue.completions.get_mut(&group).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left > 0 {
            // Who waits, waits for the last.
            return;
        }
        queue.completions.remove(&group);
        drop(queue);
        self.something_ended();
    }

    fn something_ended(&self) {
        self.rest.notify_all();
        self.bell.notify_all();
        let (waiting, runners) = {
            let mut queue = lock(&self.queue);
            let runners = if queue.is_over() { std::mem::take(&mut queue.runners) } else { Vec::new() };
            (std::mem::take(&mut queue.rest_wakers), runners)
        };
        waiting.into_iter().chain(runners.into_iter().map(|(_, waker)| waker)).for_each(Waker::wake);
    }

    fn join(self: &Arc<Self>, group: Option<usize>, deadline: Option<Instant>) -> bool {
        let mut queue = lock(&self.queue);
        loop {
            if queue.has_rested(group) {
                return true;
            }
            let own = self.event.is_some() && queue.heir.is_none();
            if own && let Some(item) = queue.take_ready(group) {
                self.settle(&mut queue);
                drop(queue);
                self.run(item);
                queue = lock(&self.queue);
                // The timeout comes between two callbacks.
                if deadline.is_some_and(|at| at <= Instant::now()) {
                    return queue.has_rested(group);
                }
                continue;
            }
            queue = match wait_until(&self.rest, queue, deadline) {
                Some(queue) => queue,
                None => return false,
            };
        }
    }

    /// A thread of the library.
    fn work(self: Arc<Self>) {
        while let Some(item) = self.next() {
            self.run(item);
        }
    }

    /// What to run next in a thread of the library; `None` when that is to end.
    fn next(&self) -> Option<Item> {
        let mut queue = lock(&self.queue);
        loop {
            queue.ring_alarms();
            if let Some(item) = queue.ready.pop_front() {
                return Some(item);
            }
            if queue.is_over() {
                queue.threads -= 1;
                return None;
            }
            let alarm = queue.alarms.first_key_value().map(|((at, _), _)| *at);
            // At the alarm, the loop finds it due.
            queue = match wait_until(&self.bell, queue, alarm) {
                Some(queue) => queue,
                None => lock(&self.queue),
            };
        }
    }
}

impl Queue {
    /// Makes the tasks ready whose instant has come.
    fn ring_alarms(&mut self) {
        while let Some(alarm) = self.alarms.first_entry() {
            if alarm.key().0 > Instant::now() {
                break;
            }
            let task = alarm.remove();
            if !task.queued.swap(true, Ordering::AcqRel) {
                self.ready.push_back(Item::Task(task));
            }
        }
    }

    /// Whether it was stopped, and all has ended.
    fn is_over(&self) -> bool {
        self.stopping && self.tasks.is_empty() && self.completions.is_empty()
    }

    /// Whether nothing of `group` is left but what the calling thread is in.
    fn has_rested(&self, group: Option<usize>) -> bool {
        let counts = match group {
            None => !self.completions.is_empty(),
            Some(group) => self.completions.contains_key(&group),
        };
        !counts
            && self
                .tasks
                .values()
                .filter_map(Weak::upgrade)
                .all(|t| group.is_some_and(|g| g != t.group) || t.has_ended() || t.runs_here())
    }

    /// The first ready item of `group`.
    fn take_ready(&mut self, group: Option<usize>) -> Option<Item> {
        let wanted = |item: &Item| match item {
            Item::Task(task) => group.is_none_or(|g| g == task.group),
            Item::Once(of, _) => group.is_none_or(|g| g == *of),
        };
        let at = self.ready.iter().position(wanted)?;
        self.ready.remove(at)
    }
}
