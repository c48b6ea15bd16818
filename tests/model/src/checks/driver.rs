//! Who drives the connections.

use tokio::sync::oneshot;

use super::{OneWake, check};
use crate::{
    runtime::{Driver, park},
    sync::{Arc, thread},
};

fn start() -> Arc<Driver> {
    Arc::new(Driver::start().expect("threads can be started"))
}

/// Work that was spawned is driven to its end, by whomever, while callers come and go.
pub fn spawned_work_is_driven() {
    check(|| {
        let driver = start();
        let (sender, receiver) = oneshot::channel();
        let task = driver.spawn(receiver).expect("it runs");
        let caller = driver.clone();
        let caller = thread::spawn(move || {
            for _ in 0..2 {
                caller.block_on(OneWake::default(), true).expect("it runs");
            }
        });
        let runner = driver.clone();
        let runner = thread::spawn(move || {
            for _ in 0..2 {
                runner.drive(OneWake::default());
            }
        });
        let sender = thread::spawn(move || sender.send(7).expect("somebody listens"));
        let got = park::wait(task).expect("it was not dropped");
        assert_eq!(got, Ok(7));
        for thread in [caller, runner, sender] {
            thread.join().expect("no panics");
        }
        assert!(driver.stop(None));
    });
}

/// Work that comes while a caller drives, or just when it stops, is driven after it.
pub fn work_that_comes_late_is_driven() {
    check(|| {
        let driver = start();
        let other = driver.clone();
        let caller = thread::spawn(move || other.block_on(OneWake::default(), true).expect("it runs"));
        let other = driver.clone();
        let runner = thread::spawn(move || other.drive(OneWake::default()));
        let task = driver.spawn(OneWake::default()).expect("it runs");
        park::wait(task).expect("it was not dropped");
        caller.join().expect("no panics");
        runner.join().expect("no panics");
        let task = driver.spawn(OneWake::default()).expect("it runs");
        park::wait(task).expect("it was not dropped");
        assert!(driver.stop(None));
    });
}

/// Callers at the same time each get their answer, which comes from another thread.
pub fn every_caller_gets_its_answer() {
    check(|| {
        let driver = start();
        let callers: Vec<_> = (0..3)
            .map(|number| {
                let driver = driver.clone();
                let (sender, receiver) = oneshot::channel();
                let answering = thread::spawn(move || sender.send(number).expect("somebody listens"));
                thread::spawn(move || {
                    assert_eq!(driver.block_on(receiver, true).expect("it runs"), Ok(number));
                    answering.join().expect("no panics");
                })
            })
            .collect();
        for caller in callers {
            caller.join().expect("no panics");
        }
        assert!(driver.stop(None));
    });
}

/// A stop ends, whoever calls meanwhile; what it refuses, it refuses at once.
pub fn a_stop_leaves_nobody_waiting() {
    check(|| {
        let driver = start();
        let threads: Vec<_> = (0..2)
            .map(|number| {
                let driver = driver.clone();
                thread::spawn(move || {
                    if number == 0 {
                        // Either answer is right.
                        let _ = driver.block_on(OneWake::default(), true);
                    } else {
                        driver.drive(OneWake::default());
                    }
                })
            })
            .collect();
        let task = driver.spawn(std::future::pending::<()>());
        assert!(driver.stop(None));
        if let Ok(task) = task {
            assert!(park::wait(task).is_err(), "what is left is dropped, and says so");
        }
        assert!(driver.block_on(OneWake::default(), true).is_err());
        for thread in threads {
            thread.join().expect("no panics");
        }
    });
}
