//! Who drives the sockets: the background thread, or the one caller that waits anyway.
//!
//! The runtime is single-threaded; whoever is inside `Runtime::block_on` polls the sockets and
//! runs the connections' tasks. A call that went through another thread would pay for two thread
//! switches, so a lone blocking caller drives by itself and the background thread steps aside.
//! It takes over again when the calls have stopped for [`REST`], or at once when there is
//! company: several callers, or pinned work (tasks, subscriptions) that nothing may delay.
//! Idle, every thread sleeps; nothing polls.

use std::{io, panic::resume_unwind, pin::pin, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::Notify,
};

use super::{lock, park, shut_down, spin::Spin, wait_until};
use crate::{
    boundary::signals::SignalsBlocked,
    client::Result,
    sync::{
        Arc, Condvar, Instant, Mutex, MutexGuard, PoisonError, RwLock,
        thread::{self, JoinHandle},
    },
};

/// How long after the last call of a lone caller the background thread takes over, and how long
/// after the last crowd a single caller counts as alone.
const REST: Duration = Duration::from_millis(10);

/// The same after a turn of an application's dispatcher, when there is other work to drive for: so
/// long may its callbacks hold that up.
const SHORT_REST: Duration = Duration::from_millis(1);

/// How long a thread of the blocking pool (name resolution) outlives its work.
const POOL_KEEP_ALIVE: Duration = Duration::from_secs(1);

/// The runtime and its background thread.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    handle: Handle,
    spin: Spin,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    /// `None` once stopped. Held for reading while it is driven.
    runtime: RwLock<Option<Runtime>>,
    roles: Mutex<Roles>,
    /// The background thread waits here while it is not driving.
    recall: Condvar,
    /// Ends the background thread's turn.
    step_aside: Notify,
    ended: Condvar,
}

#[derive(Debug)]
struct Roles {
    /// Blocking callers under way.
    callers: usize,
    /// One of them drives, or a thread that runs an application's dispatcher.
    caller_drives: bool,
    /// The present or last turn is that of such a thread.
    runner: bool,
    /// Counts the turns of callers, so that a long one can be told from many short ones.
    turns: u64,
    /// When the last turn of a caller ended.
    last_turn: Instant,
    /// When two callers were last seen at once.
    last_crowd: Option<Instant>,
    /// Work that the background thread must be there for.
    pins: usize,
    /// The background thread has stepped aside...
    aside: bool,
    /// ... and sleeps until it is recalled, however long that takes.
    asleep: bool,
    stopping: bool,
    ended: bool,
}

impl Driver {
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .thread_name("flowmesh-io")
            .thread_keep_alive(POOL_KEEP_ALIVE)
            .on_thread_start(|| std::mem::forget(SignalsBlocked::new()))
            .build()?;
        let handle = runtime.handle().clone();
        let shared = Arc::new(Shared {
            runtime: RwLock::new(Some(runtime)),
            roles: Mutex::new(Roles {
                callers: 0,
                caller_drives: false,
                runner: false,
                turns: 0,
                last_turn: Instant::now(),
                last_crowd: None,
                pins: 0,
                aside: false,
                asleep: false,
                stopping: false,
                ended: false,
            }),
            recall: Condvar::new(),
            step_aside: Notify::new(),
            ended: Condvar::new(),
        });
        let thread = {
            let _blocked = SignalsBlocked::new();
            let shared = shared.clone();
            thread::Builder::new().name("flowmesh-io".into()).spawn(move || shared.run())?
        };
        Ok(Self { shared, handle, spin: Spin::new(), thread: Mutex::new(Some(thread)) })
    }

    /// The runtime's handle, for what needs its context to be made.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs `future` to its end while the calling thread waits, which may `spin` to be quicker.
    pub fn block_on<F>(&self, future: F, spin: bool) -> Result<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let turn = Turn::start(&self.shared, may_drive())?;
        if turn.drives {
            let runtime = self.shared.runtime.read().unwrap_or_else(PoisonError::into_inner);
            return match &*runtime {
                Some(runtime) => {
                    let future = pin!(future);
                    Ok(park::elsewhere(|| match spin {
                        true => runtime.block_on(self.spin.watch(future)),
                        false => runtime.block_on(future),
                    }))
                }
                None => Err(shut_down()),
            };
        }
        match park::wait(self.handle.spawn(future)) {
            Ok(output) => Ok(output),
            Err(e) if e.is_panic() => resume_unwind(e.into_panic()),
            // The runtime ended under the call.
            Err(_) => Err(shut_down()),
        }
    }

    /// Waits for `future` in the calling thread, which drives meanwhile unless another one does:
    /// for a thread that comes again and again, whatever else there is to drive for.
    pub fn drive<F: Future>(&self, future: F) -> F::Output {
        let Some(_turn) = Turn::of_runner(&self.shared) else { return park::wait(future) };
        let runtime = self.shared.runtime.read().unwrap_or_else(PoisonError::into_inner);
        match &*runtime {
            Some(runtime) => park::elsewhere(|| runtime.block_on(future)),
            None => park::wait(future),
        }
    }

    /// Runs `task` on the background thread, which stays there for it.
    pub fn spawn<F>(&self, task: F) -> Result<tokio::task::JoinHandle<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let pin = self.pin()?;
        Ok(self.handle.spawn(task.inspect(move |_| drop(pin))))
    }

    /// Keeps the background thread driving as long as the guard lives.
    pub fn pin(&self) -> Result<Pinned> {
        let mut roles = lock(&self.shared.roles);
        if roles.stopping {
            return Err(shut_down());
        }
        roles.pins += 1;
        self.shared.recall_if_idle(&roles);
        drop(roles);
        Ok(Pinned(self.shared.clone()))
    }

    /// Has the background thread end and drop the runtime with every task in it, once no caller is
    /// left. False when that was not done at `deadline`: it goes on by itself.
    pub fn stop(&self, deadline: Option<Instant>) -> bool {
        let mut roles = lock(&self.shared.roles);
        roles.stopping = true;
        self.shared.step_aside.notify_one();
        self.shared.recall.notify_one();
        while !roles.ended {
            let Some(guard) = wait_until(&self.shared.ended, roles, deadline) else { return false };
            roles = guard;
        }
        drop(roles);
        if let Some(thread) = lock(&self.thread).take() {
            // The thread has said that it ends; a panic in it would be ours and is not the caller's.
            let _ = thread.join();
        }
        true
    }
}

impl Shared {
    /// The background thread.
    fn run(&self) {
        {
            let runtime = self.runtime.read().unwrap_or_else(PoisonError::into_inner);
            let Some(runtime) = &*runtime else { return };
            loop {
                runtime.block_on(self.step_aside.notified());
                if self.stand_aside() {
                    break;
                }
            }
        }
        // Nobody drives it any more, and nobody begins to. Calls with a completion that have not
        // ended are completed by being dropped.
        if let Some(runtime) = self.runtime.write().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
        lock(&self.roles).ended = true;
        self.ended.notify_all();
    }

    /// Waits until the background thread is needed again; true when it is to end.
    fn stand_aside(&self) -> bool {
        let mut roles = lock(&self.roles);
        roles.aside = true;
        while !roles.may_end() {
            roles = if roles.caller_drives {
                let turn = roles.turns;
                let long = roles.long_turn();
                roles = wait_for(&self.recall, roles, long);
                if roles.caller_drives && roles.turns == turn {
                    // A long turn: its end will recall us.
                    roles.asleep = true;
                    roles = self.recall.wait(roles).unwrap_or_else(PoisonError::into_inner);
                    roles.asleep = false;
                }
                roles
            } else {
                let (rested, rest) = (roles.last_turn.elapsed(), roles.rest());
                if rested >= rest {
                    break;
                }
                wait_for(&self.recall, roles, rest - rested)
            };
        }
        roles.aside = false;
        roles.may_end()
    }

    /// The calling thread is going to drive.
    fn hand_over(&self, roles: &mut Roles, runner: bool) {
        roles.caller_drives = true;
        roles.runner = runner;
        roles.turns += 1;
        if !roles.aside {
            self.step_aside.notify_one();
        }
    }

    /// Has the background thread drive when nobody does.
    fn recall_if_idle(&self, roles: &Roles) {
        if roles.aside && !roles.caller_drives {
            self.recall.notify_one();
        }
    }
}

impl Roles {
    /// Whether nobody needs the background thread, or ever will.
    fn may_end(&self) -> bool {
        self.stopping && self.callers == 0 && !self.caller_drives
    }

    /// How long after a turn nobody needs to drive.
    fn rest(&self) -> Duration {
        match (self.callers, self.pins) {
            (0, 0) => REST,
            (0, _) if self.runner => SHORT_REST,
            _ => Duration::ZERO,
        }
    }

    /// From which length on a turn counts as long.
    fn long_turn(&self) -> Duration {
        if self.runner && self.pins > 0 { SHORT_REST } else { REST }
    }
}

/// A blocking call under way, or a wait of an application's dispatcher.
struct Turn<'a> {
    shared: &'a Shared,
    drives: bool,
    /// It is counted among the callers.
    call: bool,
}

impl<'a> Turn<'a> {
    fn start(shared: &'a Shared, may_drive: bool) -> Result<Self> {
        let mut roles = lock(&shared.roles);
        if roles.stopping {
            return Err(shut_down());
        }
        roles.callers += 1;
        if roles.callers > 1 {
            roles.last_crowd = Some(Instant::now());
        }
        let alone = roles.callers == 1 && roles.last_crowd.is_none_or(|at| at.elapsed() > REST);
        let drives = may_drive && alone && roles.pins == 0 && !roles.caller_drives;
        if drives {
            roles.last_crowd = None;
            shared.hand_over(&mut roles, false);
        } else {
            shared.recall_if_idle(&roles);
        }
        drop(roles);
        Ok(Self { shared, drives, call: true })
    }

    /// The turn of a thread that runs an application's dispatcher; `None` where it may not drive.
    fn of_runner(shared: &'a Shared) -> Option<Self> {
        if !may_drive() {
            return None;
        }
        let mut roles = lock(&shared.roles);
        if roles.stopping || roles.caller_drives {
            return None;
        }
        shared.hand_over(&mut roles, true);
        Some(Self { shared, drives: true, call: false })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut roles = lock(&self.shared.roles);
        roles.callers -= usize::from(self.call);
        if self.drives {
            roles.caller_drives = false;
            roles.last_turn = Instant::now();
            if roles.rest().is_zero() || roles.asleep {
                self.shared.recall.notify_one();
            }
        }
        if roles.may_end() {
            self.shared.step_aside.notify_one();
            self.shared.recall.notify_one();
        }
    }
}

/// See [`Driver::pin`].
pub(crate) struct Pinned(Arc<Shared>);

impl Drop for Pinned {
    fn drop(&mut self) {
        lock(&self.0.roles).pins -= 1;
    }
}

/// Inside a runtime of the host's own, this thread cannot drive a second one; nor can it when it is
/// ending, its thread-locals gone.
fn may_drive() -> bool {
    Handle::try_current().is_err_and(|e| e.is_missing_context())
}

fn wait_for<'a, T>(bell: &Condvar, guard: MutexGuard<'a, T>, time: Duration) -> MutexGuard<'a, T> {
    bell.wait_timeout(guard, time).unwrap_or_else(PoisonError::into_inner).0
}
