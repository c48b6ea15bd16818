//! Tasks and completions on a dispatcher, without a client.

use std::{
    sync::{atomic::AtomicUsize, mpsc},
    thread::ThreadId,
    time::Duration,
};

use super::*;

#[test]
fn tasks_take_turns_and_stop_waits_for_them() {
    let dispatcher = Dispatcher::start().expect("a thread");
    let (sender, receiver) = mpsc::channel();
    for name in ["a", "b"] {
        let sender = sender.clone();
        dispatcher.spawn(0, async move {
            for turn in 0..3 {
                sender.send((turn, name)).expect("the test listens");
                yield_now().await;
            }
        });
    }
    assert!(dispatcher.stop(None));
    drop(sender);
    let mut seen: Vec<_> = receiver.iter().collect();
    let last = seen.pop().map(|(turn, _)| turn);
    assert_eq!(last, Some(2), "nobody runs ahead: {seen:?}");
    assert_eq!(seen.len(), 5);
}

#[test]
fn a_task_that_waits_is_dropped_by_whoever_stops_it() {
    struct Dropped(mpsc::Sender<ThreadId>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().id());
        }
    }
    let dispatcher = Dispatcher::start().expect("a thread");
    let (started, waiting) = mpsc::channel();
    let (dropped, receiver) = mpsc::channel();
    let task = dispatcher.spawn(0, async move {
        let _dropped = Dropped(dropped);
        started.send(()).expect("the test listens");
        std::future::pending().await
    });
    waiting.recv().expect("the task runs");
    assert!(task.stop(None));
    receiver.recv().expect("it was dropped");
    assert!(dispatcher.stop(None));
}

#[test]
fn a_poll_that_lasts_is_reported_at_the_deadline() {
    let dispatcher = Dispatcher::start().expect("a thread");
    let (release, blocked) = mpsc::channel::<()>();
    let (started, running) = mpsc::channel();
    let task = dispatcher.spawn(7, async move {
        started.send(()).expect("the test listens");
        let _ = blocked.recv();
    });
    running.recv().expect("the task runs");
    assert!(!task.stop(Some(Instant::now())));
    assert!(!dispatcher.join(Some(7), Some(Instant::now() + Duration::from_millis(1))));
    assert!(dispatcher.join(Some(8), None), "another group is at rest");
    drop(release);
    assert!(task.stop(None));
    assert!(dispatcher.stop(None));
}

/// Whether the application would be told to run it now.
fn is_readable(dispatcher: &Dispatcher) -> bool {
    lock(&dispatcher.0.shared.queue).raised
}

fn own() -> Dispatcher {
    Generation::current().and_then(|g| g.own_dispatcher()).expect("a dispatcher")
}

#[test]
fn the_event_is_raised_exactly_while_something_waits() {
    let dispatcher = own();
    let ran = Arc::new(AtomicUsize::new(0));
    let count = || -> Once {
        let ran = ran.clone();
        Box::new(move || {
            ran.fetch_add(1, Ordering::Relaxed);
        })
    };
    assert!(!is_readable(&dispatcher));
    dispatcher.post(1, [count(), count(), count()]);
    assert!(is_readable(&dispatcher));
    assert_eq!(dispatcher.run(2, Some(Instant::now())), Ok(2));
    assert!(is_readable(&dispatcher), "one is left");
    assert_eq!(dispatcher.run(0, None), Ok(1));
    assert!(!is_readable(&dispatcher));
    assert_eq!(ran.load(Ordering::Relaxed), 3);
}

#[test]
fn a_stopped_task_leaves_no_wake_up_behind() {
    let dispatcher = own();
    let task = dispatcher.spawn(1, std::future::pending());
    assert!(is_readable(&dispatcher), "it waits for its first poll");
    assert!(task.stop(None));
    assert!(!is_readable(&dispatcher));
}

#[test]
fn a_wake_ends_one_wait() {
    let dispatcher = own();
    let waiting = dispatcher.clone();
    let thread = thread::spawn(move || waiting.run(0, None));
    dispatcher.wake().expect("it is the application's");
    assert_eq!(thread.join().expect("no panic"), Ok(0));
    assert!(!is_readable(&dispatcher));
    dispatcher.wake().expect("it is the application's");
    assert!(is_readable(&dispatcher));
    assert_eq!(dispatcher.run(0, Some(Instant::now())), Ok(0));
    assert!(!is_readable(&dispatcher));
}

#[test]
fn several_threads_share_the_work_of_one_dispatcher() {
    let dispatcher = own();
    let (sender, receiver) = mpsc::channel();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let dispatcher = dispatcher.clone();
            thread::spawn(move || {
                let mut ran = 0;
                loop {
                    match dispatcher.run(1, None).expect("it may run") {
                        0 => return ran,
                        more => ran += more,
                    }
                }
            })
        })
        .collect();
    for number in 0..1000 {
        let sender = sender.clone();
        dispatcher.post(1, [Box::new(move || sender.send(number).expect("the test listens")) as Once]);
    }
    drop(sender);
    let mut seen: Vec<_> = receiver.iter().collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    let mut ended = 0;
    let mut left = threads;
    while !left.is_empty() {
        dispatcher.wake().expect("it is the application's");
        let (over, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(thread::JoinHandle::is_finished);
        ended += over.into_iter().map(|t| t.join().expect("no panic")).sum::<usize>();
        left = rest;
    }
    assert_eq!(ended, 1000);
}

#[test]
fn a_callback_cannot_run_its_own_dispatcher() {
    let dispatcher = own();
    let (inner, (sender, receiver)) = (dispatcher.clone(), mpsc::channel());
    dispatcher.post(1, [Box::new(move || drop(sender.send(inner.run(0, None)))) as Once]);
    assert_eq!(dispatcher.run(0, None), Ok(1));
    let refused = receiver.try_recv().expect("it ran").map_err(|e| e.status());
    assert_eq!(refused, Err(crate::client::Status::FAILED_PRECONDITION));
}
