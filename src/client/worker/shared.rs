//! The worker's lock, and who is woken when what it guards changes.
//!
//! Callbacks run with the lock released, on a dispatcher's threads; jobs are fetched and verdicts
//! sent by tasks of the runtime. The four bells join them.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use flowmesh_proto::v1::Job;
use tokio::{runtime::Handle, sync::Notify};

use super::{
    super::{cancel::CancelToken, error::Error, lease::Lease, queues::Queue},
    Callbacks, PollMode, Verdict, WorkerOptions,
    event::{WorkerEvent, WorkerEventKind},
    state::{Limits, Phase, Settlement, State},
    ticket::{Delivery, Ticket},
};
use crate::runtime::{Dispatcher, Once, dispatcher::yield_now, lock};

/// Where the callbacks of a worker run.
pub(super) struct Lanes {
    /// Calls the handler.
    pub handlers: Dispatcher,
    /// Tells events.
    pub events: Dispatcher,
    /// How many threads call the handler.
    pub threads: usize,
    /// They do nothing else: a thread takes one job after the other.
    pub own: bool,
}

/// What the handle, the tasks and the jobs of a worker share.
pub(super) struct Shared {
    pub queue: Queue,
    pub visibility_ms: i64,
    pub poll_mode: PollMode,
    lanes: Lanes,
    state: Mutex<State>,
    /// The threads inside its callbacks, once for each call. Not thread-local: handlers of exit run
    /// when those are gone, and may close.
    callers: Mutex<Vec<ThreadId>>,
    /// The engine never ends a lease by itself, so a late verdict still counts.
    lasting_leases: AtomicBool,
    /// Ends the poll under way.
    pub no_more_jobs: CancelToken,
    /// Ends the verdicts under way.
    pub abandoned: CancelToken,
    /// There may be room for more jobs.
    pub room: Notify,
    /// There are verdicts to send.
    pub verdicts: Notify,
    /// There is a lease to watch.
    pub leases: Notify,
    /// The worker may have come to rest.
    rest: Notify,
}

/// A callback of a worker that runs.
struct Calling<'a> {
    shared: &'a Arc<Shared>,
    /// When the handler was called; `None` for other callbacks.
    handler_since: Option<Instant>,
}

impl<'a> Calling<'a> {
    fn enter(shared: &'a Arc<Shared>, handler: bool) -> Self {
        shared.enter_callback();
        Self { shared, handler_since: handler.then(Instant::now) }
    }
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        self.shared.leave_callback();
        let mut state = self.shared.lock();
        state.returned(self.handler_since.map(|since| since.elapsed()));
        // A thread of the worker's own takes the next job by itself, unless it is being unwound.
        if self.handler_since.is_some() && self.shared.lanes.own && !thread::panicking() {
            self.shared.wake(state);
        } else {
            self.shared.dispatch(state);
        }
    }
}

impl Shared {
    pub fn new(queue: Queue, options: &WorkerOptions, lanes: Lanes, callbacks: Callbacks) -> Arc<Self> {
        let limits =
            Limits { concurrency: options.concurrency, prefetch: options.prefetch, threads: lanes.threads };
        let lease = Lease::length(options.visibility_ms);
        let statistics = queue.client().statistics().clone();
        Arc::new(Self {
            queue,
            visibility_ms: options.visibility_ms,
            poll_mode: options.poll_mode,
            lanes,
            state: Mutex::new(State::new(limits, lease, callbacks, statistics)),
            callers: Mutex::default(),
            lasting_leases: AtomicBool::new(false),
            no_more_jobs: CancelToken::new(),
            abandoned: CancelToken::new(),
            room: Notify::new(),
            verdicts: Notify::new(),
            leases: Notify::new(),
            rest: Notify::new(),
        })
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Whether the caller is a callback of this worker.
    pub fn in_callback(&self) -> bool {
        lock(&self.callers).contains(&thread::current().id())
    }

    fn enter_callback(&self) {
        lock(&self.callers).push(thread::current().id());
    }

    fn leave_callback(&self) {
        let (mut callers, me) = (lock(&self.callers), thread::current().id());
        if let Some(at) = callers.iter().position(|caller| *caller == me) {
            callers.swap_remove(at);
        }
    }

    /// Leases do not end by themselves.
    pub fn leases_last(&self) {
        self.lasting_leases.store(true, Ordering::Relaxed);
    }

    /// What is left of a lease.
    pub fn left(&self, lease: &Lease) -> Duration {
        if self.lasting_leases.load(Ordering::Relaxed) {
            return Duration::MAX;
        }
        lease.left(self.queue.client())
    }

    /// Takes in jobs that were leased just now, and has the handler called.
    pub fn arrived(self: &Arc<Self>, jobs: Vec<Job>) {
        let mut state = self.lock();
        if state.next_to_end().is_none() {
            self.leases.notify_one();
        }
        for job in jobs {
            let lease = Lease::begin(&job, self.visibility_ms);
            state.arrived(job, lease);
        }
        self.dispatch(state);
    }

    /// Tells an event.
    pub fn tell(self: &Arc<Self>, event: WorkerEvent) {
        let mut state = self.lock();
        state.tell(event);
        self.dispatch(state);
    }

    /// Asks the dispatchers for what there is to call, and wakes who waits for the change.
    pub fn dispatch(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let (hand_overs, tell) = (state.take_hand_overs(), state.take_telling());
        self.wake(state);
        let group = self.queue.client().identity();
        self.lanes.handlers.post(
            group,
            (0..hand_overs).map(|_| {
                let shared = self.clone();
                Box::new(move || shared.hand_over()) as Once
            }),
        );
        if tell {
            let shared = self.clone();
            self.lanes.events.post(group, [Box::new(move || shared.tell_posted()) as Once]);
        }
    }

    /// Wakes who waits for a change of the state: the fetcher, and everybody when this is the end.
    fn wake(self: &Arc<Self>, state: MutexGuard<'_, State>) {
        if state.room() > 0 {
            self.room.notify_one();
        }
        if state.phase == Phase::Open {
            return;
        }
        let release = state.may_release();
        drop(state);
        if release {
            self.release_soon();
        }
        self.ring();
    }

    /// Has all who wait for the worker look.
    fn ring(&self) {
        self.room.notify_one();
        self.verdicts.notify_one();
        self.leases.notify_one();
        self.rest.notify_waiters();
    }

    /// Releases the callbacks. Not on a thread that drives connections: what is released may wait for
    /// those.
    fn release_soon(self: &Arc<Self>) {
        if Handle::try_current().is_err() {
            self.release();
            return;
        }
        let shared = self.clone();
        let once = Box::new(move || {
            shared.release();
        }) as Once;
        self.lanes.events.post(self.queue.client().identity(), [once]);
    }

    /// Releases the callbacks, if that is due; false if not.
    fn release(self: &Arc<Self>) -> bool {
        let callbacks = self.lock().take_callbacks();
        if callbacks.is_none() {
            return false;
        }
        // What is released may call close.
        self.enter_callback();
        drop(callbacks);
        self.leave_callback();
        self.lock().released();
        self.ring();
        true
    }

    /// A hand-over that was asked for. A thread of the worker's own goes on as long as jobs wait.
    fn hand_over(self: Arc<Self>) {
        self.lock().posted_begins();
        while self.hand_over_one() && self.lanes.own {}
    }

    /// Calls the handler with the next job that waits; false when there is none.
    fn hand_over_one(self: &Arc<Self>) -> bool {
        let mut state = self.lock();
        if self.queue.client().is_closed() {
            // No verdict could be sent. The fetcher ends the worker, or else, where it is gone:
            if state.phase == Phase::Draining {
                state.enter(Phase::Ended);
                self.dispatch(state);
            }
            return false;
        }
        let waiting = state.waiting();
        let Some((job, number, held, callbacks)) = state.begin(|lease| self.left(lease)) else {
            // Where leases were lost, that is to be told. Otherwise nobody is woken: this may be
            // called by one who waits for a change, and would wake itself for ever.
            if state.waiting() != waiting {
                self.dispatch(state);
            }
            return false;
        };
        if state.room() > 0 {
            self.room.notify_one();
        }
        drop(state);
        let ticket = Ticket::open(self.clone(), number, held);
        let calling = Calling::enter(self, true);
        (callbacks.handler)(Delivery { job, ticket });
        drop(callbacks);
        drop(calling);
        true
    }

    /// A telling that was asked for.
    fn tell_posted(self: Arc<Self>) {
        self.lock().posted_tell_begins();
        self.tell_one();
    }

    /// Tells the next event; false when there is none, or one is being told.
    fn tell_one(self: &Arc<Self>) -> bool {
        let Some((event, callbacks)) = self.lock().next_event() else { return false };
        let calling = Calling::enter(self, false);
        if let Some(callback) = &callbacks.event {
            callback(&event);
        }
        drop(callbacks);
        drop(calling);
        true
    }

    /// Calls back once in the calling thread, if there is a callback to make and perhaps nobody else
    /// makes it: whoever waits for the worker must wait neither for a `run` that nobody makes nor, in
    /// a callback of the same dispatcher, for itself.
    pub fn help(self: &Arc<Self>) -> bool {
        let needed_on = |lane: &Dispatcher| lane.fd().is_some() || lane.is_current();
        needed_on(&self.lanes.handlers) && self.hand_over_one()
            || needed_on(&self.lanes.events) && (self.tell_one() || self.release())
    }

    /// A job is not under way any more; true when its `verdict` will be sent.
    pub fn done(self: &Arc<Self>, number: u64, verdict: Option<Verdict>, time: Duration) -> bool {
        let mut state = self.lock();
        let sent = state.done(number, verdict, time, |lease| self.left(lease));
        if sent {
            self.verdicts.notify_one();
        }
        // In the handler, on a thread of the worker's own: that takes the next job.
        if self.lanes.own && self.in_callback() {
            self.wake(state);
        } else {
            self.dispatch(state);
        }
        sent
    }

    /// A verdict was sent; `event` tells what else became of its job.
    pub fn settled(
        self: &Arc<Self>,
        settlement: &Settlement,
        event: Option<(WorkerEventKind, Option<Error>)>,
    ) {
        let event =
            event.map(|(kind, reason)| WorkerEvent::of_job(kind, settlement.held.name.clone(), reason));
        let mut state = self.lock();
        state.settled(settlement.number, event);
        self.dispatch(state);
    }

    /// Somebody else gave the verdict on a job.
    pub fn settled_elsewhere(&self, number: u64) {
        self.lock().forget(number);
    }

    /// Whether no verdict is sent any more.
    pub fn is_stopped(&self) -> bool {
        self.lock().is_stopped()
    }

    /// Goes on to `phase`: ends the poll under way, and for [`Phase::Stopped`] the verdicts.
    pub fn enter(self: &Arc<Self>, phase: Phase) {
        let mut state = self.lock();
        state.enter(phase);
        if phase >= Phase::Ended {
            state.mute();
        }
        self.dispatch(state);
        self.no_more_jobs.cancel();
        if phase == Phase::Stopped {
            self.abandoned.cancel();
        }
    }

    /// Resolves when no callback runs, ever again, and nothing is left to send. With `help`, it
    /// calls back meanwhile; see [`Shared::help`].
    pub async fn rests(self: &Arc<Self>, help: bool) {
        loop {
            let mut rest = std::pin::pin!(self.rest.notified());
            // Enlist before looking, so that a change in between is not missed.
            rest.as_mut().enable();
            if help && self.help() {
                // The timeout comes between two callbacks.
                yield_now().await;
                continue;
            }
            if self.lock().rests() {
                return;
            }
            rest.await;
        }
    }
}
