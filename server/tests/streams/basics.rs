//! Round trips, pages, sealing, followers, many callers at once.

use std::{path::Path, sync::Arc};

use flowmesh_server::{
    ErrorKind, FsyncPolicy,
    disk::{Disk, FileSystem, Memory},
    engine::Follow,
    resource::ResourceName,
    streams::{LogOptions, StreamLog},
};

use crate::{event, name, open, payloads, small};

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
    assert_eq!(kind, ErrorKind::Unavailable);
    let refused = log.append(&stream, vec![event(b"x")]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_page_is_cut_by_count_and_by_bytes_and_never_to_nothing() {
    let log = open(&Arc::new(Memory::new()));
    let stream = name("s");
    log.append(&stream, (0..50).map(|_| event(&[7; 1000])).collect()).await.unwrap();
    let one = log.read(&stream, 0, 1, 1 << 20).unwrap()[0].len();
    assert_eq!(log.read(&stream, 0, 3, 1 << 20).unwrap().len(), 3);
    assert_eq!(log.read(&stream, 0, 50, 10 * one + 100).unwrap().len(), 10);
    assert_eq!(log.read(&stream, 49, 50, 1).unwrap().len(), 1);
    assert_eq!(log.read(&stream, 50, 50, 1 << 20).unwrap().len(), 0);
    assert_eq!(log.read(&stream, i64::MAX, 50, 1 << 20).unwrap().len(), 0);
}

#[tokio::test]
async fn a_stream_is_missing_until_it_is_made_and_made_durably() {
    let disk = Arc::new(Memory::new());
    let options = LogOptions { create: false, ..small() };
    let log = StreamLog::open(disk.clone(), Path::new("log"), options.clone()).unwrap();
    let stream = name("s");
    assert_eq!(log.append(&stream, vec![event(b"x")]).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(log.follow(&stream).await.err().unwrap().kind(), ErrorKind::NotFound);
    drop(log);
    let log = open(&disk);
    assert_eq!(log.latest(&stream).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!log.exists(&stream));
    log.follow(&stream).await.unwrap();
    assert_eq!(log.latest(&stream).unwrap(), -1);
    drop(log);
    let log = StreamLog::open(disk, Path::new("log"), options).unwrap();
    assert!(log.exists(&stream));
    assert_eq!(log.append(&stream, vec![event(b"x")]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_batch_larger_than_a_segment_is_one_frame() {
    let disk = Arc::new(Memory::new());
    let log = open(&disk);
    let (a, b) = (name("a"), name("b"));
    log.append(&b, vec![event(b"first")]).await.unwrap();
    log.append(&a, (0..300).map(|i| event(&[i as u8; 1000])).collect()).await.unwrap();
    log.append(&b, vec![event(b"second")]).await.unwrap();
    log.settle();
    drop(log);
    let log = open(&disk);
    assert_eq!(payloads(&log, &b), [&b"first"[..], b"second"]);
    assert!(payloads(&log, &a).iter().enumerate().all(|(i, p)| *p == [i as u8; 1000]));
}

#[tokio::test]
async fn a_malformed_event_is_refused_and_takes_no_offset() {
    let log = open(&Arc::new(Memory::new()));
    let stream = name("s");
    log.append(&stream, vec![event(b"a")]).await.unwrap();
    let bad = log.append(&stream, vec![event(b"b"), bytes::Bytes::from_static(&[0xff])]).await.unwrap_err();
    assert_eq!(bad.kind(), ErrorKind::InvalidArgument);
    assert!(bad.message().contains("events[1]"));
    assert_eq!(log.append(&stream, vec![event(b"c")]).await.unwrap(), 1);
    assert_eq!(payloads(&log, &stream), [b"a", b"c"]);
}

#[test]
fn many_writers_and_followers_at_once() {
    for fsync in
        [FsyncPolicy::Always, FsyncPolicy::Interval(std::time::Duration::from_millis(1)), FsyncPolicy::None]
    {
        let disk = Arc::new(Memory::new());
        let options = LogOptions { fsync, ..small() };
        let log = Arc::new(StreamLog::open(disk.clone(), Path::new("log"), options).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let streams: Vec<ResourceName> = (0..4).map(|i| name(&format!("s{i}"))).collect();
        let mut tasks = Vec::new();
        for w in 0..16usize {
            let (log, stream) = (log.clone(), streams[w % 4].clone());
            tasks.push(runtime.spawn(async move {
                let mut offsets = Vec::new();
                for i in 0..100 {
                    let first =
                        log.append(&stream, vec![event(format!("{w}/{i}").as_bytes()); 2]).await.unwrap();
                    offsets.push(first);
                    // What was acknowledged can be read at once.
                    assert_eq!(log.read(&stream, first, 2, 1 << 20).unwrap().len(), 2);
                }
                assert!(offsets.is_sorted());
            }));
        }
        for stream in &streams {
            let (log, stream) = (log.clone(), stream.clone());
            tasks.push(runtime.spawn(async move {
                let mut follower = log.follow(&stream).await.unwrap();
                let mut at = 0;
                while at < 800 {
                    let page = follower.next(at, 4096).await.unwrap();
                    for message in &page {
                        assert_eq!(flowmesh_proto::wire::MessageView::parse(message).unwrap().offset, at);
                        at += 1;
                    }
                }
            }));
        }
        runtime.block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
        let before: Vec<_> = streams.iter().map(|s| payloads(&log, s)).collect();
        drop(log);
        let log = open(&disk);
        assert!(streams.iter().map(|s| payloads(&log, s)).eq(before));
    }
}
