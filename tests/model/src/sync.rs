//! What threads meet at, as the library's module of this name has it, under the scheduler.
//!
//! Time stands still while anybody runs: it moves when a wait times out, which may happen to any
//! timed wait at any moment.

use std::{
    ops::{Add, Deref, DerefMut, Sub},
    sync::atomic::AtomicU64,
    time::Duration,
};

use shuttle::{
    rand::Rng,
    sync::{
        LockResult,
        atomic::{AtomicBool, Ordering},
    },
};
pub(crate) use shuttle::{
    sync::{Arc, PoisonError, RwLock, Weak, atomic},
    thread,
};

/// Nanoseconds since the checks began. Executions follow one another in one thread, so that it need
/// not be hidden from, nor shown to, the scheduler.
static NOW: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(u64);

impl Instant {
    pub fn now() -> Self {
        Self(NOW.load(Ordering::Relaxed))
    }

    pub fn elapsed(&self) -> Duration {
        Self::now() - *self
    }

    pub fn saturating_duration_since(&self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Time passes until then.
    pub fn come(self) {
        NOW.fetch_max(self.0, Ordering::Relaxed);
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0 + u64::try_from(time.as_nanos()).expect("checks are short"))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

/// Whether a timed wait ends now, of its own accord.
pub(crate) fn time_is_up() -> bool {
    shuttle::rand::thread_rng().gen_range(0..4) == 0
}

/// As std's; its guard knows it, so that a [`Condvar`] can lock it again.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T: ?Sized>(shuttle::sync::Mutex<T>);

#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    guard: shuttle::sync::MutexGuard<'a, T>,
}

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }
}

impl<T: ?Sized> Mutex<T> {
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        Ok(MutexGuard { mutex: self, guard: self.0.lock().expect(NO_PANICS) })
    }

    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.0.get_mut()
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// A panic ends a check, so nobody meets a lock that one has poisoned.
const NO_PANICS: &str = "no thread has panicked";

/// As std's: shuttle's never times out.
#[derive(Debug, Default)]
pub(crate) struct Condvar {
    waiting: Mutex<Waiting>,
    /// Rings for those that wait without a time.
    bell: shuttle::sync::Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Those that wait with a time, and whether they were rung for.
    timed: Vec<Arc<AtomicBool>>,
    /// Those inside a wait without one, whether they were rung for or not.
    untimed: usize,
}

impl Condvar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let MutexGuard { mutex, guard } = guard;
        self.waiting().untimed += 1;
        let guard = self.bell.wait(guard).expect(NO_PANICS);
        self.waiting().untimed -= 1;
        Ok(MutexGuard { mutex, guard })
    }

    /// The flag of the result says nothing: nobody asks.
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        time: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, ())> {
        let MutexGuard { mutex, guard } = guard;
        let until = Instant::now() + time;
        let rung = Arc::new(AtomicBool::new(false));
        // Enlisted before the lock is let go of, so that nobody can ring in between unseen.
        self.waiting().timed.push(rung.clone());
        drop(guard);
        while !rung.load(Ordering::Acquire) {
            if time_is_up() {
                self.waiting().timed.retain(|other| !Arc::ptr_eq(other, &rung));
                until.come();
                break;
            }
            thread::yield_now();
        }
        Ok((mutex.lock().expect(NO_PANICS), ()))
    }

    /// Rings for one of those that wait; which one, is not promised.
    pub fn notify_one(&self) {
        let mut waiting = self.waiting();
        let all = waiting.timed.len() + waiting.untimed;
        if all == 0 {
            return;
        }
        let chosen = shuttle::rand::thread_rng().gen_range(0..all);
        if chosen < waiting.timed.len() {
            waiting.timed.swap_remove(chosen).store(true, Ordering::Release);
        } else {
            drop(waiting);
            self.bell.notify_one();
        }
    }

    pub fn notify_all(&self) {
        let mut waiting = self.waiting();
        for rung in std::mem::take(&mut waiting.timed) {
            rung.store(true, Ordering::Release);
        }
        drop(waiting);
        self.bell.notify_all();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect(NO_PANICS)
    }
}
