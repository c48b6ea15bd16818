//! Benchmarks of the engine at its own interface, in process: what it makes of a disk, without
//! gRPC around it. Prints Markdown tables of medians; contenders of a table take turns in every
//! round, so that only figures within one table may be compared.

mod append;
mod drive;
mod following;
mod kv;
mod measure;
mod queues;
mod raw;
mod reading;
mod store;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Durable append against a raw file.
    Append,
    /// Reads in a long and a short log; opening the long one after a crash.
    Read,
    /// Job cycles beside a long and a short backlog.
    Queue,
    /// KV set, get, list.
    Kv,
    /// From append to a follower.
    Tail,
    /// The cost of idle followers.
    Idle,
    /// Internal: fill a directory and wait to be killed.
    #[value(hide = true)]
    Load,
}

/// How much to measure.
#[derive(Debug, Parser)]
#[command(about = "Benchmarks of the FlowMesh engine")]
struct Settings {
    /// What to measure (default: everything).
    what: Vec<What>,
    /// Interleaved rounds; tables show medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of one measurement.
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// Events in the long log.
    #[arg(long, default_value_t = 5_000_000)]
    events: usize,
    /// Jobs in the long backlog.
    #[arg(long, default_value_t = 1_000_000)]
    jobs: usize,
    /// Keys in the store.
    #[arg(long, default_value_t = 100_000)]
    keys: usize,
    /// Followers that wait.
    #[arg(long, default_value_t = 1000)]
    followers: usize,
    /// Where to put data directories: on the disk to be measured, not a tmpfs.
    #[arg(long, default_value = "target/bench-data")]
    dir: PathBuf,
}

impl Settings {
    fn length(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

fn main() {
    let settings = Settings::parse();
    if settings.what.contains(&What::Load) {
        return reading::load(&settings.dir, settings.events);
    }
    let all = [What::Append, What::Read, What::Queue, What::Kv, What::Tail, What::Idle];
    let wanted = if settings.what.is_empty() { &all[..] } else { &settings.what };
    let runtime = drive::runtime();
    for what in wanted {
        match what {
            What::Append => append::run(&settings, &runtime),
            What::Read => reading::run(&settings, &runtime),
            What::Queue => queues::run(&settings, &runtime),
            What::Kv => kv::run(&settings, &runtime),
            What::Tail => following::tail(&settings, &runtime),
            What::Idle => following::idle(&settings, &runtime),
            What::Load => {}
        }
    }
}
