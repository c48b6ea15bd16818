//! How a lone caller waits for its reply: asleep, or looking for it for a moment first.
//!
//! To be woken costs a caller more than a reply of a server on the same machine takes. Looking saves
//! that, where a processor is free for it; where none is, it takes the server's own. Which of the two
//! it is changes with the machine's load, so both ways are measured all the time, by the calls
//! themselves, and the quicker one is taken. Nobody looks for longer than [`LONGEST`].

use std::{
    pin::{Pin, pin},
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// A reply that takes longer is not worth the processor's time.
const LONGEST: Duration = Duration::from_micros(60);

/// So many calls are made in each way before one is preferred.
const FIRST: u32 = 4;

/// Every so many calls, one is made in the way that is not preferred: looking must pay, so it is tried
/// more seldom.
const TRY_SLEEP: u32 = 16;
const TRY_LOOK: u32 = 64;

/// How much quicker looking must be.
const WORTH: f32 = 0.9;

/// The weight of a new call in the mean.
const WEIGHT: f32 = 1.0 / 16.0;

/// A call that takes longer counts as this: what a slow call has waited for says nothing.
const MOST: f32 = 1_000_000.0;

/// What was measured, and what follows.
pub(crate) struct Spin {
    /// `None` where there is one processor: the server needs it.
    measured: Option<Mutex<Measured>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Sleep,
    Look,
}

#[derive(Debug, Default)]
struct Measured {
    /// Calls since the start.
    calls: u32,
    /// Mean times in ns.
    sleep: Mean,
    look: Mean,
}

#[derive(Debug, Default)]
struct Mean {
    calls: u32,
    ns: f32,
}

impl Mean {
    fn add(&mut self, time: Duration) {
        let ns = (time.as_nanos() as f32).min(MOST);
        self.calls = self.calls.saturating_add(1);
        // The first ones count alike.
        let weight = (1.0 / self.calls as f32).max(WEIGHT);
        self.ns += (ns - self.ns) * weight;
    }
}

impl Measured {
    fn choose(&mut self) -> Way {
        self.calls = self.calls.wrapping_add(1);
        if self.sleep.calls < FIRST {
            return Way::Sleep;
        }
        if self.look.calls < FIRST {
            return Way::Look;
        }
        let pays = self.look.ns < self.sleep.ns * WORTH;
        match pays {
            true if self.calls.is_multiple_of(TRY_SLEEP) => Way::Sleep,
            true => Way::Look,
            false if self.calls.is_multiple_of(TRY_LOOK) => Way::Look,
            false => Way::Sleep,
        }
    }

    fn learn(&mut self, way: Way, time: Duration) {
        match way {
            Way::Sleep => self.sleep.add(time),
            Way::Look => self.look.add(time),
        }
    }
}

impl Spin {
    pub fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { measured: (processors > 1).then(Mutex::default) }
    }

    /// Runs `future` to its end, for the thread that drives the connections for it alone.
    pub async fn watch<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let at_once = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        let (measured, way) = match (at_once, &self.measured) {
            (Poll::Ready(output), _) => return output,
            (Poll::Pending, None) => return future.await,
            (Poll::Pending, Some(measured)) => (measured, lock(measured).choose()),
        };
        let start = Instant::now();
        let output = match way {
            Way::Sleep => future.await,
            Way::Look => Looking { future, until: start + LONGEST }.await,
        };
        lock(measured).learn(way, start.elapsed());
        output
    }
}

fn lock(measured: &Mutex<Measured>) -> std::sync::MutexGuard<'_, Measured> {
    measured.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Comes back at once when it has to wait, until its time is up.
struct Looking<'a, F> {
    future: Pin<&'a mut F>,
    until: Instant,
}

impl<F: Future> Future for Looking<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let poll = self.future.as_mut().poll(cx);
        if poll.is_pending() && Instant::now() < self.until {
            // Has the runtime look at the sockets without sleeping.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
        }
        poll
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(sleep: u64, look: u64) -> Measured {
        let mut measured = Measured::default();
        for _ in 0..1000 {
            let way = measured.choose();
            measured.learn(way, Duration::from_micros(if way == Way::Sleep { sleep } else { look }));
        }
        measured
    }

    /// The share of calls that look, of the next thousand, in percent.
    fn looking(mut measured: Measured) -> usize {
        (0..1000).filter(|_| measured.choose() == Way::Look).count() / 10
    }

    #[test]
    fn the_quicker_way_is_taken_and_the_other_tried_now_and_then() {
        assert!((90..100).contains(&looking(after(80, 35))));
        assert!((1..3).contains(&looking(after(35, 80))));
        // Where it makes no difference, the processor is spared.
        assert!((1..3).contains(&looking(after(200, 200))));
    }

    #[test]
    fn what_is_quicker_may_change() {
        let mut measured = after(80, 35);
        for _ in 0..5000 {
            let way = measured.choose();
            measured.learn(way, Duration::from_micros(if way == Way::Sleep { 35 } else { 80 }));
        }
        assert!(looking(measured) < 3);
    }

    #[test]
    fn one_slow_call_decides_nothing() {
        let mut measured = after(80, 35);
        measured.learn(Way::Look, Duration::from_secs(20));
        assert!(measured.look.ns < 100_000.0, "{measured:?}");
    }
}
