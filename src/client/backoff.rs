//! How long to wait before the next attempt.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

/// Waits of random length under a bound that doubles with every failure in a row.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    /// The part of its bound that a wait has at least.
    least: f64,
    /// The bound of the wait before; `None` after a success.
    last: Option<Duration>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { least: 0.5, ..Self::spread(FIRST, LONGEST) }
    }
}

impl Backoff {
    /// Bounds from `first` up to `longest`, waits from nothing up to them: for very many that lose
    /// the same server at once.
    pub fn spread(first: Duration, longest: Duration) -> Self {
        Self { first, longest: longest.max(first), least: 0.0, last: None }
    }

    /// The wait after one more failure. None after the first: most are a restart, or the cut of one
    /// connection. The others are random, so that clients do not come back all at once.
    pub fn next(&mut self) -> Duration {
        match self.last {
            None => {
                self.last = Some(Duration::ZERO);
                Duration::ZERO
            }
            Some(last) => {
                let bound = (last * 2).clamp(self.first, self.longest);
                self.last = Some(bound);
                let random = RandomState::new().hash_one(()) as f64 / u64::MAX as f64;
                bound.mul_f64(self.least + (1.0 - self.least) * random)
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
            for bound in [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
                let (next, bound) = (backoff.next(), Duration::from_millis(bound));
                assert!(next >= bound / 2 && next <= bound, "{next:?} of {bound:?}");
            }
            backoff.reset();
        }
    }

    #[test]
    fn waits_can_be_spread_over_all_the_time() {
        let mut backoff = Backoff::spread(Duration::from_secs(8), Duration::from_secs(8));
        assert_eq!(backoff.next(), Duration::ZERO);
        let waits: Vec<_> = (0..64).map(|_| backoff.next()).collect();
        assert!(waits.iter().any(|w| *w < Duration::from_secs(3)));
        assert!(waits.iter().any(|w| *w > Duration::from_secs(5)));
        assert!(waits.iter().all(|w| *w <= Duration::from_secs(8)));
    }
}
