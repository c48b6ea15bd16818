//! Waiting in the calling thread, without a runtime: poll, sleep until woken, poll again.
//!
//! Embedded calls and the consumers of subscriptions wait this way; their deadlines are the
//! thread's own ([`Sleep`]), so no timer and no other thread is involved.

use std::{
    cell::Cell,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Instant,
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// What the thread that waits in [`wait`] knows of its nearest deadline.
#[derive(Clone, Copy)]
enum Alarm {
    /// The thread does not wait here: a runtime drives the future.
    Elsewhere,
    /// Nothing to wake up for.
    Unset,
    At(Instant),
}

thread_local! {
    static WAKER: Waker = waker();
    static ALARM: Cell<Alarm> = const { Cell::new(Alarm::Elsewhere) };
}

fn waker() -> Waker {
    Waker::from(Arc::new(Unpark(thread::current())))
}

/// Waits may nest: a callback polled by one may make a blocking call, which is another.
struct Restore(Alarm);

impl Drop for Restore {
    fn drop(&mut self) {
        ALARM.set(self.0);
    }
}

/// Runs `future` to its end in this thread.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    // A thread that is ending has no thread-locals left.
    let waker = WAKER.try_with(Waker::clone).unwrap_or_else(|_| waker());
    let mut context = Context::from_waker(&waker);
    let _restore = Restore(ALARM.get());
    loop {
        ALARM.set(Alarm::Unset);
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        match ALARM.get() {
            Alarm::At(at) => thread::park_timeout(at.saturating_duration_since(Instant::now())),
            Alarm::Unset | Alarm::Elsewhere => thread::park(),
        }
    }
}

/// Polls once, for a thread that has its own way of waiting; says when to poll again at the latest.
pub(crate) fn poll_once<F: Future + ?Sized>(
    future: Pin<&mut F>,
    context: &mut Context<'_>,
) -> (Poll<F::Output>, Option<Instant>) {
    let _restore = Restore(ALARM.replace(Alarm::Unset));
    let poll = future.poll(context);
    let alarm = match ALARM.get() {
        Alarm::At(at) => Some(at),
        Alarm::Unset | Alarm::Elsewhere => None,
    };
    (poll, alarm)
}

/// Runs `f` as where no thread waits by [`wait`]: timers are the runtime's.
pub(crate) fn elsewhere<R>(f: impl FnOnce() -> R) -> R {
    let _restore = Restore(ALARM.replace(Alarm::Elsewhere));
    f()
}

/// Resolves at an instant, wherever it is polled: by [`wait`], or by the runtime.
///
/// In [`wait`] it must be polled whenever the whole future is: it sets an alarm for the next
/// sleep only. So it belongs at the top of a call, never inside a set of futures that are polled
/// when woken.
pub(crate) struct Sleep {
    at: Instant,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Sleep {
    pub fn until(at: Instant) -> Self {
        Self { at, timer: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.at;
        if Instant::now() >= at {
            return Poll::Ready(());
        }
        match ALARM.get() {
            Alarm::Elsewhere => {
                if self.timer.is_none() {
                    self.timer = Some(timer(at));
                }
                match &mut self.timer {
                    Some(timer) => timer.as_mut().poll(cx),
                    None => Poll::Pending,
                }
            }
            Alarm::At(other) if other <= at => Poll::Pending,
            Alarm::At(_) | Alarm::Unset => {
                ALARM.set(Alarm::At(at));
                Poll::Pending
            }
        }
    }
}

/// Resolves at `deadline`; never, for `None`.
pub(crate) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => Sleep::until(deadline).await,
        None => std::future::pending().await,
    }
}

/// A timer of the runtime that the caller is in, or else of the library's.
fn timer(at: Instant) -> Pin<Box<tokio::time::Sleep>> {
    let ours = match tokio::runtime::Handle::try_current() {
        Ok(_) => None,
        Err(_) => super::Generation::current().and_then(|g| g.driver().map(|d| d.handle().clone())).ok(),
    };
    let _context = ours.as_ref().map(tokio::runtime::Handle::enter);
    Box::pin(tokio::time::sleep_until(at.into()))
}

/// Whether the caller is polled by [`wait`], so that blocking its thread delays nobody else.
pub(crate) fn is_waiting() -> bool {
    !matches!(ALARM.get(), Alarm::Elsewhere)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_wake_from_another_thread_ends_the_wait() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let thread = thread::spawn(move || sender.send(7));
        assert_eq!(wait(receiver), Ok(7));
        assert_eq!(thread.join().expect("the sender ends"), Ok(()));
    }

    #[test]
    fn the_nearest_of_two_sleeps_wakes_the_thread() {
        let start = Instant::now();
        let mut far = pin!(Sleep::until(start + Duration::from_secs(3600)));
        let mut near = pin!(Sleep::until(start + Duration::from_millis(5)));
        wait(std::future::poll_fn(|cx| {
            assert!(far.as_mut().poll(cx).is_pending());
            near.as_mut().poll(cx)
        }));
        assert!(start.elapsed() >= Duration::from_millis(5));
    }
}
