//! What followers see and cost: the way of an event from append to a caught-up follower, and
//! what many of them cost while nothing is written.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use flowmesh_proto::wire::MessageView;
use flowmesh_server::FsyncPolicy;
use tokio::runtime::Runtime;

use crate::{
    Settings, drive,
    measure::{Activity, Sample, Table},
    store::{self, Scratch},
};

const PAGE_BYTES: usize = 256 << 10;
const PAUSE: Duration = Duration::from_millis(1);

/// From the call of append to a follower's task that holds the event, synced in between.
pub fn tail(settings: &Settings, runtime: &Runtime) {
    let table =
        Table::new("Append to a caught-up follower, durable, one event a millisecond", &["p50 us", "p99 us"]);
    let rounds: Vec<_> = (0..settings.rounds).map(|_| tail_round(settings, runtime)).collect();
    let sample = Sample::median(&rounds);
    table.row(&[format!("{:.0}", sample.p50), format!("{:.0}", sample.p99)]);
}

fn tail_round(settings: &Settings, runtime: &Runtime) -> Sample {
    let scratch = Scratch::new(&settings.dir);
    let engine = store::open(&scratch.join("tail"), FsyncPolicy::Always);
    let stream = store::streams(1)[0].clone();
    let origin = Instant::now();
    let count = (settings.length().as_millis() / PAUSE.as_millis()) as usize;
    let mut follow = runtime.block_on(engine.streams.follow(&stream)).expect("a stream can be followed");
    let follower = runtime.spawn(async move {
        let mut latencies = Vec::with_capacity(count);
        let mut offset = 0;
        while latencies.len() < count {
            for message in follow.next(offset, PAGE_BYTES).await.expect("the log can be read") {
                let now = origin.elapsed().as_nanos() as u64;
                let view = MessageView::parse(&message).expect("stored messages are whole");
                let stamp = view.payload[..8].try_into().expect("the payload begins with its stamp");
                latencies.push(now - u64::from_le_bytes(stamp));
                offset = view.offset + 1;
            }
        }
        latencies
    });
    let start = Instant::now();
    for turn in 0..count {
        thread::sleep((start + PAUSE * turn as u32).saturating_duration_since(Instant::now()));
        let event = store::event(origin.elapsed().as_nanos() as u64);
        drive::block_on(engine.streams.append(&stream, vec![event])).expect("an event is stored");
    }
    let latencies = runtime.block_on(follower).expect("the follower does not panic");
    Sample::new(latencies, 1, start.elapsed())
}

/// CPU and wake-ups of the whole process while followers wait.
pub fn idle(settings: &Settings, runtime: &Runtime) {
    let scratch = Scratch::new(&settings.dir);
    let engine = store::open(&scratch.join("idle"), FsyncPolicy::Always);
    let names = store::streams(16);
    for name in names.iter() {
        drive::block_on(engine.streams.append(name, store::events(1))).expect("an event is stored");
    }
    let caught_up = Arc::new(tokio::sync::Semaphore::new(0));
    for i in 0..settings.followers {
        let (streams, names, caught_up) = (engine.streams.clone(), names.clone(), caught_up.clone());
        runtime.spawn(async move {
            let mut follow = streams.follow(&names[i % names.len()]).await.expect("a stream can be followed");
            let mut next = 0;
            loop {
                // The engine closes under the last call: that ends the follower.
                let Ok(messages) = follow.next(next, PAGE_BYTES).await else { break };
                next += messages.len() as i64;
                caught_up.add_permits(1);
            }
        });
    }
    // Each has seen the one event and goes back to wait: nothing is left to do after that.
    let permits = runtime.block_on(caught_up.acquire_many(settings.followers as u32));
    drop(permits.expect("the semaphore is not closed"));
    let table = Table::new(
        "The engine's process with caught-up followers, nothing written",
        &["followers", "CPU us/s", "wake-ups/s"],
    );
    thread::sleep(settings.length());
    let (before, start) = (Activity::now(), Instant::now());
    thread::sleep(settings.length() * 2);
    let (spent, seconds) = (Activity::now().since(&before), start.elapsed().as_secs_f64());
    table.row(&[
        settings.followers.to_string(),
        format!("{:.0}", spent.cpu.as_micros() as f64 / seconds),
        format!("{:.1} (the measuring thread's own sleep included)", spent.sleeps as f64 / seconds),
    ]);
}
