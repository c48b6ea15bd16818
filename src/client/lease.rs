//! A lease on a job, as its holder counts it.

use std::time::{Duration, Instant};

use flowmesh_proto::v1::Job;

use super::client::Client;

/// The length of a lease that nobody chose.
const DEFAULT_LENGTH: Duration = Duration::from_secs(30);

/// The time for which a job is ours, counted from its arrival by this process's own clock, so that
/// clocks need not agree. The server's count began a network transit earlier.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    since: Instant,
    length: Duration,
    /// The server's own end; counts only where the server is an engine with a test clock.
    until_ns: i64,
}

impl Lease {
    /// A lease of `visibility_ms` (0: the server's default) on a job that arrives now.
    pub fn begin(job: &Job, visibility_ms: i64) -> Self {
        Self { since: Instant::now(), length: Self::length(visibility_ms), until_ns: job.reserve_until }
    }

    /// How long leases of `visibility_ms` are: whole seconds, as the server counts.
    pub fn length(visibility_ms: i64) -> Duration {
        match u64::try_from(visibility_ms) {
            Ok(ms) if ms > 0 => Duration::from_secs(ms.div_ceil(1000)),
            _ => DEFAULT_LENGTH,
        }
    }

    /// What is left of it; zero when it is over.
    pub fn left(&self, client: &Client) -> Duration {
        match client.test_clock_ns() {
            // No jitter there: the lease ends exactly when the engine says.
            Some(now) => {
                u64::try_from(self.until_ns.saturating_sub(now)).map_or(Duration::ZERO, Duration::from_nanos)
            }
            None => self.length.saturating_sub(self.since.elapsed()),
        }
    }
}
