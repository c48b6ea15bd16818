//! How long to wait before the next attempt.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// Waits that double with every failure in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff(Option<Duration>);

impl Backoff {
    /// The wait after one more failure. None after the first: most are a restart, or the cut of one
    /// connection.
    pub fn next(&mut self) -> Duration {
        let next = self.0.map_or(FIRST, |last| (last * 2).min(LONGEST));
        match self.0.replace(next) {
            None => Duration::ZERO,
            Some(_) => jittered(next),
        }
    }
}

/// Between half of `time` and all of it, so that clients do not come back all at once.
fn jittered(time: Duration) -> Duration {
    let random = RandomState::new().hash_one(());
    time / 2 + (time / 2).mul_f64(random as f64 / u64::MAX as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_their_limit() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(), Duration::ZERO);
        for expected in [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
            let expected = Duration::from_millis(expected);
            let next = backoff.next();
            assert!(next >= expected / 2 && next <= expected, "{next:?} of {expected:?}");
        }
    }
}
