//! Waiting in the calling thread, as the library's module of this name does it; a [`Sleep`] ends
//! whenever the scheduler likes.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, Wake, Waker},
};

use crate::sync::{
    Arc, Instant,
    thread::{self, Thread},
    time_is_up,
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs `future` to its end in this thread.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        thread::park();
    }
}

/// Polls once; sleeps wake the poll by themselves.
pub(crate) fn poll_once<F: Future + ?Sized>(
    future: Pin<&mut F>,
    context: &mut Context<'_>,
) -> (Poll<F::Output>, Option<Instant>) {
    (future.poll(context), None)
}

/// Runs `f`.
pub(crate) fn elsewhere<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Resolves at an instant.
pub(crate) struct Sleep(Instant);

impl Sleep {
    pub fn until(at: Instant) -> Self {
        Self(at)
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() < self.0 && !time_is_up() {
            thread::yield_now();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.0.come();
        Poll::Ready(())
    }
}
