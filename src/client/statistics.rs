//! What a client counts: calls and how long they took, bytes, connections, and what its
//! subscriptions, producers and workers hold.
//!
//! Everything is an atomic number, written on the hot path without locks and read at any time. A
//! snapshot is not one instant: each number is right by itself.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Instant,
};

use super::error::{Result, Status};

/// What one client counts, from its opening on.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    /// The number by which the log names the client.
    pub client: u64,
    started: Counter,
    succeeded: Counter,
    failed: Counter,
    cancelled: Counter,
    latencies: Histogram,
    /// Calls that were tried once more.
    pub retried: Counter,
    /// Bytes handed to sockets.
    pub bytes_sent: Counter,
    /// Bytes that came from sockets.
    pub bytes_received: Counter,
    /// Connections made.
    pub connections_made: Counter,
    /// Connections that ended otherwise than by the client's own doing.
    pub connections_lost: Counter,
    /// Messages handed to subscribers.
    pub messages_delivered: Counter,
    /// Subscriptions that have not ended.
    pub subscriptions: Gauge,
    /// Bytes received for subscriptions and not yet handed to the application.
    pub prefetched_bytes: Gauge,
    /// Bytes that producers accepted and that are not yet reported.
    pub producer_bytes: Gauge,
    /// Messages that producers accepted and that are not yet reported.
    pub producer_messages: Gauge,
    /// Jobs that workers hold: leased, and neither acknowledged nor given back.
    pub worker_jobs: Gauge,
}

impl Statistics {
    /// Those of the client with this number.
    pub fn of(client: u64) -> Self {
        Self { client, ..Self::default() }
    }

    /// A call begins. Its time counts among the latencies if `timed`: a call that waits for
    /// something to happen says nothing about the server.
    pub fn call_started(&self, timed: bool) -> RunningCall<'_> {
        self.started.add(1);
        RunningCall { statistics: Some(self), since: timed.then(Instant::now) }
    }

    /// Everything, as it is now.
    pub fn snapshot(&self) -> ClientStats {
        // Ends before beginnings: no call ends that has not begun.
        let (succeeded, failed, cancelled) = (self.succeeded.get(), self.failed.get(), self.cancelled.get());
        let started = self.started.get();
        let latencies = self.latencies.read();
        ClientStats {
            calls_started: started,
            calls_succeeded: succeeded,
            calls_failed: failed,
            calls_cancelled: cancelled,
            calls_retried: self.retried.get(),
            calls_under_way: started.saturating_sub(succeeded + failed + cancelled),
            latency_p50_ns: latencies.quantile(500),
            latency_p90_ns: latencies.quantile(900),
            latency_p99_ns: latencies.quantile(990),
            latency_p999_ns: latencies.quantile(999),
            latency_max_ns: latencies.max,
            bytes_sent: self.bytes_sent.get(),
            bytes_received: self.bytes_received.get(),
            connections_made: self.connections_made.get(),
            connections_lost: self.connections_lost.get(),
            messages_delivered: self.messages_delivered.get(),
            subscriptions: self.subscriptions.get(),
            prefetched_bytes: self.prefetched_bytes.get(),
            producer_bytes: self.producer_bytes.get(),
            producer_messages: self.producer_messages.get(),
            worker_jobs: self.worker_jobs.get(),
        }
    }
}

/// A client's statistics at one time; see [`Client::stats`](super::Client::stats).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Calls begun. Arguments that the library refuses begin none.
    pub calls_started: u64,
    /// Calls that succeeded.
    pub calls_succeeded: u64,
    /// Calls that failed, by the server or by the library, for want of time too.
    pub calls_failed: u64,
    /// Calls that the caller ended.
    pub calls_cancelled: u64,
    /// Calls that were tried a second time, after the connection failed.
    pub calls_retried: u64,
    /// Calls begun and not ended.
    pub calls_under_way: u64,
    /// Half of the calls took at most this long. As the other latencies: of calls that succeeded
    /// and did not wait for a job, up to 1/16 too high, 0 without calls.
    pub latency_p50_ns: u64,
    /// Nine of ten calls took at most this long.
    pub latency_p90_ns: u64,
    /// 99 of 100.
    pub latency_p99_ns: u64,
    /// 999 of 1000.
    pub latency_p999_ns: u64,
    /// The longest, exactly.
    pub latency_max_ns: u64,
    /// Bytes sent to the server, all protocols above TCP included.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Connections made.
    pub connections_made: u64,
    /// Connections that ended otherwise than by closing the client.
    pub connections_lost: u64,
    /// Messages handed to subscribers.
    pub messages_delivered: u64,
    /// Subscriptions that have not ended.
    pub subscriptions: u64,
    /// Bytes received for subscriptions and not yet handed to the application.
    pub prefetched_bytes: u64,
    /// Bytes that producers accepted and have not reported.
    pub producer_bytes: u64,
    /// Messages that producers accepted and have not reported.
    pub producer_messages: u64,
    /// Jobs that workers hold.
    pub worker_jobs: u64,
}

/// A call under way; dropped without an end it counts as cancelled.
#[derive(Debug)]
pub(crate) struct RunningCall<'a> {
    /// `None` once it has ended.
    statistics: Option<&'a Statistics>,
    since: Option<Instant>,
}

impl RunningCall<'_> {
    /// The call ended by itself.
    pub fn ended<T>(mut self, result: &Result<T>) {
        let Some(statistics) = self.statistics.take() else { return };
        match result {
            Ok(_) => {
                statistics.succeeded.add(1);
                if let Some(since) = self.since {
                    statistics
                        .latencies
                        .record(u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX));
                }
            }
            Err(e) if e.status() == Status::CANCELLED => statistics.cancelled.add(1),
            Err(_) => statistics.failed.add(1),
        }
    }
}

impl Drop for RunningCall<'_> {
    fn drop(&mut self) {
        if let Some(statistics) = self.statistics {
            statistics.cancelled.add(1);
        }
    }
}

/// Counts up.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// `count` more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    /// `count` more.
    pub fn add(&self, count: usize) {
        self.0.fetch_add(count as i64, Ordering::Relaxed);
    }

    /// `count` fewer; each was added before.
    pub fn sub(&self, count: usize) {
        self.0.fetch_sub(count as i64, Ordering::Relaxed);
    }

    /// What is left. A reader that overtakes an `add` sees nothing rather than less.
    pub fn get(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

/// Every power of two is divided into so many buckets.
const PARTS: usize = 16;
const PART_BITS: u32 = PARTS.trailing_zeros();
/// Up to 2^43 ns, more than two hours; what is longer falls into the last bucket.
const BUCKETS: usize = PARTS * (43 - PART_BITS as usize + 1);

/// How often which time was seen, in buckets that grow with the time.
struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    max: AtomicU64,
}

impl Histogram {
    fn record(&self, ns: u64) {
        self.buckets[bucket(ns)].fetch_add(1, Ordering::Relaxed);
        if ns > self.max.load(Ordering::Relaxed) {
            self.max.fetch_max(ns, Ordering::Relaxed);
        }
    }

    fn read(&self) -> Latencies {
        let counts: Vec<_> = self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        Latencies { total: counts.iter().sum(), counts, max: self.max.load(Ordering::Relaxed) }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], max: AtomicU64::new(0) }
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histogram").field("max", &self.max).finish_non_exhaustive()
    }
}

/// The bucket of a time. Below 16 ns each has its own.
fn bucket(ns: u64) -> usize {
    let Some(shift) = (u64::BITS - ns.leading_zeros()).checked_sub(PART_BITS + 1) else {
        return ns as usize;
    };
    // The highest five bits, of which the first is always set.
    let part = (ns >> shift) as usize;
    (shift as usize * PARTS + part).min(BUCKETS - 1)
}

/// The longest time that falls into a bucket.
fn longest(bucket: usize) -> u64 {
    let Some(shift) = (bucket / PARTS).checked_sub(1) else { return bucket as u64 };
    let part = (bucket % PARTS + PARTS) as u64;
    ((part + 1) << shift) - 1
}

/// A histogram that stands still.
struct Latencies {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Latencies {
    /// The time that `per_mille` of a thousand calls do not exceed; 0 without calls.
    fn quantile(&self, per_mille: u64) -> u64 {
        let rank = (self.total * per_mille).div_ceil(1000);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            *count > 0 && seen >= rank
        });
        match found {
            // The last one has no end.
            Some(at) if at < BUCKETS - 1 => longest(at).min(self.max),
            Some(_) => self.max,
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Error;

    #[test]
    fn buckets_follow_each_other_and_are_narrow() {
        for at in 1..BUCKETS - 1 {
            let first = longest(at - 1) + 1;
            assert_eq!((bucket(first), bucket(longest(at))), (at, at));
            assert!((longest(at) - first) * PARTS as u64 <= first, "bucket {at} is wide");
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert!(longest(BUCKETS - 2) >= (1 << 43) - (1 << 39) - 1);
    }

    #[test]
    fn quantiles_are_at_most_a_sixteenth_too_high() {
        let histogram = Histogram::default();
        for ns in 1..=100_000 {
            histogram.record(ns);
        }
        let read = histogram.read();
        for per_mille in [1, 500, 900, 990, 999, 1000] {
            let exact = per_mille * 100;
            let found = read.quantile(per_mille);
            assert!((exact..=exact + exact / 16).contains(&found), "{per_mille}: {found}");
        }
        assert_eq!(read.max, 100_000);
    }

    #[test]
    fn without_calls_there_are_no_latencies() {
        assert_eq!(Statistics::default().snapshot(), ClientStats::default());
    }

    #[test]
    fn a_time_beyond_the_last_bucket_is_told_exactly() {
        let histogram = Histogram::default();
        histogram.record(u64::MAX);
        assert_eq!(histogram.read().quantile(500), u64::MAX);
    }

    #[test]
    fn every_call_ends_once() {
        let statistics = Statistics::default();
        let call = |timed| statistics.call_started(timed);
        call(true).ended(&Ok(()));
        call(false).ended(&Ok(()));
        call(true).ended::<()>(&Err(Error::local(Status::UNAVAILABLE, "no")));
        call(true).ended::<()>(&Err(Error::local(Status::CANCELLED, "enough")));
        drop(call(true));
        let running = call(true);
        let seen = statistics.snapshot();
        assert_eq!((seen.calls_started, seen.calls_under_way), (6, 1));
        assert_eq!((seen.calls_succeeded, seen.calls_failed, seen.calls_cancelled), (2, 1, 2));
        assert_eq!(statistics.latencies.read().total, 1, "only a timed success counts");
        drop(running);
        assert_eq!(statistics.snapshot().calls_under_way, 0);
    }

    #[test]
    fn a_gauge_that_is_read_too_early_is_empty() {
        let gauge = Gauge::default();
        gauge.sub(1);
        assert_eq!(gauge.get(), 0);
        gauge.add(3);
        assert_eq!(gauge.get(), 2);
    }
}
