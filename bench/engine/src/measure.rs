//! Clocks, medians and tables. Knows nothing of what is measured.

use std::{
    fs,
    time::{Duration, Instant},
};

/// What one cell of a table measured: a rate and the latencies behind it.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Operations per second.
    pub rate: f64,
    /// Median latency in microseconds.
    pub p50: f64,
    /// 99th percentile in microseconds.
    pub p99: f64,
}

impl Sample {
    /// Sums up latencies (ns) of `operations` each, taken within `elapsed`.
    pub fn new(mut latencies: Vec<u64>, operations: usize, elapsed: Duration) -> Self {
        assert!(!latencies.is_empty(), "no operation ended within the measured time");
        latencies.sort_unstable();
        let at = |percent: usize| {
            latencies[(latencies.len() * percent / 100).min(latencies.len() - 1)] as f64 / 1e3
        };
        Self { rate: (latencies.len() * operations) as f64 / elapsed.as_secs_f64(), p50: at(50), p99: at(99) }
    }

    /// Field by field, the median over rounds.
    pub fn median(rounds: &[Self]) -> Self {
        let of = |field: fn(&Self) -> f64| median(rounds.iter().map(field));
        Self { rate: of(|s| s.rate), p50: of(|s| s.p50), p99: of(|s| s.p99) }
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} / {})", grouped(self.rate), short(self.p50), short(self.p99))
    }
}

/// The middle value; of an even number the upper one.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// When a timed stretch begins to count and when it ends: the first tenth is warm-up.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    from: Instant,
    until: Instant,
}

impl Window {
    /// A window of `length` that opens after a tenth of it.
    pub fn new(length: Duration) -> Self {
        let now = Instant::now();
        Self { from: now + length / 10, until: now + length / 10 + length }
    }

    /// Whether another operation may begin.
    pub fn open(&self) -> bool {
        Instant::now() < self.until
    }

    /// Keeps the latency of an operation that began at `start`, ends now and lies inside.
    pub fn keep(&self, start: Instant, latencies: &mut Vec<u64>) {
        let end = Instant::now();
        if start >= self.from && end <= self.until {
            latencies.push((end - start).as_nanos() as u64);
        }
    }

    /// How long the window is.
    pub fn length(&self) -> Duration {
        self.until - self.from
    }
}

/// CPU time and sleeps of this process so far, over its living threads.
#[derive(Debug, Clone, Copy, Default)]
pub struct Activity {
    /// Time on a processor.
    pub cpu: Duration,
    /// How often a thread went to sleep, that is, was woken later.
    pub sleeps: u64,
}

impl Activity {
    /// Reads the figures of the kernel.
    pub fn now() -> Self {
        let mut sum = Self::default();
        let tasks = fs::read_dir("/proc/self/task").expect("/proc is mounted");
        for task in tasks.flatten() {
            // A thread may end between the listing and the reading: it then counts nothing.
            let Ok(times) = fs::read_to_string(task.path().join("schedstat")) else { continue };
            let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
            let ns = times.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
            sum.cpu += Duration::from_nanos(ns);
            let sleeps = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
            sum.sleeps += sleeps.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0);
        }
        sum
    }

    /// What was added since `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(before.cpu), sleeps: self.sleeps.saturating_sub(before.sleeps) }
    }
}

/// A Markdown table that prints itself row by row.
pub struct Table {
    columns: usize,
}

impl Table {
    /// Prints the title and the head.
    pub fn new(title: &str, columns: &[&str]) -> Self {
        println!("\n### {title}\n\n| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len()));
        Self { columns: columns.len() }
    }

    /// Prints one row.
    pub fn row(&self, cells: &[String]) {
        assert_eq!(cells.len(), self.columns, "a row has a cell for every column");
        println!("| {} |", cells.join(" | "));
    }
}

/// A ratio beside its goal, marked when it is missed.
pub fn against(ratio: f64, goal: f64, at_least: bool) -> String {
    let met = if at_least { ratio >= goal } else { ratio <= goal };
    format!("{ratio:.2} ({} {goal}{})", if at_least { ">=" } else { "<=" }, if met { "" } else { ", missed" })
}

/// A whole number with its thousands set apart.
pub fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Microseconds in as many digits as matter.
pub fn short(us: f64) -> String {
    if us < 10.0 { format!("{us:.2}") } else { grouped(us) }
}
