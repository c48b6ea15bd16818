//! What a worker holds: jobs that wait, jobs under way, verdicts to send, events to tell.
//!
//! Pure book-keeping under the worker's lock. Nothing here waits, sends or calls back.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use flowmesh_proto::v1::Job;

use super::{
    super::{lease::Lease, statistics::Statistics},
    Callbacks, Verdict,
    event::{JobName, WorkerEvent, WorkerEventKind},
    pace::Pace,
};

/// The most jobs that a server hands out at once.
const MOST_AT_ONCE: usize = 100;

/// No more jobs are fetched while so many verdicts and events wait.
const BACKLOG: usize = 1024;

/// How far a worker is from its end; it only ever goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Fetches and hands out.
    Open,
    /// Fetches nothing more; what is leased is handed out.
    Draining,
    /// Hands out nothing more; verdicts are still sent.
    Ended,
    /// Sends no more verdicts either.
    Stopped,
}

/// A job that is leased, from its arrival until its verdict is stored or its lease is over.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub name: Arc<JobName>,
    pub lease: Lease,
}

/// Counts a job that is held, among the client's statistics.
struct Counted(Arc<Statistics>);

impl Counted {
    fn new(statistics: &Arc<Statistics>) -> Self {
        statistics.worker_jobs.add(1);
        Self(statistics.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.worker_jobs.sub(1);
    }
}

/// A verdict to send.
#[derive(Debug)]
pub(super) struct Settlement {
    pub number: u64,
    pub held: Held,
    pub verdict: Verdict,
}

/// What a worker may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Jobs under way.
    pub concurrency: usize,
    /// Jobs that wait behind them, at most.
    pub prefetch: usize,
    /// Threads that call the handler.
    pub threads: usize,
}

pub(super) struct State {
    pub phase: Phase,
    limits: Limits,
    pace: Pace,
    /// Jobs that no handler has been called with.
    waiting: VecDeque<(u64, Job)>,
    /// Every job that is leased, by the order of arrival: all leases are equally long, so the first
    /// is the first to end.
    held: BTreeMap<u64, (Held, Counted)>,
    statistics: Arc<Statistics>,
    next_number: u64,
    /// Jobs with a handler, or left to the application.
    under_way: usize,
    /// Calls of the handler and of the event callback that run.
    calls: usize,
    /// Hand-overs that the dispatcher has been asked for and has not begun.
    posted: usize,
    verdicts: VecDeque<Settlement>,
    settling: usize,
    events: VecDeque<WorkerEvent>,
    /// The dispatcher has been asked to tell an event, and has not begun.
    tell_posted: bool,
    /// An event is being told.
    telling: bool,
    /// Nobody listens to events any more.
    mute: bool,
    /// Jobs can still arrive.
    fetching: bool,
    /// Verdicts can still be sent.
    sending: bool,
    /// The client is closed: verdicts that are still to be given cannot be stored.
    cut_off: bool,
    callbacks: Option<Arc<Callbacks>>,
    /// The callbacks have been taken out, and not been dropped yet.
    releasing: bool,
}

impl State {
    pub fn new(limits: Limits, lease: Duration, callbacks: Callbacks, statistics: Arc<Statistics>) -> Self {
        Self {
            phase: Phase::Open,
            limits,
            pace: Pace::new(lease),
            waiting: VecDeque::new(),
            held: BTreeMap::new(),
            statistics,
            next_number: 0,
            under_way: 0,
            calls: 0,
            posted: 0,
            verdicts: VecDeque::new(),
            settling: 0,
            events: VecDeque::new(),
            tell_posted: false,
            telling: false,
            mute: false,
            fetching: true,
            sending: true,
            cut_off: false,
            callbacks: Some(Arc::new(callbacks)),
            releasing: false,
        }
    }

    /// How many jobs to fetch now; 0 for none.
    pub fn room(&self) -> usize {
        let Limits { concurrency, prefetch, threads } = self.limits;
        if self.phase > Phase::Open || self.events.len() + self.verdicts.len() + self.settling >= BACKLOG {
            return 0;
        }
        let at_once = concurrency.saturating_sub(self.under_way).min(threads.saturating_sub(self.calls));
        let ahead = self.pace.ahead(prefetch, threads, concurrency);
        let room = (at_once + ahead).saturating_sub(self.waiting.len());
        // Somebody is idle, or what waits is half used up.
        if at_once > self.waiting.len() || room > ahead / 2 { room.min(MOST_AT_ONCE) } else { 0 }
    }

    /// Takes in a job that was leased just now.
    pub fn arrived(&mut self, job: Job, lease: Lease) {
        if self.phase >= Phase::Ended {
            return;
        }
        let number = self.next_number;
        self.next_number += 1;
        let name = Arc::new(JobName { id: job.id.clone(), seq: job.seq, attempts: job.attempts });
        let counted = Counted::new(&self.statistics);
        self.held.insert(number, (Held { name, lease }, counted));
        self.waiting.push_back((number, job));
    }

    /// How many hand-overs to ask the dispatcher for; they count as asked for.
    pub fn take_hand_overs(&mut self) -> usize {
        let free = self.limits.concurrency.saturating_sub(self.under_way);
        let more = free.min(self.waiting.len()).saturating_sub(self.posted);
        self.posted += more;
        more
    }

    /// A hand-over that was asked for begins.
    pub fn posted_begins(&mut self) {
        self.posted -= 1;
    }

    /// How many jobs wait for their turn.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The next job to call the handler with, now under way and being called. One whose lease is
    /// over (`left` says) is lost instead.
    pub fn begin(&mut self, left: impl Fn(&Lease) -> Duration) -> Option<(Job, u64, Held, Arc<Callbacks>)> {
        if self.phase >= Phase::Ended || self.under_way >= self.limits.concurrency {
            return None;
        }
        let callbacks = self.callbacks.clone()?;
        while let Some((number, job)) = self.waiting.pop_front() {
            match self.held.get(&number) {
                Some((held, _)) if !left(&held.lease).is_zero() => {
                    let held = held.clone();
                    self.under_way += 1;
                    self.calls += 1;
                    return Some((job, number, held, callbacks));
                }
                _ => self.lose(number, None),
            }
        }
        None
    }

    /// A call has returned: of the handler, after this time, or (`None`) of the event callback.
    pub fn returned(&mut self, handler: Option<Duration>) {
        match handler {
            Some(time) => self.pace.called(time),
            None => self.telling = false,
        }
        self.calls -= 1;
    }

    /// A job is not under way any more, `time` after its call. With `verdict`, that is to be sent;
    /// true if it will be.
    pub fn done(
        &mut self,
        number: u64,
        verdict: Option<Verdict>,
        time: Duration,
        left: impl Fn(&Lease) -> Duration,
    ) -> bool {
        self.under_way -= 1;
        self.pace.handled(time);
        let Some(verdict) = verdict.filter(|_| !self.is_stopped()) else {
            self.held.remove(&number);
            return false;
        };
        match self.held.get(&number) {
            Some((held, _)) if !left(&held.lease).is_zero() => {
                self.verdicts.push_back(Settlement { number, held: held.clone(), verdict });
                true
            }
            _ => {
                self.lose(number, None);
                false
            }
        }
    }

    /// The next verdict to send.
    pub fn next_verdict(&mut self) -> Option<Settlement> {
        let verdict = self.verdicts.pop_front()?;
        self.settling += 1;
        Some(verdict)
    }

    /// A verdict was sent; `event` tells what else became of its job.
    pub fn settled(&mut self, number: u64, event: Option<WorkerEvent>) {
        self.settling -= 1;
        let known = self.held.remove(&number).is_some();
        if let Some(event) = event {
            // That the lease is over is told once.
            if known || event.kind != WorkerEventKind::LeaseLost {
                self.tell(event);
            }
        }
    }

    /// The job whose lease ends next.
    pub fn next_to_end(&self) -> Option<(u64, Lease)> {
        self.held.first_key_value().map(|(number, (held, _))| (*number, held.lease))
    }

    /// The lease of a job is over.
    pub fn lose(&mut self, number: u64, reason: Option<super::super::error::Error>) {
        if let Some((held, _)) = self.held.remove(&number) {
            self.waiting.retain(|(waiting, _)| *waiting != number);
            self.tell(WorkerEvent::of_job(WorkerEventKind::LeaseLost, held.name, reason));
        }
    }

    /// The job has its verdict by other means: its lease does not matter any more.
    pub fn forget(&mut self, number: u64) {
        self.held.remove(&number);
    }

    /// Puts down an event to tell.
    pub fn tell(&mut self, event: WorkerEvent) {
        if !self.mute && self.callbacks.as_ref().is_some_and(|c| c.event.is_some()) {
            self.events.push_back(event);
        }
    }

    /// Whether to ask the dispatcher to tell an event; it counts as asked.
    pub fn take_telling(&mut self) -> bool {
        let ask = !self.tell_posted && !self.telling && !self.events.is_empty();
        self.tell_posted |= ask;
        ask
    }

    /// The telling that was asked for begins.
    pub fn posted_tell_begins(&mut self) {
        self.tell_posted = false;
    }

    /// The event to tell now, unless one is being told; it is being told until
    /// [`State::returned`].
    pub fn next_event(&mut self) -> Option<(WorkerEvent, Arc<Callbacks>)> {
        if self.telling {
            return None;
        }
        let callbacks = self.callbacks.clone()?;
        let event = self.events.pop_front()?;
        self.telling = true;
        self.calls += 1;
        Some((event, callbacks))
    }

    /// Goes on to `phase`, if it is not there yet.
    pub fn enter(&mut self, phase: Phase) {
        self.phase = self.phase.max(phase);
        if self.phase >= Phase::Ended {
            for (number, _) in std::mem::take(&mut self.waiting) {
                self.held.remove(&number);
            }
        }
        if self.phase == Phase::Stopped {
            self.verdicts.clear();
            self.held.clear();
        }
    }

    /// Tells no more events.
    pub fn mute(&mut self) {
        self.mute = true;
        self.events.clear();
    }

    /// No job can arrive any more.
    pub fn fetching_ended(&mut self) {
        self.fetching = false;
    }

    /// The client is closed. Nobody waits any more for those to whom jobs were left.
    pub fn cut_off(&mut self) {
        self.cut_off = true;
    }

    /// No verdict can be sent any more.
    pub fn sending_ended(&mut self) {
        self.sending = false;
        self.verdicts.clear();
        self.settling = 0;
        self.held.clear();
    }

    /// Whether no verdict is sent any more.
    pub fn is_stopped(&self) -> bool {
        !self.sending || self.phase == Phase::Stopped
    }

    /// Whether all jobs have their verdicts, or can have none, and no other can arrive.
    pub fn nothing_to_send(&self) -> bool {
        !self.sending
            || self.phase > Phase::Open
                && !self.fetching
                && self.waiting.is_empty()
                && self.none_awaited()
                && self.verdicts.is_empty()
                && self.settling == 0
    }

    /// Whether no verdict is awaited: none is missing, or none would be sent. What runs may still
    /// give one that is to be told as not stored.
    fn none_awaited(&self) -> bool {
        self.under_way == 0 || self.calls == 0 && (self.cut_off || self.phase == Phase::Stopped)
    }

    /// Whether the callbacks are to be released: their last call is over.
    pub fn may_release(&self) -> bool {
        let quiet = self.calls == 0 && self.events.is_empty();
        let over = self.phase >= Phase::Ended && (self.mute || self.nothing_to_send())
            || self.phase == Phase::Draining && self.nothing_to_send();
        quiet && over && self.callbacks.is_some()
    }

    /// Takes the callbacks out to be released, when they are to be.
    pub fn take_callbacks(&mut self) -> Option<Arc<Callbacks>> {
        if !self.may_release() {
            return None;
        }
        self.releasing = true;
        self.callbacks.take()
    }

    /// The callbacks are released.
    pub fn released(&mut self) {
        self.releasing = false;
    }

    /// Whether no callback runs, ever again, and nothing is left to send.
    pub fn rests(&self) -> bool {
        self.callbacks.is_none() && !self.releasing && self.calls == 0 && self.nothing_to_send()
    }

    /// Jobs without a stored verdict: that wait, are under way, or whose verdict is being sent.
    pub fn unfinished(&self) -> [usize; 3] {
        [self.waiting.len(), self.under_way, self.verdicts.len() + self.settling]
    }
}
