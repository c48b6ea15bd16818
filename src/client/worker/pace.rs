//! How fast jobs are handled, and so how many may wait in this process for their turn.

use std::time::Duration;

/// A job waits here for at most this part of its lease, so that its handler has the rest.
const PART_OF_LEASE: u32 = 10;

/// Handling times, as they go.
#[derive(Debug)]
pub(super) struct Pace {
    /// What a call of the handler takes.
    call: Option<Duration>,
    /// What a job takes from its call to its verdict; longer where it was left to the application.
    job: Option<Duration>,
    /// How long a job may wait.
    wait: Duration,
}

impl Pace {
    pub fn new(lease: Duration) -> Self {
        Self { call: None, job: None, wait: lease / PART_OF_LEASE }
    }

    /// A call of the handler has returned.
    pub fn called(&mut self, time: Duration) {
        follow(&mut self.call, time);
    }

    /// A job has its verdict.
    pub fn handled(&mut self, time: Duration) {
        follow(&mut self.job, time);
    }

    /// How many jobs may wait behind those that can start at once, where `threads` call the handler
    /// and `concurrency` jobs are under way: at most `prefetch`, and none before the first is done.
    pub fn ahead(&self, prefetch: usize, threads: usize, concurrency: usize) -> usize {
        let (Some(call), Some(job)) = (self.call, self.job) else { return 0 };
        let in_time = |lanes: usize, each: Duration| {
            let jobs = self.wait.as_nanos().saturating_mul(lanes as u128) / each.as_nanos().max(1);
            usize::try_from(jobs).unwrap_or(usize::MAX)
        };
        prefetch.min(in_time(threads, call)).min(in_time(concurrency, job))
    }
}

/// Up at once, down slowly: one slow job makes careful.
fn follow(typical: &mut Option<Duration>, time: Duration) {
    *typical = Some(match *typical {
        Some(known) if known > time => known - (known - time) / 8,
        _ => time,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace(lease: u32, call: Duration, job: Duration) -> Pace {
        let mut pace = Pace::new(SECOND * lease);
        pace.called(call);
        pace.handled(job);
        pace
    }

    #[test]
    fn nothing_is_fetched_ahead_before_the_pace_is_known() {
        assert_eq!(Pace::new(30 * SECOND).ahead(16, 1, 1), 0);
    }

    #[test]
    fn what_waits_has_its_turn_within_a_tenth_of_the_lease() {
        assert_eq!(pace(30, SECOND / 1000, SECOND / 1000).ahead(16, 1, 1), 16);
        assert_eq!(pace(30, SECOND, SECOND).ahead(16, 1, 1), 3);
        assert_eq!(pace(30, SECOND, SECOND).ahead(16, 4, 4), 12);
        assert_eq!(pace(30, 4 * SECOND, 4 * SECOND).ahead(16, 1, 1), 0);
    }

    #[test]
    fn jobs_that_are_left_count_by_the_time_to_their_verdict() {
        assert_eq!(pace(30, SECOND / 1000, 6 * SECOND).ahead(16, 1, 8), 4);
    }

    #[test]
    fn one_slow_job_counts_at_once_and_is_forgotten_slowly() {
        let mut pace = pace(30, SECOND / 1000, SECOND / 1000);
        pace.called(10 * SECOND);
        assert_eq!(pace.ahead(16, 1, 1), 0);
        for _ in 0..100 {
            pace.called(SECOND / 1000);
        }
        assert_eq!(pace.ahead(16, 1, 1), 16);
    }
}
