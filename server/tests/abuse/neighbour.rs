//! The well-behaved client beside an attack: it sets and gets values one after the other, measures
//! each call, and fails the test when one of them does.

use std::{
    fs::OpenOptions,
    io::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use flowmesh_proto::v1::{GetRequest, ResourcePath, SetRequest, kv_service_client::KvServiceClient};
use tonic::transport::{Channel, Endpoint};

use crate::{duration, process::Process};

/// Calls that make a percentile worth naming.
const LEAST_CALLS: usize = 200;

/// A resource of `tenant`.
pub fn resource(tenant: &str, kind: &str, name: &str) -> Option<ResourcePath> {
    let [tenant, namespace, resource_type, name] = [tenant, "n", kind, name].map(String::from);
    Some(ResourcePath { tenant, namespace, resource_type, name })
}

pub async fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).expect("a uri").connect().await.expect("a connection")
}

/// What the client saw for a while.
pub struct Seen(Vec<Duration>);

impl Seen {
    fn percentile(&self, of_100: usize) -> Duration {
        self.0[(self.0.len() * of_100 / 100).min(self.0.len() - 1)]
    }
}

/// A client that has connected.
pub struct Neighbour {
    runtime: tokio::runtime::Runtime,
    kv: KvServiceClient<Channel>,
}

impl Neighbour {
    pub fn of(server: &Process) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let kv = KvServiceClient::new(runtime.block_on(channel(server.address)));
        Self { runtime, kv }
    }

    /// Works until `done` says so, and for some calls at least.
    pub fn work(&mut self, mut done: impl FnMut() -> bool) -> Seen {
        let Self { runtime, kv } = self;
        let mut taken = Vec::new();
        runtime.block_on(async {
            while taken.len() < LEAST_CALLS || !done() {
                let (resource_path, key) = (resource("good", "kv", "k"), format!("k{}", taken.len() % 100));
                let value = Bytes::from(format!("v{}", taken.len()));
                let set = SetRequest {
                    resource_path: resource_path.clone(),
                    key: key.clone(),
                    value: value.clone(),
                    ttl_seconds: 0,
                };
                let began = Instant::now();
                kv.set(set).await.expect("a set beside the attack");
                taken.push(began.elapsed());
                let began = Instant::now();
                let got = kv.get(GetRequest { resource_path, key }).await.expect("a get beside the attack");
                taken.push(began.elapsed());
                assert_eq!(got.into_inner().value, value);
            }
        });
        taken.sort_unstable();
        Seen(taken)
    }

    /// Works for as long as an attack lasts.
    pub fn work_quietly(&mut self) -> Seen {
        let end = Instant::now() + duration();
        self.work(|| end < Instant::now())
    }
}

/// What an attack has to keep an eye on.
pub struct Clock {
    end: Instant,
    stopped: Arc<AtomicBool>,
}

impl Clock {
    /// Whether the attack goes on.
    pub fn runs(&self) -> bool {
        Instant::now() < self.end && !self.stopped.load(Relaxed)
    }
}

/// Runs `attack` while a neighbour works, all of whose calls must succeed, and checks that the
/// server's memory has then grown by at most `growth` bytes. Gives what the attack returns.
pub fn beside<T: Send>(
    name: &str,
    server: &Process,
    growth: u64,
    attack: impl FnOnce(&Clock) -> T + Send,
) -> T {
    let mut neighbour = Neighbour::of(server);
    let quiet = neighbour.work_quietly();
    let before = server.memory();
    let stopped = Arc::new(AtomicBool::new(false));
    let clock = Clock { end: Instant::now() + duration(), stopped: stopped.clone() };
    let mut most = before;
    let (outcome, loud) = thread::scope(|scope| {
        let attacking = scope.spawn(move || attack(&clock));
        let loud = neighbour.work(|| {
            most = most.max(server.memory());
            attacking.is_finished()
        });
        stopped.store(true, Relaxed);
        (attacking.join(), loud)
    });
    let outcome = outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    report(name, &quiet, &loud, most - before);
    assert!(most - before <= growth, "{name}: memory grew by {} bytes", most - before);
    outcome
}

/// Writes a row of figures: p50 and p99 without and with the attack, their ratios, memory.
pub fn report(name: &str, quiet: &Seen, loud: &Seen, growth: u64) {
    let us = |seen: &Seen, p| seen.percentile(p).as_secs_f64() * 1e6;
    let row = format!(
        "| {name} | {:.0} | {:.0} | {:.2} | {:.0} | {:.0} | {:.2} | {:.1} |\n",
        us(quiet, 50),
        us(loud, 50),
        us(loud, 50) / us(quiet, 50),
        us(quiet, 99),
        us(loud, 99),
        us(loud, 99) / us(quiet, 99),
        growth as f64 / f64::from(1 << 20),
    );
    print!("{row}");
    if let Ok(path) = std::env::var("FLOWMESH_ABUSE_FIGURES") {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(row.as_bytes())).expect("the figures are written");
    }
}
