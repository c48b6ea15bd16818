//! The stream log through its interface: order, pages, followers, reopening, sealing.

use std::{path::Path, sync::Arc};

use bytes::{Bytes, BytesMut};
use flowmesh_proto::wire::{MessageView, encode_event};
use flowmesh_server::{
    disk::{Disk, FileSystem, Memory},
    engine::Follow,
    resource::{ResourceKind, ResourceName},
    streams::{LogOptions, StreamLog},
};

fn name(text: &str) -> ResourceName {
    ResourceName::new("t", "n", ResourceKind::Stream, text)
}

fn event(payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    encode_event(&mut out, payload, std::iter::empty());
    out.freeze()
}

fn small() -> LogOptions {
    LogOptions { smallest_segment: 16 << 10, largest_segment: 64 << 10, ..LogOptions::default() }
}

fn open(disk: &Arc<Memory>) -> StreamLog {
    StreamLog::open(disk.clone(), Path::new("log"), small()).unwrap()
}

/// Payloads of a whole stream, read in pages; checks offsets on the way.
fn payloads(log: &StreamLog, stream: &ResourceName) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        let page = log.read(stream, all.len() as i64, 7, 1 << 20).unwrap();
        if page.is_empty() {
            assert_eq!(log.latest(stream).unwrap(), all.len() as i64 - 1);
            return all;
        }
        for message in page {
            let view = MessageView::parse(&message).unwrap();
            assert_eq!(view.offset, all.len() as i64);
            assert_eq!(view.resource_path, stream.as_str());
            all.push(view.payload.to_vec());
        }
    }
}

#[tokio::test]
async fn what_is_appended_is_read_back_also_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("streams");
    let stream = name("orders");
    {
        let log = StreamLog::open(Arc::new(FileSystem), &path, LogOptions::default()).unwrap();
        assert_eq!(log.append(&stream, vec![event(b"a"), event(b"b")]).await.unwrap(), 0);
        assert_eq!(log.append(&stream, vec![event(b"c")]).await.unwrap(), 2);
        assert_eq!(payloads(&log, &stream), [b"a", b"b", b"c"]);
    }
    let log = StreamLog::open(Arc::new(FileSystem), &path, LogOptions::default()).unwrap();
    assert_eq!(payloads(&log, &stream), [b"a", b"b", b"c"]);
    assert_eq!(log.append(&stream, vec![event(b"d")]).await.unwrap(), 3);
    assert_eq!(payloads(&log, &stream), [b"a", b"b", b"c", b"d"]);
}

#[tokio::test]
async fn interleaved_streams_survive_sealing_and_reopening() {
    let disk = Arc::new(Memory::new());
    let streams: Vec<ResourceName> = (0..9).map(|i| name(&format!("s{i}"))).collect();
    let log = open(&disk);
    for round in 0..400usize {
        for (i, stream) in streams.iter().enumerate() {
            let events =
                (0..1 + (round + i) % 3).map(|k| event(format!("{round}/{i}/{k}").as_bytes())).collect();
            log.append(stream, events).await.unwrap();
        }
    }
    let before: Vec<_> = streams.iter().map(|s| payloads(&log, s)).collect();
    log.settle();
    let sealed: Vec<_> = streams.iter().map(|s| payloads(&log, s)).collect();
    assert!(before == sealed);
    assert!(disk.list(Path::new("log")).unwrap().len() > 10);
    drop(log);
    let log = open(&disk);
    let reopened: Vec<_> = streams.iter().map(|s| payloads(&log, s)).collect();
    assert!(before == reopened);
    assert!(log.damage().is_empty());
}

#[tokio::test]
async fn a_follower_gets_what_is_appended_and_the_end_of_the_log() {
    let log = Arc::new(open(&Arc::new(Memory::new())));
    let stream = name("s");
    let mut follower = log.follow(&stream).await.unwrap();
    assert_eq!(follower.latest(), -1);
    let reader = tokio::spawn(async move {
        let mut seen = 0;
        loop {
            match follower.next(seen, 1 << 20).await {
                Ok(messages) => seen += messages.len() as i64,
                Err(e) => return (seen, e.kind()),
            }
        }
    });
    for i in 0..1000 {
        log.append(&stream, vec![event(format!("{i}").as_bytes())]).await.unwrap();
        if i % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut caught_up = log.follow(&stream).await.unwrap();
    caught_up.next(999, 1 << 20).await.unwrap();
    tokio::task::yield_now().await;
    log.close();
    let (seen, kind) = reader.await.unwrap();
    assert!(seen <= 1000);
    assert_eq!(kind, flowmesh_server::ErrorKind::Unavailable);
    let refused = log.append(&stream, vec![event(b"x")]).await.unwrap_err();
    assert_eq!(refused.kind(), flowmesh_server::ErrorKind::Unavailable);
}
