//! A handle by which the end of a task is waited for.

use std::{
    any::Any,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use shuttle::sync::Mutex;

/// What became of a task.
pub(crate) enum Outcome<T> {
    /// It has not ended; who waits for it.
    Running(Option<Waker>),
    /// It has ended, or (`None`) was dropped before its end.
    Ended(Option<T>),
    Taken,
}

/// Resolves at the end of the task. Dropped, it leaves the task alone.
pub struct JoinHandle<T>(pub(crate) Arc<Mutex<Outcome<T>>>);

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").finish_non_exhaustive()
    }
}

/// The task was dropped before its end.
#[derive(Debug)]
pub struct JoinError(());

impl JoinError {
    /// Tasks of the model do not panic.
    pub fn is_panic(&self) -> bool {
        false
    }

    /// Never called: see [`JoinError::is_panic`].
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        Box::new("no panic")
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut outcome = self.0.lock().expect("no panics");
        match &mut *outcome {
            Outcome::Running(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            ended => match std::mem::replace(ended, Outcome::Taken) {
                Outcome::Ended(Some(output)) => Poll::Ready(Ok(output)),
                _ => Poll::Ready(Err(JoinError(()))),
            },
        }
    }
}

/// Sets the outcome, also when the task is dropped.
pub(crate) struct Report<T>(pub Arc<Mutex<Outcome<T>>>);

impl<T> Report<T> {
    pub fn end(&self, output: Option<T>) {
        let mut outcome = self.0.lock().expect("no panics");
        if let Outcome::Running(waker) = &mut *outcome {
            let waker = waker.take();
            *outcome = Outcome::Ended(output);
            drop(outcome);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl<T> Drop for Report<T> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end(None);
        }
    }
}
