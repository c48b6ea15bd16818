//! A full disk, for real: a small tmpfs. Writes fail with RESOURCE_EXHAUSTED, nothing that was
//! acknowledged is lost, and service resumes by itself when there is space again.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use bytes::{Bytes, BytesMut};
use flowmesh_proto::wire::{MessageView, encode_event};
use flowmesh_server::{
    Engine, EngineOptions, Error, ErrorKind,
    engine::NewJob,
    resource::{ResourceKind, ResourceName},
};

/// A mounted tmpfs, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where this process may not mount.
    fn mount(mebibytes: usize) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
            .arg(dir.path())
            .status()
            .is_ok_and(|s| s.success());
        mounted.then(|| Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a test that failed may still have files open.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn name(kind: ResourceKind) -> ResourceName {
    ResourceName::new("t", "n", kind, "full")
}

fn event(n: usize) -> Bytes {
    let mut wire = BytesMut::new();
    encode_event(&mut wire, format!("{n:08}{}", "e".repeat(4000)).as_bytes(), std::iter::empty());
    wire.freeze()
}

async fn append(engine: &Engine, n: usize) -> Result<(), Error> {
    engine.streams.append(&name(ResourceKind::Stream), vec![event(n)]).await.map(drop)
}

async fn enqueue(engine: &Engine, n: usize) -> Result<(), Error> {
    let payload = Bytes::from(format!("{n:08}{}", "j".repeat(4000)));
    let job = NewJob { payload, headers: BTreeMap::new(), delay_seconds: 0 };
    engine.queues.enqueue(&name(ResourceKind::Queue), job).await.map(drop)
}

async fn set(engine: &Engine, n: usize) -> Result<(), Error> {
    let value = Bytes::from("v".repeat(4000));
    engine.kv.set(&name(ResourceKind::Kv), &format!("{n:08}"), value, 0).await
}

/// Calls `write` until the disk is full; returns how many calls succeeded since `from`.
async fn fill<F: Future<Output = Result<(), Error>>>(from: usize, write: impl Fn(usize) -> F) -> usize {
    for n in from.. {
        if let Err(e) = write(n).await {
            assert_eq!(e.kind(), ErrorKind::ResourceExhausted, "after {n} writes: {e}");
            return n;
        }
        assert!(n < 100_000, "the disk never fills");
    }
    unreachable!()
}

async fn check(engine: &Engine, events: usize, jobs: usize, keys: usize) {
    let stream = name(ResourceKind::Stream);
    let mut next = 0;
    loop {
        let page = engine
            .streams
            .read(&stream, next as i64, 1000, 4 << 20)
            .await
            .expect("reads work on a full disk");
        if page.is_empty() {
            break;
        }
        for wire in page {
            let message = MessageView::parse(&wire).unwrap();
            assert_eq!(message.payload[..8], *format!("{next:08}").as_bytes());
            next += 1;
        }
    }
    assert_eq!(next, events, "exactly the acknowledged events are there");
    let stats = engine.queues.stats(&name(ResourceKind::Queue)).await.unwrap();
    assert_eq!((stats.total_jobs, stats.pending_jobs), (jobs as i64, jobs as i64));
    let stored = engine.kv.list_keys(&name(ResourceKind::Kv), "").await.unwrap();
    assert_eq!(stored.len(), keys);
}

#[tokio::test]
async fn a_full_disk_refuses_keeps_and_resumes() {
    let Some(disk) = SmallDisk::mount(40) else {
        assert!(std::env::var_os("CI").is_none(), "CI must be able to mount a tmpfs");
        eprintln!("SKIPPED a_full_disk_refuses_keeps_and_resumes: this user may not mount a tmpfs");
        return;
    };
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 24 << 20]).unwrap();
    let options = EngineOptions::directory(disk.path().join("data"));
    let engine = Engine::open(&options).unwrap();
    append(&engine, 0).await.unwrap();
    enqueue(&engine, 0).await.unwrap();
    set(&engine, 0).await.unwrap();

    let events = fill(1, |n| append(&engine, n)).await;
    let jobs = fill(1, |n| enqueue(&engine, n)).await;
    let keys = fill(1, |n| set(&engine, n)).await;
    check(&engine, events, jobs, keys).await;

    fs::remove_file(&ballast).unwrap();
    append(&engine, events).await.expect("appends resume");
    enqueue(&engine, jobs).await.expect("enqueues resume");
    set(&engine, keys).await.expect("sets resume");
    check(&engine, events + 1, jobs + 1, keys + 1).await;

    engine.close();
    drop(engine);
    let engine = Engine::open(&options).unwrap();
    check(&engine, events + 1, jobs + 1, keys + 1).await;
}
