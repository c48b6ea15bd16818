//! Reads in a long log against a short one, and the opening of a long one after a crash.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use flowmesh_server::{FsyncPolicy, engine::StreamStore, resource::ResourceName};
use tokio::runtime::Runtime;

use crate::{
    Settings, drive,
    measure::{Sample, Table, against, grouped, median, short},
    store::{self, Scratch},
};

const SHORT_LOG: usize = 1000;
const PAGE: usize = 100;
const PAGE_BYTES: usize = 4 << 20;

/// Fills the stream in `dir`, says so on standard output and waits to be killed.
pub fn load(dir: &Path, events: usize) {
    let engine = store::open(dir, FsyncPolicy::None);
    let stream = &store::streams(1)[0];
    let mut left = events;
    while left > 0 {
        let batch = left.min(1000);
        drive::block_on(engine.streams.append(stream, store::events(batch))).expect("events are stored");
        left -= batch;
    }
    println!("stored");
    loop {
        std::thread::park();
    }
}

/// Has a child fill the stream in `dir` and kills it there and then.
fn load_and_crash(dir: &Path, events: usize) {
    let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
        .args(["load", "--events", &events.to_string(), "--dir"])
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program can be started again");
    let mut said = String::new();
    let stdout = child.stdout.take().expect("it was piped");
    BufReader::new(stdout).read_line(&mut said).expect("the child speaks UTF-8");
    child.kill().expect("it is our child");
    child.wait().expect("it is our child");
    assert_eq!(said, "stored\n", "the child stored its events before it was killed");
}

/// Both tables; they share the long log, whose loading is most of the time.
pub fn run(settings: &Settings, runtime: &Runtime) {
    let long_log = settings.events;
    let mut opens = Vec::new();
    let mut scratch = Scratch::new(&settings.dir);
    for _ in 0..settings.rounds {
        scratch = Scratch::new(&settings.dir);
        load_and_crash(&scratch.join("long"), long_log);
        let start = Instant::now();
        let engine = store::open(&scratch.join("long"), FsyncPolicy::Always);
        let latest =
            drive::block_on(engine.streams.latest(&store::streams(1)[0])).expect("the stream is there");
        opens.push(start.elapsed().as_secs_f64() * 1e3);
        assert_eq!(latest, long_log as i64 - 1, "the last event survived");
    }
    let table =
        Table::new("Opening after SIGKILL, until the newest offset is known", &["events", "ms (goal)"]);
    let ms = median(opens.into_iter());
    table.row(&[
        grouped(long_log as f64),
        format!("{} (< 1000{})", short(ms), if ms < 1000.0 { "" } else { ", missed" }),
    ]);

    load_and_crash(&scratch.join("short"), SHORT_LOG);
    let logs = [("short", SHORT_LOG), ("long", long_log)].map(|(dir, events)| {
        let engine = store::open(&scratch.join(dir), FsyncPolicy::Always);
        (engine, events)
    });
    let columns = [
        format!("{SHORT_LOG} events"),
        format!("{} events", grouped(long_log as f64)),
        "p50 ratio (goal)".into(),
    ];
    let table = Table::new(
        &format!("Reading {PAGE} messages in a log: pages/s (p50 / p99 us)"),
        &["where", &columns[0], &columns[1], &columns[2]],
    );
    for (what, tail) in [("newest messages", true), ("random offset", false)] {
        let mut samples = [Vec::new(), Vec::new()];
        for round in 0..settings.rounds {
            for i in [round % 2, (round + 1) % 2] {
                let (engine, events) = &logs[i];
                samples[i].push(pages(settings, runtime, engine.streams.clone(), *events, tail));
            }
        }
        let [short, long] = samples.map(|s| Sample::median(&s));
        table.row(&[
            what.into(),
            short.to_string(),
            long.to_string(),
            against(long.p50 / short.p50, 1.2, false),
        ]);
    }
}

fn pages(
    settings: &Settings,
    runtime: &Runtime,
    streams: Arc<dyn StreamStore>,
    events: usize,
    tail: bool,
) -> Sample {
    let stream: ResourceName = store::streams(1)[0].clone();
    drive::repeat(runtime, 1, 1, settings.length(), move |_, turn| {
        let (streams, stream) = (streams.clone(), stream.clone());
        // A step that shares no factor with the length visits offsets in no order a cache likes.
        let offset = if tail { events - PAGE } else { turn.wrapping_mul(7_919_017) % (events - PAGE) };
        async move {
            let page =
                streams.read(&stream, offset as i64, PAGE, PAGE_BYTES).await.expect("the log can be read");
            assert_eq!(page.len(), PAGE, "a page is full");
        }
    })
}
