//! Durable append against the raw file.

use std::{path::Path, sync::Arc, time::Duration};

use flowmesh_server::FsyncPolicy;
use tokio::runtime::Runtime;

use crate::{
    Settings, drive,
    measure::{Sample, Table, against},
    raw::RawLog,
    store::{self, Scratch},
};

/// Writers and events per append.
const LOADS: [(usize, usize); 4] = [(1, 1), (16, 1), (256, 1), (1, 1000)];

/// 1, 16 and 256 writers of one event and one of batches, on one stream and over 256.
pub fn run(settings: &Settings, runtime: &Runtime) {
    let table = Table::new(
        "Durable append, 256 B: events/s (p50 / p99 us of an append)",
        &["load", "raw file, zeroed ahead", "engine", "ratio (goal)"],
    );
    for (streams, goal) in [(1, 0.8), (256, 0.5)] {
        for (writers, batch) in LOADS {
            let mut raw = Vec::new();
            let mut engine = Vec::new();
            for round in 0..settings.rounds {
                let scratch = Scratch::new(&settings.dir);
                let load = Load { writers, batch, streams, length: settings.length() };
                if round % 2 == 0 {
                    raw.push(load.raw(runtime, &scratch.join("")));
                    engine.push(load.engine(runtime, &scratch.join("engine")));
                } else {
                    engine.push(load.engine(runtime, &scratch.join("engine")));
                    raw.push(load.raw(runtime, &scratch.join("")));
                }
            }
            let (raw, engine) = (Sample::median(&raw), Sample::median(&engine));
            table.row(&[
                format!("{writers} x {batch} on {streams}"),
                raw.to_string(),
                engine.to_string(),
                against(engine.rate / raw.rate, goal, true),
            ]);
        }
    }
}

struct Load {
    writers: usize,
    batch: usize,
    streams: usize,
    length: Duration,
}

impl Load {
    fn raw(&self, runtime: &Runtime, dir: &Path) -> Sample {
        let log = Arc::new(RawLog::create(dir, self.streams).expect("the raw file can be made"));
        let events = store::events(self.batch);
        let (writers, streams) = (self.writers, self.streams);
        drive::repeat(runtime, writers, self.batch, self.length, move |writer, turn| {
            let (log, events) = (log.clone(), events.clone());
            async move {
                log.append(((writer + turn * writers) % streams) as u32, events).await;
            }
        })
    }

    fn engine(&self, runtime: &Runtime, dir: &Path) -> Sample {
        let engine = store::open(dir, FsyncPolicy::Always);
        let names = store::streams(self.streams);
        for name in names.iter() {
            drive::block_on(engine.streams.append(name, store::events(1))).expect("a first event is stored");
        }
        let events = store::events(self.batch);
        let (writers, streams) = (self.writers, engine.streams.clone());
        drive::repeat(runtime, writers, self.batch, self.length, move |writer, turn| {
            let (names, streams, events) = (names.clone(), streams.clone(), events.clone());
            async move {
                let name = &names[(writer + turn * writers) % names.len()];
                streams.append(name, events).await.expect("events are stored");
            }
        })
    }
}
