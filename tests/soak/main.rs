//! Load for as long as you like while everything around fails: connections are cut and stalled, the
//! server is killed, stopped and started, its disk fails and its clock jumps. At the end nothing that
//! was acknowledged is missing, nothing came twice, and memory and descriptors are where they were.
//!
//! `make soak SECONDS=3600 SEED=1`. Wants the server's binary in FLOWMESH_SERVER.

mod faults;
mod host;
mod load;
mod process;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use faults::Faults;
use flowmesh_fault_proxy::Proxy;
use load::{Jobs, Messages, Values};
use process::{Server, Usage};

/// For what must happen when the faults are over.
const PATIENCE: Duration = Duration::from_secs(120);

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) if !text.is_empty() => text.parse().unwrap_or_else(|_| panic!("{variable} is a number")),
        _ => default,
    }
}

#[test]
#[ignore = "wants the server's binary: make soak"]
fn nothing_is_lost() {
    let time = Duration::from_secs(number("FLOWMESH_SOAK_SECONDS", 20));
    let seed = number("FLOWMESH_SOAK_SEED", u64::from(std::process::id()));
    println!("soak: {} s, seed {seed}", time.as_secs());
    let dir = tempfile::tempdir().expect("a directory");
    let mut server = Server::start(dir.path());
    let proxy = Proxy::start(server.address()).expect("a proxy");
    let endpoint = proxy.address().to_string();

    let stop = Arc::new(AtomicBool::new(false));
    let messages = Messages::start(&endpoint, &stop);
    let jobs = Jobs::start(&endpoint, &stop);
    let values = Values::start(&endpoint, &stop);

    let (start, mut faults) = (Instant::now(), Faults::new(seed));
    let mut early = None;
    while start.elapsed() < time {
        thread::sleep(faults.pause());
        faults.next(&proxy, &mut server);
        // After a fifth everything that is made once has been made.
        if early.is_none() && start.elapsed() > time / 5 {
            early = Some(Usage::of(std::process::id()));
        }
    }
    faults.end(&proxy, &mut server);
    stop.store(true, Ordering::Relaxed);

    let messages = messages.end(PATIENCE);
    let jobs = jobs.end(PATIENCE);
    let values = values.end();
    let (early, late) = (early.expect("a fifth of the time is over"), Usage::of(std::process::id()));
    let failed = server.host().failed();
    println!(
        "soak: {messages}\nsoak: {jobs}\nsoak: {values}\nsoak: {faults}, {failed} writes and syncs failed\n\
         soak: this process after a fifth: {early}, at the end: {late}; the server at the end: {}",
        Usage::of(server.id())
    );
    assert!(failed > 0 || time < Duration::from_secs(60), "the server does not ask the host's library");
    assert!(late.descriptors <= early.descriptors + 16, "descriptors are lost");
    assert!(late.resident_kib <= early.resident_kib * 2 + (64 << 10), "memory grows");
}
