//! The database through its own interface, with a clock that the test moves.

mod commits;
mod damage;
mod expiry;
mod kv;
mod long_poll;
mod model;
mod queue;
mod recovery;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    task::Context,
    time::Duration,
};

use bytes::Bytes;
use flowmesh_proto::v1::Job;
use tokio::sync::oneshot;

use super::{Database, DatabaseOptions, Place, lock, operation::Operation};
use crate::{
    clock::{Clock, TestClock},
    engine::{Enqueued, Lease, Leased, NewJob, QueueStore},
    error::{ErrorKind, Result},
    resource::{ResourceKind, ResourceName},
};

/// Runs a future to its end in this thread, as a blocking caller does.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = pin!(future);
    loop {
        let poll = crate::commit::inline(|| future.as_mut().poll(&mut Context::from_waker(&waker)));
        match poll {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

fn options(path: Option<&Path>, clock: &Arc<TestClock>) -> DatabaseOptions {
    DatabaseOptions {
        place: path.map(Place::file),
        clock: Clock::Test(clock.clone()),
        ..DatabaseOptions::default()
    }
}

/// A database in memory and its clock.
fn memory() -> (Arc<Database>, Arc<TestClock>) {
    let clock = TestClock::new();
    (Arc::new(Database::open(options(None, &clock)).unwrap()), clock)
}

fn queue(name: &str) -> ResourceName {
    ResourceName::new("t", "n", ResourceKind::Queue, name)
}

fn store(name: &str) -> ResourceName {
    ResourceName::new("t", "n", ResourceKind::Kv, name)
}

fn new_job(payload: &str, delay_seconds: i64) -> NewJob {
    NewJob { payload: Bytes::copy_from_slice(payload.as_bytes()), headers: BTreeMap::new(), delay_seconds }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// Calls that tests make in one line.
trait Calls {
    fn put(&self, queue: &ResourceName, payload: &str) -> Enqueued;
    fn put_delayed(&self, queue: &ResourceName, payload: &str, delay_seconds: i64) -> Enqueued;
    fn take(&self, queue: &ResourceName, max_jobs: usize) -> Vec<Job>;
    fn take_one(&self, queue: &ResourceName) -> Job;
    fn stats_of(&self, queue: &ResourceName) -> [i64; 5];
}

impl Calls for Database {
    fn put(&self, queue: &ResourceName, payload: &str) -> Enqueued {
        self.put_delayed(queue, payload, 0)
    }

    fn put_delayed(&self, queue: &ResourceName, payload: &str, delay_seconds: i64) -> Enqueued {
        block_on(self.enqueue(queue, new_job(payload, delay_seconds))).unwrap()
    }

    fn take(&self, queue: &ResourceName, max_jobs: usize) -> Vec<Job> {
        block_on(self.lease(queue, lease(max_jobs, 30, 0))).unwrap().taken()
    }

    fn take_one(&self, queue: &ResourceName) -> Job {
        self.take(queue, 1).pop().unwrap()
    }

    /// total, pending, in flight, completed, failed
    fn stats_of(&self, queue: &ResourceName) -> [i64; 5] {
        let s = block_on(self.stats(queue)).unwrap();
        [s.total_jobs, s.pending_jobs, s.in_flight_jobs, s.completed_jobs, s.failed_jobs]
    }
}

fn lease(max_jobs: usize, visibility_seconds: i64, wait_seconds: i64) -> Lease {
    Lease { max_jobs, max_bytes: 4 << 20, visibility_seconds, wait_seconds }
}

fn payloads(jobs: &[Job]) -> Vec<&str> {
    jobs.iter().map(|j| std::str::from_utf8(&j.payload).unwrap()).collect()
}
