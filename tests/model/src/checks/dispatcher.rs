//! What runs callbacks.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{OneWake, check};
use crate::{
    boundary::event_fd::EventFd,
    runtime::{Dispatcher, Driver, Generation, Once, dispatcher::yield_now},
    sync::{Arc, Instant, thread},
};

/// Counts callbacks; no event for the scheduler.
#[derive(Debug, Default, Clone)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn once(&self) -> [Once; 1] {
        let count = self.clone();
        [Box::new(move || {
            count.0.fetch_add(1, Ordering::Relaxed);
        })]
    }
}

fn own() -> Dispatcher {
    Dispatcher::own(&Generation::new(None, None)).expect("a descriptor")
}

fn event_of(dispatcher: &Dispatcher) -> EventFd {
    EventFd::of(dispatcher.fd().expect("it is the application's"))
}

/// An event loop that only watches the descriptor runs everything, and is not woken for nothing.
pub fn the_descriptor_tells_of_every_callback() {
    check(|| {
        let (dispatcher, count) = (own(), Count::default());
        let posting: Vec<_> = (0..2)
            .map(|group| {
                let (dispatcher, count) = (dispatcher.clone(), count.clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        dispatcher.post(group, count.once());
                    }
                })
            })
            .collect();
        let event = event_of(&dispatcher);
        while count.get() < 4 {
            event.wait();
            let ran = dispatcher.run(0, Some(Instant::now())).expect("it is not stopped");
            assert!(ran > 0, "the descriptor was readable for nothing");
        }
        assert!(!event.is_raised());
        for thread in posting {
            thread.join().expect("no panics");
        }
    });
}

/// Two threads that wait in `run`, one of which drives, run everything; a wake ends a wait.
pub fn threads_that_wait_in_run_are_woken() {
    check(|| {
        let driver = Driver::start().expect("threads can be started");
        let generation = Generation::new(Some(driver), None);
        let (dispatcher, count) = (Dispatcher::own(&generation).expect("a descriptor"), Count::default());
        let running: Vec<_> = (0..2)
            .map(|_| {
                let (dispatcher, count) = (dispatcher.clone(), count.clone());
                thread::spawn(move || {
                    while count.get() < 3 {
                        dispatcher.run(1, None).expect("it is not stopped");
                    }
                    // The other one may wait.
                    dispatcher.wake().expect("it is not stopped");
                })
            })
            .collect();
        for group in 0..3 {
            dispatcher.post(group, count.once());
        }
        for thread in running {
            thread.join().expect("no panics");
        }
        assert_eq!(count.get(), 3);
        assert!(generation.driver_if_started().is_some_and(|driver| driver.stop(None)));
    });
}

/// Whoever waits for a group on the application's dispatcher runs what nobody else runs.
pub fn a_join_runs_what_nobody_runs() {
    check(|| {
        let (dispatcher, count) = (own(), Count::default());
        let expected = dispatcher.expect(1);
        let (other, more) = (dispatcher.clone(), count.clone());
        let posting = thread::spawn(move || {
            other.post(1, more.once());
            drop(expected);
            other.post(2, more.once());
        });
        dispatcher.post(1, count.once());
        assert!(dispatcher.join(Some(1), None));
        assert!(count.get() >= 2, "both of the group have run");
        posting.join().expect("no panics");
        assert!(dispatcher.join(None, None));
        assert_eq!(count.get(), 3);
        assert!(!event_of(&dispatcher).is_raised());
    });
}

/// Callbacks of a dispatcher that its application gives up are run by the default one.
pub fn an_heir_runs_what_is_left() {
    check(|| {
        let heir = Dispatcher::start().expect("threads can be started");
        let generation = Generation::new(None, Some(heir.clone()));
        let (dispatcher, count) = (Dispatcher::own(&generation).expect("a descriptor"), Count::default());
        let (other, more) = (dispatcher.clone(), count.clone());
        let posting = thread::spawn(move || {
            for _ in 0..2 {
                other.post(1, more.once());
            }
        });
        dispatcher.post(1, count.once());
        dispatcher.release();
        posting.join().expect("no panics");
        assert!(dispatcher.join(None, None));
        assert_eq!(count.get(), 3);
        assert!(!event_of(&dispatcher).is_raised(), "nobody runs it any more");
        assert!(heir.stop(None));
    });
}

/// A stop runs what was posted before it, once each, and ends the threads.
pub fn a_stop_runs_what_was_posted() {
    check(|| {
        let dispatcher = Dispatcher::pool(2, "model", &Generation::new(None, None)).expect("threads");
        let count = Count::default();
        let (other, more) = (dispatcher.clone(), count.clone());
        let posting = thread::spawn(move || {
            for group in 0..3 {
                other.post(group, more.once());
            }
        });
        dispatcher.post(1, count.once());
        posting.join().expect("no panics");
        assert!(dispatcher.stop(None));
        assert_eq!(count.get(), 4);
    });
}

/// A task is polled after every wake, and never after it was stopped.
pub fn a_stopped_task_is_not_polled() {
    check(|| {
        let dispatcher = Dispatcher::pool(2, "model", &Generation::new(None, None)).expect("threads");
        let polls = Count::default();
        let counting = polls.clone();
        let task = dispatcher.spawn_asleep(1, async move {
            for _ in 0..3 {
                counting.0.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
            std::future::pending().await
        });
        let waking = task.clone();
        let waking = thread::spawn(move || std::task::Wake::wake(waking));
        assert!(task.stop(None));
        let before = polls.get();
        waking.join().expect("no panics");
        assert!(dispatcher.stop(None));
        assert_eq!(polls.get(), before);
    });
}

/// A task that is woken while it is polled is polled again, and its end is waited for.
pub fn no_wake_of_a_task_is_lost() {
    check(|| {
        let dispatcher = Dispatcher::start().expect("threads can be started");
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let ended = Count::default();
        let counting = ended.clone();
        let task = dispatcher.spawn_asleep(1, async move {
            OneWake::default().await;
            assert_eq!(receiver.await, Ok(7));
            counting.0.fetch_add(1, Ordering::Relaxed);
        });
        let sending = thread::spawn(move || sender.send(7).expect("somebody listens"));
        std::task::Wake::wake(task);
        assert!(dispatcher.join(Some(1), None));
        assert_eq!(ended.get(), 1);
        sending.join().expect("no panics");
        assert!(dispatcher.stop(None));
    });
}
