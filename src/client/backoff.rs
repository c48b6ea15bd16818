//! How long to wait before the next attempt.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// Waits of random length under a bound that doubles with every failure in a row.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    /// The bound of the wait before; `None` after a success.
    last: Option<Duration>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(FIRST, LONGEST)
    }
}

impl Backoff {
    /// Bounds from `first` up to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest: longest.max(first), last: None }
    }

    /// The wait after one more failure. None after the first: most are a restart, or the cut of one
    /// connection. The others are spread over the whole time up to their bound, so that clients do
    /// not come back all at once.
    pub fn next(&mut self) -> Duration {
        match self.last {
            None => {
                self.last = Some(Duration::ZERO);
                Duration::ZERO
            }
            Some(last) => {
                let bound = (last * 2).clamp(self.first, self.longest);
                self.last = Some(bound);
                bound.mul_f64(RandomState::new().hash_one(()) as f64 / u64::MAX as f64)
            }
        }
    }

    /// An attempt has succeeded.
    pub fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        for _ in 0..2 {
            assert_eq!(backoff.next(), Duration::ZERO);
            for bound in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
                let next = backoff.next();
                assert!(next <= Duration::from_millis(bound), "{next:?} of {bound} ms");
            }
            backoff.reset();
        }
    }

    #[test]
    fn waits_are_spread() {
        let mut backoff = Backoff::new(Duration::from_secs(8), Duration::from_secs(8));
        assert_eq!(backoff.next(), Duration::ZERO);
        let waits: Vec<_> = (0..64).map(|_| backoff.next()).collect();
        assert!(waits.iter().any(|w| *w < Duration::from_secs(4)));
        assert!(waits.iter().any(|w| *w > Duration::from_secs(4)));
    }
}
