//! What was received for a subscription and not yet handed to the application.
//!
//! A pump fills it, one consumer at a time empties it. It is bounded: where it is full the pump
//! stops asking, and flow control holds up the server. The consumer is woken only when there is
//! something to tell. A seek begins a new generation; what an older one still brings is dropped
//! here and nowhere else.

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    thread::{self, ThreadId},
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{
    Progress, SubscriptionState,
    follower::{Follower, Limits},
};
use crate::{
    client::{
        error::{Error, Result, Status},
        reader::offset_after,
        statistics::Statistics,
    },
    log::log,
    runtime::lock,
};

/// So many messages the pump takes at once: its own buffer stays small.
const AT_ONCE: usize = 256;

/// Between a pump and a consumer.
pub(super) struct Prefetch {
    inbox: Mutex<Inbox>,
    /// Bytes from which on the pump waits.
    limit: usize,
    /// The consumer polls the pump himself.
    direct: bool,
    /// The stream, for messages.
    path: Arc<str>,
    /// A callback is over.
    rest: Notify,
    statistics: Arc<Statistics>,
}

struct Inbox {
    messages: VecDeque<Bytes>,
    /// What the messages take.
    bytes: usize,
    /// Messages taken out so far.
    taken: u64,
    /// What else there is to tell, each after so many messages are taken.
    notices: VecDeque<(u64, Progress)>,
    /// Notices are wanted.
    notify: bool,
    /// The end, behind everything else.
    end: Option<Error>,
    /// Counts seeks.
    generation: u64,
    /// Where a seek has the pump go on.
    sought: Option<i64>,
    /// The first offset not yet handed out, once it is fixed.
    position: Option<i64>,
    /// The last offset handed out since the start or the last seek.
    delivered: Option<i64>,
    state: (SubscriptionState, Option<Error>),
    paused: bool,
    calling: Option<Calling>,
    consumer: Option<Waker>,
    pump: Option<Waker>,
    /// The pump waits for room.
    full: bool,
}

/// A callback that has a batch.
struct Calling {
    thread: ThreadId,
    generation: u64,
    /// The last offset that it has.
    last: i64,
}

impl Prefetch {
    /// Holds up to `limit` bytes and one message.
    pub fn new(limit: usize, direct: bool, path: Arc<str>, statistics: Arc<Statistics>) -> Self {
        let inbox = Inbox {
            messages: VecDeque::new(),
            bytes: 0,
            taken: 0,
            notices: VecDeque::new(),
            notify: true,
            end: None,
            generation: 0,
            sought: None,
            position: None,
            delivered: None,
            state: (SubscriptionState::Connecting, None),
            paused: false,
            calling: None,
            consumer: None,
            pump: None,
            full: false,
        };
        statistics.subscriptions.add(1);
        Self { inbox: Mutex::new(inbox), limit, direct, path, rest: Notify::new(), statistics }
    }

    /// Moves what `follower` receives in here, until the end.
    pub async fn pump(self: Arc<Self>, mut follower: Follower) {
        let mut batch = Vec::new();
        loop {
            let (generation, sought, bytes) = poll_fn(|cx| self.poll_room(cx)).await;
            if let Some(position) = sought {
                follower.seek(position);
            }
            let progress = {
                let mut next = pin!(follower.next(&mut batch, Limits { messages: AT_ONCE, bytes }));
                poll_fn(|cx| match self.poll_sought(generation, cx) {
                    Poll::Ready(()) => Poll::Ready(None),
                    Poll::Pending => next.as_mut().poll(cx).map(Some),
                })
                .await
            };
            match progress {
                None => batch.clear(),
                Some(Ok(Progress::Messages)) => self.push(generation, &mut batch),
                Some(Ok(notice)) => self.tell_of(generation, notice),
                Some(Err(error)) => {
                    if self.end_of(Some(generation), error) {
                        return;
                    }
                }
            }
        }
    }

    /// The present generation, where to go on if that is new, and how many bytes there is room for.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<(u64, Option<i64>, usize)> {
        let mut inbox = lock(&self.inbox);
        let sought = inbox.sought.take();
        inbox.full = inbox.bytes >= self.limit;
        if inbox.full && sought.is_none() {
            self.wait_as_pump(&mut inbox, cx);
            return Poll::Pending;
        }
        Poll::Ready((inbox.generation, sought, self.limit.saturating_sub(inbox.bytes).max(1)))
    }

    /// Ready when `generation` is over.
    fn poll_sought(&self, generation: u64, cx: &mut Context<'_>) -> Poll<()> {
        let mut inbox = lock(&self.inbox);
        if inbox.generation != generation {
            return Poll::Ready(());
        }
        self.wait_as_pump(&mut inbox, cx);
        Poll::Pending
    }

    fn wait_as_pump(&self, inbox: &mut Inbox, cx: &Context<'_>) {
        if self.direct {
            return;
        }
        match &mut inbox.pump {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    fn push(&self, generation: u64, batch: &mut Vec<Bytes>) {
        let mut inbox = lock(&self.inbox);
        if inbox.generation != generation {
            drop(inbox);
            batch.clear();
            return;
        }
        let bytes = batch.iter().map(weight).sum();
        inbox.bytes += bytes;
        inbox.messages.extend(batch.drain(..));
        self.statistics.prefetched_bytes.add(bytes);
        wake(inbox, false);
    }

    fn tell_of(&self, generation: u64, notice: Progress) {
        self.log(&notice);
        let mut inbox = lock(&self.inbox);
        if inbox.generation == generation {
            if let Progress::Connected(position) = notice {
                inbox.position.get_or_insert(position);
            }
            tell(inbox, notice);
        }
    }

    /// Tells of something that the wire has nothing to do with.
    pub fn tell(&self, notice: Progress) {
        self.log(&notice);
        tell(lock(&self.inbox), notice);
    }

    fn log(&self, notice: &Progress) {
        let (client, path) = (self.statistics.client, &self.path);
        match notice {
            Progress::Connected(from) => {
                log!(Info, "subscription", client, "following {path} from {from} on")
            }
            Progress::Lost(error) => log!(Warn, "subscription", client, "{error}; connecting again"),
            Progress::CommitFailed(error) => log!(Warn, "subscription", client, "{error}"),
            Progress::Messages => {}
        }
    }

    /// Ends it, if it has not ended yet.
    pub fn end(&self, error: Error) {
        self.end_of(None, error);
    }

    /// Ends it, unless `generation` is over.
    fn end_of(&self, generation: Option<u64>, error: Error) -> bool {
        let mut inbox = lock(&self.inbox);
        if generation.is_some_and(|generation| generation != inbox.generation) {
            return false;
        }
        if inbox.end.is_none() {
            // A close is told even while it is paused.
            let anyway = error.status() == Status::CLOSED;
            inbox.state = (SubscriptionState::Ended, Some(error.clone()));
            inbox.end = Some(error.clone());
            self.statistics.subscriptions.sub(1);
            wake(inbox, anyway);
            if !anyway {
                log!(Error, "subscription", self.statistics.client, "ended: {error}");
            }
        }
        true
    }

    /// Takes what is to be told next; messages go into `batch`.
    pub fn poll_take(
        &self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Bytes>,
        limits: Limits,
        calls_back: bool,
    ) -> Poll<Result<Progress>> {
        let mut inbox = lock(&self.inbox);
        if !inbox.paused {
            let taken = inbox.taken;
            if inbox.notices.front().is_some_and(|(after, _)| *after <= taken)
                && let Some((_, notice)) = inbox.notices.pop_front()
            {
                return Poll::Ready(Ok(notice));
            }
            if !inbox.messages.is_empty() {
                return Poll::Ready(self.take(&mut inbox, batch, limits, calls_back));
            }
            if let Some(error) = &inbox.end {
                return Poll::Ready(Err(error.clone()));
            }
        }
        match &mut inbox.consumer {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn take(
        &self,
        inbox: &mut Inbox,
        batch: &mut Vec<Bytes>,
        limits: Limits,
        calls_back: bool,
    ) -> Result<Progress> {
        // A notice between two messages keeps its place.
        let notice = inbox.notices.front().map_or(usize::MAX, |(after, _)| (after - inbox.taken) as usize);
        let (most, mut bytes, mut weights) = (limits.messages.min(notice), 0, 0);
        while batch.len() < most
            && bytes < limits.bytes
            && let Some(message) = inbox.messages.pop_front()
        {
            bytes += message.len();
            weights += weight(&message);
            batch.push(message);
        }
        inbox.taken += batch.len() as u64;
        inbox.bytes -= weights;
        self.statistics.prefetched_bytes.sub(weights);
        self.statistics.messages_delivered.add(batch.len() as u64);
        if let Some(message) = batch.last() {
            let next = offset_after(message, &self.path).inspect_err(|e| inbox.end = Some(e.clone()))?;
            let last = next - 1;
            inbox.position = Some(next);
            inbox.delivered = Some(last);
            if calls_back {
                let thread = thread::current().id();
                inbox.calling = Some(Calling { thread, generation: inbox.generation, last });
            }
        }
        if inbox.full && inbox.bytes <= self.limit / 2 {
            inbox.full = false;
            if let Some(pump) = inbox.pump.take() {
                pump.wake();
            }
        }
        Ok(Progress::Messages)
    }

    /// Whether [`Prefetch::poll_take`] would have something to tell.
    pub fn has_something(&self) -> bool {
        lock(&self.inbox).has_something()
    }

    /// Whether a consumer that polls the pump himself is to do so now.
    pub fn wants_pump(&self) -> bool {
        let mut inbox = lock(&self.inbox);
        // What the pump brings is seen without being woken for it.
        inbox.consumer = None;
        !inbox.paused && !inbox.has_something()
    }

    /// Has `consumer` woken as if it had waited here.
    pub fn set_consumer(&self, consumer: Waker) {
        let mut inbox = lock(&self.inbox);
        inbox.consumer = Some(consumer);
        if inbox.has_something() {
            wake(inbox, false);
        }
    }

    /// Messages and the end only.
    pub fn without_notices(&self) {
        lock(&self.inbox).notify = false;
    }

    /// Holds everything back, or no more.
    pub fn pause(&self, paused: bool) {
        let mut inbox = lock(&self.inbox);
        inbox.paused = paused;
        if !paused && (self.direct || inbox.has_something()) {
            wake(inbox, false);
        }
    }

    /// From here on only messages from `position` on are handed out: those of the generation that it
    /// returns.
    pub fn seek(&self, position: i64) -> Result<u64> {
        let mut inbox = lock(&self.inbox);
        if let Some(end) = &inbox.end {
            return Err(end.clone());
        }
        inbox.generation += 1;
        inbox.sought = Some(position);
        inbox.position = Some(position);
        inbox.delivered = None;
        inbox.state = (SubscriptionState::Connecting, None);
        self.statistics.prefetched_bytes.sub(mem::take(&mut inbox.bytes));
        let stale = (mem::take(&mut inbox.messages), mem::take(&mut inbox.notices));
        let generation = inbox.generation;
        let pump = if self.direct { inbox.consumer.take() } else { inbox.pump.take() };
        drop(inbox);
        drop(stale);
        if let Some(pump) = pump {
            pump.wake();
        }
        Ok(generation)
    }

    /// Fixes the position where it is not fixed yet.
    pub fn fix(&self, position: i64) {
        lock(&self.inbox).position.get_or_insert(position);
    }

    /// The first offset not yet handed out, once it is fixed.
    pub fn position(&self) -> Option<i64> {
        lock(&self.inbox).position
    }

    /// The last offset handed out since the start or the last seek.
    pub fn delivered(&self) -> Option<i64> {
        lock(&self.inbox).delivered
    }

    /// How it stands with the server, and why.
    pub fn state(&self) -> (SubscriptionState, Option<Error>) {
        lock(&self.inbox).state.clone()
    }

    /// The callback is over. The last offset that it had, unless a seek came in between.
    pub fn given_back(&self) -> Option<i64> {
        let mut inbox = lock(&self.inbox);
        let calling = inbox.calling.take();
        let generation = inbox.generation;
        drop(inbox);
        self.rest.notify_waiters();
        calling.filter(|calling| calling.generation == generation).map(|calling| calling.last)
    }

    /// Whether the calling thread is in the callback.
    pub fn calls_here(&self) -> bool {
        lock(&self.inbox).calling.as_ref().is_some_and(|calling| calling.thread == thread::current().id())
    }

    /// Resolves when no callback has messages from before `generation`.
    pub async fn rested(&self, generation: u64) {
        loop {
            let mut rest = pin!(self.rest.notified());
            rest.as_mut().enable();
            if lock(&self.inbox).calling.as_ref().is_none_or(|calling| calling.generation >= generation) {
                return;
            }
            rest.await;
        }
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        if let Ok(inbox) = self.inbox.get_mut() {
            self.statistics.prefetched_bytes.sub(inbox.bytes);
        }
    }
}

impl Inbox {
    fn has_something(&self) -> bool {
        let notice = self.notices.front().is_some_and(|(after, _)| *after <= self.taken);
        !self.paused && (notice || !self.messages.is_empty() || self.end.is_some())
    }
}

fn tell(mut inbox: MutexGuard<'_, Inbox>, notice: Progress) {
    // Who receives may learn of the end later than who asks for the state.
    if inbox.end.is_some() {
        return;
    }
    match &notice {
        Progress::Connected(_) => inbox.state = (SubscriptionState::Connected, None),
        Progress::Lost(error) => inbox.state = (SubscriptionState::Lost, Some(error.clone())),
        Progress::Messages | Progress::CommitFailed(_) => {}
    }
    if inbox.notify {
        let after = inbox.taken + inbox.messages.len() as u64;
        // Of each kind only the latest at one place: they cannot pile up where nobody takes them.
        let kind = mem::discriminant(&notice);
        inbox.notices.retain(|(at, other)| *at != after || mem::discriminant(other) != kind);
        inbox.notices.push_back((after, notice));
        wake(inbox, false);
    }
}

/// Wakes the consumer, if it may take something.
fn wake(mut inbox: MutexGuard<'_, Inbox>, even_if_paused: bool) {
    if inbox.paused && !even_if_paused {
        return;
    }
    let consumer = inbox.consumer.take();
    drop(inbox);
    if let Some(consumer) = consumer {
        consumer.wake();
    }
}

/// What a message counts for: its bytes and its place.
pub(super) fn weight(message: &Bytes) -> usize {
    message.len() + size_of::<Bytes>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learnt_after_the_end_does_not_undo_it() {
        let prefetch = Prefetch::new(1, true, "t/n/stream/s".into(), Arc::new(Statistics::of(0)));
        prefetch.end(Error::local(Status::CLOSED, "it was closed"));
        prefetch.tell(Progress::Connected(0));
        assert_eq!(prefetch.state().0, SubscriptionState::Ended);
        assert!(lock(&prefetch.inbox).notices.is_empty());
    }
}
