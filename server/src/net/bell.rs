//! Wake-ups of a worker from other threads, many at once.
//!
//! A commit answers many calls of a worker in a row. Each would wake its task by a write to the
//! worker's eventfd; with the bell, the first does, and the worker wakes the others itself.

use std::{
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    thread::{self, ThreadId},
};

/// The bell of one worker.
pub struct Bell {
    worker: ThreadId,
    rung: Mutex<Rung>,
}

#[derive(Default)]
struct Rung {
    tasks: Vec<Waker>,
    /// Of the task that answers the bell.
    answerer: Option<Waker>,
}

impl Bell {
    /// A bell for tasks of this thread. It works as long as [`Bell::answer`] runs.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { worker: thread::current().id(), rung: Mutex::default() })
    }

    /// Wakes, for ever, those for whom other threads ring.
    pub async fn answer(self: Arc<Self>) {
        poll_fn(|cx| {
            let tasks = {
                let mut rung = self.lock();
                rung.answerer = Some(cx.waker().clone());
                mem::take(&mut rung.tasks)
            };
            tasks.into_iter().for_each(Waker::wake);
            Poll::Pending
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Rung> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the futures of one task a waker that uses the bell.
pub struct Rope {
    bell: Arc<Bell>,
    /// The waker of the task, and the one made of it.
    made: Option<(Waker, Waker)>,
}

impl Rope {
    pub fn new(bell: Arc<Bell>) -> Self {
        Self { bell, made: None }
    }

    /// The waker for what is polled within a poll with `cx`.
    pub fn waker(&mut self, cx: &Context<'_>) -> &Waker {
        let made = self.made.take().filter(|(task, _)| task.will_wake(cx.waker()));
        let (_, waker) = self.made.insert(made.unwrap_or_else(|| {
            let task = cx.waker().clone();
            let ring = Ring { bell: self.bell.clone(), task: task.clone() };
            (task, Arc::new(ring).into())
        }));
        waker
    }
}

/// What the waker of a [`Rope`] does.
struct Ring {
    bell: Arc<Bell>,
    task: Waker,
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if thread::current().id() == self.bell.worker {
            return self.task.wake_by_ref();
        }
        let mut rung = self.bell.lock();
        match &rung.answerer {
            None => self.task.wake_by_ref(),
            Some(answerer) => {
                if rung.tasks.is_empty() {
                    answerer.wake_by_ref();
                }
                rung.tasks.push(self.task.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use tokio::{sync::oneshot, task::JoinSet};

    use super::*;

    #[tokio::test]
    async fn everybody_who_is_rung_for_wakes_up() {
        let bell = Bell::new();
        let answering = tokio::spawn(bell.clone().answer());
        for _ in 0..100 {
            let mut tasks = JoinSet::new();
            let senders: Vec<_> = (0..50)
                .map(|_| {
                    let (sender, mut receiver) = oneshot::channel::<()>();
                    let mut rope = Rope::new(bell.clone());
                    tasks.spawn(poll_fn(move |cx| {
                        Pin::new(&mut receiver).poll(&mut Context::from_waker(rope.waker(cx)))
                    }));
                    sender
                })
                .collect();
            thread::spawn(move || senders.into_iter().for_each(|sender| sender.send(()).unwrap()));
            // Hangs here for ever when a task was not woken.
            while let Some(received) = tasks.join_next().await {
                received.unwrap().unwrap();
            }
        }
        answering.abort();
    }
}
