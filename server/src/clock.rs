//! The engine's clock: the system's, or one that a test moves.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Nanoseconds in a second.
pub const SECOND_NS: i64 = 1_000_000_000;

/// Tells the time in unix nanoseconds.
#[derive(Clone)]
pub enum Clock {
    /// The system's real-time clock.
    System,
    /// A clock that stands still until it is advanced.
    Test(Arc<TestClock>),
}

impl Clock {
    /// Now, in unix nanoseconds; saturates at the ends of the range.
    pub fn now_ns(&self) -> i64 {
        match self {
            Self::System => match SystemTime::now().duration_since(UNIX_EPOCH) {
                Ok(d) => i64::try_from(d.as_nanos()).unwrap_or(i64::MAX),
                Err(_) => 0,
            },
            Self::Test(clock) => clock.now.load(Ordering::SeqCst),
        }
    }

    /// How long a thread may sleep until `due_ns`. A test clock gives no answer: time does not
    /// pass by itself, the sleeper is woken by [`Clock::on_advance`].
    pub fn until(&self, due_ns: i64) -> Option<Duration> {
        match self {
            Self::System => Some(Duration::from_nanos(due_ns.saturating_sub(self.now_ns()).max(0) as u64)),
            Self::Test(_) => None,
        }
    }

    /// Has `wake` called after each advance of a test clock; on the system's clock it does nothing.
    pub fn on_advance(&self, wake: impl Fn() + Send + Sync + 'static) {
        if let Self::Test(clock) = self {
            clock.sleepers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(wake));
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "Clock::System",
            Self::Test(_) => "Clock::Test",
        })
    }
}

type Wake = Arc<dyn Fn() + Send + Sync>;

/// A clock for tests: it starts at the system's time and then moves only when told to.
pub struct TestClock {
    now: AtomicI64,
    sleepers: Mutex<Vec<Wake>>,
}

impl TestClock {
    /// A clock that shows the system's time of this moment.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { now: AtomicI64::new(Clock::System.now_ns()), sleepers: Mutex::default() })
    }

    /// A clock that shows `now`, in unix nanoseconds.
    #[cfg(test)]
    pub(crate) fn at(now: i64) -> Arc<Self> {
        Arc::new(Self { now: AtomicI64::new(now), sleepers: Mutex::default() })
    }

    /// Moves time forward and wakes whoever sleeps by this clock.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        // The closure always returns Some, so the update cannot fail.
        let _ = self.now.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| Some(now.saturating_add(by)));
        let sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for wake in sleepers {
            wake();
        }
    }
}

impl fmt::Debug for TestClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestClock").field("now", &self.now).finish_non_exhaustive()
    }
}
