//! The one runtime of the process: made when first needed, shared by all clients, replaced after
//! [`shutdown`] and, in the child of a fork, after [`after_fork_child`].
//!
//! Here is who owns it and when it ends; how it is driven is in `driver`, how a thread waits
//! without it in `park`. Nothing here knows what a client does.

pub(crate) mod dispatcher;
mod driver;
mod locks;
pub(crate) mod park;
mod spin;

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use once_cell::sync::OnceCell;

pub(crate) use dispatcher::{Dispatcher, Expected, Once, WeakDispatcher};
pub(crate) use driver::{Driver, Pinned};
pub(crate) use locks::{lock, wait_until};

use crate::{
    boundary::process,
    client::{Error, Result, Status, Timeout},
    log::log,
};

static PRESENT: PerProcess<Mutex<Option<Arc<Generation>>>> = PerProcess::new();

/// Those that were shut down and had not come to rest at the timeout.
static ENDING: PerProcess<Mutex<Vec<Arc<Generation>>>> = PerProcess::new();

/// The process that made something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(u32);

impl Process {
    /// The calling one.
    pub fn this() -> Self {
        Self(process::id())
    }

    /// FORKED in another one.
    pub fn check(self) -> Result<()> {
        if self.0 == process::id() { Ok(()) } else { Err(forked()) }
    }
}

/// What lives from the first use of the library to [`shutdown`].
pub(crate) struct Generation {
    process: Process,
    closed: AtomicBool,
    driver: OnceCell<OwnedByProcess<Driver>>,
    dispatcher: OnceCell<OwnedByProcess<Dispatcher>>,
    members: Mutex<Vec<Weak<dyn Member>>>,
    /// Those that applications and workers have; the default one is apart.
    dispatchers: Mutex<Vec<WeakDispatcher>>,
}

/// Something that a shutdown closes.
pub(crate) trait Member: Send + Sync {
    /// Closes it; false when it has not come to rest at `deadline`.
    fn close(&self, deadline: Option<Instant>) -> Pin<Box<dyn Future<Output = bool> + Send + '_>>;
}

impl Generation {
    /// The present one, made when there is none. FORKED in the child of a fork.
    pub fn current() -> Result<Arc<Self>> {
        let mut present = lock(PRESENT.unless_forked().ok_or_else(forked)?);
        Ok(present.get_or_insert_with(|| Arc::new(Self::new())).clone())
    }

    fn new() -> Self {
        Self {
            process: Process::this(),
            closed: AtomicBool::new(false),
            driver: OnceCell::new(),
            dispatcher: OnceCell::new(),
            members: Mutex::default(),
            dispatchers: Mutex::default(),
        }
    }

    /// FORKED unless this process made it.
    pub fn check_process(&self) -> Result<()> {
        self.process.check()
    }

    /// What drives sockets, timers and tasks; made when first needed.
    pub fn driver(&self) -> Result<&Driver> {
        self.check_process()?;
        let driver =
            self.driver.get_or_try_init(|| Driver::start().map(OwnedByProcess::new).map_err(no_thread))?;
        Ok(driver.get())
    }

    /// What drives, if anything does.
    pub fn driver_if_started(&self) -> Option<&Driver> {
        self.driver.get().map(OwnedByProcess::get)
    }

    /// A dispatcher that the application runs.
    pub fn own_dispatcher(self: &Arc<Self>) -> Result<Dispatcher> {
        self.check_process()?;
        let dispatcher = Dispatcher::own(self).map_err(|e| {
            Error::local(Status::RESOURCE_EXHAUSTED, format!("no descriptor for the dispatcher: {e}"))
        })?;
        self.keep(dispatcher)
    }

    /// A dispatcher with threads of its own.
    pub fn dispatcher_pool(self: &Arc<Self>, threads: usize, name: &str) -> Result<Dispatcher> {
        self.check_process()?;
        self.keep(Dispatcher::pool(threads, name, self).map_err(no_thread)?)
    }

    /// Has a shutdown stop it.
    fn keep(&self, dispatcher: Dispatcher) -> Result<Dispatcher> {
        let mut dispatchers = lock(&self.dispatchers);
        if self.closed.load(Ordering::Acquire) {
            return Err(shutting_down());
        }
        dispatchers.retain(|d| d.upgrade().is_some());
        dispatchers.push(dispatcher.downgrade());
        drop(dispatchers);
        Ok(dispatcher)
    }

    /// The default dispatcher; made when first needed.
    pub fn dispatcher(&self) -> Result<&Dispatcher> {
        self.check_process()?;
        let dispatcher = self
            .dispatcher
            .get_or_try_init(|| Dispatcher::start().map(OwnedByProcess::new).map_err(no_thread))?;
        Ok(dispatcher.get())
    }

    /// The default dispatcher, if there are callbacks.
    pub fn dispatcher_if_started(&self) -> Option<&Dispatcher> {
        self.dispatcher.get().map(OwnedByProcess::get)
    }

    /// Has `member` closed by a shutdown.
    pub fn register(&self, member: Weak<dyn Member>) -> Result<()> {
        let mut members = lock(&self.members);
        if self.closed.load(Ordering::Acquire) {
            return Err(shutting_down());
        }
        members.retain(|m| m.strong_count() > 0);
        members.push(member);
        Ok(())
    }

    /// Ends it; false when something had not come to rest at `deadline`.
    fn end(&self, deadline: Option<Instant>) -> bool {
        let members: Vec<_> = {
            let members = lock(&self.members);
            self.closed.store(true, Ordering::Release);
            members.iter().filter_map(Weak::upgrade).collect()
        };
        let mut quiet = true;
        for member in members {
            quiet &= park::wait(member.close(deadline));
        }
        let dispatchers: Vec<_> =
            lock(&self.dispatchers).iter().filter_map(WeakDispatcher::upgrade).collect();
        for dispatcher in dispatchers.iter().chain(self.dispatcher_if_started()) {
            quiet &= dispatcher.stop(deadline);
        }
        if let Some(driver) = self.driver_if_started() {
            quiet &= driver.stop(deadline);
        }
        quiet
    }
}

/// Closes every client of the process, ends the library's threads and forgets the runtime; calls
/// on what was open return CLOSED from now on, and a client opened later starts anew.
/// DEADLINE_EXCEEDED when calls were still ending when the time was up: they end by themselves.
pub fn shutdown(timeout: Timeout) -> Result<()> {
    let present = PRESENT.unless_forked().ok_or_else(forked)?;
    let ending = ENDING.of_this_process();
    // What an earlier shutdown has left is waited for too.
    let mut generations = std::mem::take(&mut *lock(ending));
    generations.extend(lock(present).take());
    if generations.is_empty() {
        return Ok(());
    }
    let deadline = deadline_after(timeout);
    log!(Info, "process", 0, "shutting down");
    let mut quiet = true;
    for generation in generations {
        if !generation.end(deadline) {
            quiet = false;
            lock(ending).push(generation);
        }
    }
    if quiet {
        log!(Info, "process", 0, "shut down");
        Ok(())
    } else {
        log!(Warn, "process", 0, "calls or callbacks were still ending at the end of the shutdown");
        Err(Error::local(Status::DEADLINE_EXCEEDED, "shutdown: calls were still ending at the timeout"))
    }
}

/// In the child of a fork: lets it use the library anew. Clients of the parent stay unusable
/// here; anywhere else it does nothing.
pub fn after_fork_child() {
    PRESENT.of_this_process();
}

/// Runs `task` on the library's own thread until it ends, or the library is shut down.
pub fn spawn<F>(task: F) -> Result<tokio::task::JoinHandle<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    Generation::current()?.driver()?.spawn(task)
}

fn no_thread(e: std::io::Error) -> Error {
    Error::local(Status::RESOURCE_EXHAUSTED, format!("cannot start the library's thread: {e}")).retryable()
}

fn forked() -> Error {
    Error::local(
        Status::FORKED,
        "this process is a fork of the one that used the library; call flowmesh_after_fork_child and open anew",
    )
}

fn shutting_down() -> Error {
    Error::local(Status::CLOSED, "the library is shutting down")
}

pub(crate) fn shut_down() -> Error {
    Error::local(Status::CLOSED, "the library was shut down")
}

/// When a wait of `timeout` from now is over; `None` for never.
pub(crate) fn deadline_after(timeout: Timeout) -> Option<Instant> {
    match timeout {
        Timeout::After(time) => after(Some(time)),
        Timeout::Default | Timeout::Never => None,
    }
}

/// `time` from now; `None` for never, also when the clock cannot count so far.
pub(crate) fn after(time: Option<Duration>) -> Option<Instant> {
    time.and_then(|time| Instant::now().checked_add(time))
}

/// A global that each process of a chain of forks has for itself: the locks of the parent's may
/// have been held, at the fork, by threads that the child does not have.
pub(crate) struct PerProcess<T>(OnceCell<Box<Slot<T>>>);

struct Slot<T> {
    pid: u32,
    value: T,
    next: PerProcess<T>,
}

impl<T: Default> PerProcess<T> {
    pub const fn new() -> Self {
        Self(OnceCell::new())
    }

    /// This process's own.
    pub fn of_this_process(&self) -> &T {
        let mut slots = self;
        loop {
            let slot = slots.0.get_or_init(Slot::new);
            if slot.pid == process::id() {
                return &slot.value;
            }
            slots = &slot.next;
        }
    }

    /// This process's own; `None` when only a process that it was forked from has one.
    fn unless_forked(&self) -> Option<&T> {
        let mut slot = self.0.get_or_init(Slot::new);
        while let Some(next) = slot.next.0.get() {
            slot = next;
        }
        (slot.pid == process::id()).then_some(&slot.value)
    }
}

impl<T: Default> Slot<T> {
    fn new() -> Box<Self> {
        Box::new(Self { pid: process::id(), value: T::default(), next: PerProcess::new() })
    }
}

/// A value that only the process that made it may drop: in the child of a fork, the threads it
/// would wait for do not exist, and its files are the parent's.
pub(crate) struct OwnedByProcess<T> {
    pid: u32,
    /// `None` only inside `drop`.
    value: Option<T>,
}

impl<T> OwnedByProcess<T> {
    pub fn new(value: T) -> Self {
        Self { pid: process::id(), value: Some(value) }
    }

    pub fn get(&self) -> &T {
        self.value.as_ref().expect("the value is there until drop")
    }

    /// Whether this process made it.
    pub fn is_own(&self) -> bool {
        self.pid == process::id()
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("the value is there until drop")
    }
}

impl<T> Drop for OwnedByProcess<T> {
    fn drop(&mut self) {
        if !self.is_own() {
            std::mem::forget(self.value.take());
        }
    }
}
