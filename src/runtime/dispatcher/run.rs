//! The application runs its own dispatcher: it waits here, driving the connections meanwhile, and
//! calls what is ready.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use super::{Dispatcher, Item, Shared};
use crate::{
    client::{Error, Result, Status},
    runtime::{
        lock,
        park::{self, Sleep},
        shut_down,
    },
    sync::{Arc, Instant},
};

impl Dispatcher {
    /// Runs what is ready, at most `max` (0: all that is ready when the first is taken); waits for
    /// the first until `deadline`. How many it ran: 0 when the time was up, or [`Dispatcher::wake`]
    /// was called. CLOSED when it was stopped, and all has ended.
    pub fn run(&self, max: usize, deadline: Option<Instant>) -> Result<usize> {
        let shared = self.own_shared()?;
        if self.is_current() {
            return Err(refused("a callback cannot run the dispatcher that called it"));
        }
        let _inside = Inside::enter(shared);
        loop {
            let ran = shared.run_ready(max);
            if ran > 0 {
                return Ok(ran);
            }
            if lock(&shared.queue).is_over() {
                return Err(shut_down());
            }
            if deadline.is_some_and(|at| at <= Instant::now()) {
                lock(&shared.queue).woken = false;
                return Ok(0);
            }
            if !self.wait_ready(deadline) && !lock(&shared.queue).is_over() {
                return Ok(0);
            }
        }
    }

    /// Has one thread that waits in [`Dispatcher::run`] return, or the next that calls it.
    pub fn wake(&self) -> Result<()> {
        let shared = self.own_shared()?;
        let waker = {
            let mut queue = lock(&shared.queue);
            queue.woken = true;
            shared.settle(&mut queue);
            queue.runners.pop()
        };
        if let Some((_, waker)) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// FORKED in the child of a fork.
    pub fn check_process(&self) -> Result<()> {
        self.generation().map_or(Ok(()), |generation| generation.check_process())
    }

    /// What the application may run.
    fn own_shared(&self) -> Result<&Arc<Shared>> {
        self.check_process()?;
        if self.0.shared.event.is_none() {
            return Err(refused("dispatcher has threads of the library, which run it"));
        }
        Ok(&self.0.shared)
    }

    /// Waits until something is ready; false when the time is up, or it was woken.
    fn wait_ready(&self, deadline: Option<Instant>) -> bool {
        let over = deadline.map(Sleep::until);
        let ready = Ready { shared: &self.0.shared, number: None, over };
        let driver = self.generation().and_then(|generation| generation.driver_if_started());
        match driver {
            Some(driver) => driver.drive(ready),
            None => park::wait(ready),
        }
    }
}

impl Shared {
    /// Runs what is ready now; what becomes ready meanwhile has its turn next time.
    fn run_ready(self: &Arc<Self>, max: usize) -> usize {
        let (limit, mut ran) = (if max == 0 { usize::MAX } else { max }, 0);
        let mut left = lock(&self.queue).ready.len().min(limit);
        while left > 0
            && let Some(item) = self.pop()
        {
            self.run(item);
            ran += 1;
            left -= 1;
        }
        ran
    }

    fn pop(&self) -> Option<Item> {
        lock(&self.queue).ready.pop_front()
    }
}

fn refused(why: &str) -> Error {
    Error::local(Status::FAILED_PRECONDITION, why)
}

/// A thread of the application inside `run`: meanwhile the event stays low, as the thread looks
/// by itself.
struct Inside<'a>(&'a Shared);

impl<'a> Inside<'a> {
    fn enter(shared: &'a Shared) -> Self {
        let mut queue = lock(&shared.queue);
        queue.running += 1;
        shared.settle(&mut queue);
        drop(queue);
        Self(shared)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let mut queue = lock(&self.0.queue);
        queue.running -= 1;
        // Another thread that waits in `run` takes over what is left.
        let next = if queue.ready.is_empty() { None } else { queue.runners.pop() };
        self.0.settle(&mut queue);
        drop(queue);
        if let Some((_, waker)) = next {
            waker.wake();
        }
    }
}

/// Resolves when something is ready (true), or `wake` was called or the time is up (false).
struct Ready<'a> {
    shared: &'a Shared,
    /// Under which its waker is known.
    number: Option<u64>,
    over: Option<Sleep>,
}

impl Future for Ready<'_> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let this = &mut *self;
        let mut queue = lock(&this.shared.queue);
        if !queue.ready.is_empty() {
            return Poll::Ready(true);
        }
        if std::mem::take(&mut queue.woken) || queue.is_over() {
            return Poll::Ready(false);
        }
        let number = *this.number.get_or_insert_with(|| {
            queue.next_number += 1;
            queue.next_number
        });
        queue.runners.retain(|(other, _)| *other != number);
        queue.runners.push((number, cx.waker().clone()));
        drop(queue);
        match &mut this.over {
            Some(over) => Pin::new(over).poll(cx).map(|()| false),
            None => Poll::Pending,
        }
    }
}

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            lock(&self.shared.queue).runners.retain(|(other, _)| *other != number);
        }
    }
}
