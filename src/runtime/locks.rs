//! Locking and waiting, where no panic of another thread is of interest.

use std::time::Duration;

use crate::sync::{Condvar, Instant, Mutex, MutexGuard, PoisonError};

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the bell; `None` when `deadline` has come.
pub(crate) fn wait_until<'a, T>(
    bell: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: Option<Instant>,
) -> Option<MutexGuard<'a, T>> {
    match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
        None => Some(bell.wait(guard).unwrap_or_else(PoisonError::into_inner)),
        Some(Duration::ZERO) => None,
        Some(rest) => Some(bell.wait_timeout(guard, rest).unwrap_or_else(PoisonError::into_inner).0),
    }
}
