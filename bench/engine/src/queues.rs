//! The life of a job beside a short and a long backlog.

use std::{collections::BTreeMap, sync::Arc};

use flowmesh_server::{
    FsyncPolicy,
    engine::{Lease, NewJob, QueueStore},
    resource::{ResourceKind, ResourceName},
};
use tokio::runtime::Runtime;

use crate::{
    Settings, drive,
    measure::{Sample, Table, against, grouped},
    store::{self, Scratch},
};

const SHORT_BACKLOG: usize = 1000;
const ONE: Lease = Lease { max_jobs: 1, max_bytes: 4 << 20, visibility_seconds: 30, wait_seconds: 0 };

/// Enqueue, lease, ack: each waited for, with the backlog untouched behind them.
pub fn run(settings: &Settings, runtime: &Runtime) {
    let scratch = Scratch::new(&settings.dir);
    let queue = store::name(ResourceKind::Queue, "jobs");
    let backlogs = [("short", SHORT_BACKLOG), ("long", settings.jobs)].map(|(dir, jobs)| {
        let dir = scratch.join(dir);
        let engine = store::open(&dir, FsyncPolicy::None);
        let (queues, name) = (engine.queues.clone(), queue.clone());
        drive::load(runtime, 256, jobs, move |_| {
            let (queues, name) = (queues.clone(), name.clone());
            async move { enqueue(&*queues, &name).await }
        });
        engine.close();
        store::open(&dir, FsyncPolicy::Always)
    });
    let columns = [
        format!("backlog {}", grouped(SHORT_BACKLOG as f64)),
        format!("backlog {}", grouped(settings.jobs as f64)),
    ];
    let table = Table::new(
        "Enqueue, lease, ack, durable, 256 B: cycles/s (p50 / p99 us)",
        &["callers", &columns[0], &columns[1], "ratio (goal)"],
    );
    for callers in [1, 16] {
        let mut samples = [Vec::new(), Vec::new()];
        for round in 0..settings.rounds {
            for i in [round % 2, (round + 1) % 2] {
                samples[i].push(cycles(settings, runtime, backlogs[i].queues.clone(), &queue, callers));
            }
        }
        let [short, long] = samples.map(|s| Sample::median(&s));
        table.row(&[
            callers.to_string(),
            short.to_string(),
            long.to_string(),
            against(long.rate / short.rate, 0.8, true),
        ]);
    }
}

fn cycles(
    settings: &Settings,
    runtime: &Runtime,
    queues: Arc<dyn QueueStore>,
    queue: &ResourceName,
    callers: usize,
) -> Sample {
    let queue = queue.clone();
    drive::repeat(runtime, callers, 1, settings.length(), move |_, _| {
        let (queues, queue) = (queues.clone(), queue.clone());
        async move {
            enqueue(&*queues, &queue).await;
            let jobs = queues.lease(&queue, ONE).await.expect("a job can be leased").taken();
            queues.ack(&queue, &jobs[0].id).await.expect("a leased job can be acknowledged");
        }
    })
}

async fn enqueue(queues: &dyn QueueStore, queue: &ResourceName) {
    let job = NewJob { payload: store::payload(0), headers: BTreeMap::new(), delay_seconds: 0 };
    queues.enqueue(queue, job).await.expect("a job is stored");
}
